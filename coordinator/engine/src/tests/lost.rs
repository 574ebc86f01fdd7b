//! Agents that go away.

use super::rig::Rig;
use crate::{next_deadline, recover};
use cairn_model::{AgentIndex, Command, Event, FailureKind, Outcome, ReportKind, RunOptions};
use std::time::Duration;

#[test]
fn the_work_of_a_lost_agent_goes_to_another() {
    let mut rig = Rig::new("m: a; b; c once; d<-c allow", &["one 3", "two 1"]);
    rig.starts("a");
    rig.accepts("c", true);
    rig.loses(AgentIndex(0));
    assert_eq!(rig.statuses(), ["a dispatched", "b ready", "c failed", "d skipped"]);
    assert_eq!(rig.state.task(rig.task("a")).agent(), Some(AgentIndex(1)));
    rig.complete_all();
    assert_eq!(rig.run_status(), "failed");
}

#[test]
fn a_late_report_of_a_lost_agent_changes_nothing() {
    let mut rig = Rig::new("m: a", &["one 1"]);
    let kind =
        ReportKind::Finished { outcome: Outcome::Completed, started_at: rig.now, finished_at: rig.now };
    let report = rig.report("a", kind);
    rig.loses(AgentIndex(0));
    rig.give(Command::Reports(vec![report.clone()]));
    assert_eq!((rig.status("a"), rig.stale_reports), ("ready", 1));
    rig.join("one 1");
    rig.give(Command::Reports(vec![report]));
    assert_eq!((rig.status("a"), rig.stale_reports), ("dispatched", 2), "the same agent, another attempt");
}

#[test]
fn a_run_without_agents_waits() {
    let mut rig = Rig::new("m: a", &["one 1"]);
    rig.loses(AgentIndex(0));
    assert_eq!((rig.status("a"), crate::next_deadline(&rig.state)), ("ready", None));
    assert_eq!(recover(&rig.state), []);
    rig.join("two 1");
    assert_eq!(rig.out(), ["a"]);
}

#[test]
fn a_closed_fleet_is_gone_when_its_owner_is() {
    let options = RunOptions { closed_fleet: true, ..RunOptions::default() };
    let mut rig = Rig::with("m: a gpu=1; b<-a once; c<-a gpu=1", &["one 2 gpu=1", "two 2"], options);
    rig.completes("a");
    rig.pause("run");
    rig.starts("b");
    rig.loses(AgentIndex(1));
    rig.join("two 2 incarnation=2");
    rig.resume("run");
    let before = rig.log.len();
    rig.give(Command::TakeOver { epoch: 1 });
    let dispatched =
        rig.log[before..].iter().any(|(_, event)| matches!(event, cairn_model::Event::TaskDispatched { .. }));
    assert!(
        !dispatched && rig.state.agents().iter().all(|agent| agent.lost),
        "nothing is offered to the dead"
    );
    rig.join("one 2 gpu=1 incarnation=2");
    rig.complete_all();
    assert_eq!(rig.status("c"), "completed");
}

#[test]
fn what_brings_agent_after_agent_down_fails_for_good() {
    let mut rig = Rig::new("m: a tries=9; b<-a", &["one 1"]);
    rig.starts("a");
    rig.loses(AgentIndex(0));
    rig.join("two 1");
    rig.loses(AgentIndex(1));
    assert_eq!((rig.status("a"), rig.failure_kind("a")), ("ready", None));
    rig.join("two 1 incarnation=2");
    let events = rig.loses(AgentIndex(2));
    assert!(matches!(events[1], Event::TaskFailed { attempt: 3, .. }), "{events:?}");
    let failure = rig.state.failure(rig.task("a")).expect("it failed");
    assert_eq!(failure.kind, FailureKind::Poisoned);
    assert_eq!(failure.message, "3 times its agent was lost while it had it: one, two");
    assert_eq!((rig.status("b"), rig.run_status()), ("skipped", "failed"));
}

#[test]
fn an_attempt_that_an_agent_lost_is_one_that_went_with_it() {
    let mut rig = Rig::new("m: a; b once; c once", &["one 9"]);
    for (attempt, status) in [(1, "dispatched"), (2, "dispatched"), (3, "failed")] {
        assert_eq!(rig.state.task(rig.task("a")).attempt, attempt);
        rig.starts("a");
        rig.loses_it("a");
        assert_eq!(rig.status("a"), status);
    }
    assert_eq!(rig.failure_kind("a"), Some(FailureKind::Poisoned));
    rig.loses_it("b");
    assert_eq!(
        (rig.status("b"), rig.state.task(rig.task("b")).attempt),
        ("dispatched", 2),
        "it had no grant"
    );
    rig.accepts("c", true);
    rig.loses_it("c");
    assert_eq!(rig.failure_kind("c"), Some(FailureKind::OutcomeUnknown));
}

