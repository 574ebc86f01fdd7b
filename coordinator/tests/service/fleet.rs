//! What a run does when agents and coordinators come and go.

use crate::rig::{Agent, Coordinator, soon, state, transport};
use cairn_coordinator::service::{Request, Wish, WishError};
use cairn_engine::{RunStatus, TaskStatus};
use cairn_model::TaskIndex;
use cairn_shared::message::trace::TraceContext;
use cairn_shared::message::wire::{Attempt, ToAgent, ToCoordinator, WireOrder, WireReportKind};
use std::collections::BTreeMap;
use std::time::Duration;

/// So long that it does not end in a test, nor two heartbeats of it: the agents that tests play do not beat.
const LEASE: Duration = Duration::from_mins(10);

/// So short that a test can wait for its end.
const SHORT_LEASE: Duration = Duration::from_millis(500);

const THREE: &str = "
version: 1
project: apollo
tasks:
  - {id: a, exec: [x]}
  - {id: b, exec: [x]}
  - {id: c, exec: [x], needs: [a, b]}
";

fn count(events: &[(String, Option<String>)], kind: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, task) in events.iter().filter(|(of, _)| of == kind) {
        *counts.entry(task.clone().unwrap_or_default()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_runs_on_an_agent() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let mut agent = Agent::join(&transport, "a1", 1).await;
    assert!(
        matches!(agent.heard().await, ToAgent::Welcome(welcome) if u128::from(welcome.lease_millis) == LEASE.as_millis())
    );
    let run = coordinator.submit(THREE).await;
    assert_eq!(run, "apollo.1");
    let status = agent.work_until(coordinator.ended(&run)).await;
    assert_eq!(status, RunStatus::Completed);
    let completed = count(&coordinator.events(&state), "TaskCompleted");
    assert_eq!(completed, ["main/a", "main/b", "main/c"].map(|task| (task.to_owned(), 1)).into());
    // The agent may forget the run.
    while !agent.forgotten.contains(&run) {
        agent.orders().await;
    }
    assert_eq!(coordinator.submit(THREE).await, "apollo.2");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_two_submissions_one() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport, LEASE).await;
    let first = coordinator.submission(THREE, Some("k")).await.unwrap();
    let second = coordinator.submission(THREE, Some("k")).await.unwrap();
    assert_eq!((first.run.clone(), first.is_new, second.is_new), (second.run, true, false));
    let other = coordinator.submission("version: 1\nproject: apollo\ntasks: [{id: a}]\n", Some("k")).await;
    assert!(other.unwrap_err().to_string().contains("was used for run apollo.1"));
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_plan_with_other_parameters_or_options_is_another_submission() {
    let ((_keep, state), transport) = (state(), transport());
    let plan = "version: 1\nproject: apollo\nparameters: {one: {default: a}}\ntasks: [{id: a, exec: [x]}]\n";
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let first = coordinator.submission_with(plan, Some("k"), &[("one", "b")], true).await.unwrap();
    coordinator.crash().await;
    let coordinator = Coordinator::start(&state, transport, LEASE).await;
    let again = coordinator.submission_with(plan, Some("k"), &[("one", "b")], true).await.unwrap();
    assert_eq!((again.run, again.is_new), (first.run, false));
    for (value, fail_fast) in [("c", true), ("b", false)] {
        let other = coordinator.submission_with(plan, Some("k"), &[("one", value)], fail_fast).await;
        assert!(other.unwrap_err().to_string().contains("was used for run apollo.1"));
    }
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_after_a_restart() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let first = coordinator.submission(THREE, Some("k")).await.unwrap();
    coordinator.crash().await;
    let coordinator = Coordinator::start(&state, transport, LEASE).await;
    let again = coordinator.submission(THREE, Some("k")).await.unwrap();
    assert_eq!((again.run, again.is_new), (first.run, false));
    let other = coordinator.submission("version: 1\nproject: apollo\ntasks: [{id: a}]\n", Some("k")).await;
    assert!(other.unwrap_err().to_string().contains("was used for run apollo.1"));
    assert!(coordinator.submission(THREE, Some("l")).await.unwrap().is_new);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_falls_silent_loses_its_attempts_to_another() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport.clone(), SHORT_LEASE).await;
    let mut silent = Agent::join(&transport, "a1", 1).await;
    let run = coordinator.submit(THREE).await;
    let (_, offer) = silent.offer().await;
    silent.report(&run, offer.task, offer.attempt, WireReportKind::Started { at_micros: 0 }).await;
    // It joins before the other's lease ends, and lives.
    let mut other = Agent::join(&transport, "a2", 1).await;
    let status = {
        let ended = coordinator.ended(&run);
        tokio::pin!(ended);
        loop {
            tokio::select! {
                status = &mut ended => break status,
                () = other.work_until(tokio::time::sleep(Duration::from_millis(50))) => other.heartbeat().await,
            }
        }
    };
    let events = coordinator.events(&state);
    assert_eq!(status, RunStatus::Completed);
    assert_eq!(count(&events, "TaskCompleted").values().sum::<usize>(), 3);
    assert!(count(&events, "LeaseExpired").len() == 1, "{events:?}");
    // What it says afterwards changes nothing, and is acknowledged or the run forgotten.
    silent.finish(&run, &offer).await;
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_comes_back_adopts_what_runs() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let mut agent = Agent::join(&transport, "a1", 1).await;
    let run = coordinator.submit(THREE).await;
    let (_, first) = agent.offer().await;
    agent.report(&run, first.task, first.attempt, WireReportKind::Started { at_micros: 0 }).await;
    let task = TaskIndex(first.task);
    let mut head = coordinator.handle.head();
    soon(async {
        while coordinator.handle.look(&run, move |state| state.task(task).status).await.unwrap()
            != TaskStatus::InProgress
        {
            head.changed().await.unwrap();
        }
    })
    .await;
    coordinator.crash().await;
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    // It is asked what it has; what runs is not offered again, and what it says of it counts.
    let asked = loop {
        let orders = agent.orders().await;
        let offered = orders.orders.iter().filter_map(|order| match order {
            WireOrder::Offer(offer) => Some(offer.task),
            _ => None,
        });
        assert!(offered.into_iter().all(|offered| orders.epoch == 1 || offered != first.task));
        if orders.orders.contains(&WireOrder::Recall) {
            break orders;
        }
    };
    assert!(asked.epoch > 1);
    agent.finish(&run, &first).await;
    let status = agent.work_until(coordinator.ended(&run)).await;
    assert_eq!(status, RunStatus::Completed);
    let events = coordinator.events(&state);
    assert!(count(&events, "TaskCompleted").values().all(|&times| times == 1));
    assert!(count(&events, "TaskRetryScheduled").is_empty(), "{events:?}");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_its_agent_does_not_know_any_more_is_offered_to_it_again() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let mut agent = Agent::join(&transport, "a1", 1).await;
    let run = coordinator.submit(THREE).await;
    let (_, offer) = agent.offer().await;
    agent.report(&run, offer.task, offer.attempt, WireReportKind::Started { at_micros: 0 }).await;
    agent.holds.insert(run.clone(), vec![Attempt { task: offer.task, attempt: offer.attempt }]);
    agent.heartbeat().await;
    agent.holds.clear();
    agent.heartbeat().await;
    agent.heartbeat().await;
    let again = soon(async {
        loop {
            let (_, again) = agent.offer().await;
            if again.task == offer.task {
                return again;
            }
        }
    })
    .await;
    assert_eq!(again.attempt, offer.attempt, "a heartbeat may be older than what it says");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_paused_resumed_and_cancelled() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let run = coordinator.submit(THREE).await;
    coordinator.wish(&run, Wish::Pause { reason: "lunch".to_owned() }).await.unwrap();
    let again = coordinator.wish("apollo", Wish::Pause { reason: String::new() }).await;
    assert!(matches!(again, Err(WishError::Rejected(_))));
    coordinator.wish(&run, Wish::Resume).await.unwrap();
    coordinator.wish(&run, Wish::Cancel { reason: "enough".to_owned() }).await.unwrap();
    assert_eq!(coordinator.ended(&run).await, RunStatus::Cancelled);
    let ended = coordinator.wish(&run, Wish::Resume).await;
    assert!(ended.unwrap_err().to_string().contains("has ended"));
    let none = coordinator.wish("apollo.7", Wish::Resume).await;
    assert!(matches!(none, Err(WishError::NoSuchRun { .. })));
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_runs_are_looked_at_after_a_restart() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let run = coordinator.submit("version: 1\nproject: apollo\ntasks: [{id: a}]\n").await;
    assert_eq!(coordinator.ended(&run).await, RunStatus::Completed);
    coordinator.stop().await;
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    assert_eq!(coordinator.ended("apollo").await, RunStatus::Completed);
    assert_eq!(coordinator.submit(THREE).await, "apollo.2");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_has_ended_is_retried() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let mut agent = Agent::join(&transport, "a1", 1).await;
    let run = coordinator.submit("version: 1\nproject: apollo\ntasks: [{id: a, exec: [x]}]\n").await;
    for round in 1..=20 {
        let (_, offer) = agent.offer().await;
        assert_eq!(offer.attempt, round);
        agent.fail(&run, &offer).await;
        assert_eq!(coordinator.ended(&run).await, RunStatus::Failed);
        // At once: the loop of the run may be ending still.
        coordinator.wish(&run, Wish::Retry { downstream: false }).await.unwrap();
    }
    let (_, offer) = agent.offer().await;
    agent.finish(&run, &offer).await;
    assert_eq!(coordinator.ended(&run).await, RunStatus::Completed);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_said_of_a_run_is_one_trace_whoever_owns_it() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let mut agent = Agent::join(&transport, "a1", 1).await;
    assert!(matches!(agent.heard().await, ToAgent::Welcome(_)) && agent.trace.is_none());
    let (one, other) = (coordinator.submit(THREE).await, coordinator.submit(THREE).await);
    let mut traces = BTreeMap::new();
    while traces.len() < 2 {
        let run = agent.orders().await.run;
        let context = agent.trace.as_deref().and_then(TraceContext::parse).expect("a traceparent");
        assert_eq!(*traces.entry(run).or_insert(context), context);
    }
    assert_ne!(traces[&one].id().to_string(), traces[&other].id().to_string());
    coordinator.crash().await;
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    loop {
        let orders = agent.orders().await;
        assert_eq!(agent.trace, Some(traces[&orders.run].to_string()), "{orders:?}");
        if orders.orders.contains(&WireOrder::Recall) {
            break;
        }
    }
    for run in [&one, &other] {
        agent.work_until(coordinator.ended(run)).await;
    }
    while agent.forgotten.len() < 2 {
        let run = agent.orders().await.run;
        assert_eq!(agent.trace, Some(traces[&run].to_string()), "to the last word");
    }
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_read_is_named_and_its_ends_are_kept_for_later() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let mut agent = Agent::join(&transport, "a1", 1).await;
    let run = coordinator.submit("version: 1\nproject: apollo\ntasks: [{id: a, exec: [x]}]\n").await;
    let (_, offer) = agent.offer().await;
    coordinator.crash().await;
    let plans = state.join("plans");
    std::fs::rename(&plans, state.join("hidden")).expect("the plan is away");
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    agent.holds.insert(run.clone(), vec![Attempt { task: offer.task, attempt: offer.attempt }]);
    agent.hello().await;
    // What comes in answer to the heartbeat comes after what would have come to the report.
    loop {
        match agent.heard().await {
            ToAgent::Orders(orders) => {
                let told = |order: &WireOrder| matches!(order, WireOrder::Acknowledge(_) | WireOrder::Forget);
                assert!(!orders.orders.iter().any(told), "{orders:?}");
            }
            ToAgent::Introduce => agent.hello().await,
            ToAgent::Welcome(_) => {
                agent.finish(&run, &offer).await;
                agent.heartbeat().await;
            }
            ToAgent::HeartbeatHeard { .. } => break,
            ToAgent::Drain | ToAgent::Undrain => {}
        }
    }
    let health = coordinator.handle.ask(Request::Health).await.expect("it serves");
    let (_, is_good, message) = health.checks.iter().find(|check| check.0 == "runs").expect("it is checked");
    assert!(!is_good && message.contains(&run) && message.contains("plan"), "{message}");
    assert!(health.is_ready, "others go on");
    coordinator.stop().await;
    std::fs::rename(state.join("hidden"), &plans).expect("the plan is back");
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    agent.hello().await;
    agent.finish(&run, &offer).await;
    assert_eq!(agent.work_until(coordinator.ended(&run)).await, RunStatus::Completed);
    assert_eq!(coordinator.events(&state).iter().filter(|(kind, _)| kind == "TaskDispatched").count(), 1);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_outlives_a_restart_of_coordinator_and_agent() {
    let ((_keep, state), transport) = (state(), transport());
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let mut agent = Agent::join(&transport, "a1", 1).await;
    assert!(matches!(agent.heard().await, ToAgent::Welcome(_)));
    let drain =
        |drain| move |reply| Request::Drain { agent: "a1".to_owned(), drain, user: "ada".to_owned(), reply };
    coordinator.handle.ask(drain(true)).await.expect("it serves").expect("it is there");
    coordinator.crash().await;
    drop(agent);
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    let mut agent = Agent::join(&transport, "a1", 2).await;
    agent.heartbeat().await;
    // What was said to the life before may lie in its queue; once this one is welcome, it is spoken to.
    soon(async { while !matches!(agent.heard().await, ToAgent::Welcome(_)) {} }).await;
    soon(async { while agent.heard().await != ToAgent::Drain {} }).await;
    let agents = coordinator.handle.ask(Request::Agents).await.expect("it serves");
    assert_eq!((agents[0].state, agents[0].incarnation), ("draining", 2));
    coordinator.handle.ask(drain(false)).await.expect("it serves").expect("it is there");
    coordinator.stop().await;
    let coordinator = Coordinator::start(&state, transport.clone(), LEASE).await;
    agent.hello().await;
    let run = coordinator.submit(THREE).await;
    assert_eq!(agent.work_until(coordinator.ended(&run)).await, RunStatus::Completed);
    let goodbye = ToCoordinator::Goodbye { agent: "a1".to_owned(), incarnation: 2 };
    agent.say(&goodbye).await;
    let left = async {
        loop {
            let agents = coordinator.handle.ask(Request::Agents).await.expect("it serves");
            if agents[0].state == "left" {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(left).await;
    coordinator.stop().await;
}
