//! The loop that owns a run: what it is made of, when it does what, and how it decides.
//!
//! `input`: what comes in. `hear`: takes it in. `say`: what goes out once a decision is durable. `keep`: snapshots.

mod hear;
mod input;
mod keep;
mod say;

pub use input::{Heard, Input, Unsettled, UnsettledCount};

use super::link::{Link, Outbox, Parcel, Recipient};
use super::new_id;
use super::outstanding::Outstanding;
use super::share::Share;
use crate::codec::{Encoder, Envelope};
use crate::store::{Append, AppendError, Appended, EventStore, Ticket};
use cairn_engine::{Effect, Rejection, State, TaskStatus, decide, next_deadline, recover};
use cairn_model::{AgentIndex, Command, Event, TaskIndex, Timestamp};
use cairn_shared::clock::Clock;
use cairn_shared::message::Orders;
use input::Look;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Appends that may be under way at a time: one being written, one waiting, one being made, and one spare.
const MAX_PENDING_APPENDS: usize = 4;

/// Messages taken in at a time; their reports make one decision.
const MAX_INPUTS: usize = 64;

/// How often the observer is called although nothing has happened, and files for people are brought up to date.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// What is shown to an observer, all of it durable.
#[derive(Debug)]
pub struct Update<'a> {
    /// The run after these events, and perhaps some that are on their way to the disk.
    pub state: &'a State,
    /// What happened; empty at a refresh, when the state is exactly what is durable.
    pub events: &'a [Event],
    /// When it happened.
    pub at: Timestamp,
    /// The position of the run's last durable event.
    pub position: u64,
    /// How long the events took to become durable, from when they were handed over.
    pub append_took: Duration,
    /// Reports that changed nothing, since the loop began.
    pub stale_reports: u64,
}

/// Who is told what is durable, on the loop's own thread: it must be quick.
pub type Observer = Box<dyn FnMut(&Update<'_>) + Send>;

/// What a loop is made of.
pub struct RunConfig {
    /// Where events go.
    pub store: Arc<dyn EventStore>,
    /// The clock of the process.
    pub clock: Clock,
    /// Who runs it.
    pub user: String,
    /// The name of the plan that the run executes.
    pub plan_hash: String,
    /// Called with all that is durable.
    pub observer: Observer,
}

/// Why a loop ended before its run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store takes no more events, so nothing may be decided.
    #[error("the events of run {run} cannot be stored")]
    Store {
        /// Which run.
        run: String,
        /// Why not.
        #[source]
        source: AppendError,
    },
}

/// A decision whose events are on their way to the disk.
struct Pending {
    ticket: Ticket,
    events: Vec<Event>,
    at: Timestamp,
    submitted_at: Timestamp,
    after: After,
}

/// What else is to be said once a decision is durable.
#[derive(Default)]
struct After {
    acknowledgements: Vec<(Recipient, TaskIndex, u32)>,
    replies: Vec<oneshot::Sender<Result<(), Rejection>>>,
    effects: Vec<Effect>,
}

/// Owns a run: its state, and the right to append to its streams.
pub struct RunLoop {
    config: RunConfig,
    state: State,
    encoder: Encoder,
    correlation: String,
    link: Link,
    pending: VecDeque<Pending>,
    outbox: Outbox,
    /// In a fleet: the run's part in it.
    share: Option<Share>,
    /// In a fleet: what agents have still to answer.
    outstanding: Option<Outstanding>,
    /// Taken in, and not decided yet.
    undecided: VecDeque<Input>,
    looks: Vec<Look>,
    is_let_go: bool,
    /// The run was another owner's: once all of it is durable, what the world is owed is said again.
    owes_recovery: bool,
    stale_reports: u64,
    effects: Vec<Effect>,
    /// The position of the last durable event of the run.
    position: u64,
    /// Events since the last snapshot.
    since_snapshot: u64,
    saving: Option<JoinHandle<()>>,
}

