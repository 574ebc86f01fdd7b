//! After `kill -9` of the process that owned a runner, its tasks are found and ended.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use cairn_agent::runner::{
    Job, LOG_LIMIT, Program, Runner, RunnerEvent, Settings, end_leftovers, find_leftovers,
};
use cairn_model::Timestamp;
use rustix::time::ClockId;

const MARKER: &str = "CAIRN_TEST_RUNNER";

/// Tells the life that is to be killed where it works.
const DIRECTORY: &str = "CAIRN_TEST_DIRECTORY";

fn now() -> Timestamp {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    Timestamp(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000)
}

/// Not a test of its own: runs tasks in the process that the test below kills.
#[test]
#[ignore = "started by the test of the left-over processes"]
fn life_to_be_killed() {
    let directory = std::path::PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let (sender, events) = mpsc::channel();
    let runner = Runner::new(Settings {
        slots: 2.try_into().unwrap(),
        marker: (MARKER.into(), directory.display().to_string()),
        withheld: Vec::new(),
        work_root: directory.join("work"),
        clock: Arc::new(now),
        events: Arc::new(move |event| sender.send(event).unwrap()),
    });
    let scripts = [
        "trap '' TERM; echo > ready-1; sleep 1000; sleep 1000",
        "setsid sh -c 'echo > ready-2; exec sleep 1000' & sleep 1000",
    ];
    for (key, script) in (1..).zip(scripts) {
        let job = Job {
            key,
            program: Program::Shell(script.into()),
            env: Arc::new([("CAIRN_RUN".into(), "apollo.3".into())]),
            own_env: vec![
                ("CAIRN_MILESTONE".into(), "build".into()),
                ("CAIRN_TASK".into(), format!("t{key}").into()),
                ("CAIRN_ATTEMPT".into(), "2".into()),
            ],
            working_dir: directory.clone(),
            kept_link: directory.join("kept"),
            log_path: directory.join("log"),
            log_limit: LOG_LIMIT,
            timeout: None,
            grace: Duration::from_secs(60),
        };
        runner.start(job).unwrap();
    }
    while let Ok(event) = events.recv() {
        assert!(matches!(event, RunnerEvent::Started { .. }), "{event:?}");
    }
}

#[test]
fn the_tasks_of_a_killed_process_are_found_and_ended() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["ready-1", "ready-2"] {
        let fifo = directory.path().join(name);
        let mode = rustix::fs::Mode::from(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }
    let marker = directory.path().display().to_string();
    let marker = (MARKER, marker.as_str());
    let mut life = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "life_to_be_killed"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for name in ["ready-1", "ready-2"] {
        let fifo = std::fs::File::open(directory.path().join(name)).unwrap();
        BufReader::new(fifo).read_line(&mut String::new()).unwrap();
    }
    life.kill().unwrap();
    life.wait().unwrap();

    let found = find_leftovers(marker);
    assert!(found.len() >= 4, "{found:?}");
    for leftover in &found {
        assert_eq!(leftover.run.as_deref(), Some("apollo.3"));
        assert_eq!(leftover.milestone.as_deref(), Some("build"));
        assert!(matches!(leftover.task.as_deref(), Some("t1" | "t2")));
        assert_eq!(leftover.attempt, Some(2));
        assert!(leftover.start_time > 0 && leftover.group > 0);
    }
    assert!(find_leftovers((marker.0, "another")).is_empty());

    let clock: cairn_agent::runner::Clock = Arc::new(now);
    let ended = end_leftovers(marker, Duration::from_millis(50), &clock);
    assert!(found.iter().all(|leftover| ended.contains(leftover)));
    assert_eq!(find_leftovers(marker), []);
}
