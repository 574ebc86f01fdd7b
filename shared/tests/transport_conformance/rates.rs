//! How fast it is: `cargo test --release -p cairn-shared --test transport_conformance rates -- --ignored --nocapture`.
//! Figures of one machine; what docs say of them are ratios.

use crate::broker::Broker;
use crate::fixture::{End, OverAmqp, agent, message, next, publish, subscribe};
use bytes::Bytes;
use cairn_shared::transport::amqp::{QueueType, Role};
use cairn_shared::transport::{Address, Health, Message};
use std::time::Duration;
use tokio::time::Instant;

const RUNS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute, and tells something in a release build only"]
async fn rates() {
    let broker = Broker::own().expect("RabbitMQ is not installed");
    for queue_type in [QueueType::Classic, QueueType::Quorum] {
        for (bytes, window, count) in [(200, 1_000, 30_000), (20_000, 10, 3_000)] {
            for _ in 0..RUNS {
                let place = OverAmqp::new(&broker, queue_type);
                let began = Instant::now();
                let (coordinator, worker) = (place.end(Role::Coordinator), place.end(Role::Agent));
                crate::fixture::healthy(&coordinator, |health| matches!(health, Health::Up(_))).await;
                let up = began.elapsed();
                let one_way = one_way(&coordinator, &worker, bytes, window, count).await;
                let round_trips = round_trips(&coordinator, &worker, bytes, window, count).await;
                let (half, most) = latency(&coordinator, &worker, bytes).await;
                println!(
                    "{queue_type:?}, {bytes} bytes, window {window}: {one_way:.0} messages/s, {round_trips:.0} round \
                     trips/s; alone p50 {half:?} p99 {most:?}; connected in {up:?}"
                );
                coordinator.close().await;
                worker.close().await;
            }
        }
    }
}

fn sized(id: usize, bytes: usize) -> Message {
    Message { body: Bytes::from(vec![b'x'; bytes]), ..message(id) }
}

/// Messages per second from a publisher to a listener who acknowledges each, `window` under way.
async fn one_way(coordinator: &End, worker: &End, bytes: usize, window: u16, count: usize) -> f64 {
    let mut received = subscribe(worker, &agent("a"), window).await;
    publish(coordinator, &agent("a"), "first").await;
    next(&mut received).await.receipt.acknowledge();
    let began = Instant::now();
    let (mut sent, mut confirmed) = (0, tokio::task::JoinSet::new());
    let mut got = 0;
    while got < count {
        while sent < count && sent - got < usize::from(window) {
            confirmed.spawn(coordinator.publish(&agent("a"), sized(sent, bytes)));
            sent += 1;
        }
        next(&mut received).await.receipt.acknowledge();
        got += 1;
    }
    while let Some(result) = confirmed.join_next().await {
        result.unwrap().unwrap();
    }
    per_second(count, began.elapsed())
}

/// Round trips per second through two queues, `window` under way.
async fn round_trips(coordinator: &End, worker: &End, bytes: usize, window: u16, count: usize) -> f64 {
    let mut back = echo(coordinator, worker, "b", bytes, window).await;
    let began = Instant::now();
    let (mut sent, mut got) = (0, 0);
    while got < count {
        while sent < count && sent - got < usize::from(window) {
            drop(coordinator.publish(&agent("b"), sized(sent, bytes)));
            sent += 1;
        }
        next(&mut back).await.receipt.acknowledge();
        got += 1;
    }
    per_second(count, began.elapsed())
}

async fn latency(coordinator: &End, worker: &End, bytes: usize) -> (Duration, Duration) {
    const COUNT: usize = 1_000;
    let mut back = echo(coordinator, worker, "c", bytes, 10).await;
    let mut times = Vec::new();
    for id in 0..COUNT {
        let began = Instant::now();
        drop(coordinator.publish(&agent("c"), sized(id, bytes)));
        next(&mut back).await.receipt.acknowledge();
        times.push(began.elapsed());
    }
    times.sort();
    (times[COUNT / 2], times[COUNT * 99 / 100])
}

/// A worker that sends back a report of the same size for each message to the agent `id`.
async fn echo(
    coordinator: &End,
    worker: &End,
    id: &str,
    bytes: usize,
    window: u16,
) -> tokio::sync::mpsc::Receiver<cairn_shared::transport::Delivery> {
    let back = subscribe(coordinator, &Address::Coordinator, window).await;
    let mut orders = subscribe(worker, &agent(id), window).await;
    let worker = worker.clone();
    tokio::spawn(async move {
        let mut number = 0;
        while let Some(order) = orders.recv().await {
            drop(worker.publish(&Address::Coordinator, sized(number, bytes)));
            order.receipt.acknowledge();
            number += 1;
        }
    });
    back
}

fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
