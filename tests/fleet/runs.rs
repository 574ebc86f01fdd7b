//! Plans run on a fleet as they run on one machine.

use super::support::{Fleet, LONG, SHARED_ROUTE, Setup, check_executions};
use crate::e2e::support::{check_log, told};
use std::fmt::Write as _;

#[test]
fn a_plan_runs_on_two_agents() {
    let fleet = Fleet::shared(Setup::default());
    fleet.place.write(
        "plan.yaml",
        "version: 1\nproject: apollo\ntasks:\n- {id: a, run: \"echo from $CAIRN_AGENT trace $TRACEPARENT\"}\n- {id: b, run: exit 0, needs: [a]}\n",
    );
    let output = fleet.run(&["submit", "plan.yaml", "--wait"]);
    assert_eq!(output.status.code(), Some(0), "{}\n{}", told(&output), fleet.logs());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "apollo.1\n");
    // Whoever has seen the end of a run finds all that it printed.
    let printed = fleet.ok(&["logs", "apollo.1", "a"]);
    assert!(printed.contains("from a"));
    // The process was told the trace that the coordinator's log names.
    let trace =
        printed.split_once("trace 00-").and_then(|(_, rest)| rest.split('-').next()).expect("a trace");
    let is_it = |line: &str| line.contains("run submitted") && line.contains(trace);
    assert!(fleet.logs().lines().any(is_it), "{printed}\n{}", fleet.logs());
    check_log(&fleet.events("apollo.1"), &[("main/a".to_owned(), "main/b".to_owned())], 2);
}

/// Tasks that are never run again take the way by a grant; so does all that lies in a shared queue.
fn at_most_once(setup: Setup<'_>) {
    const TASKS: usize = 40;
    let fleet = Fleet::shared(setup);
    let mut plan = "version: 1\nproject: once\ntasks:\n".to_owned();
    for task in 0..TASKS {
        let _ = writeln!(
            plan,
            "- {{id: t{task}, run: 'echo t{task}.$CAIRN_ATTEMPT >> done.txt', at_most_once: true}}"
        );
    }
    fleet.place.write("plan.yaml", &plan);
    let run = fleet.submit("plan.yaml");
    assert_eq!(fleet.ended(&run, LONG)["status"], "completed", "{}", fleet.logs());
    let events = fleet.events(&run);
    check_log(&events, &[], TASKS);
    check_executions(&fleet, &events, TASKS);
    assert_eq!(fleet.place.read("done.txt").lines().count(), TASKS, "each ran once");
    let granted = events.iter().filter(|event| event["event_type"] == "TaskGranted").count();
    assert_eq!(granted, TASKS, "each started on a grant");
}

#[test]
fn what_runs_at_most_once_is_granted() {
    at_most_once(Setup::default());
}

#[test]
fn what_runs_at_most_once_is_granted_from_a_shared_queue() {
    at_most_once(SHARED_ROUTE);
}
