//! The agent in Python that stands in deploy/examples, against a real coordinator and a real broker.

use super::support::{Fleet, LONG, Setup, check_executions, virtual_host};
use crate::e2e::support::{check_log, root, told, wait_for};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where it is, from the root of the project.
const EXAMPLE: &str = "deploy/examples/agent.py";

/// It is to be read in a few minutes.
const MAX_LINES: usize = 60;

/// The client of the broker that the agent is written against.
const PIKA: &str = "pika==1.3.2";

/// Where pika is; it is fetched once. Nothing if it cannot be had, which is told, and in CI an error.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn pika() -> Option<PathBuf> {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pika");
    if place.join("pika/__init__.py").is_file() {
        return Some(place);
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
        .arg(&place)
        .arg(PIKA);
    let why = match pip.output() {
        Ok(output) if output.status.success() => return Some(place),
        Ok(output) => told(&output),
        Err(error) => error.to_string(),
    };
    assert!(std::env::var_os("CI").is_none(), "{PIKA} cannot be had: {why}");
    eprintln!("skipped: {PIKA} cannot be had: {why}");
    None
}

/// The agent, which ends with the value.
struct Agent(Child);

impl Agent {
    /// Starts it in the fleet's directory; what it says goes to `python.log` there.
    fn start(fleet: &Fleet, url: &str, pika: &Path) -> Self {
        let log = fleet.place.path().join("python.log");
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let mut python = Command::new("python3");
        python.arg(root().join(EXAMPLE)).args([url, "python-1"]).env("PYTHONPATH", pika);
        python.current_dir(fleet.place.path()).stdin(Stdio::null());
        let python = python.stdout(log.try_clone().expect("a file")).stderr(log);
        Self(python.spawn().expect("python3 starts"))
    }

