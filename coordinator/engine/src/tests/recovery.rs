//! Crashes: any prefix of a decision survives, the rest is said by the next one.

use super::rig::{Rig, plan};
use crate::{Effect, State, apply, decide, has_work, recover};
use cairn_model::{AgentIndex, Command, Event, Graph, RunOptions, Timestamp};
use std::sync::Arc;

/// The state that a replay of these events gives.
fn replay(text: &str, events: &[(Timestamp, Event)]) -> State {
    let plan = plan(text);
    let graph = Arc::new(Graph::new(&plan).expect("acyclic"));
    let mut state = State::new(plan, graph);
    events.iter().for_each(|(at, event)| apply(&mut state, event, *at));
    state
}

/// Says all that is left to say.
fn go_on(state: &mut State, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    let _ = decide(state, Command::Tick, now, &mut events).expect("accepted");
    while has_work(state) {
        let mut more = Vec::new();
        let _ = decide(state, Command::Tick, now, &mut more).expect("accepted");
        events.extend(more);
    }
    events
}

#[test]
fn every_prefix_of_a_log_goes_on_to_the_same_end() {
    let text =
        "a: x; y<-x; z<-y checkpoint; o<-x once | b<-a: v; w<-v | c: u; t<-u allow | d<-c: s checkpoint; r";
    let mut rig = Rig::with(text, &["one 2", "two 2"], RunOptions::default());
    rig.completes("c/u");
    rig.fails("c/t");
    rig.fails("a/x");
    rig.loses(AgentIndex(0));
    rig.complete_all();
    assert_eq!(rig.run_status(), "failed");
    for length in 1..=rig.log.len() {
        let log = &rig.log[..length];
        let mut state = replay(text, log);
        let known: Vec<_> = state.agents().iter().map(|agent| agent.spec.id.clone()).collect();
        let mut events = go_on(&mut state, rig.now);
        if !known.contains(&"two".to_owned()) && !state.run().status.is_final() {
            let spec = Box::new(super::rig::agent("two 2"));
            let _ = decide(&mut state, Command::AgentJoined(spec), rig.now, &mut events).expect("accepted");
        }
        // Whatever is out now completes: the run must end, each task once, whatever was cut off.
        let mut again = Rig::new(text, &[]);
        again.log = log.to_vec();
        again.checker = {
            let plan = again.state.plan().clone();
            super::checker::Checker::new(
                plan.clone(),
                again.state.graph().clone(),
                vec![true; plan.milestones().len()],
            )
        };
        again.folded = replay(text, log);
        for event in log.iter().map(|(_, event)| event).chain(&events) {
            again.checker.take(event).expect("in order");
        }
        events.iter().for_each(|event| apply(&mut again.folded, event, rig.now));
        assert!(again.folded == state, "prefix {length}");
        (again.state, again.now) = (state, rig.now);
        again.complete_all();
        assert!(again.state.run().status.is_final(), "prefix {length}: {:?}", again.statuses());
        assert!(again.checker.tasks.iter().all(|task| task.end.is_some()));
    }
}

#[test]
fn what_is_owed_after_a_crash() {
    let mut rig = Rig::new("m: a; b; c; d; e<-a timeout=1; f<-a", &["one 9"]);
    rig.completes("a");
    rig.starts("c");
    rig.starts("d");
    rig.starts("e");
    rig.cancel("b");
    rig.cancel("c");
    rig.tick(60);
    let owed = recover(&rig.state);
    let agent = AgentIndex(0);
    let stop = |name: &str| Effect::Stop { task: rig.task(name), attempt: 1, agent };
    // d runs and is owed nothing; of b, which is to end, no offer is made.
    let offer = Effect::Offer { task: rig.task("f"), attempt: 1, agent };
    assert_eq!(owed, [stop("b"), stop("c"), stop("e"), offer]);
    rig.loses(agent);
    assert_eq!(recover(&rig.state), []);
    rig.join("two 9");
    rig.complete_all();
    assert_eq!(recover(&rig.state), [Effect::Ended]);
}

#[test]
fn orders_go_again_under_the_epoch_of_the_new_owner() {
    let mut rig = Rig::new("m: a", &["one 1"]);
    let epoch = |rig: &Rig| rig.state.run().epoch;
    assert_eq!(epoch(&rig), 0);
    rig.give(Command::TakeOver { epoch: 7 });
    assert_eq!(epoch(&rig), 7);
    assert_eq!(
        recover(&rig.state),
        [Effect::Offer { task: rig.task("a"), attempt: 1, agent: AgentIndex(0) }]
    );
    rig.refuse(Command::TakeOver { epoch: 7 });
    rig.refuse(Command::TakeOver { epoch: 3 });
}
