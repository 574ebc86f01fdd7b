//! The loop that owns a run.

use super::link::{AgentLife, Link, Outbox, Parcel, Recipient};
use super::new_id;
use super::outstanding::Outstanding;
use super::share::Share;
use super::snapshot;
use crate::codec::{Encoder, Envelope};
use crate::store::{Append, AppendError, Appended, EventStore, Ticket};
use cairn_engine::{AgentState, Effect, Rejection, State, TaskStatus, decide, next_deadline, react, recover};
use cairn_model::{AgentIndex, Command, Event, Report, ReportKind, TaskIndex, Timestamp};
use cairn_shared::clock::Clock;
use cairn_shared::message::{Order, OrderKind, Orders};
use cairn_shared::transport::Receipt;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Appends that may be under way at a time: one being written, one waiting, one being made, and one spare.
const MAX_PENDING_APPENDS: usize = 4;

/// Messages taken in at a time; their reports make one decision.
const MAX_INPUTS: usize = 64;

/// How often the observer is called although nothing has happened, and files for people are brought up to date.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

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

    /// Takes a snapshot if it is time. To be called when all that was decided is durable. It is saved beside the
    /// loop, and may fail: the log has all of it.
    fn keep_snapshot(&mut self) {
        let is_saving = self.saving.as_ref().is_some_and(|saving| !saving.is_finished());
        if is_saving || self.since_snapshot < snapshot::pace(&self.state) {
            return;
        }
        self.since_snapshot = 0;
        let versions = self.encoder.versions();
        let Some(snapshot) = snapshot::take(&self.state, &self.config.plan_hash, versions, self.position)
        else {
            return;
        };
        let store = self.config.store.clone();
        self.saving = Some(tokio::spawn(async move {
            if let Err(error) = store.save_snapshot(snapshot).await {
                tracing::warn!(%error, "a snapshot was not kept");
            }
        }));
    }

    /// Waits for the snapshot that is being saved, and keeps the last one of a long run.
    async fn finish_snapshots(&mut self) {
        for _ in 0..2 {
            if let Some(saving) = self.saving.take() {
                // A panic of the task was reported where it happened.
                let _ = saving.await;
            }
            self.keep_snapshot();
        }
    }

    fn is_over(&self) -> bool {
        let run = self.state.run();
        run.status.is_final() || (run.interrupted && self.state.attempts_out() == 0)
    }

    /// Decides what has come in, as far as appends may be under way. Reports that came together are decided together.
    fn take_in(&mut self) {
        while self.pending.len() < MAX_PENDING_APPENDS
            && let Some(input) = self.undecided.pop_front()
        {
            match input {
                Input::Reports(mut reports) => {
                    while let Some(Input::Reports(more)) = self.undecided.pop_front_if(is_report) {
                        reports.extend(more);
                    }
                    self.hear(reports);
                }
                Input::Heard(heard) => {
                    let mut reports = Vec::with_capacity(heard.reports.len());
                    let mut after = After::default();
                    self.take_reports(heard, &mut reports, &mut after);
                    while let Some(Input::Heard(more)) =
                        self.undecided.pop_front_if(|input| matches!(input, Input::Heard(_)))
                    {
                        self.take_reports(more, &mut reports, &mut after);
                    }
                    self.decide_reports(reports, after);
                }
                Input::Held { from, attempts } => self.compare(&from, &attempts),
                Input::Lost { life, reason } => {
                    if let Some(agent) = self.find(&life) {
                        // Refused where the run has ended, which is as well.
                        let _ = self.decide(Command::AgentLost { agent, reason }, After::default());
                    }
                }
                Input::Look(look) => {
                    self.looks.push(look);
                    return;
                }
                Input::LetGo => {
                    self.is_let_go = true;
                    return;
                }
                Input::Command { command, user, reply } => {
                    let after = After { replies: vec![reply], ..After::default() };
                    if let Err((rejection, after)) = self.decide_for(user.as_deref(), command, after) {
                        for reply in after.replies {
                            // Whoever asked may have gone away.
                            let _ = reply.send(Err(rejection.clone()));
                        }
                    }
                }
            }
        }
    }

    fn hear(&mut self, reports: Vec<Report>) {
        if reports.is_empty() {
            return;
        }
        let ended = |report: &Report| {
            let finished = matches!(report.kind, ReportKind::Finished { .. });
            finished.then_some((Recipient::Agent(report.agent), report.task, report.attempt))
        };
        let acknowledgements = reports.iter().filter_map(ended).collect();
        let after = After { acknowledgements, ..After::default() };
        // Reports are never refused as a whole.
        let _ = self.decide(Command::Reports(reports), after);
    }

    /// Reads what an agent of the fleet says. Of one that has no part in the run (any more) it is stale; its ends are
    /// acknowledged all the same, or it would tell them for ever.
    fn take_reports(&mut self, heard: Heard, reports: &mut Vec<Report>, after: &mut After) {
        let agent = self.find(&heard.from);
        for (task, attempt, kind) in heard.reports {
            let is_end = matches!(kind, ReportKind::Finished { .. });
            if is_end {
                let to = agent.map_or_else(|| Recipient::Stranger(heard.from.clone()), Recipient::Agent);
                after.acknowledgements.push((to, task, attempt));
            }
            let Some(agent) = agent else {
                self.stale_reports += 1;
                continue;
            };
            if let Some(outstanding) = &mut self.outstanding {
                let is_over = is_end || matches!(kind, ReportKind::Declined { .. });
                if is_over {
                    outstanding.ended(agent, task, attempt);
                } else {
                    outstanding.answered(agent, task, attempt);
                }
            }
            reports.push(Report { task, attempt, agent, kind });
        }
        if let Some(receipt) = heard.receipt {
            receipt.acknowledge();
        }
    }

    fn decide_reports(&mut self, reports: Vec<Report>, after: After) {
        if reports.is_empty() {
            self.settle(after);
        } else {
            // Reports are never refused as a whole.
            let _ = self.decide(Command::Reports(reports), after);
        }
    }

    /// Attempts that their agent does not name are offered again.
    fn compare(&mut self, from: &AgentLife, attempts: &[(TaskIndex, u32)]) {
        if let Some((agent, outstanding)) = self.find(from).zip(self.outstanding.as_mut()) {
            outstanding.named(agent, attempts);
        }
    }

    /// The agent of the run in that life, if it is not lost.
    fn find(&self, life: &AgentLife) -> Option<AgentIndex> {
        let agent = self.state.find_agent(&life.id)?;
        let spec = &self.state.agents().get(agent.get())?.spec;
        (spec.incarnation == life.incarnation).then_some(agent)
    }

    /// Gives orders again that were not answered in time.
    fn order_again(&mut self, now: Timestamp) {
        if !self.outbox.is_empty() {
            // They cannot even be said once, for now.
            return;
        }
        let Some(outstanding) = &mut self.outstanding else { return };
        let state = &self.state;
        let is_out = |agent, task, attempt| {
            let row = state.task(task);
            row.status.is_out() && row.attempt == attempt && row.agent() == Some(agent)
        };
        let overdue = outstanding.overdue(now, is_out);
        for (agent, order) in overdue {
            self.order(Recipient::Agent(agent), order);
        }
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

    /// Nothing new was decided: what is to be said waits for what is on its way, if anything is.
    fn settle(&mut self, after: After) {
        match self.pending.back_mut() {
            Some(last) => {
                last.after.acknowledgements.extend(after.acknowledgements);
                last.after.replies.extend(after.replies);
                last.after.effects.extend(after.effects);
            }
            None => self.say(after),
        }
    }

    fn release(&mut self, answer: (Result<Appended, AppendError>, Pending)) -> Result<(), RunError> {
        let (answer, pending) = answer;
        let append_took = self.config.clock.now().since(pending.submitted_at);
        let appended =
            answer.map_err(|source| RunError::Store { run: self.state.run().id.clone(), source })?;
        self.position = appended.position + pending.events.len() as u64 - 1;
        self.since_snapshot += pending.events.len() as u64;
        for event in &pending.events {
            react(&self.state, event, &mut self.effects);
            if let (Some(outstanding), Event::TaskGranted { task, attempt, agent, .. }) =
                (&mut self.outstanding, event)
            {
                outstanding.adopt(*agent, *task, *attempt);
            }
        }
        self.send_effects();
        self.say(pending.after);
        // Before anybody looks: agents wait for it. What is still to be said again goes along with it.
        if !self.owes_recovery {
            self.outbox.send_what_fits(&self.link, self.state.agents());
        }
        self.observe(&pending.events, pending.at, append_took);
        Ok(())
    }

    fn observe(&mut self, events: &[Event], at: Timestamp, append_took: Duration) {
        let Self { state, position, stale_reports, config, .. } = self;
        let (position, stale_reports) = (*position, *stale_reports);
        (config.observer)(&Update { state, events, at, position, append_took, stale_reports });
    }

    fn send_effects(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            let (agent, task, attempt, kind) = match effect {
                Effect::Offer { task, attempt, agent } => (agent, task, attempt, OrderKind::Offer),
                Effect::Grant { task, attempt, agent } => (agent, task, attempt, OrderKind::Grant),
                Effect::Stop { task, attempt, agent } => (agent, task, attempt, OrderKind::Stop),
                Effect::Ended => continue,
            };
            self.order(Recipient::Agent(agent), Order { task, attempt, kind });
        }
    }

    fn say(&mut self, after: After) {
        self.effects.extend(after.effects);
        self.send_effects();
        for (to, task, attempt) in after.acknowledgements {
            self.order(to, Order { task, attempt, kind: OrderKind::Acknowledge });
        }
        for reply in after.replies {
            // Whoever asked may have gone away.
            let _ = reply.send(Ok(()));
        }
    }

    fn order(&mut self, to: Recipient, order: Order) {
        // What lies in a pool may be on its way to anybody: a second copy would be taken by a second agent.
        if let (Some(outstanding), Recipient::Agent(agent)) = (&mut self.outstanding, &to)
            && !self.state.agents().get(agent.get()).is_some_and(AgentState::is_pool)
        {
            outstanding.ordered(*agent, order, self.config.clock.now());
        }
        self.outbox.put(to, self.state.run().epoch, order);
    }
}

fn is_report(input: &mut Input) -> bool {
    matches!(input, Input::Reports(_))
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
