//! A coordinator without a broker: one process that takes plans and runs them.

use super::support::{Daemon, LONG, lines};
use crate::e2e::past::statuses;
use crate::e2e::support::{Place, check_log, now, told, wait_for};
use serde_json::Value;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A coordinator by itself.
pub struct Alone {
    pub place: Place,
    pub coordinator: Option<Daemon>,
    pub config: &'static str,
}

impl Alone {
    fn start(config: &'static str) -> Self {
        let mut alone = Self { place: Place::new(), coordinator: None, config };
        alone.start_again();
        alone
    }

    pub fn start_again(&mut self) {
        self.coordinator = None;
        self.place.write(
            "coordinator.yaml",
            &format!("listen: 127.0.0.1:0\nstate: state\nslots: 2\n{}", self.config),
        );
        let _ = std::fs::remove_file(self.place.path().join("state/coordinator.url"));
        let args = ["coordinator", "--config", "coordinator.yaml"];
        self.coordinator = Some(Daemon::start(&self.place, "coordinator", &args, &Vec::new()));
        let file = self.place.path().join("state/coordinator.url");
        wait_for("the coordinator", || file.exists().then_some(()));
    }

    pub fn daemon(&self) -> &Daemon {
        self.coordinator.as_ref().expect("it was started")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        command.env("CAIRN_STATE", self.place.path().join("state"));
        command.env("CAIRN_URL", self.place.read("state/coordinator.url").trim());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary starts")
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}\n{}", told(&output), self.daemon().log());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn status(&self, run: &str) -> Value {
        serde_json::from_str(&self.ok(&["status", run, "--output", "json"])).expect("JSON")
    }

    pub fn completes(&self, run: &str) {
        let until = now() + LONG;
        loop {
            let status = self.status(run);
            if status["status"] != "active" {
                assert_eq!(status["status"], "completed", "{status}\n{}", self.daemon().log());
                return;
            }
            assert!(now() < until, "{status}\n{}", self.daemon().log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Events of a run, read from the state directory.
    fn events(&self, run: &str) -> Vec<Value> {
        let text = self.place.ok(["events", run, "--state", "state"]);
        text.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect()
    }

    /// Waits until tasks have written so many lines.
    pub fn wait_for_lines(&self, file: &str, count: usize) {
        let path = self.place.path().join(file);
        wait_for(file, || (lines(&path).len() >= count).then_some(()));
    }

    /// A plan of one task that says its attempt, and goes on until a file is there.
    pub fn plan_that_waits(&self) {
        let place = self.place.path().display();
        self.place.write(
            "plan.yaml",
            &format!(
                "version: 1\nproject: apollo\ntasks:\n- id: a\n  run: |\n    echo \"$CAIRN_ATTEMPT $$\" >> {place}/began\n    \
                 while [ ! -e {place}/go ]; do sleep 0.02; done\n- {{id: b, run: exit 0, needs: [a]}}\n"
            ),
        );
    }

    /// The processes of attempts of the task that waits.
    fn processes(&self) -> Vec<u32> {
        let began = lines(&self.place.path().join("began"));
        began.iter().filter_map(|line| line.split_once(' ')?.1.parse().ok()).collect()
    }
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub fn edges() -> [(String, String); 1] {
    [("main/a".to_owned(), "main/b".to_owned())]
}

pub fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["event_type"] == kind).count()
}

#[test]
fn a_coordinator_runs_plans_by_itself() {
    let alone = Alone::start("");
    alone.place.write(
        "plan.yaml",
        "version: 1\nproject: apollo\ntasks:\n- {id: a, run: \"echo from $CAIRN_AGENT in ${PWD##*/}\"}\n\
         - {id: b, wait: 10ms, needs: [a]}\n- {id: c, run: exit 0, needs: [b]}\n",
    );
    let submitted = alone.run(&["submit", "plan.yaml", "--wait"]);
    assert_eq!(submitted.status.code(), Some(0), "{}", told(&submitted));
    assert_eq!(String::from_utf8_lossy(&submitted.stdout).trim(), "apollo.1");
    assert_eq!(alone.status("apollo.1")["counts"]["completed"], 3);
    // Output has its own way, and may come after the end.
    let printed = || alone.ok(&["logs", "apollo.1", "a"]).contains("from local in workspace");
    wait_for("the output", || printed().then_some(()));
    let agents: Value = serde_json::from_str(&alone.ok(&["agents", "--output", "json"])).expect("JSON");
    assert_eq!((&agents["agents"][0]["id"], &agents["agents"][0]["slots"]), (&"local".into(), &2.into()));
    check_log(&alone.events("apollo.1"), &edges(), 3);

    // As it was, over HTTP: the fold of the events up to there.
    let all = statuses(&alone.place.path().join("state"), "apollo.1");
    for (position, _, expected) in &all {
        let at = position.to_string();
        let shown = alone.ok(&["status", "apollo.1", "--at", &at, "--output", "json"]);
        assert_eq!(&serde_json::from_str::<Value>(&shown).expect("JSON"), expected, "at {at}");
    }
    let text = alone.ok(&["status", "apollo", "--at", &all[0].0.to_string()]);
    assert!(text.contains("main/a") && text.contains("0 of 3 tasks"), "{text}");
    assert_eq!(alone.run(&["status", "apollo.1", "--at", "0"]).status.code(), Some(3));

    alone.place.write("bad.yaml", "version: 1\nproject: bad\ntasks:\n- {id: a, run: exit 3}\n");
    assert_eq!(alone.run(&["submit", "bad.yaml", "--wait"]).status.code(), Some(1));
    alone.daemon().signal("TERM");
    assert_eq!(alone.daemon().wait(), Some(0), "{}", alone.daemon().log());
    assert!(!alone.place.path().join("state/coordinator.url").exists());
}

#[test]
fn a_coordinator_keeps_its_events_in_sqlite() {
    let place = Place::new();
    let store = format!("store: sqlite://{}/state/cairn.db\n", place.path().display());
    let mut alone = Alone { place, coordinator: None, config: store.leak() };
    alone.start_again();
    alone.plan_that_waits();
    assert_eq!(alone.ok(&["submit", "plan.yaml"]).trim(), "apollo.1");
    alone.wait_for_lines("began", 1);
    alone.daemon().kill();
    // The state directory alone says where its events are.
    assert_eq!(count(&alone.events("apollo.1"), "TaskDispatched"), 1);
    assert!(!alone.place.path().join("state/events").exists(), "nothing is kept in files");
    alone.config = "";
    alone.start_again();
    alone.place.write("go", "");
    alone.completes("apollo.1");
    check_log(&alone.events("apollo.1"), &edges(), 2);
    // Another store than the one that has the events is refused.
    alone.daemon().signal("TERM");
    assert_eq!(alone.daemon().wait(), Some(0), "{}", alone.daemon().log());
    let other = format!("file://{}/state", alone.place.path().display());
    let refused = alone.run(&["coordinator", "--listen", "127.0.0.1:0", "--store", &other]);
    assert_eq!(refused.status.code(), Some(5), "{}", told(&refused));
    assert!(told(&refused).contains("the events are in sqlite:///"), "{}", told(&refused));
}

#[test]
fn what_ran_when_it_was_killed_is_ended_and_runs_again() {
    let mut alone = Alone::start("");
    alone.plan_that_waits();
    assert_eq!(alone.ok(&["submit", "plan.yaml"]).trim(), "apollo.1");
    alone.wait_for_lines("began", 1);
    alone.daemon().kill();
    let first = alone.processes()[0];
    assert!(lives(first), "nobody was left to end it");
    alone.start_again();
    alone.wait_for_lines("began", 2);
    assert!(!lives(first), "the next start has ended it");
    alone.place.write("go", "");
    alone.completes("apollo.1");
    let events = alone.events("apollo.1");
    check_log(&events, &edges(), 2);
    let began = lines(&alone.place.path().join("began"));
    assert!(began.len() == 2 && began[0].starts_with("1 ") && began[1].starts_with("2 "), "{began:?}");
}

#[test]
fn a_good_end_waits_for_what_runs() {
    let mut alone = Alone::start("");
    alone.plan_that_waits();
    alone.ok(&["submit", "plan.yaml"]);
    let in_progress = || alone.status("apollo.1")["counts"]["in_progress"] == 1;
    wait_for("the start", || in_progress().then_some(()));
    alone.daemon().signal("TERM");
    alone.daemon().says("draining");
    assert!(in_progress(), "it still answers");
    alone.place.write("go", "");
    assert_eq!(alone.daemon().wait(), Some(0), "{}", alone.daemon().log());
    let events = alone.events("apollo.1");
    assert_eq!((count(&events, "TaskCompleted"), count(&events, "TaskRetryScheduled")), (1, 0));
    alone.start_again();
    alone.completes("apollo.1");
    assert_eq!(alone.processes().len(), 1);
}

#[test]
fn a_run_of_a_coordinator_is_explained() {
    let alone = Alone::start("");
    alone.plan_that_waits();
    alone.ok(&["submit", "plan.yaml"]);
    let in_progress = || alone.status("apollo.1")["counts"]["in_progress"] == 1;
    wait_for("the start", || in_progress().then_some(()));
    // Only the coordinator can know: there is no state directory where the command looks.
    let explain = |args: &[&str]| {
        let args: Vec<_> = ["explain", "apollo.1"].iter().chain(args).copied().collect();
        let output = alone
            .command(&args)
            .env("CAIRN_STATE", alone.place.path().join("none"))
            .env("CAIRN_TOKEN_FILE", alone.place.path().join("state/admin.token"))
            .output()
            .expect("the binary starts");
        (output.status.code(), told(&output))
    };
    let (code, text) = explain(&[]);
    assert!(code == Some(0) && text.contains("critical path: 2 tasks") && text.contains("main/b"), "{text}");
    let (code, text) = explain(&["b"]);
    assert!(code == Some(0) && text.contains("waits for main/a, which is in_progress"), "{text}");
    let (_, json) = explain(&["main/a", "--output", "json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["status"], &json["reasons"][0]["kind"]),
        (&"in_progress".into(), &"runs".into()),
        "{json}"
    );
    assert_eq!(explain(&["nothing"]).0, Some(3));
    assert_eq!(explain(&["scale"]).0, Some(2));
    alone.place.write("go", "");
    alone.completes("apollo.1");
}

#[test]
fn a_good_end_does_not_wait_for_ever() {
    let mut alone = Alone::start("drain: 200ms\n");
    alone.plan_that_waits();
    alone.ok(&["submit", "plan.yaml"]);
    alone.wait_for_lines("began", 1);
    let first = alone.processes()[0];
    alone.daemon().signal("TERM");
    assert_eq!(alone.daemon().wait(), Some(0), "{}", alone.daemon().log());
    assert!(!lives(first));
    assert_eq!(count(&alone.events("apollo.1"), "TaskRetryScheduled"), 1, "it is known to have ended");
    alone.start_again();
    alone.wait_for_lines("began", 2);
    alone.place.write("go", "");
    alone.completes("apollo.1");
}

/// A part of the ten seconds for which the end of an output is waited for where nothing is known of it.
const AT_ONCE: Duration = Duration::from_secs(6);

#[test]
fn a_followed_log_without_a_byte_ends_with_its_task() {
    let alone = Alone::start("");
    let place = alone.place.path().display();
    alone.place.write(
        "plan.yaml",
        &format!(
            "version: 1\nproject: apollo\ntasks:\n\
             - {{id: a, run: \"while [ ! -e {place}/go ]; do sleep 0.02; done\"}}\n\
             - {{id: none, exec: [no-such-program], needs: [a]}}\n- {{id: timer, wait: 300ms, needs: [a]}}\n"
        ),
    );
    alone.ok(&["submit", "plan.yaml"]);
    let in_progress = || alone.status("apollo.1")["counts"]["in_progress"] == 1;
    wait_for("the start", || in_progress().then_some(()));
    let follow = |task| {
        let mut command = alone.command(&["logs", "apollo.1", task, "--follow"]);
        let (program, began) = (command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn(), now());
        (task, program.expect("the binary starts"), began)
    };
    let followers = ["a", "none", "timer"].map(follow);
    alone.place.write("go", "");
    for (task, follower, began) in followers {
        let output = follower.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{task}: {}", told(&output));
        assert!(began.elapsed() < AT_ONCE, "{task}: {:?}", began.elapsed());
    }
}

#[test]
fn a_second_signal_ends_all_at_once() {
    let mut alone = Alone::start("drain: 1h\n");
    alone.plan_that_waits();
    alone.ok(&["submit", "plan.yaml"]);
    // More often than a task may be lost: an end as planned loses nothing.
    for life in 1..=4 {
        alone.wait_for_lines("began", life);
        let running = alone.processes()[life - 1];
        alone.daemon().signal("TERM");
        // All lives write one log. Two signals at the same moment would be one.
        let says = || alone.daemon().log().matches("draining").count();
        wait_for("the drain", || (says() >= life).then_some(()));
        alone.daemon().signal("TERM");
        assert_eq!(alone.daemon().wait(), Some(130), "{}", alone.daemon().log());
        assert!(!lives(running));
        alone.start_again();
    }
    alone.wait_for_lines("began", 5);
    alone.place.write("go", "");
    alone.completes("apollo.1");
    let events = alone.events("apollo.1");
    assert_eq!(count(&events, "TaskFailed"), 0);
    let again: Vec<_> = events.iter().filter(|event| event["event_type"] == "TaskRetryScheduled").collect();
    let as_planned = |event: &&Value| {
        event["event_data"]["message"].as_str().is_some_and(|text| text.contains("as planned"))
    };
    assert!(again.len() == 4 && again.iter().all(as_planned), "{again:#?}");
}

#[test]
fn a_changed_configuration_is_read_on_sighup() {
    let alone = Alone::start("log: {level: warn}\n");
    let config = alone.place.read("coordinator.yaml");
    alone.place.write("coordinator.yaml", &format!("{config}lease: never\n"));
    alone.daemon().signal("HUP");
    alone.daemon().says("the configuration is not in force; the one before stays");
    assert!(!alone.daemon().log().contains(" INFO "), "{}", alone.daemon().log());
    alone.place.write("coordinator.yaml", &config.replace("warn", "info"));
    alone.daemon().signal("HUP");
    // It is said at the level that is in force from then on.
    alone.daemon().says("the configuration was read again");
}
