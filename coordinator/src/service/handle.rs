//! What the rest of a process may ask a coordinator.

use super::reading::ReadPlan;
use cairn_engine::{Rejection, State};
use cairn_model::RunId;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that may wait for the service.
pub(super) const REQUESTS_DEPTH: usize = 256;

/// A plan to be run.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The plan.
    pub plan: ReadPlan,
    /// The first failure ends the run.
    pub fail_fast: bool,
    /// Two submissions with the same key (of one user) are one.
    pub key: Option<String>,
    /// Who submits it.
    pub user: String,
}

/// A run that was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The run.
    pub run: RunId,
    /// `false` if the same submission had been made before.
    pub is_new: bool,
}

/// Why a plan was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The key was used with another plan.
    #[error("idempotency key {key} was used for run {run}, with another plan")]
    KeyReused {
        /// The key.
        key: String,
        /// What it was used for.
        run: String,
    },
    /// Too many runs are active.
    #[error("{limit} runs are active, which is the limit")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The coordinator is ending, or its store takes nothing.
    #[error("the coordinator takes no plans: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// Why a wish was not granted.
#[derive(Debug, thiserror::Error)]
pub enum WishError {
    /// There is no such run.
    #[error("there is no run {run}")]
    NoSuchRun {
        /// What was asked for.
        run: String,
    },
    /// There is no such milestone or task.
    #[error("run {run} has no {what}")]
    NoSuchPart {
        /// The run.
        run: String,
        /// What was asked for.
        what: String,
    },
    /// There is no such agent.
    #[error("there is no agent {agent}")]
    NoSuchAgent {
        /// What was asked for.
        agent: String,
    },
    /// The engine refuses it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The run cannot be read back.
    #[error("run {run} cannot be read: {reason}")]
    Unreadable {
        /// The run.
        run: String,
        /// Why.
        reason: String,
    },
    /// As many ended runs as may be are being read back.
    #[error("as many ended runs as may be are being read from the store")]
    Busy,
    /// The coordinator is ending, or its store takes nothing.
    #[error("the coordinator cannot do that now: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// An agent, as people and programs are shown it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AgentView {
    /// Its name.
    pub id: String,
    /// `joined`, `draining`, `silent` (past its heartbeat), `lost`, `left` (it ended in good order).
    pub state: &'static str,
    /// Its life.
    pub incarnation: u64,
    /// The version of its program.
    pub version: String,
    /// Processes at a time.
    pub slots: u32,
    /// Slots with an attempt.
    pub slots_used: u32,
    /// Resources, by name: in units, not thousandths.
    pub resources: Vec<(String, f64)>,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// When it joined: RFC 3339.
    pub joined_at: String,
    /// Seconds since it was last heard.
    pub heard_seconds_ago: f64,
    /// Attempts that it holds, at most 100: `RUN MILESTONE/TASK.ATTEMPT`.
    pub attempts: Vec<String>,
}

/// How the coordinator is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HealthView {
    /// All checks are good.
    pub is_ready: bool,
    /// Each check: its name, whether it is good, and a word for people.
    pub checks: Vec<(&'static str, bool, String)>,
}

/// What is looked at is all durable.
pub type Look = Box<dyn FnOnce(Result<&State, WishError>) + Send>;

/// The scope of a wish, by names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// A milestone; the whole run without one.
    pub milestone: Option<String>,
    /// A task of it.
    pub task: Option<String>,
}

/// A wish about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Dispatch nothing.
    Pause {
        /// Why.
        reason: String,
    },
    /// Dispatch again.
    Resume,
    /// End it.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Run again what failed, or what the part names.
    Retry {
        /// And all that needs it.
        downstream: bool,
    },
}

/// What is asked of the service. Made by [`Handle`], answered by the service.
pub enum Request {
    /// Run a plan.
    Submit(Box<Submission>, oneshot::Sender<Result<Submitted, SubmitError>>),
    /// Change a run.
    Wish {
        /// `PROJECT.N`, or `PROJECT` for its newest run.
        run: String,
        /// What of it.
        part: Part,
        /// What is wished.
        wish: Wish,
        /// By whom.
        user: String,
        /// The answer, once it is durable.
        reply: oneshot::Sender<Result<(), WishError>>,
    },
    /// Look at a run.
    Look {
        /// `PROJECT.N`, or `PROJECT` for its newest run.
        run: String,
        /// What to do with what is seen.
        look: Look,
    },
    /// The fleet.
    Agents(oneshot::Sender<Vec<AgentView>>),
    /// Give an agent nothing new, or again.
    Drain {
        /// Which.
        agent: String,
        /// Nothing new, or again.
        drain: bool,
        /// By whom.
        user: String,
        /// The answer, once it is durable.
        reply: oneshot::Sender<Result<(), WishError>>,
    },
    /// Write to the audit stream.
    Audit {
        /// What was done: `POST /api/v1/runs`.
        action: String,
        /// By whom.
        user: String,
        /// How it ended: an HTTP status.
        status: u16,
    },
    /// How it is.
    Health(oneshot::Sender<HealthView>),
}

/// What a coordinator can be asked. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    head: watch::Receiver<u64>,
}

/// The coordinator does not answer: it is ending.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the coordinator is ending")]
pub struct Gone;

impl Handle {
    /// A handle, and what it asks; `head` is the position of the last durable event.
    #[must_use]
    pub fn new(head: watch::Receiver<u64>) -> (Self, mpsc::Receiver<Request>) {
        let (requests, received) = mpsc::channel(REQUESTS_DEPTH);
        (Self { requests, head }, received)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The coordinator is ending.
    pub async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// Writes to the audit stream.
    ///
    /// # Errors
    /// The coordinator is ending.
    pub async fn audit(&self, action: String, user: String, status: u16) -> Result<(), Gone> {
        self.requests.send(Request::Audit { action, user, status }).await.map_err(|_| Gone)
    }

    /// Looks at a run: `look` is called with its durable state on the thread that owns it, so it must be quick.
    ///
    /// # Errors
    /// There is no such run, or the coordinator is ending.
    pub async fn look<T: Send + 'static>(
        &self,
        run: &str,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, WishError> {
        let answer = self.ask(|reply: oneshot::Sender<Result<T, WishError>>| Request::Look {
            run: run.to_owned(),
            look: Box::new(move |state| {
                // Whoever asked may have gone away.
                let _ = reply.send(state.map(look));
            }),
        });
        answer.await.map_err(|gone| WishError::Unavailable { reason: gone.to_string() })?
    }

    /// The position of the last durable event, now and whenever it grows.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }
}
