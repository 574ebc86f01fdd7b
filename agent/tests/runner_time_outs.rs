//! A thousand time-outs leave nothing: no zombie, no process, no file. A test binary of its own, because it counts
//! all children of its process.

use std::fs;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use cairn_agent::runner::{
    Exit, Job, LOG_LIMIT, Program, Runner, RunnerEvent, Settings, Urgency, find_leftovers,
};
use cairn_model::Timestamp;
use rustix::process::{WaitId, WaitIdOptions};
use rustix::time::ClockId;

const TIME_OUTS: u64 = 1_000;

/// What the tasks do until their time-out: they end at once, resist, leave children, leave daemons.
const SCRIPTS: [&str; 8] = [
    "exec sleep 1000",
    "sleep 1000; true",
    "sleep 1000 & sleep 1000 & wait",
    "trap 'exit 0' TERM; sleep 1000 & wait",
    "exec sleep 1000",
    "(setsid sleep 1000 > /dev/null 2>&1 &) ; sleep 1000",
    "(setsid sleep 0.01 > /dev/null 2>&1 &) ; sleep 1000",
    "trap '' TERM; sleep 1000; sleep 1000",
];

fn now() -> Timestamp {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    Timestamp(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000)
}

#[test]
fn a_thousand_time_outs_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let id = directory.path().file_name().unwrap().to_str().unwrap().to_owned();
    let (sender, events) = mpsc::channel();
    let runner = Runner::new(Settings {
        slots: 16.try_into().unwrap(),
        marker: ("CAIRN_TEST_RUNNER".into(), id.clone()),
        withheld: Vec::new(),
        work_root: directory.path().join("work"),
        clock: Arc::new(now),
        events: Arc::new(move |event| {
            if let RunnerEvent::Finished(finished) = event {
                sender.send(finished).unwrap();
            }
        }),
    });
    for key in 0..TIME_OUTS {
        let job = Job {
            key,
            program: Program::Shell(SCRIPTS[usize::try_from(key).unwrap() % SCRIPTS.len()].into()),
            env: Arc::new([]),
            own_env: Vec::new(),
            working_dir: directory.path().to_owned(),
            kept_link: directory.path().join("kept"),
            log_path: directory.path().join(format!("logs/{key}.log")),
            log_limit: LOG_LIMIT,
            timeout: Some(Duration::from_millis(10)),
            grace: Duration::from_millis(20),
        };
        runner.start(job).unwrap();
    }
    for _ in 0..TIME_OUTS {
        let finished = events.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(matches!(finished.exit, Exit::TimedOut { .. }), "{}: {}", finished.key, finished.exit);
    }
    assert_eq!(find_leftovers(("CAIRN_TEST_RUNNER", &id)), []);
    runner.shutdown(Urgency::Graceful);
    // No child at all, neither running nor ended: whoever became an orphan came to us and was reaped.
    let any = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    assert_eq!(rustix::process::waitid(WaitId::All, any).unwrap_err(), rustix::io::Errno::CHILD);
    assert_eq!(fs::read_dir(directory.path().join("work")).unwrap().count(), 0);
}
