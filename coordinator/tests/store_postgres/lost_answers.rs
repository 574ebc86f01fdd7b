//! The connection breaks between a call and its answer: the ticket tells the truth all the same.

use cairn_coordinator::store::{AppendError, EventStore, Ticket};

use super::proxy::{Loss, Proxy};
use super::{Log, block_on, event, read_all};

fn log_behind_proxy() -> Option<(Log, Proxy)> {
    let direct = Log::new()?;
    let (start, database) = direct.url.rsplit_once('/').unwrap();
    let (start, port) = start.rsplit_once(':').unwrap();
    let proxy = Proxy::new(port.parse().unwrap());
    Some((Log::at(format!("{start}:{}/{database}", proxy.port())), proxy))
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let Some((log, proxy)) = log_behind_proxy() else { return };
    let store = log.open();
    store.submit(event("s", 1)).wait().unwrap();
    let mut version = 1;
    for (round, loss) in [Loss::Answer, Loss::Call].into_iter().cycle().take(20).enumerate() {
        let head = block_on(store.head()).unwrap();
        proxy.arm(loss);
        let tickets: Vec<Ticket> = vec![
            store.submit(event("s", version + 1)),
            // Refused: the answer to that must be as true.
            store.submit(event("s", version + 7)),
            store.submit(event("s", version + 2)),
        ];
        let answers: Vec<_> = tickets.into_iter().map(Ticket::wait).collect();
        assert_eq!(proxy.lost(), round as u32 + 1, "{loss:?}");
        assert_eq!(answers[0].as_ref().unwrap().position, head.position + 1, "{loss:?}");
        assert_eq!(answers[2].as_ref().unwrap().position, head.position + 2, "{loss:?}");
        let Err(AppendError::Conflict { expected, actual, .. }) = &answers[1] else { panic!("{answers:?}") };
        assert_eq!((*expected, *actual), (version + 6, version + 1), "{loss:?}");
        version += 2;
    }
    let records = read_all(&store);
    assert!(records.iter().map(|record| record.first_version).eq(1..=version));
    assert!(store.stopped().is_none());
    drop(store);
    block_on(log.reader().verify()).unwrap();
}

/// A server that comes back without what it acknowledged (a standby that was behind, a backup) is not written to.
#[test]
fn a_server_that_has_forgotten_stops_the_store() {
    let Some(log) = Log::new() else { return };
    let store = log.open();
    for version in 1..=3 {
        store.submit(event("s", version)).wait().unwrap();
    }
    log.sql(&format!("UPDATE writers SET batch = batch - 1 WHERE id = {}", store.session()));
    let error = store.submit(event("s", 4)).wait().unwrap_err();
    let AppendError::Stopped(stopped) = error else { panic!("{error}") };
    assert!(stopped.cause.to_string().contains("knows 2 of the 3 batches"), "{}", stopped.cause);
    assert_eq!(read_all(&store).len(), 3);
}

/// Its session ended by an administrator, again and again, is a writer all the same.
#[test]
fn terminated_sessions_are_made_again() {
    let Some(log) = Log::new() else { return };
    let mut options = log.options();
    options.name = log.schema.clone();
    let store = cairn_coordinator::store::PostgresStore::open(&log.url, options).unwrap();
    let terminate = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{}'",
        log.schema
    );
    for version in 1..=10 {
        let ticket = store.submit(event("s", version));
        log.sql(&terminate);
        assert_eq!(ticket.wait().unwrap().position, version);
        assert_eq!(block_on(store.head()).unwrap().position, version);
    }
}
