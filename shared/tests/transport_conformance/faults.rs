//! A broker that fails under way. Each case leaves it running.

use crate::fixture::{
    End, OverAmqp, SOON, WHILE, agent, healthy, message, next, next_id, publish, subscribe,
};
use cairn_shared::transport::amqp::Role;
use cairn_shared::transport::{Address, Health};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

type Case = fn(OverAmqp) -> Pin<Box<dyn Future<Output = ()> + Send>>;

pub fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("survives_the_end_of_its_queue", |place| Box::pin(survives_the_end_of_its_queue(place))),
        ("survives_a_purge", |place| Box::pin(survives_a_purge(place))),
        ("makes_again_what_was_deleted", |place| Box::pin(makes_again_what_was_deleted(place))),
        ("survives_the_end_of_its_connections", |place| Box::pin(survives_the_end_of_its_connections(place))),
        ("waits_while_the_broker_is_short_of_memory", |place| {
            Box::pin(waits_while_the_broker_is_short_of_memory(place))
        }),
        ("survives_a_restart_under_load", |place| Box::pin(survives_a_restart_under_load(place))),
        ("survives_a_crash_under_load", |place| Box::pin(survives_a_crash_under_load(place))),
    ]
}

/// Publishes message after message until told to stop; returns the ids that the broker confirmed.
struct Load {
    stop: mpsc::Sender<()>,
    confirmed: JoinHandle<BTreeSet<u64>>,
}

impl Load {
    fn start(end: End, to: Address) -> Self {
        let (stop, mut stopped) = mpsc::channel(1);
        let confirmed = tokio::spawn(async move {
            let (mut confirmed, mut under_way, mut id) = (BTreeSet::new(), tokio::task::JoinSet::new(), 0);
            loop {
                while under_way.len() < 200 {
                    let (publishing, number) = (end.publish(&to, message(id)), id);
                    under_way.spawn(async move { publishing.await.map(|()| number) });
                    id += 1;
                }
                tokio::select! {
                    result = under_way.join_next() => confirmed.extend(result.unwrap().unwrap()),
                    _ = stopped.recv() => break,
                }
            }
            while let Some(result) = under_way.join_next().await {
                confirmed.extend(result.unwrap());
            }
            confirmed
        });
        Self { stop, confirmed }
    }

    async fn stop(self) -> BTreeSet<u64> {
        drop(self.stop);
        timeout(SOON, self.confirmed).await.expect("what is under way does not end").unwrap()
    }
}

/// Acknowledges all that comes, and keeps count.
struct Sink {
    counts: JoinHandle<BTreeSet<u64>>,
    last: mpsc::Sender<u64>,
}

impl Sink {
    async fn start(end: &End, from: &Address) -> Self {
        let mut received = subscribe(end, from, 100).await;
        let (last, mut wanted) = mpsc::channel::<u64>(1);
        let counts = tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            let mut end = None;
            while end.is_none_or(|end| !seen.contains(&end)) {
                tokio::select! {
                    got = next(&mut received) => {
                        seen.insert(got.id.parse().unwrap());
                        got.receipt.acknowledge();
                    }
                    last = wanted.recv(), if end.is_none() => end = last,
                }
            }
            seen
        });
        Self { counts, last }
    }

    /// Everything that came until the message `last` did.
    async fn seen_until(self, last: u64) -> BTreeSet<u64> {
        self.last.send(last).await.unwrap();
        self.counts.await.unwrap()
    }
}

/// Does something to the broker under load; nothing that was confirmed may be missing at the end.
async fn under_load(place: &OverAmqp, harm: impl FnOnce() + Send + 'static) {
    let (coordinator, worker) = (place.end(Role::Coordinator), place.end(Role::Agent));
    let sink = Sink::start(&worker, &agent("a")).await;
    let load = Load::start(Arc::clone(&coordinator), agent("a"));
    tokio::task::spawn_blocking(harm).await.unwrap();
    for end in [&coordinator, &worker] {
        healthy(end, |health| matches!(health, Health::Up(_))).await;
    }
    let confirmed = load.stop().await;
    publish(&coordinator, &agent("a"), u64::MAX).await;
    let seen = sink.seen_until(u64::MAX).await;
    let lost: Vec<_> = confirmed.difference(&seen).collect();
    assert!(lost.is_empty() && confirmed.len() > 500, "of {} confirmed are lost: {lost:?}", confirmed.len());
    println!("   {} confirmed, none lost", confirmed.len());
}

