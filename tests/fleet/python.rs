//! The agent in Python that stands in deploy/examples, against a real coordinator and a real broker.

use super::support::{Fleet, LONG, Setup, virtual_host};
use crate::e2e::support::{root, told, wait_for};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

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

impl Drop for Agent {
    fn drop(&mut self) {
        // TERM, so that it ends its tasks; one that does not is killed.
        super::support::kill(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

#[test]
fn the_agent_in_python_runs_a_plan_and_stops_when_told() {
    let Some(pika) = pika() else { return };
    let url = virtual_host();
    // One of ours is there as well, and must not get what only the other one may run.
    let fleet = Fleet::over(&url, Setup { agents: 1, ..Setup::default() });
    let log = std::fs::File::create(fleet.place.path().join("python.log")).expect("a log");
    let child = Command::new("python3")
        .arg(root().join("deploy/examples/agent.py"))
        .args([url.as_str(), "python-1"])
        .env("PYTHONPATH", &pika)
        .current_dir(fleet.place.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("python3 starts");
    let agent = Agent(child);
    fleet.wait_for_agents(2);
    fleet.place.write(
        "plan.yaml",
        "version: 1\nproject: apollo\ndefaults: {requires: {lang: python}}\ntasks:\n\
         - {id: a, run: \"echo $CAIRN_AGENT $CAIRN_RUN $CAIRN_MILESTONE $CAIRN_TASK $CAIRN_ATTEMPT >> ran\"}\n\
         - {id: b, exec: [sh, -c, \"echo b >> ran\"], needs: [a]}\n\
         - {id: c, run: \"test -e once || { touch once; exit 3; }\", needs: [a], retry: {max_attempts: 2, initial: 10ms}}\n",
    );
    let run = fleet.submit("plan.yaml");
    let status = fleet.ended(&run, LONG);
    let says = || fleet.place.read("python.log");
    assert_eq!(status["status"], "completed", "{}\n{}", fleet.logs(), says());
    assert_eq!(fleet.place.read("ran"), format!("python-1 {run} main a 1\nb\n"));

    fleet.place.write(
        "long.yaml",
        "version: 1\nproject: gemini\ndefaults: {requires: {lang: python}}\ntasks:\n\
         - {id: long, run: \"echo $$ > pid; sleep 600\"}\n",
    );
    let run = fleet.submit("long.yaml");
    let pid = wait_for("the long task", || {
        let text = std::fs::read_to_string(fleet.place.path().join("pid")).ok()?;
        text.trim().parse::<u32>().ok()
    });
    wait_for("the task's start", || {
        fleet.events(&run).iter().any(|event| event["event_type"] == "TaskStarted").then_some(())
    });
    fleet.ok(&["cancel", &run]);
    assert_eq!(fleet.ended(&run, LONG)["status"], "cancelled");
    wait_for("the end of its process", || (!PathBuf::from(format!("/proc/{pid}")).exists()).then_some(()));
    drop(agent);
    wait_for("its goodbye", || fleet.coordinator.log().contains("agent left").then_some(()));
    let complaints: Vec<String> = fleet
        .coordinator
        .log()
        .lines()
        .filter(|line| [" WARN ", " ERROR ", "panicked"].iter().any(|word| line.contains(word)))
        .map(str::to_owned)
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}\n{}", says());
    assert_eq!(says(), "", "nothing went wrong in it");
}
