//! What a coordinator does while its broker is away.

use crate::rig::{Coordinator, soon, state};
use cairn_engine::RunStatus;
use cairn_shared::transport::{
    Address, Delivery, Health, Message, PublishError, SubscribeError, Transport, TransportFuture,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The way to a broker that never comes.
struct Away(watch::Sender<Health>);

impl Transport for Away {
    fn publish(&self, _: &Address, _: Message) -> TransportFuture<'static, Result<(), PublishError>> {
        Box::pin(std::future::pending())
    }

    fn subscribe<'a>(
        &'a self,
        _: &'a Address,
        _: u16,
    ) -> TransportFuture<'a, Result<mpsc::Receiver<Delivery>, SubscribeError>> {
        Box::pin(std::future::pending())
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.0.subscribe()
    }

    fn close(&self) -> TransportFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_taken_and_the_end_is_heard_before_the_broker_is_there() {
    let (_keep, state) = state();
    let away = Arc::new(Away(watch::Sender::new(Health::Down("nobody is there".into()))));
    let coordinator = Coordinator::start_with(&state, away, Duration::from_mins(10), true).await;
    let plan = "version: 1\nproject: apollo\ntasks: [{id: a}]\n";
    let run = soon(coordinator.submit(plan)).await;
    assert_eq!(coordinator.ended(&run).await, RunStatus::Completed, "it needs no agent");
    coordinator.stop().await;
}