    /// Kills it, as the loss of power would, and waits for its end.
    fn kill(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has ended is not there any more. Its tasks end with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A fleet with one agent of ours, which must not get what only the one in Python may run, and that one.
fn fleet(pika: &Path) -> (String, Fleet, Agent) {
    let url = virtual_host();
    let fleet = Fleet::over(&url, Setup { agents: 1, ..Setup::default() });
    let agent = Agent::start(&fleet, &url, pika);
    fleet.wait_for_agents(2);
    (url, fleet, agent)
}

/// Submits tasks that only the agent in Python may run; the run's name.
fn submit(fleet: &Fleet, project: &str, tasks: &str) -> String {
    let head = format!("version: 1\nproject: {project}\ndefaults: {{requires: {{lang: python}}}}\ntasks:\n");
    fleet.place.write("plan.yaml", &(head + tasks));
    fleet.submit("plan.yaml")
}

/// The process that a task has written down in `pid`, which runs.
fn running(fleet: &Fleet, run: &str) -> PathBuf {
    let pid = wait_for("the long task", || {
        let text = std::fs::read_to_string(fleet.place.path().join("pid")).ok()?;
        text.trim().parse::<u32>().ok()
    });
    wait_for("the task's start", || {
        fleet.events(run).iter().any(|event| event["event_type"] == "TaskStarted").then_some(())
    });
    PathBuf::from(format!("/proc/{pid}/exe"))
}

/// The coordinator, and the agent, have nothing to complain of.
fn check_logs(fleet: &Fleet) {
    let log = fleet.coordinator.log();
    let is_complaint = |line: &&str| [" WARN ", " ERROR ", "panicked"].iter().any(|word| line.contains(word));
    let complaints: Vec<_> =
        log.lines().filter(is_complaint).filter(|line| !line.contains("agent lost")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert_eq!(fleet.place.read("python.log"), "", "nothing went wrong in it");
}

#[test]
fn the_agent_in_python_is_short() {
    let text = std::fs::read_to_string(root().join(EXAMPLE)).expect("the example");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let code = text.lines().filter(is_code).count();
    assert!(code <= MAX_LINES, "{code} lines of code");
    assert!(
        text.lines()
            .all(|line| line.chars().count() < 100 && !line.contains(';') || line.starts_with("GUARD"))
    );
}

#[test]
fn the_agent_in_python_runs_a_plan_and_stops_when_told() {
    let Some(pika) = pika() else { return };
    let (_, fleet, agent) = fleet(&pika);
    let run = submit(
        &fleet,
        "apollo",
        "- {id: a, run: \"echo $CAIRN_AGENT $CAIRN_RUN $CAIRN_MILESTONE $CAIRN_TASK $CAIRN_ATTEMPT >> ran\"}\n\
         - {id: b, exec: [sh, -c, \"echo b >> ran\"], needs: [a]}\n\
         - {id: c, run: \"test -e once || { touch once; exit 3; }\", needs: [a], retry: {max_attempts: 2, initial: 10ms}}\n",
    );
    let status = fleet.ended(&run, LONG);
    assert_eq!(status["status"], "completed", "{}\n{}", fleet.logs(), fleet.place.read("python.log"));
    assert_eq!(fleet.place.read("ran"), format!("python-1 {run} main a 1\nb\n"));

    // What a task leaves in its group ends with it, and what comes after a task that failed is not run.
    let run = submit(
        &fleet,
        "mercury",
        "- {id: bad, run: \"sleep 600 & echo $! > left; exit 7\"}\n- {id: next, run: echo next >> ran, needs: [bad]}\n",
    );
    assert_eq!(fleet.ended(&run, LONG)["status"], "failed");
    let events = fleet.events(&run);
    let failed = events.iter().find(|event| event["event_type"] == "TaskFailed").expect("its end");
    assert_eq!(failed["event_data"]["exit_code"], 7, "{failed}");
    assert!(!fleet.place.read("ran").contains("next"));
    let left = PathBuf::from(format!("/proc/{}/exe", fleet.place.read("left").trim()));
    wait_for("the end of what it left", || (!left.exists()).then_some(()));

    let run = submit(&fleet, "gemini", "- {id: long, run: \"echo $$ > pid; sleep 600\"}\n");
    let process = running(&fleet, &run);
    fleet.ok(&["cancel", &run]);
    assert_eq!(fleet.ended(&run, LONG)["status"], "cancelled");
    wait_for("the end of its process", || (!process.exists()).then_some(()));
    drop(agent);
    wait_for("the end of its lease", || fleet.coordinator.log().contains("agent lost").then_some(()));
    check_logs(&fleet);
}

#[test]
fn the_agent_in_python_may_be_killed_and_started_again() {
    let Some(pika) = pika() else { return };
    let (url, fleet, mut agent) = fleet(&pika);
    // The first attempt of the task would never end; its process is a child of the shell's.
    let tasks = "- {id: a, run: \"echo a.$CAIRN_ATTEMPT >> tries; \
                 test $CAIRN_ATTEMPT = 2 || { sleep 600 & echo $! > pid; wait; }; echo a.$CAIRN_ATTEMPT >> done.txt\"}\n\
                 - {id: b, run: \"echo b.$CAIRN_ATTEMPT >> done.txt\", needs: [a]}\n";
    let run = submit(&fleet, "apollo", tasks);
    let process = running(&fleet, &run);
    agent.kill();
    wait_for("the end of its tasks", || (!process.exists()).then_some(()));
    let _again = Agent::start(&fleet, &url, &pika);
    let status = fleet.ended(&run, LONG);
    assert_eq!(status["status"], "completed", "{}\n{}", fleet.logs(), fleet.place.read("python.log"));
    let events = fleet.events(&run);
    check_log(&events, &[("main/a".into(), "main/b".into())], 2);
    check_executions(&fleet, &events, 2);
    assert_eq!(fleet.place.read("tries"), "a.1\na.2\n");
    assert_eq!(
        fleet.place.read("done.txt"),
        "a.2\nb.1\n",
        "what it held ran again, and what followed ran once"
    );
    check_logs(&fleet);
}
