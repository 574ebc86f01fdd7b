//! What other systems hear of events.

use crate::rig::{Agent, Coordinator, soon, state};
use cairn_shared::transport::in_process::InProcess;
use cairn_shared::transport::{
    Address, Delivery, Health, Message, PublishError, SubscribeError, Transport, TransportFuture,
};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// So long that it does not end in a test, nor two heartbeats of it: the agents that tests play do not beat.
const LEASE: Duration = Duration::from_mins(10);

const TWO: &str =
    "version: 1\nproject: apollo\ntasks: [{id: a, exec: [x]}, {id: b, exec: [x], needs: [a]}]\n";

/// The hub with somebody who listens to events, or has stopped taking them.
struct Ears {
    hub: Arc<InProcess>,
    heard: Mutex<Vec<(String, Message)>>,
    count: watch::Sender<usize>,
    /// Messages that are taken before one is refused.
    takes: Mutex<usize>,
}

impl Ears {
    fn new(hub: &Arc<InProcess>, takes: usize) -> Arc<Self> {
        Arc::new(Self {
            hub: hub.clone(),
            heard: Mutex::default(),
            count: watch::Sender::new(0),
            takes: Mutex::new(takes),
        })
    }

    /// What was heard, once that fulfils a condition: topic and event.
    async fn heard(&self, until: impl Fn(&[(String, Value)]) -> bool) -> Vec<(String, Value)> {
        let mut count = self.count.subscribe();
        soon(async {
            loop {
                let events = self.events();
                if until(&events) {
                    return events;
                }
                count.changed().await.expect("it is there");
            }
        })
        .await
    }

    fn events(&self) -> Vec<(String, Value)> {
        let heard = self.heard.lock().expect("whole");
        let each = |(topic, message): &(String, Message)| {
            assert_eq!(message.content_type, "application/json");
            let events: Vec<Value> = serde_json::from_slice(&message.body).expect("an array");
            assert_eq!(message.id, format!("event-{}", events[0]["position"]));
            events.into_iter().map(|event| (topic.clone(), event)).collect::<Vec<_>>()
        };
        heard.iter().flat_map(each).collect()
    }
}

impl Transport for Ears {
    fn publish(&self, to: &Address, message: Message) -> TransportFuture<'static, Result<(), PublishError>> {
        let Address::Events(topic) = to else { return self.hub.publish(to, message) };
        let mut takes = self.takes.lock().expect("whole");
        if *takes == 0 {
            return Box::pin(std::future::pending());
        }
        *takes -= 1;
        self.heard.lock().expect("whole").push((topic.clone(), message));
        self.count.send_modify(|count| *count += 1);
        Box::pin(std::future::ready(Ok(())))
    }

    fn subscribe<'a>(
        &'a self,
        from: &'a Address,
        window: u16,
    ) -> TransportFuture<'a, Result<mpsc::Receiver<Delivery>, SubscribeError>> {
        self.hub.subscribe(from, window)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.hub.health()
    }

    fn close(&self) -> TransportFuture<'_, ()> {
        self.hub.close()
    }
}

fn positions(events: &[(String, Value)]) -> Vec<u64> {
    events.iter().map(|(_, event)| event["position"].as_u64().expect("a position")).collect()
}

fn saved(state: &Path) -> Option<u64> {
    std::fs::read_to_string(state.join("events.cursor")).ok()?.trim().parse().ok()
}

fn has_completed(events: &[(String, Value)]) -> bool {
    events.iter().any(|(topic, _)| topic == "apollo.RunCompleted")
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_in_order_and_go_on_after_a_restart() {
    let ((_keep, state), hub) = (state(), Arc::new(InProcess::new()));
    let ears = Ears::new(&hub, usize::MAX);
    let coordinator = Coordinator::start_with(&state, ears.clone(), LEASE, true).await;
    let mut agent = Agent::join(&hub, "a1", 1).await;
    let run = coordinator.submit(TWO).await;
    agent.work_until(coordinator.ended(&run)).await;
    let events = ears.heard(has_completed).await;
    let places = positions(&events);
    assert!(places.iter().eq(&(1..=places.len() as u64).collect::<Vec<_>>()), "all, in order: {places:?}");
    for (topic, event) in &events {
        let subject = if event["stream_id"] == "fleet" { "fleet" } else { "apollo" };
        assert_eq!(*topic, format!("{subject}.{}", event["event_type"].as_str().expect("a type")));
    }
    assert!(events.iter().any(|(topic, _)| topic == "fleet.AgentJoined"));
    let last = *places.last().expect("some");
    soon(async {
        while saved(&state) != Some(last + 1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    coordinator.stop().await;

    let ears = Ears::new(&hub, usize::MAX);
    let coordinator = Coordinator::start_with(&state, ears.clone(), LEASE, true).await;
    let mut agent = Agent::join(&hub, "a2", 1).await;
    let run = coordinator.submit(TWO).await;
    agent.work_until(coordinator.ended(&run)).await;
    let events = ears.heard(has_completed).await;
    assert_eq!(positions(&events)[0], last + 1, "nothing is left out, nothing said again");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_no_events_holds_up_no_run_and_gets_them_later() {
    let ((_keep, state), hub) = (state(), Arc::new(InProcess::new()));
    let ears = Ears::new(&hub, 2);
    let coordinator = Coordinator::start_with(&state, ears.clone(), LEASE, true).await;
    let mut agent = Agent::join(&hub, "a1", 1).await;
    let run = coordinator.submit(TWO).await;
    agent.work_until(coordinator.ended(&run)).await;
    assert!(!has_completed(&ears.events()));
    coordinator.crash().await;

    let ears = Ears::new(&hub, usize::MAX);
    let coordinator = Coordinator::start_with(&state, ears.clone(), LEASE, true).await;
    let places = positions(&ears.heard(has_completed).await);
    assert!(places[0] <= 3 && places.windows(2).all(|pair| pair[1] == pair[0] + 1), "{places:?}");
    coordinator.stop().await;
}
