//! Why tasks run or wait, from states that commands have led to.

use super::*;
use crate::insight::tests::{agent, command, submitted_state};
use cairn_engine::{Loan, Taken};
use cairn_model::{AgentRole, AgentSpec, Command, Outcome, Report, ReportKind, Scope, Timestamp};

const PLAN: &str = "
version: 1
project: apollo
milestones:
  - id: build
    tasks:
      - {id: compile, run: x, resources: {cpus: 2}, estimate: 60s, retry: {max_attempts: 2, initial: 9s, jitter: 0}}
      - {id: lint, run: x, resources: {cpus: 2}, estimate: 10s}
      - {id: unit, run: x, needs: [compile, lint]}
      - {id: gpu, run: x, resources: {gpu: 1}, requires: {os: plan9}}
  - {id: ship, needs: [build], tasks: [{id: publish, run: x, needs: [build/unit]}]}
";

fn task(state: &State, name: &str) -> TaskIndex {
    state.plan().find_task_name(name).expect("in the plan")
}

fn why(state: &State, name: &str) -> Vec<Reason> {
    explain_task(state, task(state, name)).reasons
}

fn finish(state: &mut State, name: &str, second: i64, outcome: Outcome) {
    let row = *state.task(task(state, name));
    let (started_at, finished_at) = (Timestamp(0), Timestamp(second * 1_000_000));
    let kind = ReportKind::Finished { outcome, started_at, finished_at };
    let agent = row.agent().expect("out");
    let report = Report { task: task(state, name), attempt: row.attempt, agent, kind };
    command(state, second, Command::Reports(vec![report]));
}

fn failed() -> Outcome {
    Outcome::Failed {
        kind: cairn_model::FailureKind::ExitCode,
        message: "exit code 1".into(),
        exit_code: Some(1),
    }
}

#[test]
fn before_an_agent_joins_nothing_can_run() {
    let mut state = submitted_state(PLAN);
    command(&mut state, 0, Command::Tick);
    assert_eq!(why(&state, "build/compile"), [Reason::NoAgents]);
    let [Reason::Needs(waiting)] = &why(&state, "build/unit")[..] else { panic!("needs") };
    let ids: Vec<_> = waiting.needs.iter().map(|need| (need.id.as_str(), &*need.status)).collect();
    assert_eq!(ids, [("build/compile", "ready"), ("build/lint", "ready")]);
}

#[test]
fn a_milestone_that_waits_holds_back_its_tasks() {
    let mut state = submitted_state(PLAN);
    command(&mut state, 0, Command::Tick);
    let [Reason::Needs(needs), Reason::MilestoneNeeds { milestone, waiting }] =
        &why(&state, "ship/publish")[..]
    else {
        panic!("both")
    };
    assert_eq!((needs.needs[0].id.as_str(), milestone.as_str()), ("build/unit", "ship"));
    assert_eq!((waiting.needs[0].id.as_str(), &*waiting.needs[0].status), ("build", "active"));
}

#[test]
fn what_is_taken_and_what_never_fits_is_told_apart() {
    let mut state = submitted_state(PLAN);
    command(&mut state, 0, agent("local-1", 4, 3_000));
    let [Reason::Offered { agent }] = &why(&state, "build/compile")[..] else { panic!("offered") };
    assert_eq!(agent.as_deref(), Some("local-1"));
    let [Reason::NoRoom { asks, ahead: 0, agents }] = &why(&state, "build/lint")[..] else {
        panic!("no room")
    };
    assert_eq!(asks, "cpus 2");
    assert_eq!((agents[0].resources[0].free, agents[0].slots.free), (1.0, 3.0));
    let [Reason::NeverFits { agents, .. }] = &why(&state, "build/gpu")[..] else { panic!("never") };
    assert_eq!(agents[0].missing_labels, ["os=plan9"]);
    assert!(agents[0].resources[0].total.abs() < f64::EPSILON);
    let lint = explain_task(&state, task(&state, "build/lint"));
    assert_eq!((lint.rank, lint.is_critical, lint.slack_seconds), (2, false, 50.0));
}

