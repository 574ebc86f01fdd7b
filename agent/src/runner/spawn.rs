//! From a job to a process, on the fast path: a resolved program, no `pre_exec`, no pidfd from the spawn, so that
//! the standard library uses `posix_spawn`. And the names of what can go wrong.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::children::{self, Main};
use super::directory::Place;
use super::exit::{NotExecutable, StartFailure};
use super::job::{Job, Program};

const SHELL: &str = "/bin/sh";

/// A script of so many bytes or more is read from a file: with the NUL behind it, it would be longer than the 128 KiB
/// that Linux takes as one argument, whatever the stack limit is.
const LONG_SCRIPT_BYTES: usize = 128 * 1024;

/// Where programs are looked for if the task has no `PATH`, as the C library does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A process that runs.
pub(super) struct Spawned {
    pub(super) main: Main,
    /// The read end of the pipe for both outputs; reading does not block.
    pub(super) output: OwnedFd,
}

/// Starts the main process of a job with its files in `place`. `null` is `/dev/null`, open for reading; `mark` is
/// the variable by which the process tree is recognised, `withheld` what a task does not inherit.
pub(super) fn spawn(
    job: &Job,
    place: &Place,
    mark: (&str, &str),
    withheld: &[String],
    null: &OwnedFd,
) -> Result<Spawned, StartFailure> {
    let (program, arguments) = resolve(job, place)?;
    let no_room = |error: Errno| StartFailure::NoRoom(error.into());
    let (output, for_stdout) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(no_room)?;
    // Only our end: the mode belongs to the end, and a task expects to block when it writes.
    rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK).map_err(no_room)?;
    let for_stderr = for_stdout.try_clone().map_err(StartFailure::NoRoom)?;
    let for_stdin = null.try_clone().map_err(StartFailure::NoRoom)?;

    let mut command = Command::new(&program);
    for name in withheld {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .envs(job.env.iter().map(|(name, value)| (name, value)))
        .envs(job.own_env.iter().map(|(name, value)| (name, value)))
        .env(mark.0, mark.1)
        .env("CAIRN_WORK", place.work())
        .env("CAIRN_PROGRESS", &place.progress)
        .env("CAIRN_OUTPUT", &place.output)
        .current_dir(&job.working_dir)
        .process_group(0)
        .stdin(Stdio::from(for_stdin))
        .stdout(Stdio::from(for_stdout))
        .stderr(Stdio::from(for_stderr));
    if let Program::Exec(argv) = &job.program
        && let Some(name) = argv.first()
    {
        command.arg0(name);
    }
    match children::spawn(&mut command) {
        Ok(main) => Ok(Spawned { main, output }),
        Err(error) => Err(diagnose(job, &program, error)),
    }
}

/// The file to execute and what follows its name.
fn resolve<'a>(job: &'a Job, place: &'a Place) -> Result<(PathBuf, Vec<&'a OsStr>), StartFailure> {
    match &job.program {
        Program::Shell(script) if script.len() >= LONG_SCRIPT_BYTES => {
            write_script(script, &place.script)?;
            Ok((PathBuf::from(SHELL), vec![place.script.as_os_str()]))
        }
        Program::Shell(script) => Ok((PathBuf::from(SHELL), vec![OsStr::new("-c"), script])),
        Program::Exec(argv) => {
            let (name, arguments) = argv.split_first().ok_or(StartFailure::NoProgram)?;
            let program =
                if name.as_bytes().contains(&b'/') { job.working_dir.join(name) } else { search(job, name)? };
            Ok((program, arguments.iter().map(OsString::as_os_str).collect()))
        }
    }
}

/// Writes a script where the shell can read it, and nobody but the user.
fn write_script(script: &OsStr, path: &Path) -> Result<(), StartFailure> {
    if script.as_bytes().contains(&0) {
        return Err(StartFailure::NulCharacter);
    }
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(script.as_bytes()))
        .map_err(|source| StartFailure::Script { path: path.to_owned(), source })
}

/// Looks a name up in the task's `PATH`, each time anew: an earlier task may have installed a better match.
fn search(job: &Job, name: &OsStr) -> Result<PathBuf, StartFailure> {
    let path = task_path(job);
    let mut not_executable = None;
    for directory in env::split_paths(&path).filter(|_| !name.is_empty()) {
        let candidate = job.working_dir.join(directory).join(name);
        match rustix::fs::access(&candidate, Access::EXEC_OK) {
            Ok(()) if candidate.is_file() => return Ok(candidate),
            Ok(()) => not_executable = Some((candidate, NotExecutable::NotAFile)),
            Err(Errno::ACCESS) if candidate.is_file() => {
                not_executable = Some((candidate, NotExecutable::Permission));
            }
            Err(_) => {}
        }
    }
    Err(match not_executable {
        Some((program, why)) => StartFailure::NotExecutable { program, why },
        None => StartFailure::ProgramNotFound {
            program: name.to_string_lossy().into_owned(),
            path: Some(path.to_string_lossy().into_owned()),
        },
    })
}

