//! Who declares what, and what is said when the broker sees it otherwise.

use crate::fixture::{OverAmqp, agent, cause, healthy, message, next, next_id, publish, subscribe, work};
use crate::refusals::to;
use cairn_shared::transport::amqp::{Amqp, BrokerUrl, QueueType, Role, Settings};
use cairn_shared::transport::{Address, Health, PublishError};
use std::pin::Pin;
use std::sync::Arc;

type Case = fn(OverAmqp) -> Pin<Box<dyn Future<Output = ()> + Send>>;

pub fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("tells_why_it_is_not_let_in", |place| Box::pin(tells_why_it_is_not_let_in(place))),
        ("waits_for_queues_of_others", |place| Box::pin(waits_for_queues_of_others(place))),
        ("needs_few_rights_as_an_agent", |place| Box::pin(needs_few_rights_as_an_agent(place))),
        ("names_the_argument_that_differs", |place| Box::pin(names_the_argument_that_differs(place))),
        ("tells_of_a_shared_queue_until_it_works", |place| {
            Box::pin(tells_of_a_shared_queue_until_it_works(place))
        }),
        ("makes_lasting_queues", |place| Box::pin(makes_lasting_queues(place))),
    ]
}

async fn tells_why_it_is_not_let_in(place: OverAmqp) {
    let url = |user: &str, password: &str, vhost: &str| place.broker.url_of(user, password, vhost);
    let why = cause(&to(&url("cairn", "hunter2", &place.vhost))).await;
    assert!(
        why.starts_with("the broker refuses the user cairn or its password") && !why.contains("hunter2"),
        "{why}"
    );
    place.broker.ctl(&["add_user", "stranger", "p%40ss"]);
    let why = cause(&to(&url("stranger", "p%2540ss", &place.vhost))).await;
    assert!(why.contains("does not let the user stranger in") && why.contains("refused"), "{why}");
    let why = cause(&to(&url("stranger", "p%2540ss", "nowhere"))).await;
    assert!(why.contains("nowhere"), "{why}");
    place.ctl(&["set_permissions", "stranger", "^nothing$", ".*", ".*"]);
    let end = to(&url("stranger", "p%2540ss", &place.vhost));
    let why = cause(&end).await;
    assert!(why.starts_with("the user stranger lacks a permission") && why.contains("cairn.dead"), "{why}");
    // Mended, it goes on by itself.
    place.ctl(&["set_permissions", "stranger", ".*", ".*", ".*"]);
    healthy(&end, |health| matches!(health, Health::Up(_))).await;
    end.close().await;
    place.broker.ctl(&["delete_user", "stranger"]);
}

async fn waits_for_queues_of_others(place: OverAmqp) {
    let worker = place.end(Role::Agent);
    healthy(&worker, |health| matches!(health, Health::Up(_))).await;
    let published = tokio::spawn(worker.publish(&Address::Coordinator, message("early")));
    let (from, listener) = (work("x"), Arc::clone(&worker));
    let listening = tokio::spawn(async move { subscribe(&listener, &from, 1).await });
    let refused = worker.publish(&Address::Events("x".to_owned()), message(0)).await;
    assert!(matches!(refused, Err(PublishError::Unroutable)));
    let coordinator = place.end(Role::Coordinator);
    let mut received = subscribe(&coordinator, &Address::Coordinator, 1).await;
    assert_eq!(next_id(&mut received).await, "early");
    published.await.unwrap().unwrap();
    publish(&coordinator, &work("x"), "late").await;
    assert_eq!(next_id(&mut listening.await.unwrap()).await, "late");
}

async fn needs_few_rights_as_an_agent(place: OverAmqp) {
    let coordinator = place.end(Role::Coordinator);
    publish(&coordinator, &work("x"), 0).await;
    place.broker.ctl(&["add_user", "worker", "word"]);
    place.ctl(&[
        "set_permissions",
        "worker",
        "^cairn\\.agent\\.w$",
        "^cairn\\.(reports|dead)$",
        "^(cairn\\.agent\\.w|cairn\\.work\\..*)$",
    ]);
    let url: BrokerUrl = place.broker.url_of("worker", "word", &place.vhost).parse().unwrap();
    let worker = Arc::new(Amqp::connect(Settings { url: url.clone(), ..place.settings(Role::Agent) }))
        as crate::fixture::End;
    let mut own = subscribe(&worker, &agent("w"), 1).await;
    let mut shared = subscribe(&worker, &work("x"), 1).await;
    next(&mut shared).await.receipt.acknowledge();
    publish(&coordinator, &agent("w"), 1).await;
    next(&mut own).await.receipt.acknowledge();
    publish(&worker, &Address::Coordinator, 2).await;
    // Another one's queue is not its own: neither to speak to (which ends the connection, so that it says so) …
    let forged = tokio::spawn(worker.publish(&agent("v"), message("forged")));
    let why = cause(&worker).await;
    assert!(why.contains("lacks a permission") && why.contains("amq.default"), "{why}");
    forged.abort();
    worker.close().await;
    // … nor to listen to.
    let worker =
        Arc::new(Amqp::connect(Settings { url, ..place.settings(Role::Agent) })) as crate::fixture::End;
    let listener = Arc::clone(&worker);
    let other = tokio::spawn(async move { listener.subscribe(&agent("v"), 1).await.map(drop) });
    let why = cause(&worker).await;
    assert!(why.contains("lacks a permission") && why.contains("cairn.agent.v"), "{why}");
    worker.close().await;
    assert!(other.await.unwrap().is_err());
    place.broker.ctl(&["delete_user", "worker"]);
}

