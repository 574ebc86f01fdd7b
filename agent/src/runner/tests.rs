//! Real processes through the whole runner. Nothing here waits for a fixed time: for events, with a generous
//! deadline, and scripts wait for each other through FIFOs.

mod exits;
mod files;
mod stops;
mod trees;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use cairn_model::Timestamp;
use rustix::fs::{CWD, FileType, Mode};
use rustix::time::ClockId;

use super::*;

/// A deadline that only a hang reaches.
const PATIENCE: Duration = Duration::from_secs(60);

/// A runner in a directory of its own.
struct Bench {
    directory: tempfile::TempDir,
    runner: Runner,
    events: mpsc::Receiver<RunnerEvent>,
    id: String,
}

impl Bench {
    fn new(slots: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let id = directory.path().file_name().unwrap().to_str().unwrap().to_owned();
        let (sender, events) = mpsc::channel();
        let runner = Runner::new(Settings {
            slots: slots.try_into().unwrap(),
            marker: ("CAIRN_TEST_RUNNER".into(), id.clone()),
            withheld: Vec::new(),
            work_root: directory.path().join("work"),
            clock: Arc::new(now),
            events: Arc::new(move |event| {
                // The receiver is gone when a test is over while jobs still end.
                let _ = sender.send(event);
            }),
        });
        Self { directory, runner, events, id }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A job with a shell script.
    fn script(&self, key: u64, script: &str) -> Job {
        Job {
            key,
            program: Program::Shell(script.into()),
            env: Arc::new([("CAIRN_RUN".into(), "apollo.1".into())]),
            own_env: vec![("CAIRN_TASK".into(), format!("t{key}").into())],
            working_dir: self.directory.path().to_owned(),
            kept_link: self.path(&format!("kept/t{key}.1")),
            log_path: self.path(&format!("logs/t{key}.1.log")),
            log_limit: LOG_LIMIT,
            timeout: None,
            grace: PATIENCE,
        }
    }

    fn program(&self, key: u64, argv: &[&str]) -> Job {
        let argv = argv.iter().map(Into::into).collect();
        Job { program: Program::Exec(argv), ..self.script(key, "") }
    }

    fn next(&self) -> RunnerEvent {
        self.events.recv_timeout(PATIENCE).expect("an event within the deadline")
    }

    /// The next end of a job; what comes before is skipped.
    fn finished(&self) -> Box<Finished> {
        loop {
            if let RunnerEvent::Finished(finished) = self.next() {
                return finished;
            }
        }
    }

    /// Starts a job and waits until it runs; its pid.
    fn started(&self, job: Job) -> u32 {
        self.runner.start(job).unwrap();
        match self.next() {
            RunnerEvent::Started { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }

    fn run(&self, job: Job) -> Box<Finished> {
        self.runner.start(job).unwrap();
        self.finished()
    }

    fn run_script(&self, script: &str) -> Box<Finished> {
        self.run(self.script(1, script))
    }

    fn log(&self, key: u64) -> Vec<u8> {
        fs::read(self.path(&format!("logs/t{key}.1.log"))).unwrap()
    }

    /// Makes a FIFO by which a script and the test wait for each other.
    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        path
    }

    /// How many processes of this runner's tasks there are.
    fn processes(&self) -> usize {
        find_leftovers(("CAIRN_TEST_RUNNER", &self.id)).len()
    }
}

/// Waits until a script has opened the FIFO for writing; what it wrote.
fn wait_for(fifo: &Path) -> String {
    let (sender, receiver) = mpsc::channel();
    let fifo = fifo.to_owned();
    std::thread::spawn(move || sender.send(fs::read_to_string(fifo).unwrap()));
    receiver.recv_timeout(PATIENCE).expect("the script opens its FIFO within the deadline")
}

fn now() -> Timestamp {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    Timestamp(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000)
}
