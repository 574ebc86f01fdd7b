//! Running again what has ended.

use super::rig::Rig;
use crate::Rejection;
use cairn_model::{AgentIndex, Command, Ended, Event, RunOptions, Scope};

fn retry(scope: Scope, downstream: bool) -> Command {
    Command::Retry { scope, downstream }
}

fn reopened(rig: &Rig, events: &[Event]) -> Vec<(String, &'static str)> {
    let name = |event: &Event| match event {
        Event::TaskReopened { task, ended } => Some((rig.state.plan().task_name(*task), ended.name())),
        Event::MilestoneReopened { milestone, .. } => {
            Some((rig.state.plan().milestone(*milestone).id.clone(), "milestone"))
        }
        Event::RunReopened => Some((rig.state.run().id.clone(), "run")),
        _ => None,
    };
    events.iter().filter_map(name).collect()
}

fn names(pairs: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    pairs.iter().map(|(name, ended)| ((*name).to_owned(), *ended)).collect()
}

#[test]
fn what_failed_runs_again_and_what_it_held_up_follows() {
    let mut rig = Rig::new("m: a; b<-a; c; d allow | n<-m: e | o: f", &["one 9"]);
    rig.fails("a");
    rig.completes("c");
    rig.fails("d");
    rig.completes("o/f");
    assert_eq!(rig.run_status(), "failed");
    let failures = rig.state.task(rig.task("a")).failures;
    let events = rig.retry("run", false);
    assert_eq!(
        reopened(&rig, &events),
        names(&[
            ("test.1", "run"),
            ("m", "milestone"),
            ("m/a", "failed"),
            ("m/d", "failed"),
            ("m/b", "skipped"),
            ("n", "milestone"),
            ("n/e", "skipped"),
        ])
    );
    let a = *rig.state.task(rig.task("a"));
    assert_eq!((failures, a.failures, a.attempt, rig.status("a")), (1, 0, 2, "dispatched"));
    assert_eq!(
        (rig.run_status(), rig.milestone_status("m"), rig.milestone_status("n")),
        ("active", "active", "planned")
    );
    assert_eq!((rig.milestone_status("o"), rig.state.run().finished_at), ("completed", None));
    assert_eq!(rig.status("c"), "completed", "it is done");
    rig.completes("a");
    assert_eq!((rig.status("b"), rig.status("n/e")), ("dispatched", "pending"));
    rig.complete_all();
    assert_eq!((rig.run_status(), rig.count(crate::TaskStatus::Completed)), ("completed", 6));
}

#[test]
fn a_task_runs_again_alone_or_with_what_needs_it() {
    let text = "m: a; b<-a; c<-b | n<-m: d; e<-d | o: f";
    for (downstream, again) in [
        (false, &[("test.1", "run"), ("m", "milestone"), ("m/b", "completed")][..]),
        (
            true,
            &[
                ("test.1", "run"),
                ("m", "milestone"),
                ("m/b", "completed"),
                ("m/c", "completed"),
                ("n", "milestone"),
                ("n/d", "completed"),
                ("n/e", "completed"),
            ],
        ),
    ] {
        let mut rig = Rig::new(text, &["one 9"]);
        rig.complete_all();
        let events = rig.retry("b", downstream);
        assert_eq!(reopened(&rig, &events), names(again));
        assert_eq!(rig.out(), ["b"], "what needs it waits");
        if downstream {
            assert_eq!((rig.milestone_status("n"), rig.status("n/d")), ("planned", "pending"));
        }
        rig.complete_all();
        assert_eq!(rig.run_status(), "completed");
        let starts =
            rig.log.iter().filter(|(_, event)| matches!(event, Event::MilestoneStarted { .. })).count();
        assert_eq!(starts, if downstream { 4 } else { 3 });
    }
}

#[test]
fn what_has_not_run_yet_waits_again_and_what_runs_is_not_called_back() {
    let mut rig = Rig::new("m: a; b; c<-a,b; d<-a | n<-m: e", &["one 2"]);
    rig.completes("a");
    // d is out, c waits for b.
    rig.retry("a", false);
    assert_eq!(rig.statuses(), ["a ready", "b dispatched", "c pending", "d dispatched", "e pending"]);
    rig.completes("b");
    assert_eq!(rig.status("c"), "pending", "a runs again");
    rig.not_started("d");
    assert_eq!(rig.status("d"), "dispatched", "it had what it needs");
    rig.fails("a");
    assert_eq!((rig.status("c"), rig.status("d")), ("skipped", "dispatched"));
    rig.completes("d");
    assert_eq!(
        (rig.milestone_status("m"), rig.milestone_status("n"), rig.run_status()),
        ("failed", "skipped", "failed")
    );
    rig.retry("m", false);
    rig.complete_all();
    assert_eq!(rig.run_status(), "completed");
}

#[test]
fn a_milestone_that_fails_when_it_runs_again_still_skips_what_needs_it() {
    // Nothing inside the milestone waits for `a` any more when it fails, and `n` still waits for `o`.
    let mut rig = Rig::new("m: a; b<-a | o: x | n<-m,o: c", &["one 9"]);
    rig.completes("m/a");
    rig.completes("m/b");
    rig.retry("m/a", false);
    rig.fails("m/a");
    assert_eq!((rig.milestone_status("m"), rig.status("n/c")), ("failed", "skipped"));
    rig.completes("o/x");
    assert_eq!(rig.run_status(), "failed");
    let needs_first = rig.refuse(retry(rig.scope("n/c"), false));
    assert_eq!(needs_first, Rejection::NothingToRetry);
    rig.retry("run", false);
    rig.complete_all();
    assert_eq!(rig.run_status(), "completed");
}

