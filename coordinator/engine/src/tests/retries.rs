//! Attempts that fail, run too long, are given back, or are never heard of again.

use super::rig::{Rig, at};
use crate::{Effect, next_deadline};
use cairn_model::{AgentIndex, Command, Event, FailureKind, ReportKind};

#[test]
fn a_failed_attempt_is_followed_by_another_as_often_as_the_plan_says() {
    let mut rig = Rig::new("m: a tries=3; b<-a", &["one 1"]);
    for attempt in 1..=2 {
        let events = rig.fails("a");
        assert!(matches!(events[..], [Event::TaskRetryScheduled { counts: true, .. }]), "{events:?}");
        assert_eq!((rig.status("a"), rig.state.attempts_out()), ("pending", 0));
        let due = rig.now.plus(std::time::Duration::from_secs(1));
        assert_eq!((rig.state.retry_at(rig.task("a")), next_deadline(&rig.state)), (Some(due), Some(due)));
        assert!(rig.give(Command::Tick).is_empty(), "not before its time");
        rig.now = due;
        rig.give(Command::Tick);
        assert_eq!((rig.status("a"), rig.state.task(rig.task("a")).attempt), ("dispatched", attempt + 1));
    }
    rig.fails("a");
    assert_eq!((rig.status("a"), rig.status("b"), rig.run_status()), ("failed", "skipped", "failed"));
}

#[test]
fn what_cannot_be_started_is_not_tried_again() {
    for (kind, status) in [
        (FailureKind::ExitCode, "pending"),
        (FailureKind::Signal, "pending"),
        (FailureKind::Timeout, "pending"),
        (FailureKind::StartFailed, "pending"),
        (FailureKind::ProgramNotFound, "failed"),
        (FailureKind::NotExecutable, "failed"),
        (FailureKind::WorkingDirectory, "failed"),
        (FailureKind::ArgumentsTooLong, "failed"),
    ] {
        let mut rig = Rig::new("m: a tries=9", &["one 1"]);
        rig.fails_with("a", kind);
        assert_eq!(rig.status("a"), status, "{kind:?}");
    }
}

#[test]
fn what_never_ran_or_was_lost_does_not_count_and_goes_at_once() {
    let mut rig = Rig::new("m: a tries=1", &["one 1", "two 1"]);
    rig.not_started("a");
    assert_eq!((rig.status("a"), rig.state.task(rig.task("a")).attempt), ("dispatched", 2));
    rig.starts("a");
    rig.loses(AgentIndex(0));
    assert_eq!((rig.status("a"), rig.state.task(rig.task("a")).attempt), ("dispatched", 3));
    assert_eq!(rig.state.task(rig.task("a")).agent(), Some(AgentIndex(1)));
    rig.completes("a");
    assert_eq!((rig.run_status(), rig.state.failure(rig.task("a"))), ("completed", None));
}

#[test]
fn at_most_once_is_never_started_again() {
    for (end, status, kind) in [
        ("fails", "failed", Some(FailureKind::ExitCode)),
        ("lost", "dispatched", None),
        ("granted and lost", "failed", Some(FailureKind::OutcomeUnknown)),
        ("stopped", "failed", Some(FailureKind::OutcomeUnknown)),
        ("not started", "dispatched", None),
        ("completes", "completed", None),
    ] {
        let mut rig = Rig::new("m: a once tries=5; b", &["one 1", "two 2"]);
        match end {
            "fails" => drop(rig.fails("a")),
            "lost" => drop(rig.loses(AgentIndex(0))),
            "granted and lost" => {
                rig.accepts("a", true);
                rig.loses(AgentIndex(0));
            }
            "stopped" => drop(rig.stopped("a")),
            "not started" => drop(rig.not_started("a")),
            _ => drop(rig.completes("a")),
        }
        assert_eq!((rig.status("a"), rig.failure_kind("a")), (status, kind), "{end}");
    }
}

#[test]
fn an_agent_that_does_not_end_an_attempt_in_time_is_asked_to() {
    let mut rig = Rig::new("m: a timeout=60 tries=2", &["one 1"]);
    assert_eq!(next_deadline(&rig.state), None, "the time runs from the start");
    rig.now = at(10);
    rig.starts("a");
    assert_eq!(next_deadline(&rig.state), Some(at(85)), "the agent has 15 seconds to do it by itself");
    assert!(rig.tick(84).is_empty());
    let events = rig.tick(85);
    let task = rig.task("a");
    assert_eq!(events, [Event::AttemptTimedOut { task, attempt: 1 }]);
    assert_eq!(rig.effects(&events), [Effect::Stop { task, attempt: 1, agent: AgentIndex(0) }]);
    assert_eq!(next_deadline(&rig.state), None);
    rig.stopped("a");
    assert_eq!((rig.status("a"), rig.failure_kind("a")), ("pending", Some(FailureKind::Timeout)));
    rig.tick(86);
    rig.starts("a");
    rig.tick(161);
    rig.stopped("a");
    assert_eq!((rig.status("a"), rig.failure_kind("a")), ("failed", Some(FailureKind::Timeout)));
}

#[test]
fn a_result_that_comes_after_the_time_out_is_the_result() {
    let mut rig = Rig::new("m: a timeout=1", &["one 1"]);
    rig.starts("a");
    rig.tick(30);
    rig.completes("a");
    assert_eq!((rig.status("a"), rig.state.failure(rig.task("a"))), ("completed", None));
}