async fn names_the_argument_that_differs(place: OverAmqp) {
    let first = place.end(Role::Coordinator);
    healthy(&first, |health| matches!(health, Health::Up(_))).await;
    let settings = Settings { queue_type: QueueType::Quorum, ..place.settings(Role::Coordinator) };
    let second = Arc::new(Amqp::connect(settings)) as crate::fixture::End;
    let why = cause(&second).await;
    assert!(why.contains("the queue cairn.dead is there already") && why.contains("x-queue-type"), "{why}");
    // Mended, it goes on by itself.
    first.close().await;
    for queue in ["cairn.dead", "cairn.coordinator", "cairn.output"] {
        place.ctl(&["delete_queue", queue]);
    }
    healthy(&second, |health| matches!(health, Health::Up(_))).await;
}

async fn tells_of_a_shared_queue_until_it_works(place: OverAmqp) {
    let own = "^cairn\\.(dead|events|reports|coordinator|output)$";
    place.broker.ctl(&["add_user", "maker", "word"]);
    place.ctl(&["set_permissions", "maker", own, ".*", ".*"]);
    let end = to(&place.broker.url_of("maker", "word", &place.vhost));
    healthy(&end, |health| matches!(health, Health::Up(_))).await;
    // One that was made otherwise takes messages: nothing to be told of.
    let declare = format!(
        r#"rabbit_amqqueue:declare(rabbit_misc:r(<<"{}">>, queue, <<"cairn.work.other">>), true, false, [], none, <<"test">>)."#,
        place.vhost
    );
    place.broker.ctl(&["eval", &declare]);
    let mut health = end.health();
    health.mark_unchanged();
    publish(&end, &work("other"), 0).await;
    assert!(!health.has_changed().unwrap(), "{:?}", health.borrow());
    // One that cannot be made is told, also when its messages have been given up, and while others pass.
    let refused = tokio::spawn(end.publish(&work("x"), message("x")));
    let down = healthy(&end, |health| matches!(health, Health::Down(_))).await;
    assert!(format!("{down:?}").contains("cairn.work.x"), "{down:?}");
    assert!(matches!(refused.await.unwrap(), Err(PublishError::Unroutable)));
    publish(&end, &work("other"), 1).await;
    assert!(matches!(*end.health().borrow(), Health::Down(_)));
    // Mended, it is well by itself.
    place.ctl(&["set_permissions", "maker", ".*", ".*", ".*"]);
    healthy(&end, |health| matches!(health, Health::Up(_))).await;
    publish(&end, &work("x"), "x").await;
    end.close().await;
    place.broker.ctl(&["delete_user", "maker"]);
}

async fn makes_lasting_queues(place: OverAmqp) {
    let coordinator = place.end(Role::Coordinator);
    let _own = subscribe(&coordinator, &agent("a"), 1).await;
    publish(&coordinator, &work("x"), 0).await;
    let listed = place.ctl(&["list_queues", "name", "durable", "auto_delete", "exclusive", "arguments"]);
    let queues: Vec<_> = listed.lines().filter(|line| line.starts_with("cairn.")).collect();
    assert_eq!(queues.len(), 5, "{listed}");
    for queue in queues {
        assert!(queue.contains("\ttrue\tfalse\tfalse\t") && queue.contains("x-max-length"), "{queue}");
        assert!(queue.contains("reject-publish") != queue.starts_with("cairn.dead"), "{queue}");
        assert_eq!(queue.contains("x-expires"), queue.starts_with("cairn.agent."), "{queue}");
    }
    let exchanges = place.ctl(&["list_exchanges", "name", "type", "durable"]);
    for exchange in ["cairn.dead\ttopic", "cairn.events\ttopic", "cairn.reports\tdirect"] {
        assert!(exchanges.contains(&format!("{exchange}\ttrue")), "{exchange}: {exchanges}");
    }
}
