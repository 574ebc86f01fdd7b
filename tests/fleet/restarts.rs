//! Every process of a fleet is restarted in good order during a run, and nothing is lost.

use super::support::{Fleet, LONG, Setup, check_executions};
use crate::e2e::support::{check_log, wait_for};
use std::fmt::Write as _;

const TASKS: usize = 200;

#[test]
fn a_rolling_restart_loses_nothing() {
    let mut fleet = Fleet::shared(Setup { agents: 3, ..Setup::default() });
    let mut plan = "version: 1\nproject: roll\ntasks:\n".to_owned();
    let mut edges = Vec::new();
    for task in 0..TASKS {
        let needs = task.checked_sub(20).map_or_else(String::new, |need| format!("t{need}"));
        edges.extend(task.checked_sub(20).map(|need| (format!("main/t{need}"), format!("main/t{task}"))));
        let _ = writeln!(
            plan,
            "- {{id: t{task}, needs: [{needs}], run: 'sleep 0.3; echo $CAIRN_TASK.$CAIRN_ATTEMPT >> done.txt'}}"
        );
    }
    fleet.place.write("plan.yaml", &plan);
    let run = fleet.submit("plan.yaml");
    let past = |fleet: &Fleet, tasks: u64| {
        wait_for(&format!("{tasks} completed tasks"), || {
            let status = fleet.json(&["status", &run])?;
            (status["counts"]["completed"].as_u64()? >= tasks).then_some(())
        });
    };
    past(&fleet, 10);
    // The coordinator: tasks go on without it.
    fleet.coordinator.signal("TERM");
    assert_eq!(fleet.coordinator.wait(), Some(0), "{}", fleet.coordinator.log());
    fleet.start_coordinator_again();
    past(&fleet, 40);
    // An agent that is drained, and comes again.
    fleet.agents[0].signal("TERM");
    assert_eq!(fleet.agents[0].wait(), Some(0), "{}", fleet.agents[0].log());
    fleet.agents[0] = fleet.start_agent(1);
    past(&fleet, 70);
    // One that is drained by the coordinator first.
    fleet.ok(&["agents", "drain", "a2"]);
    fleet.agents[1].signal("TERM");
    assert_eq!(fleet.agents[1].wait(), Some(0), "{}", fleet.agents[1].log());
    fleet.agents[1] = fleet.start_agent(2);
    fleet.ok(&["agents", "drain", "a2", "--undo"]);
    past(&fleet, 100);
    // One whose program was replaced.
    let child = fleet.agents[2].network_child().expect("its child");
    fleet.agents[2].signal("HUP");
    wait_for("another child", || fleet.agents[2].network_child().filter(|pid| *pid != child));
    let status = fleet.ended(&run, LONG);
    assert_eq!(status["status"], "completed", "{status}\n{}", fleet.logs());
    let events = fleet.events(&run);
    check_log(&events, &edges, TASKS);
    check_executions(&fleet, &events, TASKS);
    assert_eq!(fleet.place.read("done.txt").lines().count(), TASKS, "nothing was run twice, nothing ended");
    fleet.wait_for_agents(3);
    for daemon in fleet.agents.iter().chain([&fleet.coordinator]) {
        daemon.signal("TERM");
        assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    }
}
