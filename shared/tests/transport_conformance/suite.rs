//! The contract, case by case.

use crate::ends;
use crate::fixture::{
    Fixture, SOON, WHILE, agent, healthy, message, next, next_id, publish, subscribe, work,
};
use bytes::Bytes;
use cairn_shared::transport::{
    Address, Health, MAX_DELIVERIES, MAX_MESSAGE_BYTES, MAX_NAME_BYTES, Message, PublishError, SubscribeError,
};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::timeout;

type Place = Box<dyn Fixture>;
pub type Case = fn(Place) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub fn cases() -> Vec<(&'static str, Case)> {
            vec![$((stringify!($name), |place| Box::pin($name(place)))),*]
        }
    };
}

cases![
    keeps_what_a_message_says,
    keeps_the_order_of_calls,
    gives_each_message_to_one,
    hands_out_no_more_than_the_window,
    gives_out_again_what_a_receipt_dropped,
    gives_out_again_what_a_receiver_dropped,
    buries_what_is_rejected,
    buries_what_is_given_out_too_often,
    knows_agents_by_their_subscription,
    sorts_returns_out_among_confirmations,
    lets_one_listen_to_an_agent,
    lets_one_coordinator_listen_and_the_next_wait,
    refuses_what_cannot_be_sent,
    sends_events_to_nobody,
    closes_one_end_only,
    says_that_it_is_well,
];

async fn keeps_what_a_message_says(place: Place) {
    let (coordinator, worker) = ends(&*place);
    let mut received = subscribe(&worker, &agent("a"), 10).await;
    let bodies =
        [Bytes::new(), Bytes::from_static(&[0, 255, 206, 10]), Bytes::from(vec![7; MAX_MESSAGE_BYTES])];
    for (number, body) in bodies.into_iter().enumerate() {
        let trace =
            (number > 0).then(|| "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
        let sent = Message {
            id: format!("id {number}"),
            content_type: "application/x-bincode;v=1".to_owned(),
            kind: "orders",
            trace: trace.clone(),
            body: body.clone(),
        };
        coordinator.publish(&agent("a"), sent).await.unwrap();
        let got = next(&mut received).await;
        assert_eq!(
            (got.id, got.content_type),
            (format!("id {number}"), "application/x-bincode;v=1".to_owned())
        );
        assert!(got.trace == trace && got.body == body && got.origin.is_none() && !got.redelivered);
        got.receipt.acknowledge();
    }
}

async fn keeps_the_order_of_calls(place: Place) {
    const COUNT: usize = 5_000;
    let (coordinator, worker) = ends(&*place);
    let mut received = subscribe(&coordinator, &Address::Coordinator, 100).await;
    // The calls take the messages, also those of which nobody wants to know the end.
    let published: Vec<_> = (0..COUNT).map(|id| worker.publish(&Address::Coordinator, message(id))).collect();
    let published =
        published.into_iter().enumerate().filter_map(|(id, future)| (id % 7 != 0).then_some(future));
    let publishing = tokio::spawn(futures_util::future::join_all(published.collect::<Vec<_>>()));
    for id in 0..COUNT {
        let got = next(&mut received).await;
        assert_eq!(got.id, id.to_string());
        got.receipt.acknowledge();
    }
    assert!(publishing.await.unwrap().iter().all(Result::is_ok));
}

async fn gives_each_message_to_one(place: Place) {
    const COUNT: usize = 200;
    let (coordinator, first) = ends(&*place);
    let second = place.agent();
    publish(&coordinator, &work("x"), "made").await;
    let mut one = subscribe(&first, &work("x"), 5).await;
    let mut other = subscribe(&second, &work("x"), 5).await;
    for id in 0..COUNT {
        drop(coordinator.publish(&work("x"), message(id)));
    }
    let (mut ones, mut others) = (BTreeSet::new(), BTreeSet::new());
    while ones.len() + others.len() <= COUNT {
        let (mine, got) = tokio::select! {
            got = next(&mut one) => (&mut ones, got),
            got = next(&mut other) => (&mut others, got),
        };
        assert!(mine.insert(got.id) && !got.redelivered);
        got.receipt.acknowledge();
    }
    assert!(
        ones.is_disjoint(&others) && ones.len() > 20 && others.len() > 20,
        "{} {}",
        ones.len(),
        others.len()
    );
}

async fn hands_out_no_more_than_the_window(place: Place) {
    let (coordinator, worker) = ends(&*place);
    let mut received = subscribe(&worker, &agent("a"), 3).await;
    for id in 0..10 {
        publish(&coordinator, &agent("a"), id).await;
    }
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut received).await);
    }
    assert!(timeout(WHILE, received.recv()).await.is_err());
    // Not in the order in which they came.
    held.remove(1).receipt.acknowledge();
    held.push(next(&mut received).await);
    assert_eq!(held[2].id, "3");
    assert!(timeout(WHILE, received.recv()).await.is_err());
    held.drain(..).for_each(|delivery| delivery.receipt.acknowledge());
    for id in 4..6 {
        assert_eq!(next_id(&mut received).await, id.to_string());
    }
}

