//! Which task goes first, and to which agent.

use super::rig::Rig;
use crate::could_ever_run;
use cairn_model::{AgentIndex, Event, FailureKind, RunOptions};
use std::time::Duration;

fn closed() -> RunOptions {
    RunOptions { closed_fleet: true, ..RunOptions::default() }
}

/// The agents that got the tasks that are out, in the order of the plan.
fn placed(rig: &Rig) -> Vec<(String, u32)> {
    let plan = rig.state.plan();
    let out = plan.tasks().filter(|&task| rig.state.task(task).status.is_out());
    out.map(|task| (plan.task_id(task).to_owned(), rig.state.task(task).agent().expect("out").0)).collect()
}

#[test]
fn longest_remaining_path_first_then_priority_then_order_of_the_plan() {
    for (text, order) in [
        ("m: a takes=1; b takes=3; c takes=2", ["b", "c", "a"]),
        ("m: a takes=2; b takes=1; c takes=1; d<-b takes=9", ["b", "d", "a"]),
        ("m: a takes=1; b takes=1 priority=2; c takes=1 priority=1", ["b", "c", "a"]),
        ("m: a; b; c", ["a", "b", "c"]),
        // What is not known counts as the mean of what is: 2.
        ("m: a takes=1; b; c takes=3", ["c", "b", "a"]),
        // Different resources, so different classes: the order holds across them.
        ("m: a takes=1; b takes=2 gpu=1; c takes=3", ["c", "b", "a"]),
    ] {
        let mut rig = Rig::new(text, &["one 1 gpu=1"]);
        let ran = order.map(|_| {
            let next = rig.out().pop().expect("one is out");
            rig.completes(&next);
            next
        });
        assert_eq!(ran, order, "{text}");
    }
}

#[test]
fn the_agent_with_the_most_free_slots_is_chosen() {
    let rig = Rig::new("m: a; b; c; d; e", &["small 1", "large 3"]);
    // The small one came first, when it was alone.
    let expected = [("a", 0), ("b", 1), ("c", 1), ("d", 1)].map(|(task, agent)| (task.to_owned(), agent));
    assert_eq!(placed(&rig), expected);
    assert_eq!(rig.status("e"), "ready");
}

#[test]
fn resources_are_never_exceeded_and_come_back() {
    let mut rig = Rig::new("m: a gpu=2; b gpu=1; c; d gpu=1 memory=4", &["one 9 gpu=2 memory=4"]);
    assert_eq!(rig.out(), ["a", "c"], "a task that asks for less is not held up");
    rig.fails("a");
    assert_eq!(rig.out(), ["c", "b", "d"]);
    assert_eq!(rig.state.agents()[0].used, [2000, 4000]);
    rig.complete_all();
    assert_eq!(rig.state.agents()[0].used, [0, 0]);
    assert_eq!(rig.state.agents()[0].slots_used, 0);
}

#[test]
fn labels_are_required() {
    let mut rig = Rig::new("m: a label=gpu; b", &["plain 9"]);
    assert_eq!(rig.out(), ["b"]);
    assert!(!could_ever_run(&rig.state, rig.task("a")), "so that it can be told");
    assert_eq!(crate::next_deadline(&rig.state), None, "only the outside can move it");
    rig.join("special 1 label=gpu");
    assert_eq!(placed(&rig), [("a".to_owned(), 1), ("b".to_owned(), 0)]);
}

#[test]
fn timers_take_no_slot() {
    let rig = Rig::new("m: a wait=1; b wait=1; c wait=1; d", &["one 1 timers=2"]);
    assert_eq!(rig.out(), ["a", "b", "d"]);
}

