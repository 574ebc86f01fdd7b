//! What comes in to the loop that owns a run.

use crate::runtime::link::AgentLife;
use cairn_engine::{Rejection, State};
use cairn_model::{Command, Report, ReportKind, TaskIndex};
use cairn_shared::transport::Receipt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// Somebody who looks at a run; on the loop's own thread, so it must be quick.
pub type Look = Box<dyn FnOnce(&State) + Send>;

/// What comes in from outside.
pub enum Input {
    /// An agent in this process speaks.
    Reports(Vec<Report>),
    /// An agent of the fleet speaks.
    Heard(Heard),
    /// An agent of the fleet has told all that it has of the run, sorted.
    Held {
        /// Who.
        from: AgentLife,
        /// Which attempts.
        attempts: Vec<(TaskIndex, u32)>,
    },
    /// Somebody wishes. The answer comes when the events are durable.
    Command {
        /// What.
        command: Command,
        /// Who wishes it; the owner of the run without a name.
        user: Option<String>,
        /// The answer.
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// An agent of the fleet is gone.
    Lost {
        /// In which life.
        life: AgentLife,
        /// Why it is taken for gone.
        reason: Box<str>,
        /// It was ended so: what it had is no loss.
        as_planned: bool,
    },
    /// Somebody looks, once all that was decided is durable.
    Look(Look),
    /// Let go of the run where it stands: another owner goes on with it.
    LetGo,
}

/// Reports of an agent of the fleet.
#[derive(Debug)]
pub struct Heard {
    /// Who says it.
    pub from: AgentLife,
    /// What, in the order in which it happened.
    pub reports: Vec<(TaskIndex, u32, ReportKind)>,
    /// Settled once the reports are in the loop's hands.
    pub receipt: Option<Receipt>,
    /// Counts it among those that are not.
    pub unsettled: Option<Unsettled>,
}

/// One of the messages that are not settled yet; counted as long as it lives.
#[derive(Debug)]
pub struct Unsettled(Arc<AtomicUsize>);

/// How many messages are not settled yet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct UnsettledCount(Arc<AtomicUsize>);

impl UnsettledCount {
    /// Counts one more.
    #[must_use]
    pub fn one_more(&self) -> Unsettled {
        self.0.fetch_add(1, Ordering::Relaxed);
        Unsettled(self.0.clone())
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
