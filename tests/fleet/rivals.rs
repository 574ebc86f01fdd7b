//! Two coordinators with state directories of their own on one virtual host: one works, the other is told, and takes over
//! when the first is gone.

use super::support::{Fleet, LONG, Setup, check_executions, virtual_host};
use crate::e2e::support::{check_log, wait_for};
use serde_json::Value;
use std::fmt::Write as _;

const TASKS: usize = 30;
const TOLD: &str = "another coordinator uses this broker's virtual host";

fn plan(project: &str) -> String {
    let mut plan = format!("version: 1\nproject: {project}\ntasks:\n");
    for task in 0..TASKS {
        let _ = writeln!(
            plan,
            "- {{id: t{task}, run: 'sleep 0.2; echo $CAIRN_TASK.$CAIRN_ATTEMPT >> done.txt'}}"
        );
    }
    plan
}

/// What `cairn doctor` finds about the broker.
fn transport(fleet: &Fleet) -> Option<(Option<i32>, Value)> {
    let output = fleet.run(&["doctor", "--output", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).ok()?;
    let check = report["checks"].as_array()?.iter().find(|check| check["name"] == "transport")?;
    Some((output.status.code(), check.clone()))
}

#[test]
fn a_second_coordinator_is_told_and_works_once_the_first_is_gone() {
    let url = virtual_host();
    let first = Fleet::over(&url, Setup { agents: 1, ..Setup::default() });
    first.place.write("plan.yaml", &plan("first"));
    let run = first.submit("plan.yaml");
    let second = Fleet::over(&url, Setup { agents: 0, ..Setup::default() });
    let (code, check) = wait_for("the second one to be told", || {
        let found = transport(&second)?;
        found.1["message"].as_str()?.contains(TOLD).then_some(found)
    });
    assert_eq!((code, check["result"].as_str()), (Some(1), Some("fail")), "{check}");
    assert!(
        check["message"].as_str().is_some_and(|text| text.contains("a virtual host of its own")),
        "{check}"
    );
    // It takes plans meanwhile; they wait.
    second.place.write("plan.yaml", &plan("second"));
    let waiting = second.submit("plan.yaml");
    let status = first.ended(&run, LONG);
    assert_eq!(status["status"], "completed", "{status}\n{}", first.logs());
    let events = first.events(&run);
    check_log(&events, &[], TASKS);
    check_executions(&first, &events, TASKS);
    assert_eq!(first.place.read("done.txt").lines().count(), TASKS, "nothing had to be run again");
    assert_eq!(second.status(&waiting)["counts"]["completed"], 0);
    let log = second.coordinator.log();
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains(TOLD)).count();
    assert_eq!(warnings, 1, "it is said once: {log}");
    assert!(!first.coordinator.log().contains(TOLD), "{}", first.coordinator.log());
    // The tasks of the second start in the directory of the agent.
    std::fs::remove_file(first.place.path().join("done.txt")).expect("it is there");
    first.coordinator.signal("TERM");
    assert_eq!(first.coordinator.wait(), Some(0), "{}", first.coordinator.log());
    let status = second.ended(&waiting, LONG);
    assert_eq!(status["status"], "completed", "{status}\n{}", second.logs());
    check_executions(&first, &second.events(&waiting), TASKS);
    let (_, check) = transport(&second).expect("a check");
    assert_eq!(check["result"], "ok", "{check}");
}
