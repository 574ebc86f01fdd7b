//! Plans and states for the tests of insight and projections.

use cairn_engine::{State, decide};
use cairn_model::{AgentSpec, Command, Event, Graph, Plan, RunSubmitted, Timestamp};
use cairn_shared::plan::{Options, Source, parse};
use std::sync::Arc;

/// A valid plan and its graph.
pub(crate) fn plan_of(text: &str) -> (Plan, Graph) {
    let source = Source::new("plan.yaml", text);
    let parsed = parse(&source, &Options::default()).unwrap_or_else(|wrong| panic!("{wrong}"));
    let graph = parsed.graph(&source).unwrap_or_else(|wrong| panic!("{wrong}"));
    (parsed.plan, graph)
}

/// A run of the plan that was submitted at second 0; no agent has joined.
pub(crate) fn submitted_state(text: &str) -> State {
    let (plan, graph) = plan_of(text);
    let run = format!("{}.1", plan.project);
    let mut state = State::new(Arc::new(plan), Arc::new(graph));
    command(&mut state, 0, Command::Submit(Box::new(RunSubmitted { run, ..RunSubmitted::default() })));
    state
}

/// Decides a command at a second.
pub(crate) fn command(state: &mut State, second: i64, command: Command) -> Vec<Event> {
    let mut events = Vec::new();
    let at = Timestamp(second * 1_000_000);
    let _ = decide(state, command, at, &mut events).expect("accepted");
    events
}

/// An agent with so many slots and thousandths of cpus.
pub(crate) fn agent(id: &str, slots: u32, cpus: u64) -> Command {
    let resources = vec![("cpus".to_owned(), cpus)];
    let id = id.to_owned();
    Command::AgentJoined(Box::new(AgentSpec { id, slots, timers: 10, resources, ..AgentSpec::default() }))
}
