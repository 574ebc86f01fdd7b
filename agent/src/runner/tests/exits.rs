//! How attempts end by themselves, and why some never start.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::exit::NotExecutable;
use super::*;

fn failure(finished: &Finished) -> &StartFailure {
    assert_eq!(finished.started_at, None);
    match &finished.exit {
        Exit::NotStarted(failure) => failure,
        other => panic!("{other}"),
    }
}

#[test]
fn exit_codes_are_told() {
    let bench = Bench::new(1);
    for code in [0, 1, 2, 42, 126, 127, 128, 130, 255] {
        let finished = bench.run_script(&format!("exit {code}"));
        assert!(matches!(finished.exit, Exit::Code(told) if told == code), "{}", finished.exit);
        assert_eq!(finished.exit.is_success(), code == 0);
        assert!(finished.started_at.unwrap() <= finished.finished_at);
    }
}

#[test]
fn signals_are_told_apart_from_codes() {
    let bench = Bench::new(1);
    for (number, name) in [(1, "SIGHUP"), (9, "SIGKILL"), (10, "SIGUSR1"), (13, "SIGPIPE"), (15, "SIGTERM")] {
        let finished = bench.run_script(&format!("kill -{number} $$"));
        assert!(matches!(finished.exit, Exit::Signal { signal, core_dumped: false } if signal == number));
        assert_eq!(finished.exit.to_string(), format!("ended by {name} (signal {number})"));
        assert_eq!(finished.exit.code(), None);
    }
    // A shell that exits with 128 + 9 has ended by itself.
    assert!(matches!(bench.run_script("sh -c 'kill -9 $$'; exit $?").exit, Exit::Code(137)));
}

#[test]
fn a_missing_program_is_named_with_the_path_that_was_searched() {
    let bench = Bench::new(1);
    let mut job = bench.program(1, &["no-such-program"]);
    job.own_env.push(("PATH".into(), "/bin:/usr/bin".into()));
    let finished = bench.run(job);
    assert_eq!(
        finished.exit.to_string(),
        "not started: program `no-such-program` was not found in PATH (/bin:/usr/bin)"
    );
    let finished = bench.run(bench.program(1, &["./no-such-program"]));
    assert!(matches!(failure(&finished), StartFailure::ProgramNotFound { path: None, .. }));
    let finished = bench.run(bench.program(1, &[""]));
    assert!(matches!(failure(&finished), StartFailure::ProgramNotFound { .. }));
    let finished = bench.run(bench.program(1, &[]));
    assert!(matches!(failure(&finished), StartFailure::NoProgram));
}

