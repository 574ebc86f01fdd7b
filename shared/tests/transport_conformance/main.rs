//! One suite that holds every transport to the contract of [`Transport`], and what a broker adds to it: its faults.
//!
//! With `CAIRN_TEST_RABBITMQ` set to the directory of a running node of `deploy/services/rabbitmq`, the cases of the
//! contract use that node. The faults always have a node of their own, for they stop and starve it.
#![expect(clippy::unwrap_used, reason = "the parts of a test, outside of its functions")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "who runs it sees the case that hangs, and what is skipped"
)]

mod broker;
mod faults;
mod fixture;
mod rates;
mod refusals;
mod suite;
mod topology;

use broker::Broker;
use cairn_shared::transport::amqp::QueueType;
use fixture::{Fixture, OverAmqp, WithinProcess};
use std::time::Duration;

/// What no case needs, on any machine.
const CASE_LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn within_one_process() {
    for (name, case) in suite::cases() {
        run(name, case(Box::new(WithinProcess::new()))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_amqp() {
    let Some(broker) = Broker::for_cases() else { return };
    for queue_type in [QueueType::Classic, QueueType::Quorum] {
        for (name, case) in suite::cases() {
            let fixture = OverAmqp::new(&broker, queue_type);
            run(&format!("{queue_type:?}: {name}"), case(Box::new(fixture))).await;
        }
    }
    for (name, case) in topology::cases() {
        run(name, case(OverAmqp::new(&broker, QueueType::Classic))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_a_broker() {
    let Some(broker) = Broker::own() else { return };
    for queue_type in [QueueType::Classic, QueueType::Quorum] {
        for (name, case) in faults::cases() {
            run(&format!("{queue_type:?}: {name}"), case(OverAmqp::new(&broker, queue_type))).await;
        }
    }
}

async fn run(name: &str, case: impl Future<Output = ()>) {
    println!("-- {name}");
    let began = tokio::time::Instant::now();
    assert!(tokio::time::timeout(CASE_LIMIT, case).await.is_ok(), "{name} does not end");
    println!("   {} ms", began.elapsed().as_millis());
}

/// The least that a case asks of a place to run in.
fn ends(fixture: &dyn Fixture) -> (fixture::End, fixture::End) {
    (fixture.coordinator(), fixture.agent())
}
