//! What every route works with.

use super::followers::Followers;
use super::limits::{
    MAX_LOOKS, MAX_SUBMISSIONS, OPEN_PER_SECOND, PATIENCE, REFUSALS_AUDITED_PER_SECOND, REFUSALS_PER_SECOND,
    REQUEST_BURST, REQUESTS_PER_SECOND,
};
use super::problem::Problem;
use super::replays::Replays;
use super::runs_index::RunsIndex;
use super::tokens::Tokens;
use crate::service::{Gone, Handle, Request};
use crate::store::EventStore;
use cairn_engine::State;
use cairn_shared::clock::Clock;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

/// The metrics of the process as Prometheus reads them.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Whether all that an attempt wrote is in its log: run, `MILESTONE/TASK`, attempt.
pub type LogIsComplete = Arc<dyn Fn(&str, &str, u32) -> bool + Send + Sync>;

/// What the interface is made of.
#[derive(Clone)]
pub struct Parts {
    /// The coordinator.
    pub handle: Handle,
    /// Where its events are.
    pub store: Arc<dyn EventStore>,
    /// Where its logs are.
    pub state_directory: PathBuf,
    /// The clock of the process.
    pub clock: Clock,
    /// Who may do what.
    pub tokens: Arc<Tokens>,
    /// What `/metrics` tells.
    pub metrics: Metrics,
    /// When a log that is followed is complete.
    pub log_is_complete: LogIsComplete,
    /// Ends open streams.
    pub shutdown: CancellationToken,
}

/// What the interface is told about where it stands.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Names under which it may be asked besides `localhost` and addresses.
    pub hosts: Vec<String>,
    /// `/metrics` needs no token: nobody but this machine reaches it.
    pub open_metrics: bool,
    /// Requests of one token each second; as the constants say, if it is not told.
    pub requests_per_second: Option<NonZeroU32>,
}

/// What every route works with. Cheap to clone.
#[derive(Clone)]
pub(super) struct Api(Arc<Inner>);

pub(super) struct Inner {
    pub parts: Parts,
    pub rules: Rules,
    pub runs: RunsIndex,
    pub followers: Followers,
    pub replays: Replays,
    pub submissions: Arc<Semaphore>,
    pub rate: DefaultKeyedRateLimiter<Arc<str>>,
    pub open: DefaultDirectRateLimiter,
    pub refusals: DefaultDirectRateLimiter,
    pub audited_refusals: DefaultDirectRateLimiter,
    pub openapi: String,
    pub looks: Arc<Semaphore>,
}

impl std::ops::Deref for Api {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// A quota of so many each second.
fn quota(per_second: u32) -> Quota {
    Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN))
}

impl Api {
    pub(super) fn new(parts: Parts, rules: Rules, openapi: String) -> Self {
        let rate = match rules.requests_per_second {
            Some(rate) => Quota::per_second(rate),
            None => quota(REQUESTS_PER_SECOND)
                .allow_burst(NonZeroU32::new(REQUEST_BURST).unwrap_or(NonZeroU32::MIN)),
        };
        Self(Arc::new(Inner {
            runs: RunsIndex::new(parts.store.clone()),
            followers: Followers::default(),
            replays: Replays::default(),
            submissions: Arc::new(Semaphore::new(MAX_SUBMISSIONS)),
            rate: RateLimiter::keyed(rate),
            open: RateLimiter::direct(quota(OPEN_PER_SECOND)),
            refusals: RateLimiter::direct(quota(REFUSALS_PER_SECOND)),
            audited_refusals: RateLimiter::direct(quota(REFUSALS_AUDITED_PER_SECOND)),
            openapi,
            looks: Arc::new(Semaphore::new(MAX_LOOKS)),
            parts,
            rules,
        }))
    }

    /// Asks the coordinator, and waits so long as is reasonable.
    pub(super) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Problem> {
        in_time(async { self.parts.handle.ask(request).await.map_err(|gone: Gone| gone.into()) }).await
    }

    /// Looks at a run on the thread that owns it: only for what is quick.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        run: &str,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        in_time(async { self.parts.handle.look(run, look).await.map_err(Problem::from) }).await
    }

    /// A copy of a run's state, for what takes longer than its owner should be kept; with the right to hold one.
    pub(super) async fn copy(&self, run: &str) -> Result<(State, OwnedSemaphorePermit), Problem> {
        let permit = in_time(async {
            let permit = self.looks.clone().acquire_owned().await;
            permit.map_err(|_| Problem::unavailable("the coordinator is ending"))
        });
        let permit = permit.await?;
        Ok((self.look(run, State::clone).await?, permit))
    }

    /// Works on a copy of a run's state, on a thread where that may take a while.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        run: &str,
        work: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (state, permit) = self.copy(run).await?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&state)
        });
        done.await.map_err(|_| Problem::internal())
    }
}

/// The answer, unless it takes too long.
pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Problem::unavailable("the coordinator does not answer in time: it is busy")),
    }
}