async fn survives_a_restart_under_load(place: OverAmqp) {
    let broker = Arc::clone(&place.broker);
    under_load(&place, move || {
        broker.ctl(&["stop_app"]);
        broker.ctl(&["start_app"]);
    })
    .await;
}

async fn survives_a_crash_under_load(place: OverAmqp) {
    let broker = Arc::clone(&place.broker);
    under_load(&place, move || {
        // A while of load first.
        broker.ctl(&["list_queues"]);
        broker.kill();
        broker.start();
    })
    .await;
}

async fn survives_the_end_of_its_connections(place: OverAmqp) {
    let broker = Arc::clone(&place.broker);
    under_load(&place, move || {
        for _ in 0..3 {
            broker.ctl(&["close_all_connections", "test"]);
        }
    })
    .await;
}

async fn survives_the_end_of_its_queue(place: OverAmqp) {
    let (coordinator, worker) = (place.end(Role::Coordinator), place.end(Role::Agent));
    let mut own = subscribe(&worker, &agent("a"), 5).await;
    let mut shared = subscribe(&coordinator, &Address::Coordinator, 5).await;
    publish(&coordinator, &agent("a"), "held").await;
    let held = next(&mut own).await;
    for queue in ["cairn.agent.a", "cairn.coordinator"] {
        place.ctl(&["delete_queue", queue]);
    }
    // The same queue again, within a second.
    let again = async {
        while coordinator.publish(&agent("a"), message("again")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(1), again).await.expect("the queue is not there again within a second");
    held.receipt.acknowledge();
    assert_eq!(next_id(&mut own).await, "again");
    publish(&worker, &Address::Coordinator, "report").await;
    assert_eq!(next_id(&mut shared).await, "report");
    assert!(matches!(*worker.health().borrow(), Health::Up(_)));
}

async fn survives_a_purge(place: OverAmqp) {
    let (coordinator, worker) = (place.end(Role::Coordinator), place.end(Role::Agent));
    let mut received = subscribe(&worker, &agent("a"), 1).await;
    for id in 0..5 {
        publish(&coordinator, &agent("a"), id).await;
    }
    let held = next(&mut received).await;
    place.ctl(&["purge_queue", "cairn.agent.a"]);
    held.receipt.acknowledge();
    publish(&coordinator, &agent("a"), "after").await;
    assert_eq!(next_id(&mut received).await, "after");
}

async fn makes_again_what_was_deleted(place: OverAmqp) {
    let coordinator = place.end(Role::Coordinator);
    publish(&coordinator, &Address::Output, 0).await;
    place.ctl(&["delete_queue", "cairn.output"]);
    publish(&coordinator, &Address::Output, 1).await;
    let mut received = subscribe(&coordinator, &Address::Output, 1).await;
    assert_eq!(next_id(&mut received).await, "1");
}

async fn waits_while_the_broker_is_short_of_memory(place: OverAmqp) {
    let (coordinator, worker) = (place.end(Role::Coordinator), place.end(Role::Agent));
    let mut received = subscribe(&worker, &agent("a"), 5).await;
    for id in 0..5 {
        publish(&coordinator, &agent("a"), id).await;
    }
    place.broker.ctl(&["set_vm_memory_high_watermark", "0.00001"]);
    let blocked_at = tokio::time::Instant::now();
    let waiting: Vec<_> = (5..3_000).map(|id| coordinator.publish(&agent("a"), message(id))).collect();
    let waiting = tokio::spawn(futures_util::future::join_all(waiting));
    let health = healthy(&coordinator, |health| matches!(health, Health::Blocked(_))).await;
    let took = blocked_at.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(matches!(&health, Health::Blocked(reason) if reason.contains("memory")), "{health:?}");
    // Those who listen go on.
    for id in 0..5 {
        let got = next(&mut received).await;
        assert_eq!(got.id, id.to_string());
        got.receipt.acknowledge();
    }
    assert!(timeout(WHILE, received.recv()).await.is_err());
    assert!(!waiting.is_finished());
    place.broker.ctl(&["set_vm_memory_high_watermark", "absolute", "512MB"]);
    for id in 5..3_000 {
        let got = next(&mut received).await;
        assert_eq!(got.id, id.to_string());
        got.receipt.acknowledge();
    }
    assert!(waiting.await.unwrap().iter().all(Result::is_ok));
    assert!(matches!(*coordinator.health().borrow(), Health::Up(_)));
}