#[test]
fn agents_that_end_as_planned_poison_nothing() {
    let mut rig = Rig::new("m: a; b once; c once; d", &["one 9"]);
    for life in 1..6 {
        assert_eq!(rig.state.task(rig.task("a")).attempt, 2 * life - 1);
        rig.starts("a");
        let events = rig.stopped("a");
        let Event::TaskRetryScheduled { failure, counts: false, .. } = &events[0] else {
            panic!("{events:?}");
        };
        assert_eq!(failure.message, "its agent was ended as planned, and the attempt with it");
        // What is out all the same: one that began, one that must not begin twice, one that never arrived.
        rig.starts("d");
        if life == 1 {
            rig.accepts("c", true);
        }
        let events = rig.leaves(rig.state.find_agent("one").expect("it is there"));
        assert!(matches!(events.last(), Some(Event::AgentLost { .. })), "{events:?}");
        let statuses = ["a ready", "b ready", "c failed", "d ready"];
        assert_eq!(rig.statuses(), statuses);
        rig.join(&format!("one 9 incarnation={}", life + 1));
    }
    assert_eq!(rig.failure_kind("c"), Some(FailureKind::OutcomeUnknown), "it may have run");
    rig.complete_all();
    assert_eq!((rig.status("b"), rig.status("d")), ("completed", "completed"));
    let rejection = rig.refuse(Command::AgentLeft { agent: AgentIndex(0), reason: "again".into() });
    assert_eq!(rejection.to_string(), "there is no agent of that name");
}

#[test]
fn a_task_that_is_done_has_brought_nobody_down() {
    let mut rig = Rig::new("m: a; b<-a", &["one 1"]);
    rig.loses(AgentIndex(0));
    rig.join("two 1");
    rig.loses(AgentIndex(1));
    rig.join("three 1");
    rig.completes("a");
    rig.retry("a", false);
    rig.loses(AgentIndex(2));
    assert_eq!(rig.status("a"), "ready", "losses count from 0");
}

#[test]
fn owners_that_die_with_a_closed_fleet_poison_nothing() {
    let options = RunOptions { closed_fleet: true, ..RunOptions::default() };
    let mut rig = Rig::with("m: a", &["one 1"], options);
    for epoch in 1..6 {
        rig.give(Command::TakeOver { epoch });
        rig.join(&format!("one 1 incarnation={}", epoch + 1));
        assert_eq!(rig.status("a"), "dispatched");
    }
}

#[test]
fn what_is_declined_waits_and_goes_to_another() {
    let mut rig = Rig::new("m: a", &["one 2", "two 1"]);
    let holder = |rig: &Rig| rig.state.task(rig.task("a")).agent();
    rig.declines("a");
    assert_eq!((rig.status("a"), rig.failure_kind("a")), ("pending", Some(FailureKind::Declined)));
    let due = next_deadline(&rig.state).expect("it waits");
    assert_eq!(due.since(rig.now), Duration::from_millis(100));
    rig.now = due;
    rig.give(Command::Tick);
    assert_eq!((rig.status("a"), holder(&rig)), ("dispatched", Some(AgentIndex(1))));
    rig.declines("a");
    let due = next_deadline(&rig.state).expect("it waits");
    assert_eq!(due.since(rig.now), Duration::from_millis(200), "ever longer");
    rig.loses(AgentIndex(0));
    rig.now = due;
    rig.give(Command::Tick);
    assert_eq!(holder(&rig), Some(AgentIndex(1)), "there is nobody else");
    for _ in 0..40 {
        rig.declines("a");
        rig.now = next_deadline(&rig.state).expect("it waits");
        rig.give(Command::Tick);
    }
    rig.declines("a");
    let longest = next_deadline(&rig.state).expect("it waits").since(rig.now);
    assert_eq!((longest, rig.state.task(rig.task("a")).failures), (Duration::from_secs(30), 0));
}

#[test]
fn what_is_to_end_ends_with_its_refusal_and_what_runs_is_not_declined() {
    let mut rig = Rig::new("m: a; b", &["one 2"]);
    rig.starts("b");
    rig.declines("b");
    assert_eq!((rig.status("b"), rig.stale_reports), ("in_progress", 1));
    rig.cancel("a");
    rig.declines("a");
    assert_eq!(rig.status("a"), "cancelled");
}
