//! A coordinator that serves: what happens to it, and how it ends.

use super::work::OwnAgent;
use crate::exit::{Exit, Failure};
use cairn_coordinator::service::ServiceError;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

/// What the process is sent.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From here on none of them ends the process by itself.
    pub fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(Exit::OutOfReach, format!("cannot listen to signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for any of them.
    async fn next(&mut self) -> Next {
        tokio::select! {
            _ = self.terminate.recv() => Next::AskedToEnd,
            _ = self.interrupt.recv() => Next::AskedToEnd,
            _ = self.hang_up.recv() => Next::Reload,
        }
    }

    /// Waits until somebody asks for the end.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

type Served = Result<Result<(), ServiceError>, JoinError>;

/// What has happened.
pub(super) enum Next {
    /// The configuration is to be read again.
    Reload,
    /// Somebody asks for the end.
    AskedToEnd,
    /// A part of it has ended by itself.
    Failed(Failure),
}

/// The parts that run.
pub(super) struct Running {
    /// Until it has ended.
    serving: Option<JoinHandle<Result<(), ServiceError>>>,
    agent: OwnAgent,
    shutdown: CancellationToken,
    drain: Duration,
}

impl Running {
    pub fn new(
        serving: JoinHandle<Result<(), ServiceError>>,
        agent: OwnAgent,
        shutdown: CancellationToken,
        drain: Duration,
    ) -> Self {
        Self { serving: Some(serving), agent, shutdown, drain }
    }

    /// Waits until something happens.
    pub async fn next(&mut self, signals: &mut Signals) -> Next {
        let unforeseen = || Failure::new(Exit::Bug, "a part of the coordinator ended unasked");
        tokio::select! {
            served = served(&mut self.serving) => Next::Failed(told(served).err().unwrap_or_else(unforeseen)),
            ended = self.agent.ended() => Next::Failed(ended.err().unwrap_or_else(unforeseen)),
            next = signals.next() => next,
        }
    }

    /// Ends what still runs in good order. `None` if somebody did not want to wait for it.
    pub async fn end(&mut self, signals: &mut Signals) -> Option<Result<(), Failure>> {
        let agent = self.end_agent(signals).await?;
        self.shutdown.cancel();
        let service = tokio::select! {
            served = served(&mut self.serving), if self.serving.is_some() => told(served),
            () = signals.end() => return None,
            else => Ok(()),
        };
        Some(agent.and(service))
    }

    /// The agent ends before the service, which hears what became of its tasks.
    async fn end_agent(&mut self, signals: &mut Signals) -> Option<Result<(), Failure>> {
        if !self.agent.is_there() {
            tracing::info!("ends in good order; once more to end at once");
            return Some(Ok(()));
        }
        if self.serving.is_none() {
            // Nobody is there to hear how they end.
            self.agent.kill().await;
            return Some(Ok(()));
        }
        tracing::info!(
            "ends in good order: what runs may go on for {} s; once more to end at once",
            self.drain.as_secs_f64()
        );
        self.agent.terminate().await;
        let late = tokio::time::sleep(self.drain);
        tokio::pin!(late);
        let mut is_late = false;
        loop {
            tokio::select! {
                ended = self.agent.ended() => return Some(ended),
                served = served(&mut self.serving) => {
                    self.agent.kill().await;
                    return Some(told(served));
                }
                () = &mut late, if !is_late => {
                    is_late = true;
                    tracing::warn!("what still runs is ended, and runs again at the next start");
                    self.agent.terminate().await;
                }
                () = signals.end() => {
                    self.agent.kill().await;
                    return None;
                }
            }
        }
    }
}

/// Waits for the end of the service; for ever if that has been told.
async fn served(serving: &mut Option<JoinHandle<Result<(), ServiceError>>>) -> Served {
    let Some(running) = serving else { return std::future::pending().await };
    let ended = running.await;
    *serving = None;
    ended
}

fn told(served: Served) -> Result<(), Failure> {
    match served {
        Ok(served) => served.map_err(|error| {
            Failure::because(Exit::OutOfReach, &error).help(
                "nothing that was recorded is lost; mend the cause, then start the coordinator again on the same state directory",
            )
        }),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
