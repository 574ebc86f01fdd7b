//! Makes the connections, and makes them again: connect, topology, work; on any error both go and all starts over.

use super::cause::Cause;
use super::greeting::{self, HANDSHAKE_SECONDS};
use super::publisher;
use super::{SLOW_RETRY, Session, Settings, Shared, topology};
use crate::transport::metrics;
use futures_util::StreamExt;
use lapin::{Connection, ConnectionProperties, Event};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: a broker that is back is found within a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A connection that lasted so long was a good one: the pauses begin anew.
const LASTING: Duration = Duration::from_secs(5);

/// How long the end of a connection is waited for. One that is blocked never answers.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Keeps a connection until the transport is closed.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let cause = tokio::select! {
            cause = connect_and_work(&shared) => cause,
            () = shared.hanging_up.cancelled() => break,
        };
        metrics::count_reconnect();
        if began.elapsed() > LASTING {
            pause = FIRST_PAUSE;
        }
        let wait = if cause.slow { SLOW_RETRY } else { pause };
        shared.change(|condition| {
            condition.link = Err(cause.text);
            condition.blocked = None;
        });
        tokio::select! {
            () = sleep(jittered(wait)) => {}
            () = shared.hanging_up.cancelled() => break,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    end_session(&shared).await;
    shared.outbox.refuse_all();
    shared.change(|condition| condition.link = Err("closed".into()));
}

async fn connect_and_work(shared: &Shared) -> Cause {
    let product = match begin_session(shared).await {
        Ok(product) => product,
        Err(cause) => return cause,
    };
    let Some(session) = shared.sessions.borrow().clone() else { return Cause::soon("closed") };
    shared.change(|condition| condition.link = Ok(product));
    let cause = tokio::select! {
        cause = publisher::publish(shared, &session) => cause,
        cause = ended(&session.consume, &shared.settings) => cause,
    };
    drop(session);
    end_session(shared).await;
    cause
}

async fn begin_session(shared: &Shared) -> Result<Arc<str>, Cause> {
    let settings = &shared.settings;
    let product = greeting::greet(settings).await?;
    let (publish, consume) = tokio::try_join!(connect(settings, "publish"), connect(settings, "consume"))?;
    topology::declare_all(&consume, settings).await?;
    shared.sessions.send_replace(Some(Arc::new(Session { publish, consume })));
    Ok(product)
}

async fn connect(settings: &Settings, purpose: &str) -> Result<Connection, Cause> {
    let name = format!("{} ({purpose})", settings.name);
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "Cairn".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let url = &settings.url;
    let runtime = lapin::runtime::default_runtime().map_err(|error| Cause::of(&error, url))?;
    let connecting =
        Connection::connect_uri_with_config(url.uri().clone(), properties, greeting::tls(settings), runtime);
    match timeout(Duration::from_secs(HANDSHAKE_SECONDS), connecting).await {
        Ok(connection) => connection.map_err(|error| Cause::of(&error, url)),
        Err(_) => Err(Cause::soon(format!("{} takes too long to let us in", url.place()))),
    }
}

/// Completes when a connection has ended.
async fn ended(connection: &Connection, settings: &Settings) -> Cause {
    let mut events = connection.events_listener();
    while let Some(event) = events.next().await {
        if let Event::Error(error) = event
            && !connection.status().connected()
        {
            return Cause::of(&error, &settings.url);
        }
    }
    Cause::soon("the connection ended")
}

/// Ends both connections; what was under way on them is put back or given out again by whoever had it.
async fn end_session(shared: &Shared) {
    let Some(session) = shared.sessions.send_replace(None) else { return };
    let publish = session.publish.close(200, "OK".into());
    let consume = session.consume.close(200, "OK".into());
    let _ = timeout(CLOSE_TIMEOUT, async { tokio::join!(publish, consume) }).await;
}

/// Between half of a time and all of it, so that a fleet does not come back all at once. The keys of a hash map are the
/// randomness that every process has.
pub(super) fn jittered(time: Duration) -> Duration {
    let half = time / 2;
    let random = RandomState::new().build_hasher().finish();
    half + half.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}