async fn gives_out_again_what_a_receipt_dropped(place: Place) {
    let (coordinator, worker) = ends(&*place);
    let mut received = subscribe(&worker, &agent("a"), 1).await;
    for id in 0..2 {
        publish(&coordinator, &agent("a"), id).await;
    }
    drop(next(&mut received).await);
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let got = next(&mut received).await;
        assert_eq!(got.redelivered, got.id == "0");
        seen.insert(got.id);
        got.receipt.acknowledge();
    }
    assert_eq!(seen.len(), 2);
}

async fn gives_out_again_what_a_receiver_dropped(place: Place) {
    let (coordinator, worker) = ends(&*place);
    publish(&coordinator, &work("x"), 0).await;
    let mut received = subscribe(&worker, &work("x"), 10).await;
    for id in 1..4 {
        publish(&coordinator, &work("x"), id).await;
    }
    next(&mut received).await.receipt.acknowledge();
    let held = next(&mut received).await;
    drop(received);
    let another = place.agent();
    let mut received = subscribe(&another, &work("x"), 10).await;
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let got = next(&mut received).await;
        assert!(got.redelivered || got.id == "3", "{} was not given out before", got.id);
        seen.insert(got.id);
        got.receipt.acknowledge();
    }
    assert_eq!(seen.into_iter().collect::<String>(), "123");
    // Too late to say anything.
    held.receipt.reject();
    assert!(timeout(WHILE, received.recv()).await.is_err());
}

async fn buries_what_is_rejected(place: Place) {
    let (coordinator, worker) = ends(&*place);
    let mut dead = subscribe(&coordinator, &Address::Dead, 10).await;
    for address in [agent("a"), Address::Coordinator, Address::Output, work("x")] {
        let listener = if matches!(address, Address::Agent(_)) { &worker } else { &coordinator };
        if matches!(address, Address::Work(_)) {
            publish(&coordinator, &address, "buried").await;
        }
        let mut received = subscribe(listener, &address, 1).await;
        if !matches!(address, Address::Work(_)) {
            publish(&coordinator, &address, "buried").await;
        }
        next(&mut received).await.receipt.reject();
        let got = next(&mut dead).await;
        assert_eq!((got.origin.as_ref(), got.id.as_str()), (Some(&address), "buried"));
        assert_eq!((&got.body[..], got.content_type.as_str()), (&b"hello"[..], "text/plain"));
        got.receipt.reject();
    }
    assert!(timeout(WHILE, dead.recv()).await.is_err());
}