fn task_path(job: &Job) -> OsString {
    let own = job.own_env.iter().chain(job.env.iter()).find(|(name, _)| name == "PATH");
    own.map(|(_, value)| value.clone())
        .or_else(|| env::var_os("PATH"))
        .unwrap_or_else(|| OsString::from(DEFAULT_PATH))
}

/// Finds the name of a failure to start. The system's answer alone does not tell what is missing: the program,
/// its interpreter or the directory.
fn diagnose(job: &Job, program: &Path, error: io::Error) -> StartFailure {
    if error.kind() == io::ErrorKind::InvalidInput {
        return StartFailure::NulCharacter;
    }
    match Errno::from_io_error(&error) {
        Some(Errno::TOOBIG) => StartFailure::ArgumentsTooLong { bytes: start_bytes(job) },
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => StartFailure::NoRoom(error),
        Some(Errno::TXTBSY) => not_executable(program, NotExecutable::Busy),
        Some(Errno::NOENT | Errno::ACCESS | Errno::NOTDIR | Errno::NOEXEC | Errno::LOOP | Errno::PERM) => {
            closed_directory(job)
                .or_else(|| bad_program(job, program, &error))
                .unwrap_or(StartFailure::Refused(error))
        }
        _ => StartFailure::Refused(error),
    }
}

fn closed_directory(job: &Job) -> Option<StartFailure> {
    let entered = fs::metadata(&job.working_dir).and_then(|metadata| {
        if !metadata.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(rustix::fs::access(&job.working_dir, Access::EXEC_OK)?)
    });
    let source = entered.err()?;
    Some(StartFailure::WorkingDirectory { path: job.working_dir.clone(), source })
}

fn bad_program(job: &Job, program: &Path, error: &io::Error) -> Option<StartFailure> {
    let metadata = match fs::metadata(program) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Some(not_executable(program, NotExecutable::Permission));
        }
        Err(_) => {
            let program = match &job.program {
                Program::Exec(argv) => argv.first().map(|name| name.to_string_lossy().into_owned()),
                Program::Shell(_) => None,
            };
            let program = program.unwrap_or_else(|| SHELL.to_owned());
            return Some(StartFailure::ProgramNotFound { program, path: None });
        }
    };
    if !metadata.is_file() {
        return Some(not_executable(program, NotExecutable::NotAFile));
    }
    if rustix::fs::access(program, Access::EXEC_OK).is_err() {
        return Some(not_executable(program, NotExecutable::Permission));
    }
    match (interpreter(program), Errno::from_io_error(error)) {
        (Some(interpreter), _) => {
            let is_missing = rustix::fs::access(job.working_dir.join(&interpreter), Access::EXEC_OK).is_err();
            let interpreter = interpreter.to_string_lossy().into_owned();
            is_missing.then(|| StartFailure::BadInterpreter { program: program.to_owned(), interpreter })
        }
        (None, Some(Errno::NOEXEC)) => Some(not_executable(program, NotExecutable::Format)),
        // The file is there and is no script: what is not there is the loader that it names.
        (None, Some(Errno::NOENT)) => Some(StartFailure::BadInterpreter {
            program: program.to_owned(),
            interpreter: "(its dynamic loader)".to_owned(),
        }),
        (None, _) => None,
    }
}

fn not_executable(program: &Path, why: NotExecutable) -> StartFailure {
    StartFailure::NotExecutable { program: program.to_owned(), why }
}

/// What follows `#!` in the first line of a script, without its argument.
fn interpreter(program: &Path) -> Option<PathBuf> {
    // The system looks at no more than this of the first line.
    let mut start = Vec::new();
    File::open(program).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let name = line.trim_ascii().split(|byte| matches!(byte, b' ' | b'\t')).next()?;
    Some(PathBuf::from(OsString::from_vec(name.to_vec())))
}

/// What the system counts at a start: the strings of arguments and environment with their NULs.
fn start_bytes(job: &Job) -> usize {
    let arguments: usize = match &job.program {
        Program::Shell(script) => SHELL.len() + script.len() + 6,
        Program::Exec(argv) => argv.iter().map(|argument| argument.len() + 1).sum(),
    };
    let inherited: usize = env::vars_os().map(|(name, value)| name.len() + value.len() + 2).sum();
    let own = job.env.iter().chain(&job.own_env);
    arguments + inherited + own.map(|(name, value)| name.len() + value.len() + 2).sum::<usize>()
}