#[test]
fn what_nobody_could_run_fails_in_a_closed_fleet() {
    for (text, agent) in [
        ("m: a gpu=1; b<-a; c", "one 1"),
        ("m: a gpu=3; b<-a; c", "one 1 gpu=2"),
        ("m: a label=x; b<-a; c", "one 1 label=y"),
        ("m: a wait=1; b<-a; c", "one 1 timers=0"),
    ] {
        let mut rig = Rig::with(text, &[agent], closed());
        assert_eq!((rig.status("a"), rig.status("b")), ("failed", "skipped"), "{text}");
        assert_eq!(rig.failure_kind("a"), Some(FailureKind::Unplaceable));
        let failure = rig.state.failure(rig.task("a")).expect("failed");
        assert!(
            failure.message.starts_with("no agent could ever run it: it asks for "),
            "{}",
            failure.message
        );
        rig.completes("c");
        assert_eq!(rig.run_status(), "failed");
    }
}

#[test]
fn a_closed_fleet_without_agents_waits_for_its_first() {
    let mut rig = Rig::with("m: a", &[], closed());
    assert_eq!(rig.status("a"), "ready");
    rig.join("one 1");
    assert_eq!(rig.out(), ["a"]);
}

#[test]
fn an_agent_may_get_short_work_ahead_but_nothing_that_holds_or_counts() {
    let mut rig = Rig::new(
        "m: warm; a<-warm; b<-warm; c<-warm; d<-warm; once<-warm once priority=9; gpu<-warm gpu=1 priority=9",
        &["one 1 gpu=1 backlog=2"],
    );
    assert_eq!(rig.out(), ["warm"], "nothing is known of durations yet");
    rig.now = rig.now.plus(Duration::from_millis(1));
    let since = rig.state.task(rig.task("warm")).since;
    let outcome = cairn_model::Outcome::Completed;
    let kind = cairn_model::ReportKind::Finished { outcome, started_at: since, finished_at: rig.now };
    let report = rig.report("warm", kind);
    rig.give(cairn_model::Command::Reports(vec![report]));
    // One in the slot, two ahead: of what may wait there.
    assert_eq!(rig.out(), ["once", "a", "b"]);
    rig.completes("once");
    assert_eq!(rig.out(), ["a", "b", "c"], "the other waits for the slot itself");
    rig.complete_all();
    assert_eq!(rig.run_status(), "completed");
}

#[test]
fn an_agent_with_room_in_its_queue_is_found_behind_one_without() {
    let text = "m: warm; a<-warm; b<-warm; c<-warm; d<-warm; e<-warm; f<-warm";
    let mut rig = Rig::new(text, &["one 1 backlog=3"]);
    rig.now = rig.now.plus(Duration::from_millis(1));
    let since = rig.state.task(rig.task("warm")).since;
    let outcome = cairn_model::Outcome::Completed;
    let kind = cairn_model::ReportKind::Finished { outcome, started_at: since, finished_at: rig.now };
    let report = rig.report("warm", kind);
    rig.give(cairn_model::Command::Reports(vec![report]));
    assert_eq!(rig.out().len(), 4);
    rig.join("two 1");
    assert_eq!(rig.out().len(), 5);
    rig.completes("a");
    let on_the_first = placed(&rig).iter().filter(|(_, agent)| *agent == 0).count();
    assert_eq!((on_the_first, rig.out().len()), (4, 5), "the second has no queue");
}

#[test]
fn an_agent_that_started_again_takes_the_place_of_its_last_life() {
    let mut rig = Rig::new("m: a; b once", &["one 2"]);
    let same = super::rig::agent("one 2");
    rig.refuse(cairn_model::Command::AgentJoined(Box::new(same)));
    rig.starts("b");
    rig.join("one 2 incarnation=2");
    assert!(rig.state.agents()[0].lost);
    assert_eq!((rig.state.task(rig.task("a")).attempt, rig.status("b")), (2, "failed"));
    assert_eq!(rig.failure_kind("b"), Some(FailureKind::OutcomeUnknown));
    assert_eq!(placed(&rig), [("a".to_owned(), 1)]);
    let old = super::rig::agent("one 2");
    rig.refuse(cairn_model::Command::AgentJoined(Box::new(old)));
    let lost = rig.loses(AgentIndex(1));
    assert!(matches!(lost[..], [Event::AgentLost { .. }, Event::TaskRetryScheduled { counts: false, .. }]));
}
