//! The child: an agent's network. It carries messages between the coordinators and its [keeper](crate::keeper), and knows
//! nothing that the keeper does not: whenever it ends, a new one takes its place and no task notices.
//!
//! ```text
//!   keeper ──reports, beats──▶ uplink ──▶ coordinators
//!      ▲                          ▲
//!      └──orders── deliveries     └ output, from the logs of tasks
//! ```
//!
//! A delivery is acknowledged when the keeper has all of it in its journal and what was said because of it is with the
//! broker; a child that dies before loses nothing, because the delivery comes again. What nobody can read goes to the
//! dead letters. When the keeper is gone the child ends what is left of its tasks, and itself.
//!
//! Not here: leases, retelling, what is accepted: that is the keeper's.

mod http;
mod output;
mod post;
mod uplink;

use crate::keeper::MARKER;
use crate::keeper::lock::Lock;
use crate::link::{LINK, Reader, Setup, ToChild, ToKeeper, Writer};
use crate::runner;
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use cairn_shared::telemetry::Metrics;
use cairn_shared::transport::Transport;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Frames for the keeper that wait to be written.
const MAX_WAITING_FRAMES: usize = 256;

/// How long what a dead keeper's tasks left may take to end after SIGTERM.
const SWEEP_GRACE: Duration = Duration::from_secs(2);

/// Why a child could not begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The standard input is no socket, or it failed.
    #[error("the keeper cannot be heard")]
    Link(#[source] io::Error),
    /// What was heard first was something else.
    #[error("the keeper said nothing that can be understood")]
    Misunderstood,
    /// The transport cannot be made.
    #[error("{0}")]
    Transport(String),
    /// The process cannot keep metrics.
    #[error(transparent)]
    Metrics(#[from] cairn_shared::telemetry::MetricsError),
    /// The system gives no event loop or signals.
    #[error("cannot set up the child")]
    Setup(#[source] io::Error),
}

/// Runs the child of a keeper whose socket is the standard input, until the keeper is gone or lets it go. `connect`
/// makes the transport.
///
/// # Errors
/// It cannot begin.
pub fn run<C, F>(connect: C) -> Result<(), ChildError>
where
    C: FnOnce(Setup) -> F,
    F: Future<Output = Result<Arc<dyn Transport>, String>>,
{
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(ChildError::Link)?;
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true).map_err(ChildError::Link)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ChildError::Setup)?.block_on(async {
        // A terminal and a service manager send signals to both processes: the keeper decides what they mean.
        let ignored = post::ignore_signals().map_err(ChildError::Setup)?;
        let socket = UnixStream::from_std(socket).map_err(ChildError::Link)?;
        let metrics = Metrics::install()?;
        if let Some(directory) = serve(socket, connect, Some(metrics)).await? {
            let _ = tokio::task::spawn_blocking(move || sweep(&directory)).await;
        }
        drop(ignored);
        Ok(())
    })
}

/// Is the child of the keeper at the other end of a socket, until that is gone or lets it go. Returns the directory of an
/// agent whose keeper is gone. With `metrics` the agent is seen by itself: it has an HTTP port, and counts; without, it
/// is part of a process that does so.
pub(crate) async fn serve<C, F>(
    socket: UnixStream,
    connect: C,
    metrics: Option<Metrics>,
) -> Result<Option<PathBuf>, ChildError>
where
    C: FnOnce(Setup) -> F,
    F: Future<Output = Result<Arc<dyn Transport>, String>>,
{
    let (from_keeper, to_keeper) = socket.into_split();
    let (mut reader, mut writer) = (Reader::new(from_keeper), Writer::new(to_keeper));
    writer.write(&[ToKeeper::Attached { link: LINK }]).await.map_err(ChildError::Link)?;
    let setup = match reader.next().await.map_err(ChildError::Link)? {
        Some(ToChild::Setup(setup)) => *setup,
        Some(_) => return Err(ChildError::Misunderstood),
        None => return Ok(None),
    };
    crate::metric_definitions::describe();
    cairn_shared::transport::metrics::describe();
    let transport = connect(setup.clone()).await.map_err(ChildError::Transport)?;
    let (to_keeper, mut waiting) = mpsc::channel::<ToKeeper>(MAX_WAITING_FRAMES);
    tokio::spawn(async move {
        let mut frames = Vec::new();
        while waiting.recv_many(&mut frames, MAX_WAITING_FRAMES).await > 0 {
            if writer.write(&frames).await.is_err() {
                return;
            }
            frames.clear();
        }
    });
    // The keeper's words are read beside all else, so that none of them is cut in the middle.
    let (heard, from_keeper) = mpsc::channel(MAX_WAITING_FRAMES);
    tokio::spawn(async move {
        while let Ok(Some(frame)) = reader.next::<ToChild>().await {
            if heard.send(frame).await.is_err() {
                return;
            }
        }
    });
    let state = http::State::new(metrics);
    http::serve(&setup.listen, state.clone()).await;
    let directory = PathBuf::from(&setup.directory);
    let was_let_go = post::Post::new(setup, transport, to_keeper, state).run(from_keeper).await;
    Ok((!was_let_go).then_some(directory))
}

/// Ends what is left of the tasks of a keeper that is gone, unless a new keeper does so already.
fn sweep(directory: &Path) {
    let Ok(_lock) = Lock::of_child(directory) else { return };
    let clock = Clock::start(Timestamp(0));
    let clock: runner::Clock = Arc::new(move || clock.now());
    let left = runner::end_leftovers((MARKER, &directory.to_string_lossy()), SWEEP_GRACE, &clock);
    tracing::error!(processes = left.len(), "the keeper is gone: ended what was left of its tasks");
}
