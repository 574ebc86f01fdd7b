//! What is said to a machine, and what it says.

use cairn_model::{Outcome, ReportKind, TaskIndex, Timestamp};
use std::time::Duration;

/// An attempt as an agent knows it: the fencing token with what it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The agent's own number for the run.
    pub run: u32,
    /// Which task.
    pub task: TaskIndex,
    /// The attempt's number, from 1.
    pub attempt: u32,
}

/// What an attempt needs of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A process, and so a slot.
    Process,
    /// A timer of that length.
    Timer(Duration),
}

/// What an attempt asks of an agent of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it does.
    pub work: Work,
    /// What it takes of the agent's resources, by their index.
    pub resources: Box<[(usize, u64)]>,
    /// It starts only on a grant.
    pub awaits_grant: bool,
    /// It goes on when the lease ends.
    pub hold: bool,
}

impl From<Work> for Terms {
    fn from(work: Work) -> Self {
        Self { work, resources: Box::default(), awaits_grant: false, hold: false }
    }
}

/// What an agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Run this.
    Offer {
        /// What to call it.
        id: AttemptId,
        /// The epoch of who says so.
        epoch: u64,
        /// What it needs.
        work: Work,
    },
    /// Run this, on these terms.
    Take {
        /// What to call it.
        id: AttemptId,
        /// The epoch of who says so.
        epoch: u64,
        /// What it needs.
        terms: Terms,
    },
    /// Start this, which waits for it: that it may start is durable.
    Grant {
        /// Which attempt.
        id: AttemptId,
        /// The epoch of who says so.
        epoch: u64,
    },
    /// End this.
    Stop {
        /// Which attempt.
        id: AttemptId,
        /// The epoch of who says so.
        epoch: u64,
    },
    /// The end of this attempt is durable; nobody will ask for it again.
    Acknowledge {
        /// Which attempt.
        id: AttemptId,
    },
    /// A new owner of the run, or one that may have missed something, asks for all that there is to say: reports
    /// that were on their way to the owner before are lost.
    Recall {
        /// The agent's own number for the run.
        run: u32,
        /// The epoch of who asks; from here on, orders of those before are refused.
        epoch: u64,
    },
    /// The run is over, durably: nothing of it is asked for again, until it has a later owner, who retries it.
    Forget {
        /// The agent's own number for the run.
        run: u32,
        /// The epoch of who says so.
        epoch: u64,
    },
    /// A process has started.
    ProcessStarted {
        /// Of which attempt.
        id: AttemptId,
        /// When.
        at: Timestamp,
    },
    /// A process told how far it is.
    ProcessProgress {
        /// Of which attempt.
        id: AttemptId,
        /// Thousandths of the work done.
        permille: u16,
        /// What it said.
        message: Option<Box<str>>,
    },
    /// A process has ended, or could not be started.
    ProcessFinished {
        /// Of which attempt.
        id: AttemptId,
        /// How.
        outcome: Outcome,
        /// When it began.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Timestamp,
    },
    /// The right to run has ended: what waits is given back, what runs is ended and lost. What runs and may go on without
    /// a lease does.
    Fence {
        /// What a person reads.
        reason: Box<str>,
    },
    /// The agent is to end now, as planned: what waits is given back, what runs is stopped, and nobody has lost it.
    StopAll,
    /// Take nothing new and give back what waits, or take work again.
    Drain(bool),
    /// Start nothing for now, or start again.
    Suspend(bool),
    /// Who listens may have missed something: say all that there is to say.
    RecallAll,
    /// Time has passed.
    Tick,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the process of an attempt.
    Start(AttemptId),
    /// End the process of an attempt.
    Stop(AttemptId),
    /// Tell the coordinator.
    Report(AttemptId, ReportKind),
    /// Make this durable before what follows in the list is done (of a machine of a fleet only).
    Record(Fact),
}

/// What must survive the agent's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The attempt was taken.
    Accepted(AttemptId),
    /// It may start.
    Granted(AttemptId),
    /// It is about to start, and must not start again.
    Started(AttemptId),
    /// It has ended: the machine's `end_of` tells how.
    Ended(AttemptId),
    /// Its end was acknowledged. Nothing depends on this being durable soon.
    Settled(AttemptId),
}
