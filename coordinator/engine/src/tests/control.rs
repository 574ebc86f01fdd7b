//! Pause, resume, cancel, interrupt.

use super::rig::Rig;
use crate::{Effect, Rejection, RunStatus, recover};
use cairn_model::{AgentIndex, Command, Event, FailureKind, Scope};

fn interrupt() -> Command {
    Command::Interrupt { reason: "test".into() }
}

#[test]
fn a_paused_scope_dispatches_nothing_and_goes_on_where_it_was() {
    for scope in ["run", "m", "b"] {
        let mut rig = Rig::new("m: a; b<-a; c<-b", &["one 9"]);
        rig.pause(scope);
        rig.completes("a");
        assert_eq!((rig.status("b"), rig.out().len()), ("ready", 0), "{scope}");
        rig.resume(scope);
        assert_eq!(rig.out(), ["b"], "{scope}");
        rig.complete_all();
        assert_eq!(rig.run_status(), "completed", "{scope}");
    }
}

#[test]
fn a_paused_scope_holds_up_nothing_else() {
    let mut rig = Rig::new("m: a; b | n: c", &[]);
    rig.pause("m");
    assert_eq!(rig.milestone_status("m"), "paused");
    rig.join("one 9");
    assert_eq!(rig.out(), ["c"]);
    rig.pause("a");
    rig.resume("m");
    assert_eq!((rig.milestone_status("m"), rig.out()), ("active", vec!["c".to_owned(), "b".to_owned()]));
    assert!(rig.state.task(rig.task("m/a")).is_paused());
}

#[test]
fn a_milestone_that_is_paused_before_its_start_starts_paused() {
    let mut rig = Rig::new("a: x | b<-a: y; z checkpoint", &["one 9"]);
    rig.pause("b");
    assert_eq!(rig.milestone_status("b"), "planned");
    rig.completes("a/x");
    assert_eq!((rig.milestone_status("b"), rig.statuses()[2].as_str()), ("paused", "z ready"));
    rig.resume("b");
    assert_eq!(rig.statuses(), ["x completed", "y dispatched", "z completed"]);
}

#[test]
fn a_pause_outlives_attempts_that_are_out_and_a_retry_that_comes_due() {
    let mut rig = Rig::new("m: a tries=2", &["one 1"]);
    rig.pause("a");
    rig.fails("a");
    rig.tick(5);
    assert_eq!((rig.status("a"), rig.state.is_dispatchable(rig.task("a"))), ("ready", false));
    rig.resume("a");
    assert_eq!(rig.out(), ["a"]);
}

#[test]
fn a_paused_run_ends_when_its_last_attempt_does() {
    let mut rig = Rig::new("m: a", &["one 1"]);
    rig.pause("run");
    rig.completes("a");
    assert_eq!(rig.run_status(), "completed");
}

#[test]
fn cancel_ends_what_waits_and_asks_for_what_runs() {
    for scope in ["run", "m", "a"] {
        let mut rig = Rig::new("m: a; b<-a; c<-b", &["one 9"]);
        let events = rig.cancel(scope);
        let stop = Effect::Stop { task: rig.task("a"), attempt: 1, agent: AgentIndex(0) };
        assert_eq!(rig.effects(&events), [stop], "{scope}");
        assert_eq!(rig.status("b"), if scope == "a" { "pending" } else { "cancelled" });
        rig.stopped("a");
        let rest = if scope == "a" { "skipped" } else { "cancelled" };
        assert_eq!((rig.status("a"), rig.status("b"), rig.status("c")), ("cancelled", rest, rest));
        assert_eq!((rig.run_status(), rig.milestone_status("m")), ("cancelled", "cancelled"));
    }
}

#[test]
fn cancel_meets_an_attempt_at_any_moment() {
    // What the agent answers to the stop, and how the task ends.
    for (answer, flags, status) in [
        ("stopped", "", "cancelled"),
        ("not started", "", "cancelled"),
        ("completes", "", "completed"),
        ("fails", "tries=3", "failed"),
        ("lost", "", "cancelled"),
        ("stopped", "once", "cancelled"),
        ("not started", "once", "cancelled"),
        ("lost", "once", "failed"),
    ] {
        for started in [false, true] {
            let mut rig = Rig::new(&format!("m: a {flags}; b<-a"), &["one 1"]);
            if started {
                rig.starts("a");
            }
            rig.cancel("run");
            match answer {
                "stopped" => drop(rig.stopped("a")),
                "not started" => drop(rig.not_started("a")),
                "completes" => drop(rig.completes("a")),
                "fails" => drop(rig.fails("a")),
                _ => drop(rig.loses(AgentIndex(0))),
            }
            // What starts on a grant and had none has not run.
            let status =
                if (answer, flags, started) == ("lost", "once", false) { "cancelled" } else { status };
            assert_eq!((rig.status("a"), rig.run_status()), (status, "cancelled"), "{answer} {flags}");
        }
    }
}

#[test]
fn cancel_during_the_wait_for_another_attempt() {
    let mut rig = Rig::new("m: a tries=2", &["one 1"]);
    rig.fails("a");
    rig.cancel("a");
    assert_eq!((rig.status("a"), rig.run_status()), ("cancelled", "cancelled"));
    assert_eq!(crate::next_deadline(&rig.state), None, "nothing waits any more");
}

#[test]
fn what_was_done_before_the_cancel_counts() {
    let mut rig = Rig::new("m: a", &["one 1"]);
    rig.cancel("run");
    rig.completes("a");
    assert_eq!(rig.run_status(), "completed");

    let mut rig = Rig::new("m: a; b | n: c", &["one 9"]);
    rig.fails("m/a");
    rig.cancel("n");
    rig.stopped("n/c");
    rig.completes("m/b");
    assert_eq!(rig.run_status(), "failed", "only a part was cancelled");
}

