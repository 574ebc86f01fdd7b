//! The threads that do everything but append, and their connections.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnection;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

use super::connect::{Access, Place, timely};
use super::retry::{Retry, failure, keeps_connection};
use crate::store::error::{IoFailure, ReadError, SnapshotError};

/// Connections that read at the same time; who comes beyond waits. More than a machine's cores gain nothing.
const READERS: usize = 4;

/// How long a call may take; the server ends it before that (`statement_timeout`).
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// Connections that are used in turn, made when needed.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) place: Place,
    access: Access,
    patience: Duration,
    idle: Mutex<Vec<PgConnection>>,
    permits: Semaphore,
}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum Fault {
    Io(IoFailure),
    ShuttingDown,
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(failure) => failure.into(),
            Fault::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<Fault> for SnapshotError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(failure) => failure.into(),
            Fault::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl Connections {
    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        // Putting in and taking out are whole before the guard goes.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call that may be made again, until it is answered or patience ends. `doing` is a verb.
    pub(super) async fn call<T>(
        &self,
        doing: &'static str,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Sync,
    ) -> Result<T, IoFailure> {
        let mut retry = Retry::new(&self.place, "a call");
        let tries = async {
            loop {
                match self.attempt(&work).await {
                    Err(error) => retry.pause(error).await?,
                    done => return done,
                }
            }
        };
        let done = match tokio::time::timeout(self.patience, tries).await {
            Ok(done) => done,
            Err(_elapsed) => Err(retry.give_up()),
        };
        done.map_err(failure(&self.place, doing))
    }

    async fn attempt<T>(
        &self,
        work: &(impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Sync),
    ) -> Result<T, sqlx::Error> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.map_err(|_closed| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.place.connect(self.access).await?,
        };
        let done = timely(CALL_TIMEOUT, work(&mut connection)).await;
        if done.as_ref().err().is_none_or(keeps_connection) {
            self.idle().push(connection);
        }
        done
    }
}

/// A runtime of its own with connections on it.
#[derive(Debug)]
pub(super) struct Service {
    runtime: Option<Runtime>,
    handle: Handle,
    pub(super) connections: Arc<Connections>,
}

impl Service {
    pub(super) fn start(place: Place, access: Access, patience: Duration) -> Result<Self, IoFailure> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("cairn-postgres").enable_all().build();
        let path = place.path();
        let runtime = runtime.map_err(|source| IoFailure { doing: "start a thread for", path, source })?;
        let connections =
            Connections { place, access, patience, idle: Mutex::default(), permits: Semaphore::new(READERS) };
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle, connections: Arc::new(connections) })
    }

    /// Starts something on the service's threads. It ends with them.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(work)
    }

    /// Does something and blocks the caller until it is done; `None` if it panicked.
    pub(super) fn block<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, wait) = mpsc::channel();
        self.spawn(async move {
            // The receiver waits.
            let _ = done.send(work.await);
        });
        wait.recv().ok()
    }

    /// Makes a call that may be made again. It goes on when the future is dropped, so that its connection is left whole.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
        + Send
        + Sync
        + 'static,
    ) -> Result<T, Fault> {
        let connections = self.connections.clone();
        let done = self.spawn(async move { connections.call(doing, work).await });
        joined(done).await?.map_err(Fault::Io)
    }

    /// As [`call`](Self::call), and blocks the caller until it is answered.
    pub(super) fn call_and_wait<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
        + Send
        + Sync
        + 'static,
    ) -> Result<T, Fault> {
        let connections = self.connections.clone();
        let done = self.block(async move { connections.call(doing, work).await });
        done.ok_or(Fault::ShuttingDown)?.map_err(Fault::Io)
    }
}

/// What a task returned. A panic in it goes on in the caller.
pub(super) async fn joined<T>(task: impl Future<Output = Result<T, JoinError>>) -> Result<T, Fault> {
    match task.await {
        Ok(done) => Ok(done),
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(Fault::ShuttingDown),
        },
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped within another runtime, which must not be blocked by it.
            runtime.shutdown_background();
        }
    }
}
