//! A run is steered from the command line while a fleet works on it.

use super::support::{Fleet, LONG, SHARED_ROUTE, Setup, lines};
use crate::e2e::support::{told, wait_for};
use serde_json::Value;

/// Waits until a run has so many tasks with a status.
fn wait_for_count(fleet: &Fleet, run: &str, status: &str, at_least: u64) {
    wait_for(&format!("{at_least} tasks {status}"), || {
        let seen = fleet.status(run)["counts"][status].as_u64().unwrap_or(0);
        (seen >= at_least).then_some(())
    });
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["event_type"] == kind).count()
}

#[test]
fn a_failed_run_is_retried_and_completes() {
    let fleet = Fleet::shared(Setup::default());
    fleet.place.write(
        "plan.yaml",
        "version: 1\nproject: again\ntasks:\n\
         - {id: good, run: 'echo good >> done.txt'}\n\
         - {id: bad, run: 'test -e mended && echo bad >> done.txt', needs: [good]}\n\
         - {id: late, run: 'echo late >> done.txt', needs: [bad]}\n",
    );
    let failed = fleet.run(&["submit", "plan.yaml", "--wait"]);
    assert_eq!(failed.status.code(), Some(1), "{}\n{}", told(&failed), fleet.logs());
    let status = fleet.status("again.1");
    assert_eq!((&status["status"], &status["counts"]["skipped"]), (&"failed".into(), &1.into()), "{status}");
    fleet.place.write("mended", "");
    fleet.ok(&["retry", "again.1", "--task", "main/bad", "--downstream"]);
    assert_eq!(fleet.ended("again.1", LONG)["counts"]["completed"], 3, "{}", fleet.logs());
    assert_eq!(fleet.place.read("done.txt"), "good\nbad\nlate\n", "what had completed was not run again");
    let events = fleet.events("again.1");
    assert_eq!((count(&events, "RunReopened"), count(&events, "RunCompleted")), (1, 1));
}

#[test]
fn a_run_is_paused_resumed_and_cancelled() {
    let fleet = Fleet::shared(Setup::default());
    let mut plan = "version: 1\nproject: steer\ntasks:\n".to_owned();
    for task in 0..40 {
        plan += &format!("- {{id: t{task}, run: 'sleep 0.1; echo t{task} >> done.txt'}}\n");
    }
    plan += "- {id: endless, run: 'exec sleep 600'}\n";
    fleet.place.write("plan.yaml", &plan);
    let run = fleet.submit("plan.yaml");
    wait_for_count(&fleet, &run, "completed", 4);
    fleet.ok(&["pause", &run, "--reason", "lunch"]);
    // What the agents have goes on to its end; nothing follows. The one that sleeps on is out, if it was among them.
    let quiet = wait_for("the end of what runs", || {
        let status = fleet.status(&run);
        let ends = |task: &&Value| {
            let is_out = ["dispatched", "in_progress"].iter().any(|name| task["status"] == *name);
            is_out && task["id"] != "main/endless"
        };
        let out = status["tasks"].as_array()?.iter().filter(ends).count();
        (out == 0).then(|| status["counts"]["completed"].as_u64())
    });
    assert_eq!(fleet.status(&run)["status"], "paused");
    let dispatched = count(&fleet.events(&run), "TaskDispatched");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(
        count(&fleet.events(&run), "TaskDispatched"),
        dispatched,
        "nothing is given out while it pauses"
    );
    assert_eq!(fleet.status(&run)["counts"]["completed"].as_u64(), quiet);
    fleet.ok(&["resume", &run]);
    wait_for_count(&fleet, &run, "completed", 40);
    wait_for_count(&fleet, &run, "in_progress", 1);
    let waiting = fleet.command(&["watch", &run]).spawn().expect("it starts");
    fleet.ok(&["cancel", &run]);
    let mut waiting = waiting;
    assert_eq!(waiting.wait().expect("ours").code(), Some(6), "whoever watches ends as the run does");
    let status = fleet.ended(&run, LONG);
    assert_eq!(
        (&status["status"], &status["counts"]["cancelled"]),
        (&"cancelled".into(), &1.into()),
        "{status}"
    );
    assert_eq!(lines(&fleet.place.path().join("done.txt")).len(), 40);
    wait_for("the end of the process", || {
        let left = fleet.agents.iter().flat_map(super::support::Daemon::children).any(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x00600"))
        });
        (!left).then_some(())
    });
}

/// Submits a plan of some tasks, each of which writes down where it runs, and gives the agents that had part in it.
fn who_works(fleet: &Fleet) -> Vec<String> {
    let mut plan = "version: 1\nproject: who\ntasks:\n".to_owned();
    for task in 0..12 {
        plan += &format!("- {{id: t{task}, run: 'sleep 0.05; echo $CAIRN_AGENT >> $CAIRN_RUN.txt'}}\n");
    }
    fleet.place.write("plan.yaml", &plan);
    let run = fleet.submit("plan.yaml");
    assert_eq!(fleet.ended(&run, LONG)["status"], "completed", "{}", fleet.logs());
    let mut agents = lines(&fleet.place.path().join(format!("{run}.txt")));
    assert_eq!(agents.len(), 12);
    agents.sort();
    agents.dedup();
    agents
}

fn drained_agents_get_nothing(setup: Setup<'_>) {
    let fleet = Fleet::shared(setup);
    fleet.ok(&["agents", "drain", "a1"]);
    assert_eq!(who_works(&fleet), ["a2"]);
    fleet.ok(&["agents", "drain", "a1", "--undo"]);
    fleet.ok(&["agents", "drain", "a2"]);
    assert_eq!(who_works(&fleet), ["a1"]);
}

#[test]
fn an_agent_that_is_drained_gets_nothing() {
    drained_agents_get_nothing(Setup::default());
}

#[test]
fn an_agent_that_is_drained_takes_nothing_from_a_shared_queue() {
    drained_agents_get_nothing(SHARED_ROUTE);
}