#[test]
fn what_is_to_be_cancelled_is_not_offered_any_more() {
    let mut rig = Rig::new("m: a", &[]);
    let spec = super::rig::agent("one 1");
    let dispatched = rig.give(Command::AgentJoined(Box::new(spec)));
    let cancelled = rig.cancel("run");
    assert_eq!(rig.effects(&dispatched), [], "its append took longer than the decision to cancel");
    assert_eq!(rig.effects(&cancelled).len(), 1);
    rig.not_started("a");
    assert_eq!(rig.run_status(), "cancelled");
}

#[test]
fn an_interrupted_run_stops_where_it_stands_and_goes_on_under_a_new_owner() {
    let mut rig = Rig::new("m: a tries=1; b once; c<-a", &["one 2"]);
    rig.starts("a");
    let events = rig.give(interrupt());
    assert_eq!(rig.effects(&events).len(), 2);
    rig.stopped("a");
    rig.not_started("b");
    assert_eq!(
        (rig.statuses(), rig.state.attempts_out()),
        (vec!["a ready".into(), "b ready".into(), "c pending".into()], 0)
    );
    assert_eq!(rig.refuse(interrupt()), Rejection::AlreadyPaused);
    rig.give(Command::TakeOver { epoch: 1 });
    assert_eq!((rig.out(), rig.state.run().epoch), (vec!["a".to_owned(), "b".to_owned()], 1));
    rig.complete_all();
    assert_eq!(rig.run_status(), "completed");
}

#[test]
fn at_most_once_does_not_survive_an_interrupt_that_met_it() {
    let mut rig = Rig::new("m: a once; b", &["one 2"]);
    rig.give(interrupt());
    rig.stopped("a");
    assert_eq!(rig.failure_kind("a"), Some(FailureKind::OutcomeUnknown));
}

#[test]
fn an_interrupt_that_is_durable_late_stops_nothing_of_what_goes_on() {
    let mut rig = Rig::new("m: a", &["one 1"]);
    let interrupted = rig.give(interrupt());
    rig.resume("run");
    assert_eq!(rig.effects(&interrupted), []);
    assert_eq!(recover(&rig.state).len(), 1, "the offer still is owed");
}

#[test]
fn wishes_that_make_no_sense_are_refused() {
    let mut rig = Rig::new("m: a | n<-m: b", &["one 1"]);
    let pause = |scope| Command::Pause { scope, reason: "test".into() };
    let cancel = |scope| Command::Cancel { scope, reason: "test".into() };
    let (m, a) = (rig.scope("m"), rig.scope("m/a"));
    assert_eq!(
        rig.refuse(Command::Submit(Box::default())),
        Rejection::AlreadySubmitted { run: "test.1".into() }
    );
    assert_eq!(rig.refuse(Command::TakeOver { epoch: 0 }), Rejection::StaleEpoch { wished: 0, current: 0 });
    assert_eq!(rig.refuse(Command::Resume { scope: Scope::Run }), Rejection::NotPaused);
    assert_eq!(rig.refuse(Command::Resume { scope: a }), Rejection::NotPaused);
    for scope in [Scope::Run, m, a] {
        rig.give(pause(scope));
        assert_eq!(rig.refuse(pause(scope)), Rejection::AlreadyPaused);
        rig.give(Command::Resume { scope });
    }
    assert_eq!(
        rig.refuse(Command::AgentLost { agent: AgentIndex(7), reason: "".into() }),
        Rejection::UnknownAgent
    );
    let node = rig.state.graph().task(rig.task("m/a"));
    let resolve = Command::ResolveDependency { node, completed: true, position: 1 };
    assert_eq!(rig.refuse(resolve), Rejection::NothingWaits);
    rig.completes("m/a");
    for scope in [m, a] {
        assert_eq!(rig.refuse(pause(scope)), Rejection::AlreadyEnded);
        assert_eq!(rig.refuse(cancel(scope)), Rejection::AlreadyEnded);
    }
    rig.cancel("run");
    assert_eq!(rig.refuse(cancel(Scope::Run)), Rejection::AlreadyEnded);
    rig.stopped("n/b");
    let ended = Rejection::RunEnded { run: "test.1".into(), status: RunStatus::Cancelled };
    let joins = Command::AgentJoined(Box::new(super::rig::agent("two 1")));
    for command in [pause(Scope::Run), cancel(Scope::Run), interrupt(), joins] {
        assert_eq!(rig.refuse(command), ended);
    }
    assert_eq!(rig.give(Command::Tick), []);

    let mut rig = Rig::of(super::rig::plan("m: a"), None);
    assert_eq!(rig.refuse(Command::Tick), Rejection::NotSubmitted);
}

#[test]
fn every_end_is_told_in_the_log_once() {
    let mut rig = Rig::new("m: a; b<-a; c | n: d", &["one 9"]);
    rig.cancel("m/c");
    rig.cancel("m/c");
    rig.fails("m/a");
    rig.cancel("run");
    rig.stopped("m/c");
    rig.completes("n/d");
    let ends = rig.log.iter().filter(|(_, event)| {
        matches!(
            event,
            Event::TaskCompleted { .. }
                | Event::TaskFailed { .. }
                | Event::TaskSkipped { .. }
                | Event::TaskCancelled { .. }
        )
    });
    assert_eq!((ends.count(), rig.run_status()), (4, "cancelled"));
}
