//! Attempts that start on a grant, and pools, whose members take what is offered to all of them.

use super::rig::{Rig, agent, at};
use crate::{Effect, next_deadline, recover};
use cairn_model::{
    AgentIndex, Command, Event, FailureKind, Outcome, Report, ReportKind, RunOptions, Timestamp,
};
use std::time::Duration;

const ONE: AgentIndex = AgentIndex(0);

fn asks() -> ReportKind {
    ReportKind::Accepted { awaits_grant: true }
}

fn has_it() -> ReportKind {
    ReportKind::Accepted { awaits_grant: false }
}

fn ends(at: Timestamp, outcome: Outcome) -> ReportKind {
    ReportKind::Finished { outcome, started_at: at, finished_at: at }
}

#[test]
fn a_grant_goes_out_once_it_is_durable_and_again_to_who_asks_again() {
    let mut rig = Rig::new("m: a once", &["one 1", "two 1"]);
    let (task, attempt) = (rig.task("a"), 1);
    let grant = Effect::Grant { task, attempt, agent: ONE };
    assert_eq!(recover(&rig.state), [Effect::Offer { task, attempt, agent: ONE }]);
    let events = rig.accepts("a", true);
    assert_eq!(events, [Event::TaskGranted { task, attempt, agent: ONE, awaited: true }]);
    assert_eq!((rig.effects(&events), &rig.answers[..]), (vec![grant], &[][..]));
    assert_eq!(rig.accepts("a", true), []);
    assert_eq!(rig.answers, [grant]);
    assert_eq!(recover(&rig.state), [grant]);
    assert_eq!(rig.says(AgentIndex(1), "a", asks()), []);
    assert_eq!(rig.answers, [Effect::Stop { task, attempt, agent: AgentIndex(1) }]);
    rig.starts("a");
    assert_eq!(recover(&rig.state), []);
    assert_eq!((rig.accepts("a", true), rig.answers.len()), (vec![], 0), "it has started");
}

#[test]
fn what_asks_for_no_grant_needs_no_event() {
    let mut rig = Rig::new("m: a; b once", &["one 2"]);
    assert_eq!((rig.accepts("a", false), rig.stale_reports), (vec![], 0));
    // It does not wait, so it may run: never again.
    let events = rig.accepts("b", false);
    assert!(matches!(events[..], [Event::TaskGranted { awaited: false, .. }]));
    assert_eq!(rig.effects(&events), []);
    rig.loses(ONE);
    assert_eq!((rig.status("a"), rig.failure_kind("b")), ("ready", Some(FailureKind::OutcomeUnknown)));
}

#[test]
fn what_is_to_end_is_not_granted() {
    for by in ["cancel", "interrupt"] {
        let mut rig = Rig::new("m: a once", &["one 1"]);
        match by {
            "cancel" => drop(rig.cancel("a")),
            _ => drop(rig.give(Command::Interrupt { reason: "test".into() })),
        }
        assert_eq!(rig.accepts("a", true), []);
        assert_eq!(rig.answers, [Effect::Stop { task: rig.task("a"), attempt: 1, agent: ONE }]);
        // A grant that is durable late is not sent to what is to end by now.
        let mut rig = Rig::new("m: a once", &["one 1"]);
        let granted = rig.accepts("a", true);
        rig.cancel("a");
        assert_eq!(rig.effects(&granted), []);
        rig.not_started("a");
        assert_eq!(rig.status("a"), "cancelled");
    }
}

#[test]
fn an_offer_in_a_closed_fleet_is_a_grant() {
    let options = RunOptions { closed_fleet: true, ..RunOptions::default() };
    let mut rig = Rig::with("m: a once", &["one 1"], options);
    assert!(!rig.state.needs_grant(rig.task("a")));
    rig.loses(ONE);
    assert_eq!(rig.failure_kind("a"), Some(FailureKind::OutcomeUnknown));
}

#[test]
fn the_first_member_that_speaks_has_the_attempt() {
    let mut rig = Rig::new("m: a; b", &["pool 1 pool=30", "left 1 member=pool", "right 1 member=pool"]);
    let (task, attempt) = (rig.task("a"), 1);
    let [left, right] = [1, 2].map(AgentIndex);
    assert_eq!(recover(&rig.state), [], "a second copy would be taken by a second member");
    let bound = rig.says(left, "a", has_it());
    assert_eq!(bound, [Event::TaskGranted { task, attempt, agent: left, awaited: false }]);
    assert_eq!(rig.effects(&bound), [], "it does not wait for it");
    assert_eq!(rig.says(right, "a", asks()), []);
    assert_eq!(rig.answers, [Effect::Stop { task, attempt, agent: right }]);
    let late = ends(rig.now, Outcome::Completed);
    assert_eq!((rig.says(right, "a", late.clone()), &rig.answers[..]), (vec![], &[][..]));
    assert_eq!((rig.status("b"), rig.state.agents()[0].slots_used), ("ready", 1), "the pool is full");
    assert_eq!(next_deadline(&rig.state), None, "somebody has it");
    rig.says(left, "a", late);
    assert_eq!(
        (rig.status("a"), rig.status("b"), rig.state.agents()[0].slots_used),
        ("completed", "dispatched", 1)
    );
}