#[test]
fn what_was_cancelled_runs_again() {
    let mut rig = Rig::new("m: a; b<-a; z<-b checkpoint | n<-m: | o<-n: c", &["one 9"]);
    rig.cancel("run");
    rig.stopped("a");
    assert_eq!((rig.run_status(), rig.milestone_status("n")), ("cancelled", "skipped"));
    rig.retry("run", false);
    assert!(!rig.state.run().cancelling);
    rig.complete_all();
    assert_eq!((rig.run_status(), rig.milestone_status("n")), ("completed", "completed"));
    rig.retry("a", true);
    rig.complete_all();
    assert_eq!((rig.run_status(), rig.milestone_status("n")), ("completed", "completed"));
}

#[test]
fn a_first_failure_ends_the_run_again() {
    let options = RunOptions { fail_fast: true, ..RunOptions::default() };
    let mut rig = Rig::with("m: a; b", &["one 2"], options);
    for _ in 0..2 {
        rig.fails("a");
        rig.stopped("b");
        assert_eq!((rig.status("b"), rig.run_status()), ("cancelled", "failed"));
        rig.retry("run", false);
    }
    assert_eq!(rig.out(), ["a", "b"]);
}

#[test]
fn what_cannot_run_again_is_refused() {
    let mut rig = Rig::new("m: a; b<-a; c | n: d", &["one 9"]);
    rig.completes("a");
    assert_eq!(rig.refuse(retry(Scope::Run, true)), Rejection::NothingToRetry);
    let out = |name: &str| Rejection::TaskIsOut { task: name.into() };
    assert_eq!(rig.refuse(retry(rig.scope("b"), false)), out("m/b"));
    assert_eq!(rig.refuse(retry(rig.scope("a"), true)), out("m/b"));
    rig.cancel("run");
    assert_eq!(rig.refuse(retry(rig.scope("a"), false)), Rejection::NotSettled);
    for name in ["b", "c", "n/d"] {
        rig.stopped(name);
    }
    assert_eq!(rig.run_status(), "cancelled");
    let mut part = Rig::of(super::rig::plan("m: a | n<-m: b"), Some(&["m"]));
    part.submit(RunOptions::default());
    part.join("one 1");
    part.fails("a");
    assert_eq!(part.refuse(retry(Scope::Run, false)), Rejection::NotWhole);
}

#[test]
fn a_run_that_has_ended_gets_an_owner_before_it_goes_on() {
    let options = RunOptions { closed_fleet: true, ..RunOptions::default() };
    let mut rig = Rig::with("m: a once; b<-a", &["one 1"], options);
    rig.fails("a");
    rig.give(Command::TakeOver { epoch: 2 });
    rig.retry("run", false);
    assert_eq!(rig.statuses(), ["a ready", "b pending"], "nothing is offered to the dead");
    rig.join("one 1 incarnation=2");
    rig.complete_all();
    assert_eq!(rig.run_status(), "completed");
    let mut open = Rig::new("m: a", &["one 1", "two 1"]);
    open.fails("a");
    open.loses(AgentIndex(0));
    let events = open.retry("a", false);
    assert_eq!(events[1], Event::MilestoneReopened { milestone: open.milestone("m"), paused: false });
    assert_eq!(events[2], Event::TaskReopened { task: open.task("a"), ended: Ended::Failed });
    assert_eq!(open.state.task(open.task("a")).agent(), Some(AgentIndex(1)));
}

#[test]
fn a_pause_outlives_the_end_of_its_milestone_until_somebody_lifts_it() {
    let mut rig = Rig::new("m: a; b<-a | n<-m: c | o: f", &["one 9"]);
    for name in ["m", "n"] {
        rig.give(Command::Pause { scope: rig.scope(name), reason: "hold".into() });
    }
    rig.fails("m/a");
    rig.completes("o/f");
    assert_eq!((rig.run_status(), rig.milestone_status("m")), ("failed", "failed"));
    let events = rig.retry("run", false);
    for name in ["m", "n"] {
        let milestone = rig.milestone(name);
        assert!(events.contains(&Event::MilestoneReopened { milestone, paused: true }), "{name}");
    }
    assert_eq!((rig.milestone_status("m"), rig.status("m/a")), ("paused", "ready"));
    rig.give(Command::Resume { scope: rig.scope("m") });
    assert_eq!((rig.milestone_status("m"), rig.status("m/a")), ("active", "dispatched"));
    rig.completes("m/a");
    rig.completes("m/b");
    assert_eq!((rig.milestone_status("n"), rig.status("n/c")), ("paused", "ready"));
    rig.give(Command::Resume { scope: rig.scope("n") });
    rig.complete_all();
    assert_eq!(rig.run_status(), "completed");
}

#[test]
fn what_an_earlier_version_wrote_lifts_the_pause_as_it_did() {
    let mut rig = Rig::new("m: a", &["one 9"]);
    rig.give(Command::Pause { scope: rig.scope("m"), reason: "hold".into() });
    rig.fails("m/a");
    let (milestone, task) = (rig.milestone("m"), rig.task("a"));
    let at = rig.state.last_event_at();
    for event in [
        Event::RunReopened,
        Event::MilestoneReopened { milestone, paused: false },
        Event::TaskReopened { task, ended: Ended::Failed },
    ] {
        crate::apply(&mut rig.state, &event, at);
    }
    assert_eq!(rig.milestone_status("m"), "active");
    assert!(rig.state.is_dispatchable(task));
}