impl RunLoop {
    /// A loop over `state`, whose streams have the versions that `encoder` counts from.
    #[must_use]
    pub fn new(config: RunConfig, state: State, encoder: Encoder) -> Self {
        Self {
            config,
            state,
            encoder,
            correlation: new_id().to_string(),
            link: Link::Local(Vec::new()),
            pending: VecDeque::new(),
            outbox: Outbox::default(),
            share: None,
            outstanding: None,
            undecided: VecDeque::new(),
            looks: Vec::new(),
            is_let_go: false,
            owes_recovery: false,
            stale_reports: 0,
            effects: Vec::new(),
            position: 0,
            since_snapshot: 0,
            saving: None,
        }
    }

    /// The run as decided so far.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The run as decided so far; the loop ends.
    #[must_use]
    pub fn into_state(self) -> State {
        self.state
    }

    /// The run as decided so far, and what was taken in after its end.
    #[must_use]
    pub fn into_parts(self) -> (State, VecDeque<Input>) {
        (self.state, self.undecided)
    }

    /// Connects the agent of that index, in this process: its orders go to `orders`.
    pub fn connect(&mut self, agent: AgentIndex, orders: mpsc::Sender<Orders>) {
        match &mut self.link {
            Link::Local(agents) => {
                agents.resize(agents.len().max(agent.get() + 1), None);
                agents[agent.get()] = Some(orders);
            }
            Link::Fleet(_) => {}
        }
    }

    /// Connects a fleet: all orders go to `parcels`, and are given again while they are not answered. What was out
    /// before is offered again if it had not started, and believed to run if it had.
    pub fn connect_fleet(&mut self, parcels: mpsc::Sender<Parcel>, share: Share) {
        self.share = Some(share);
        self.link = Link::Fleet(parcels);
        let mut outstanding = Outstanding::default();
        for task in self.state.plan().tasks() {
            let row = self.state.task(task);
            if let Some(agent) = row.agent().filter(|_| row.status == TaskStatus::InProgress) {
                outstanding.adopt(agent, task, row.attempt);
            }
        }
        self.outstanding = Some(outstanding);
        self.owes_recovery = !self.state.run().id.is_empty();
    }

    /// Decides one command now; what follows goes out once the loop runs.
    ///
    /// # Errors
    /// The command is refused.
    pub fn command(&mut self, command: Command) -> Result<(), Rejection> {
        self.decide(command, After::default()).map_err(|(rejection, _)| rejection)
    }

    /// Decides what the loop is started for, before anything else: who owns the run, and what becomes of one that had
    /// ended. What follows goes out once the loop runs.
    pub fn begin(&mut self, first: impl IntoIterator<Item = Input>) {
        self.undecided.extend(first);
        self.take_in();
    }