#[test]
fn any_first_word_of_a_member_binds_but_a_refusal() {
    let mut rig =
        Rig::new("m: a once; b; c; d", &["pool 9 pool=30", "left 9 member=pool", "other 1 member=else"]);
    let left = AgentIndex(1);
    let events = rig.says(left, "a", asks());
    assert_eq!(rig.effects(&events), [Effect::Grant { task: rig.task("a"), attempt: 1, agent: left }]);
    let events = rig.says(left, "b", ReportKind::Started { at: rig.now });
    assert!(matches!(events[..], [Event::TaskGranted { .. }, Event::TaskStarted { .. }]), "{events:?}");
    let events = rig.says(left, "c", ends(rig.now, Outcome::Completed));
    assert!(matches!(events[..], [Event::TaskGranted { .. }, Event::TaskCompleted { .. }]), "{events:?}");
    rig.says(AgentIndex(2), "d", has_it());
    assert_eq!(rig.state.task(rig.task("d")).agent(), Some(ONE), "of another pool");
    let events = rig.says(left, "d", ReportKind::Declined { reason: "test".into() });
    assert!(matches!(events[..], [Event::TaskRetryScheduled { counts: false, .. }]), "{events:?}");
    rig.loses(left);
    assert_eq!(rig.failure_kind("a"), Some(FailureKind::OutcomeUnknown));
    assert_eq!(rig.status("b"), "ready", "no member is there");
    assert_eq!(rig.state.agents()[0].slots_used, 0);
}

#[test]
fn what_nobody_takes_in_time_is_offered_again() {
    let mut rig = Rig::new("m: a; b", &["pool 2 pool=30", "left 1 member=pool"]);
    assert_eq!(next_deadline(&rig.state), Some(at(30)));
    rig.says(AgentIndex(1), "b", has_it());
    let events = rig.tick(30);
    let (task, agent) = (rig.task("a"), ONE);
    assert_eq!(
        events,
        [Event::LeaseExpired { task, attempt: 1 }, Event::TaskDispatched { task, attempt: 2, agent }]
    );
    assert_eq!(rig.state.task(task).failures, 0);
    let id = |attempt| Report { task, attempt, agent: AgentIndex(1), kind: has_it() };
    rig.give(Command::Reports(vec![id(1)]));
    assert_eq!(rig.answers, [Effect::Stop { task, attempt: 1, agent: AgentIndex(1) }]);
    let cancelled = rig.cancel("a");
    assert_eq!(rig.effects(&cancelled), [], "whom to ask?");
    rig.tick(60);
    assert_eq!((rig.status("a"), rig.status("b")), ("cancelled", "dispatched"));
}

#[test]
fn what_is_to_end_is_stopped_as_soon_as_somebody_takes_it() {
    let mut rig = Rig::new("m: a", &["pool 2 pool=30", "left 1 member=pool"]);
    rig.cancel("a");
    let events = rig.says(AgentIndex(1), "a", asks());
    assert!(matches!(events[..], [Event::TaskGranted { awaited: false, .. }]), "{events:?}");
    assert_eq!(rig.effects(&events), []);
    let stop = Effect::Stop { task: rig.task("a"), attempt: 1, agent: AgentIndex(1) };
    assert_eq!((&rig.answers[..], recover(&rig.state)), (&[stop][..], vec![stop]));
    rig.not_started("a");
    assert_eq!(rig.run_status(), "cancelled");
}

#[test]
fn a_pool_runs_no_more_than_its_members_could() {
    let mut rig = Rig::new("m: a gpu=2; b gpu=1", &["pool 2 pool=30 gpu=2", "left 1 gpu=1 member=pool"]);
    rig.join("right 1 gpu=1 member=pool");
    assert_eq!(rig.statuses(), ["a ready", "b dispatched"], "no member has two");
    rig.join("big 1 gpu=2 member=pool");
    assert_eq!(rig.statuses(), ["a ready", "b dispatched"], "the pool has not got more by itself");
    rig.give(Command::AgentChanged(Box::new(agent("pool 3 pool=30 gpu=4"))));
    assert_eq!(rig.statuses(), ["a dispatched", "b dispatched"]);
    assert!(next_deadline(&rig.state).is_some_and(|at| at.since(rig.now) == Duration::from_secs(30)));
}

#[test]
fn an_agent_that_has_less_keeps_what_it_runs() {
    let mut rig = Rig::new("m: a gpu=2; b gpu=1; c<-a gpu=1", &["one 3 gpu=3 cpu=1"]);
    let change = |text: &str| Command::AgentChanged(Box::new(agent(text)));
    assert_eq!(rig.give(change("one 3 gpu=3 cpu=1")), [], "nothing is said of what is known");
    rig.give(change("one 1"));
    assert_eq!((rig.state.agents()[0].slots_used, rig.state.agents()[0].free("gpu")), (2, 0));
    rig.completes("a");
    assert_eq!((rig.status("c"), rig.state.agents()[0].free("gpu")), ("ready", 0));
    rig.give(change("one 2 gpu=2"));
    assert_eq!(
        (rig.status("c"), rig.state.agents()[0].free("gpu")),
        ("dispatched", 0),
        "b holds the other one"
    );
    rig.refuse(change("one 2 incarnation=2"));
    rig.refuse(change("two 2"));
    rig.complete_all();
    assert_eq!((rig.run_status(), rig.state.agents()[0].free("gpu")), ("completed", 2000));
}