async fn buries_what_is_given_out_too_often(place: Place) {
    if !place.counts_deliveries() {
        return;
    }
    let (coordinator, worker) = ends(&*place);
    let mut dead = subscribe(&coordinator, &Address::Dead, 10).await;
    let mut received = subscribe(&worker, &agent("a"), 1).await;
    publish(&coordinator, &agent("a"), "poison").await;
    publish(&coordinator, &agent("a"), "healthy").await;
    let mut tries = 0;
    let got = loop {
        tokio::select! {
            got = next(&mut received) => {
                tries += u32::from(got.id == "poison");
                if got.id == "healthy" {
                    got.receipt.acknowledge();
                }
            }
            got = next(&mut dead) => break got,
        }
    };
    assert_eq!((got.id.as_str(), got.origin.as_ref()), ("poison", Some(&agent("a"))));
    assert!((MAX_DELIVERIES..=MAX_DELIVERIES + 1).contains(&tries), "{tries}");
    got.receipt.acknowledge();
}

async fn knows_agents_by_their_subscription(place: Place) {
    let (coordinator, worker) = ends(&*place);
    let refused = timeout(SOON, coordinator.publish(&agent("a"), message(0))).await.unwrap();
    assert!(matches!(refused, Err(PublishError::Unroutable)), "{refused:?}");
    drop(subscribe(&worker, &agent("a"), 1).await);
    // The queue stays for a while.
    publish(&coordinator, &agent("a"), 1).await;
    let mut received = loop {
        match worker.subscribe(&agent("a"), 1).await {
            Ok(received) => break received,
            Err(error) => assert!(matches!(error, SubscribeError::Taken)),
        }
    };
    assert_eq!(next_id(&mut received).await, "1");
}

async fn sorts_returns_out_among_confirmations(place: Place) {
    const COUNT: usize = 600;
    let (coordinator, worker) = ends(&*place);
    let mut received = subscribe(&worker, &agent("there"), 50).await;
    let to = |id: usize| if id.is_multiple_of(3) { agent("there") } else { agent("away") };
    let published: Vec<_> = (0..COUNT).map(|id| coordinator.publish(&to(id), message(id))).collect();
    let counting = tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        while seen.len() < COUNT / 3 {
            let got = next(&mut received).await;
            seen.insert(got.id);
            got.receipt.acknowledge();
        }
    });
    for (id, result) in futures_util::future::join_all(published).await.into_iter().enumerate() {
        match result {
            Ok(()) => assert!(id.is_multiple_of(3), "{id} cannot have been taken"),
            Err(error) => {
                assert!(!id.is_multiple_of(3) && matches!(error, PublishError::Unroutable), "{id}: {error}")
            }
        }
    }
    counting.await.unwrap();
}

