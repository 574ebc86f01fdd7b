//! Who is there, and that the log has grown.

use std::time::Duration;

use cairn_coordinator::store::postgres::Options;
use cairn_coordinator::store::{EventStore, PostgresStore};

use super::{Log, event};

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(super::PATIENCE, test).await.unwrap() });
}

#[test]
fn stores_know_of_each_other_and_of_their_end() {
    let Some(log) = Log::new() else { return };
    let open = |name: &str| {
        let options = Options { name: name.to_owned(), ..log.options() };
        PostgresStore::open(&log.url, options).unwrap()
    };
    run(async {
        let (one, other) = (open("one"), open("other"));
        one.session_held().await;
        other.session_held().await;
        let names = |sessions: Vec<cairn_coordinator::store::postgres::Session>| {
            sessions.into_iter().map(|session| session.name).collect::<Vec<_>>()
        };
        assert_eq!(names(one.sessions().await.unwrap()), ["one", "other"]);
        let session = other.session();
        {
            let mut ended = std::pin::pin!(one.session_ended(session));
            let early = tokio::time::timeout(Duration::from_millis(300), &mut ended).await;
            assert!(early.is_err(), "it is there");
            drop(other);
            ended.await.unwrap();
        }
        assert_eq!(names(one.sessions().await.unwrap()), ["one"]);
    });
}

#[test]
fn a_follower_hears_that_the_log_has_grown() {
    let Some(log) = Log::new() else { return };
    run(async {
        let (writer, follower) = (log.open(), log.open());
        follower.session_held().await;
        for version in 1..=20 {
            let mut grown = std::pin::pin!(follower.grown_beyond(version - 1));
            assert!(futures_util::poll!(&mut grown).is_pending());
            writer.submit(event("s", version)).await.unwrap();
            assert_eq!(grown.await.unwrap().position, version);
        }
        // At once when it has already.
        assert_eq!(follower.grown_beyond(3).await.unwrap().position, 20);
    });
}
