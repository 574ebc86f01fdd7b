//! Makes the second and third golden logs of form 1: what only a fleet does (pools, grants, refusals, losses), and runs
//! that go on after their end.

use super::make::{Script, failed, write};
use cairn_coordinator::store::FileStore;
use cairn_engine::{RunStatus, TaskStatus};
use cairn_model::{
    AgentIndex, AgentRole, AgentSpec, Command, FailureKind, Outcome, ReportKind, RunOptions, Scope,
};

const PLAN: &str = r#"version: 1
project: fleet
milestones:
  - id: build
    tasks:
      - {id: once, exec: [once], at_most_once: true}
      - {id: shared, exec: [shared], resources: {cpus: 0.5}}
      - {id: poison, exec: [poison]}
      - {id: after, exec: [after], needs: [shared]}
      - {id: lint, exec: [lint], continue_on_error: true}
  - id: nothing
    needs: [build]
    tasks: []
  - id: ship
    needs: [nothing]
    tasks:
      - {id: publish, exec: [publish]}
      - {id: done, needs: [publish]}
"#;

fn agent(id: &str, slots: u32, role: AgentRole) -> Box<AgentSpec> {
    let resources = vec![("cpus".to_owned(), u64::from(slots) * 1_500)];
    let labels = vec![("os".to_owned(), "linux".to_owned())];
    let id = id.to_owned();
    Box::new(AgentSpec { id, incarnation: 1, slots, backlog: 0, timers: 8, resources, labels, role })
}

fn pool(slots: u32) -> Box<AgentSpec> {
    agent("pool:linux", slots, AgentRole::Pool { offer_lease_micros: 30_000_000 })
}

fn member(id: &str) -> Box<AgentSpec> {
    agent(id, 2, AgentRole::Member { pool: "pool:linux".to_owned() })
}

fn has_it(awaits_grant: bool) -> ReportKind {
    ReportKind::Accepted { awaits_grant }
}

fn lost() -> Outcome {
    Outcome::Lost { reason: "the machine went down".into() }
}

/// Completes whatever is out until nothing is.
fn complete(run: &mut Script<'_>) {
    loop {
        let plan = run.state.plan().clone();
        let out = plan.tasks().filter(|&task| run.state.task(task).status.is_out());
        let names: Vec<String> = out.map(|task| plan.task_name(task)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if names.is_empty() {
            return;
        }
        run.end(&names, &Outcome::Completed);
    }
}

/// Fails by what brings its agents down, is run again, completes, and is run again in part.
fn whole(store: &FileStore, hash: &str) {
    let options = RunOptions { seed: 11, ..RunOptions::default() };
    let mut run = Script::submitted(store, (PLAN, hash), Vec::new(), (1, options), "2026-11-04T08:00:00Z");
    run.wish(Command::TakeOver { epoch: 1 });
    for spec in [pool(2), member("left"), member("right"), agent("solo", 1, AgentRole::Own)] {
        run.wish(Command::AgentJoined(spec));
    }
    run.wish(Command::AgentChanged(pool(4)));
    run.report(&["build/once"], |_| has_it(true));
    run.report(&["build/shared"], |_| has_it(false));
    run.report(&["build/lint"], |_| ReportKind::Declined { reason: "it drains".into() });
    run.wait();
    // Whoever has the rest says nothing: what lies in the pool is offered again.
    run.wait();
    run.end(&["build/lint"], &failed());
    run.end(&["build/once", "build/shared"], &Outcome::Completed);
    for _ in 0..2 {
        run.report(&["build/poison"], |at| ReportKind::Started { at });
        run.end(&["build/poison"], &lost());
    }
    run.report(&["build/poison"], |at| ReportKind::Started { at });
    let last = run.state.task(run.task("build/poison")).agent().expect("it is out");
    run.wish(Command::AgentLost { agent: last, reason: "its lease has ended".into() });
    complete(&mut run);
    let poison = run.state.failure(run.task("build/poison")).map(|failure| failure.kind);
    assert_eq!((poison, run.state.run().status), (Some(FailureKind::Poisoned), RunStatus::Failed));
    run.wish(Command::TakeOver { epoch: 2 });
    run.wish(Command::Retry { scope: Scope::Run, downstream: false });
    complete(&mut run);
    assert_eq!(run.state.run().status, RunStatus::Completed);
    let after = Scope::Task(run.task("build/after"));
    run.wish(Command::Retry { scope: after, downstream: true });
    assert_eq!(run.state.task(run.task("ship/done")).status, TaskStatus::Pending);
    run.wish(Command::AgentLost { agent: AgentIndex(0), reason: "no member is there".into() });
    complete(&mut run);
    assert_eq!(run.state.run().status, RunStatus::Completed);
}

/// Is cancelled while an attempt waits in a pool, and then completes.
fn cancelled(store: &FileStore, hash: &str) {
    let options = RunOptions { seed: 12, fail_fast: true, ..RunOptions::default() };
    let mut run = Script::submitted(store, (PLAN, hash), Vec::new(), (2, options), "2026-11-05T08:00:00Z");
    run.wish(Command::TakeOver { epoch: 1 });
    for spec in [pool(3), member("left")] {
        run.wish(Command::AgentJoined(spec));
    }
    run.report(&["build/once"], |_| has_it(true));
    run.wish(Command::Cancel { scope: Scope::Run, reason: "changed my mind".into() });
    run.end(&["build/once"], &Outcome::NotStarted);
    run.wait();
    assert_eq!(run.state.run().status, RunStatus::Cancelled);
    run.wish(Command::Retry { scope: Scope::Run, downstream: false });
    complete(&mut run);
    assert_eq!(run.state.run().status, RunStatus::Completed);
}

#[test]
#[ignore = "writes the second golden log of form 1, once"]
fn make() {
    write("form-1b", PLAN, |store, hash| {
        whole(store, hash);
        cancelled(store, hash);
    });
}

/// Ends while a milestone of it is paused, and goes on with that milestone still paused.
fn paused(store: &FileStore, hash: &str) {
    let options = RunOptions { seed: 13, ..RunOptions::default() };
    let mut run = Script::submitted(store, (PLAN, hash), Vec::new(), (1, options), "2026-11-06T08:00:00Z");
    run.wish(Command::TakeOver { epoch: 1 });
    run.wish(Command::AgentJoined(agent("solo", 8, AgentRole::Own)));
    let build = run.state.plan().find_milestone("build").expect("it is there");
    run.wish(Command::Pause { scope: Scope::Milestone(build), reason: "hold".into() });
    run.end(&["build/shared"], &failed());
    complete(&mut run);
    assert_eq!(run.state.run().status, RunStatus::Failed);
    run.wish(Command::Retry { scope: Scope::Run, downstream: false });
    assert_eq!(run.state.attempts_out(), 0, "it is paused");
    run.wish(Command::Resume { scope: Scope::Milestone(build) });
    complete(&mut run);
    assert_eq!(run.state.run().status, RunStatus::Completed);
}

#[test]
#[ignore = "writes the third golden log of form 1, once"]
fn make_paused() {
    write("form-1c", PLAN, paused);
}