async fn lets_one_listen_to_an_agent(place: Place) {
    let (first, second) = (place.agent(), place.agent());
    let received = subscribe(&first, &agent("a"), 1).await;
    let refused = timeout(SOON, second.subscribe(&agent("a"), 1)).await.unwrap();
    assert!(matches!(refused, Err(SubscribeError::Taken)), "{refused:?}");
    drop(subscribe(&second, &agent("b"), 1).await);
    drop(received);
    let waiting = async {
        while let Err(error) = second.subscribe(&agent("a"), 1).await {
            assert!(matches!(error, SubscribeError::Taken));
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, waiting).await.unwrap();
}

async fn lets_one_coordinator_listen_and_the_next_wait(place: Place) {
    let (first, second) = (place.coordinator(), place.coordinator());
    let worker = place.agent();
    let mut received = subscribe(&first, &Address::Coordinator, 5).await;
    let waiting = tokio::spawn({
        let second = Arc::clone(&second);
        async move { second.subscribe(&Address::Coordinator, 5).await }
    });
    let is_told =
        |health: &Health| matches!(health, Health::Down(why) if why.contains("another coordinator"));
    healthy(&second, is_told).await;
    for id in 0..10 {
        publish(&worker, &Address::Coordinator, id).await;
        if id < 9 {
            assert_eq!(next_id(&mut received).await, id.to_string());
        }
    }
    let held = next(&mut received).await;
    assert!(!waiting.is_finished() && matches!(*first.health().borrow(), Health::Up(_)));
    // Who gives up waiting is well again.
    let third = place.coordinator();
    let mut health = third.health();
    tokio::select! {
        _ = third.subscribe(&Address::Coordinator, 1) => panic!("two listen"),
        // What is seen is let go of at once: it keeps the health from changing.
        is_told = async { timeout(SOON, health.wait_for(is_told)).await.is_ok() } => assert!(is_told),
    }
    healthy(&third, |health| matches!(health, Health::Up(_))).await;
    drop(received);
    let mut received = timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    let again = next(&mut received).await;
    assert_eq!((again.id.as_str(), again.redelivered), ("9", true));
    again.receipt.acknowledge();
    drop(held);
    healthy(&second, |health| matches!(health, Health::Up(_))).await;
    publish(&worker, &Address::Coordinator, "after").await;
    assert_eq!(next_id(&mut received).await, "after");
}

async fn refuses_what_cannot_be_sent(place: Place) {
    let coordinator = place.coordinator();
    let large = Message { body: Bytes::from(vec![0; MAX_MESSAGE_BYTES + 1]), ..message(0) };
    let refused = coordinator.publish(&Address::Coordinator, large).await;
    assert!(matches!(refused, Err(PublishError::TooLarge { bytes }) if bytes == MAX_MESSAGE_BYTES + 1));
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    for (address, text) in [
        (Address::Coordinator, Message { id: long.clone(), ..message(0) }),
        (Address::Coordinator, Message { content_type: long.clone(), ..message(0) }),
        (Address::Coordinator, Message { trace: Some(long.clone()), ..message(0) }),
        (agent(&long), message(0)),
        (Address::Events(long.clone()), message(0)),
    ] {
        assert!(matches!(coordinator.publish(&address, text).await, Err(PublishError::LongName)));
    }
    assert!(matches!(coordinator.publish(&Address::Dead, message(0)).await, Err(PublishError::Unroutable)));
    assert!(matches!(coordinator.subscribe(&agent(&long), 1).await, Err(SubscribeError::WriteOnly)));
    publish(&coordinator, &Address::Coordinator, "x".repeat(MAX_NAME_BYTES)).await;
}

async fn sends_events_to_nobody(place: Place) {
    let coordinator = place.coordinator();
    publish(&coordinator, &Address::Events("run.apollo".to_owned()), 0).await;
    let refused = coordinator.subscribe(&Address::Events("run".to_owned()), 1).await;
    assert!(matches!(refused, Err(SubscribeError::WriteOnly)));
}

async fn closes_one_end_only(place: Place) {
    let (coordinator, worker) = ends(&*place);
    let mut received = subscribe(&worker, &agent("a"), 5).await;
    for id in 0..3 {
        publish(&coordinator, &agent("a"), id).await;
    }
    // What was acknowledged before the end was said in time.
    next(&mut received).await.receipt.acknowledge();
    let held = next(&mut received).await;
    timeout(SOON, worker.close()).await.unwrap();
    timeout(SOON, worker.close()).await.unwrap();
    held.receipt.acknowledge();
    assert!(matches!(worker.publish(&Address::Coordinator, message(9)).await, Err(PublishError::Closed)));
    assert!(matches!(worker.subscribe(&agent("b"), 1).await, Err(SubscribeError::Closed)));
    healthy(&worker, |health| matches!(health, Health::Down(cause) if &**cause == "closed")).await;
    let ended = async { while received.recv().await.is_some() {} };
    timeout(SOON, ended).await.expect("the receiver does not end");
    let another = place.agent();
    let mut received = subscribe(&another, &agent("a"), 5).await;
    assert_eq!(next_id(&mut received).await, "1");
    assert_eq!(next_id(&mut received).await, "2");
    assert!(timeout(WHILE, received.recv()).await.is_err());
    publish(&coordinator, &agent("a"), 4).await;
}

async fn says_that_it_is_well(place: Place) {
    let (coordinator, worker) = ends(&*place);
    for end in [coordinator, worker] {
        let Health::Up(product) = healthy(&end, |health| matches!(health, Health::Up(_))).await else {
            unreachable!()
        };
        assert!(product.starts_with("RabbitMQ ") || &*product == "this process", "{product}");
    }
}