#[test]
fn a_stop_for_a_time_out_does_not_reach_a_later_attempt() {
    let mut rig = Rig::new("m: a timeout=1 tries=2", &["one 1"]);
    rig.starts("a");
    let timed_out = rig.tick(16);
    rig.fails("a");
    rig.tick(17);
    assert_eq!(rig.state.task(rig.task("a")).attempt, 2);
    assert_eq!(rig.effects(&timed_out), [], "it was made durable late");
}

#[test]
fn reports_that_do_not_fit_change_nothing_and_are_counted() {
    let mut rig = Rig::new("m: a tries=2; b<-a", &["one 1", "two 1"]);
    let now = rig.now;
    let finished = |outcome| ReportKind::Finished { outcome, started_at: now, finished_at: now };
    let old = rig.report("a", finished(cairn_model::Outcome::Completed));
    rig.fails("a");
    rig.tick(1);
    let mut wrong_agent = rig.report("a", finished(cairn_model::Outcome::Completed));
    wrong_agent.agent = AgentIndex(1);
    let mut future = rig.report("a", ReportKind::Started { at: now });
    future.attempt += 1;
    let mut unknown = old.clone();
    unknown.task = cairn_model::TaskIndex(99);
    let waiting = rig.report("b", ReportKind::Started { at: now });
    let before = rig.state.clone();
    assert!(rig.give(Command::Reports(vec![old, wrong_agent, future, unknown, waiting])).is_empty());
    assert!(rig.state == before);
    assert_eq!(rig.stale_reports, 5);
    // Among stale ones, one that fits is heard.
    let twice = [rig.report("a", finished(cairn_model::Outcome::Completed)), before_last(&rig)];
    rig.give(Command::Reports(twice.into()));
    assert_eq!((rig.stale_reports, rig.status("a")), (6, "completed"));
}

/// A report that is stale as soon as the one before it was heard.
fn before_last(rig: &Rig) -> cairn_model::Report {
    let outcome = super::rig::failed(FailureKind::ExitCode);
    rig.report("a", ReportKind::Finished { outcome, started_at: rig.now, finished_at: rig.now })
}

#[test]
fn reports_may_come_in_any_order() {
    let mut rig = Rig::new("m: a; b", &["one 2"]);
    let started = rig.report("a", ReportKind::Started { at: rig.now });
    let progress = |permille| ReportKind::Progress { permille, message: Some(format!("{permille}").into()) };
    let told = rig.report("a", progress(400));
    rig.give(Command::Reports(vec![told.clone(), started.clone(), told]));
    let task = rig.task("a");
    assert_eq!((rig.status("a"), rig.state.message(task)), ("in_progress", Some("400")));
    assert_eq!(rig.log.iter().filter(|(_, event)| matches!(event, Event::ProgressUpdated { .. })).count(), 1);
    let late = rig.report("a", progress(5000));
    rig.completes("a");
    rig.give(Command::Reports(vec![started, late]));
    assert_eq!(
        (rig.status("a"), rig.state.task(task).permille, rig.state.message(task)),
        ("completed", 1000, None)
    );
}

#[test]
fn times_of_an_agent_are_held_between_dispatch_and_now() {
    // Dispatched at 100, heard of at 110. What the agent says, and what it is taken for.
    for (said, taken) in [
        ((102, 107), (102, 107)),
        ((100, 9999), (100, 110)),
        ((0, 9999), (100, 110)),
        // A clock that is 50 seconds behind, and one that is ahead: the duration is right all the same.
        ((52, 57), (100, 105)),
        ((152, 157), (105, 110)),
        // Nonsense.
        ((107, 102), (102, 102)),
    ] {
        let mut rig = Rig::new("m: a", &[]);
        rig.now = at(100);
        rig.join("one 1");
        rig.now = at(110);
        let (outcome, started_at, finished_at) = (cairn_model::Outcome::Completed, at(said.0), at(said.1));
        let report = rig.report("a", ReportKind::Finished { outcome, started_at, finished_at });
        rig.give(Command::Reports(vec![report]));
        let row = rig.state.task(rig.task("a"));
        let taken_for = (row.since, row.duration.as_secs());
        assert_eq!(taken_for, (at(taken.0), taken.1 - taken.0), "{said:?}");
    }
}

#[test]
fn many_retries_that_are_due_together_are_spread_over_decisions() {
    let tasks: Vec<_> = (0..6000).map(|at| format!("t{at} tries=2")).collect();
    let mut rig = Rig::new(&format!("m: {}", tasks.join("; ")), &["one 6000"]);
    let plan = rig.state.plan().clone();
    let report = |rig: &Rig, task| {
        let outcome = super::rig::failed(FailureKind::ExitCode);
        let kind = ReportKind::Finished { outcome, started_at: rig.now, finished_at: rig.now };
        rig.report(&plan.task_name(task), kind)
    };
    let reports: Vec<_> = plan.tasks().map(|task| report(&rig, task)).collect();
    rig.give(Command::Reports(reports));
    rig.now = at(1);
    let first = rig.try_once(Command::Tick).expect("accepted");
    assert_eq!(first.len(), crate::MAX_EVENTS_PER_DECISION);
    assert!(next_deadline(&rig.state).is_some_and(|deadline| deadline <= rig.now));
    while next_deadline(&rig.state).is_some_and(|deadline| deadline <= rig.now) {
        rig.try_once(Command::Tick).expect("accepted");
    }
    assert_eq!(rig.state.attempts_out(), 6000);
}
