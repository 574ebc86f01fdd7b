//! What is said when there is no broker, or none that lets us in. No broker is needed but for the last.

use crate::fixture::{End, SOON, cause, message};
use cairn_shared::transport::amqp::{Amqp, QueueType, Role, Settings};
use cairn_shared::transport::{
    Address, MAX_OUTBOX_BYTES, MAX_OUTBOX_MESSAGES, Message, PublishError, SubscribeError,
};
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::time::timeout;

pub fn to(url: &str) -> End {
    Arc::new(Amqp::connect(Settings {
        url: url.parse().unwrap(),
        queue_type: QueueType::Classic,
        role: Role::Coordinator,
        name: "refusals".to_owned(),
        certificate_authority: None,
    }))
}

/// A server that says something to everybody who comes; returns where it is.
fn server(says: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(says);
        }
    });
    port
}

#[tokio::test]
async fn what_is_no_broker_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(
        cause(&to(&format!("amqp://127.0.0.1:{port}"))).await,
        format!("nobody listens at 127.0.0.1:{port}")
    );
    let port = server(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(
        cause(&to(&format!("amqp://127.0.0.1:{port}"))).await,
        format!("127.0.0.1:{port} answers, but not AMQP; it said: HTTP/1.1 400 Bad Request\\r\\n\\r\\n")
    );
    assert!(cause(&to(&format!("amqps://127.0.0.1:{port}"))).await.starts_with("no TLS with"));
    let nowhere = cause(&to("amqp://u:secret@no-such-host.invalid")).await;
    assert!(
        nowhere.starts_with("no-such-host.invalid:5672 cannot be reached") && !nowhere.contains("secret")
    );
}

#[tokio::test]
async fn a_silent_broker_ends_neither_the_process_nor_the_wait() {
    // It accepts, by the kernel, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let end = to(&format!("amqp://{}", listener.local_addr().unwrap()));
    assert!(cause(&end).await.ends_with("does not answer"));
    let waiting = end.publish(&Address::Coordinator, message(0));
    timeout(SOON, end.close()).await.unwrap();
    assert!(matches!(waiting.await, Err(PublishError::Closed)));
    assert!(matches!(end.subscribe(&Address::Coordinator, 1).await, Err(SubscribeError::Closed)));
}

#[tokio::test]
async fn without_a_broker_no_more_is_kept_than_is_said() {
    let end = to("amqp://127.0.0.1:1");
    let mut waiting: Vec<_> =
        (0..MAX_OUTBOX_MESSAGES).map(|id| end.publish(&Address::Coordinator, message(id))).collect();
    assert!(matches!(end.publish(&Address::Coordinator, message(0)).await, Err(PublishError::Full)));
    end.close().await;
    assert!(matches!(waiting.swap_remove(0).await, Err(PublishError::Closed)));

    let end = to("amqp://127.0.0.1:1");
    let large = |id: usize| Message { body: vec![0; 1 << 20].into(), ..message(id) };
    let waiting: Vec<_> =
        (0..MAX_OUTBOX_BYTES >> 20).map(|id| end.publish(&Address::Coordinator, large(id))).collect();
    assert!(matches!(end.publish(&Address::Coordinator, message(0)).await, Err(PublishError::Full)));
    drop((end, waiting));
}