#[test]
fn retries_failures_and_what_they_skip_name_their_cause() {
    let mut state = submitted_state(PLAN);
    command(&mut state, 0, agent("local-1", 4, 4_000));
    finish(&mut state, "build/compile", 1, failed());
    let [Reason::Retry { at, error }] = &why(&state, "build/compile")[..] else { panic!("retry") };
    assert_eq!(at, "1970-01-01T00:00:10.000000Z");
    assert_eq!(error.as_ref().map(|error| &*error.kind), Some("exit_code"));
    command(&mut state, 10, Command::Tick);
    finish(&mut state, "build/compile", 11, failed());
    assert!(matches!(&why(&state, "build/compile")[..], [Reason::Failed { error: Some(_) }]));
    let [Reason::Skipped { cause: Some(cause) }] = &why(&state, "ship/publish")[..] else {
        panic!("skipped")
    };
    assert_eq!((cause.id.as_str(), &*cause.status), ("build/compile", "failed"));
}

#[test]
fn pauses_are_named_by_what_is_paused() {
    let mut state = submitted_state(PLAN);
    command(&mut state, 0, Command::Pause { scope: Scope::Run, reason: "".into() });
    let lint = Scope::Task(task(&state, "build/lint"));
    command(&mut state, 0, Command::Pause { scope: lint, reason: "".into() });
    assert_eq!(why(&state, "build/lint"), [Reason::RunPaused, Reason::TaskPaused, Reason::NoAgents]);
}

#[test]
fn an_attempt_on_its_way_says_where_it_is() {
    const FLEET: &str = "
version: 1
project: apollo
tasks:
  - {id: once, run: x, at_most_once: true, priority: 9}
  - {id: any, run: x}
";
    let mut state = submitted_state(FLEET);
    command(&mut state, 0, agent("one", 1, 0));
    let accepted = |state: &mut State, name: &str, agent: u32| {
        let (task, agent) = (task(state, name), cairn_model::AgentIndex(agent));
        let kind = ReportKind::Accepted { awaits_grant: true };
        let attempt = state.task(task).attempt;
        command(state, 1, Command::Reports(vec![Report { task, attempt, agent, kind }]));
    };
    let one = Some("one".to_owned());
    assert_eq!(why(&state, "main/once"), [Reason::AwaitsGrant { agent: one.clone() }]);
    accepted(&mut state, "main/once", 0);
    assert_eq!(why(&state, "main/once"), [Reason::Granted { agent: one }]);
    for (id, role) in [
        ("pool", AgentRole::Pool { offer_lease_micros: 5_000_000 }),
        ("left", AgentRole::Member { pool: "pool".to_owned() }),
    ] {
        let spec = AgentSpec { id: id.to_owned(), slots: 1, role, ..AgentSpec::default() };
        command(&mut state, 1, Command::AgentJoined(Box::new(spec)));
    }
    assert_eq!(why(&state, "main/any"), [Reason::InPool { pool: Some("pool".to_owned()) }]);
    accepted(&mut state, "main/any", 2);
    assert_eq!(why(&state, "main/any"), [Reason::Granted { agent: Some("left".to_owned()) }]);
}

#[test]
fn what_other_runs_have_is_named() {
    let mut state = submitted_state(PLAN);
    let resources = vec![("cpus".to_owned(), 1_000)];
    let taken = |closed| Taken { slots: 3, timers: 0, resources: resources.clone(), closed };
    state.lend(Loan { agents: vec![taken(false), taken(true)], most_slots: None });
    command(&mut state, 0, agent("local-1", 4, 2_000));
    command(&mut state, 0, agent("local-2", 9, 9_000));
    let [Reason::NoRoom { agents, .. }] = &why(&state, "build/compile")[..] else { panic!("no room") };
    let cpus = &agents[0].resources[0];
    assert_eq!((cpus.free, cpus.others, agents[0].slots.free, agents[0].slots.others), (1.0, 1.0, 1.0, 3.0));
    assert_eq!((agents[0].closed, agents[1].closed), (false, true));
    state.lend(Loan { agents: Vec::new(), most_slots: Some(0) });
    assert_eq!(why(&state, "build/compile"), [Reason::ShareUsed { most_slots: 0 }]);
}

#[test]
fn a_refusal_is_why_a_task_waits() {
    let mut state = submitted_state(PLAN);
    command(&mut state, 0, agent("local-1", 4, 4_000));
    let task = task(&state, "build/compile");
    let kind = ReportKind::Declined { reason: "it drains".into() };
    let agent = state.task(task).agent().expect("out");
    command(&mut state, 1, Command::Reports(vec![Report { task, attempt: 1, agent, kind }]));
    let [Reason::Retry { at, error: Some(error) }] = &why(&state, "build/compile")[..] else {
        panic!("retry")
    };
    assert_eq!(at, "1970-01-01T00:00:01.100000Z");
    assert_eq!((&*error.kind, error.message.as_str()), ("declined", "agent local-1 declined it: it drains"));
}