    /// Runs until the run has ended, or has been interrupted and nothing of it is out any more, and all of that is
    /// durable.
    ///
    /// # Errors
    /// The store failed.
    pub async fn drive(&mut self, inputs: &mut mpsc::Receiver<Input>) -> Result<(), RunError> {
        let mut received = Vec::with_capacity(MAX_INPUTS);
        let mut refresh_at = self.config.clock.now();
        let mut somebody_speaks = true;
        loop {
            let now = self.config.clock.now();
            let refresh_is_due = refresh_at <= now;
            if self.pending.is_empty() {
                self.looks.drain(..).for_each(|look| look(&self.state));
                if std::mem::take(&mut self.owes_recovery) {
                    self.effects.extend(recover(&self.state));
                    self.send_effects();
                    continue;
                }
                if refresh_is_due {
                    self.observe(&[], now, Duration::ZERO);
                    self.keep_snapshot();
                    self.order_again(now);
                    refresh_at = now.plus(REFRESH_INTERVAL);
                }
                let is_done = self.is_over() && self.undecided.is_empty();
                if (is_done || self.is_let_go) && self.outbox.is_empty() {
                    self.observe(&[], now, Duration::ZERO);
                    self.finish_snapshots().await;
                    return Ok(());
                }
            }
            // Before a refresh the loop runs dry, so that what is shown is durable.
            let is_idle = self.pending.is_empty();
            let runs_dry = refresh_is_due || !self.looks.is_empty() || self.is_let_go;
            let may_decide =
                self.pending.len() < MAX_PENDING_APPENDS && (is_idle || !runs_dry) && !self.is_let_go;
            if may_decide && !self.undecided.is_empty() {
                self.take_in();
                continue;
            }
            let deadline = next_deadline(&self.state).filter(|_| may_decide && !self.is_over());
            let wake_at = deadline.into_iter().chain(is_idle.then_some(refresh_at)).min();
            let way = self.link.reserve(&self.outbox);
            tokio::select! {
                biased;
                answer = durable(&mut self.pending), if !is_idle => self.release(answer)?,
                permit = way, if !self.outbox.is_empty() => {
                    self.outbox.send_first(permit, self.state.agents());
                }
                count = inputs.recv_many(&mut received, MAX_INPUTS), if may_decide && somebody_speaks => {
                    somebody_speaks = count > 0;
                    self.undecided.extend(received.drain(..));
                }
                () = room(self.share.as_ref()), if may_decide && !self.is_over() => {
                    // What the others leave is told to the state by the decision itself. A tick is refused only where
                    // there is no run.
                    let _ = self.decide(Command::Tick, After::default());
                }
                () = tokio::time::sleep(wake_at.unwrap_or(now).since(now)), if wake_at.is_some() => {
                    if deadline.is_some_and(|at| at <= self.config.clock.now()) {
                        // A tick is refused only where there is no run, and so no deadline.
                        let _ = self.decide(Command::Tick, After::default());
                    }
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        let run = self.state.run();
        run.status.is_final() || (run.interrupted && self.state.attempts_out() == 0)
    }

    fn decide(&mut self, command: Command, after: After) -> Result<(), (Rejection, After)> {
        self.decide_for(None, command, after)
    }

    fn decide_for(
        &mut self,
        user: Option<&str>,
        command: Command,
        mut after: After,
    ) -> Result<(), (Rejection, After)> {
        let at = self.config.clock.now();
        let mut events = Vec::new();
        let decision = match &self.share {
            Some(share) => share
                .decide(&mut self.state, command, |state, command| decide(state, command, at, &mut events)),
            None => decide(&mut self.state, command, at, &mut events),
        };
        let decision = match decision {
            Ok(decision) => decision,
            Err(rejection) => return Err((rejection, after)),
        };
        self.stale_reports += u64::from(decision.stale_reports);
        after.effects = decision.answers;
        if events.is_empty() {
            self.settle(after);
            return Ok(());
        }
        let user = user.unwrap_or(&self.config.user);
        let envelope = Envelope { id: new_id(), at, user, correlation: &self.correlation };
        let Self { encoder, state, .. } = self;
        let agents = state.agents();
        let name = |agent: AgentIndex| agents.get(agent.get()).map_or("", |agent| agent.spec.id.as_str());
        let records = encoder.encode(state.plan(), &events, &envelope, name);
        let epoch = state.run().epoch;
        let submitted_at = self.config.clock.now();
        let ticket = self.config.store.submit(Append { epoch, records });
        self.pending.push_back(Pending { ticket, events, at, submitted_at, after });
        Ok(())
    }
}

/// Waits for room in a fleet that several runs share.
async fn room(share: Option<&Share>) {
    match share {
        Some(share) => share.room().await,
        None => std::future::pending().await,
    }
}

/// Waits for the oldest append. Cancel-safe: it stays where it is until it is answered.
async fn durable(pending: &mut VecDeque<Pending>) -> (Result<Appended, AppendError>, Pending) {
    let Some(first) = pending.front_mut() else { return std::future::pending().await };
    let answer = (&mut first.ticket).await;
    let Some(first) = pending.pop_front() else { return std::future::pending().await };
    (answer, first)
}

#[cfg(test)]
mod tests;