#[test]
fn what_cannot_be_executed_says_why() {
    let bench = Bench::new(1);
    let write = |name: &str, content: &str, mode: u32| {
        fs::write(bench.path(name), content).unwrap();
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    write("plain", "#!/bin/sh\n", 0o644);
    write("text", "echo no first line\n", 0o755);
    write("lost", "#! /no/such/interpreter -x\n", 0o755);
    fs::create_dir(bench.path("directory")).unwrap();
    for (name, expected) in [
        ("./plain", NotExecutable::Permission),
        ("./directory", NotExecutable::NotAFile),
        ("./text", NotExecutable::Format),
    ] {
        let finished = bench.run(bench.program(1, &[name]));
        let why = match failure(&finished) {
            StartFailure::NotExecutable { why, .. } => *why,
            other => panic!("{name}: {other}"),
        };
        assert_eq!(why, expected, "{name}");
    }
    let finished = bench.run(bench.program(1, &["./lost"]));
    assert!(
        matches!(failure(&finished), StartFailure::BadInterpreter { interpreter, .. } if interpreter == "/no/such/interpreter")
    );
    // By name: the one that cannot be executed is passed over, and named if nothing else is found.
    let mut job = bench.program(1, &["plain"]);
    job.own_env.push(("PATH".into(), bench.directory.path().into()));
    let finished = bench.run(job);
    assert!(matches!(failure(&finished), StartFailure::NotExecutable { why: NotExecutable::Permission, .. }));
}

#[test]
fn a_bad_working_directory_is_not_mistaken_for_a_missing_program() {
    let bench = Bench::new(1);
    fs::write(bench.path("file"), "").unwrap();
    for name in ["missing", "file"] {
        for program in [bench.script(1, "true"), bench.program(1, &["true"])] {
            let finished = bench.run(Job { working_dir: bench.path(name), ..program });
            assert!(
                matches!(failure(&finished), StartFailure::WorkingDirectory { path, .. } if path.ends_with(name))
            );
        }
    }
}

#[test]
fn too_long_arguments_and_nul_characters_have_names() {
    let bench = Bench::new(1);
    let long = "x".repeat(200_000);
    let finished = bench.run(bench.program(1, &["true", &long]));
    assert!(matches!(failure(&finished), StartFailure::ArgumentsTooLong { bytes } if *bytes > 200_000));
    let many = vec!["x".repeat(100_000); 100];
    let argv: Vec<&str> = std::iter::once("true").chain(many.iter().map(String::as_str)).collect();
    let finished = bench.run(bench.program(1, &argv));
    assert!(matches!(failure(&finished), StartFailure::ArgumentsTooLong { .. }));
    let finished = bench.run(bench.program(1, &["true", "a\0b"]));
    assert!(matches!(failure(&finished), StartFailure::NulCharacter));
    // After a failed start the slot goes on.
    assert!(bench.run_script("exit 0").exit.is_success());
}

#[test]
fn a_script_too_long_for_an_argument_runs_unchanged_from_a_file() {
    let bench = Bench::new(1);
    // The longest that fits as an argument, the first that does not, and the most that a plan may have.
    for bytes in [128 * 1024 - 1, 128 * 1024, 1024 * 1024] {
        let end = "\necho \"ü $#\"; exit 7";
        let script = format!(":{}{end}", " ".repeat(bytes - 1 - end.len()));
        assert_eq!(script.len(), bytes);
        let finished = bench.run_script(&script);
        assert!(matches!(finished.exit, Exit::Code(7)), "{bytes}: {:?}", finished.exit);
        assert_eq!(bench.log(1), "ü 0\n".as_bytes(), "{bytes}");
        assert_eq!((finished.kept_work, finished.outputs.len()), (None, 0), "{bytes}");
    }
    let finished = bench.run_script(&format!(":{}\0", " ".repeat(200_000)));
    assert!(matches!(failure(&finished), StartFailure::NulCharacter));
    assert!(bench.run_script("[ ! -e \"$CAIRN_WORK/../script\" ]").exit.is_success());
}

#[test]
fn arguments_reach_the_program_unchanged() {
    let bench = Bench::new(1);
    let finished = bench.run(bench.program(1, &["printf", "%s|", "a b", "$HOME", "*", "", "ü"]));
    assert!(finished.exit.is_success(), "{}", finished.exit);
    assert_eq!(bench.log(1), "a b|$HOME|*||ü|".as_bytes());
}

#[test]
fn programs_are_found_in_the_tasks_path_and_from_the_working_directory() {
    let bench = Bench::new(1);
    let place = bench.path("bin");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("greet"), "#!/bin/sh\necho \"$0\"\n").unwrap();
    fs::set_permissions(place.join("greet"), fs::Permissions::from_mode(0o755)).unwrap();
    let by_name = Job {
        own_env: vec![("PATH".into(), format!("bin:/bin:{}", place.display()).into())],
        ..bench.program(1, &["greet"])
    };
    let by_path = bench.program(2, &["./bin/greet"]);
    for (key, job) in [(1, by_name), (2, by_path)] {
        let finished = bench.run(job);
        assert!(finished.exit.is_success(), "{}", finished.exit);
        assert!(String::from_utf8(bench.log(key)).unwrap().ends_with("bin/greet\n"));
    }
}

#[test]
fn the_environment_is_ours_with_the_jobs_on_top() {
    let bench = Bench::new(1);
    let script = r#"echo "$CAIRN_RUN $CAIRN_TASK ${PATH:+path}"; pwd; cat; test -d "$CAIRN_WORK" && ls -A "$CAIRN_WORK""#;
    let finished = bench.run_script(script);
    assert!(finished.exit.is_success(), "{}", finished.exit);
    let directory = fs::canonicalize(bench.directory.path()).unwrap();
    assert_eq!(
        String::from_utf8(bench.log(1)).unwrap(),
        format!("apollo.1 t1 path\n{}\n", directory.display())
    );
}

#[test]
fn a_task_that_wants_the_terminal_does_not_hang() {
    let bench = Bench::new(1);
    for signal in ["TTIN", "TTOU"] {
        let finished = bench.run_script(&format!("kill -{signal} $$; exit 0"));
        assert!(matches!(finished.exit, Exit::TerminalWanted { .. }), "{}", finished.exit);
    }
}
