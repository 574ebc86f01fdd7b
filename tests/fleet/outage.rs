//! A broker that is away for longer than a lease: agents end what they run, and take nothing before they have a lease
//! again. So nothing is offered to them before they are heard.

use super::support::{Broker, Fleet, LONG, SHARED_ROUTE, Setup};
use crate::e2e::support::{check_log, wait_for};
use serde_json::Value;
use std::fmt::Write as _;

const AGENTS: usize = 3;
const TASKS: usize = 200;

/// How attempts ended that others followed, by kind.
fn ends<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let is_it = |event: &&Value| {
        event["event_type"] == "TaskRetryScheduled" && event["event_data"]["failure"]["kind"] == kind
    };
    events.iter().filter(is_it).collect()
}

fn nothing_is_offered_before(route: Setup<'_>) {
    let broker = Broker::start("");
    let coordinator = [route.coordinator, &[("CAIRN_LEASE", "2s")]].concat();
    let setup = Setup { agents: AGENTS, slots: 4, coordinator: &coordinator, ..route };
    let fleet = Fleet::over(&broker.url(), setup);
    let mut plan = "version: 1\nproject: outage\ntasks:\n".to_owned();
    for task in 0..TASKS {
        let _ = writeln!(plan, "- {{id: t{task}, run: 'true'}}");
    }
    fleet.place.write("plan.yaml", &plan);
    // The coordinator knows of an agent before that knows of its lease.
    fleet.agents.iter().for_each(|agent| agent.says("welcomed"));
    broker.kill();
    fleet.agents.iter().for_each(|agent| agent.says("the lease has ended"));
    // What is ready now finds free slots, and nobody who may take it.
    let run = fleet.submit("plan.yaml");
    wait_for("the first decision", || (fleet.status(&run)["counts"]["pending"] == 0).then_some(()));
    broker.start_again();
    let status = fleet.ended(&run, LONG);
    assert_eq!(status["status"], "completed", "{status}\n{}", fleet.logs());
    let events = fleet.events(&run);
    check_log(&events, &[], TASKS);
    let declined = ends(&events, "declined");
    assert!(declined.is_empty(), "{} were declined: {:?}", declined.len(), declined.first());
}

#[test]
fn nothing_is_offered_to_agents_without_a_lease() {
    nothing_is_offered_before(Setup::default());
}

#[test]
fn nothing_is_offered_to_agents_without_a_lease_on_the_shared_route() {
    nothing_is_offered_before(SHARED_ROUTE);
}
