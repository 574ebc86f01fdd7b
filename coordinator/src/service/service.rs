//! The loop of the service: it hears agents, answers requests, starts and ends the loops of runs.

use super::active::{Active, LoopEnd, Measures, Note, Surroundings};
use super::budget::Budget;
use super::config::Route;
use super::feed::Feed;
use super::handle::{Request, SubmitError};
use super::output::{self, LogEnds};
use super::post::Post;
use super::show::SHOWN_ATTEMPTS;
use super::side_log::{self, SideEvent, SideLog};
use super::submit::{self, Stored, Submissions};
use super::wishes::{LateWish, Reopen};
use crate::fleet::{Action, Registry, Timing};
use crate::runtime::{RunError, Shares, UnsettledCount};
use crate::store::{AppendError, EventStore, ReadError};
use crate::telemetry::{FleetMetrics, Projects, StoreMetrics};
use cairn_model::{RunId, TaskIndex, Timestamp};
use cairn_shared::clock::Clock;
use cairn_shared::message::trace::TraceContext;
use cairn_shared::message::wire::{RunOrders, ToAgent, WireOrder};
use cairn_shared::transport::{Address, Delivery, Health, SubscribeError, Transport};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Ended runs that may be read back at a time: each is folded by a thread of its own, and takes the memory of its state.
const MAX_READS: usize = 8;

/// Messages of agents that may be read and not settled: some batches of every agent of a large fleet.
const WINDOW: u16 = 1_024;

/// How often the fleet is measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// What a coordinator is made of.
pub struct ServiceConfig {
    /// Its name for people.
    pub name: String,
    /// Where plans, logs of tasks and files for people are.
    pub state_directory: PathBuf,
    /// Where events go.
    pub store: Arc<dyn EventStore>,
    /// The way to agents.
    pub transport: Arc<dyn Transport>,
    /// The clock of the process.
    pub clock: Clock,
    /// How long an agent is believed to be there after it was heard.
    pub lease: Duration,
    /// How work finds its agent.
    pub route: Route,
    /// Told which logs of tasks are complete.
    pub log_ends: LogEnds,
    /// Publish events for other systems.
    pub events: bool,
    /// Runs under way at a time; further plans are refused.
    pub max_active_runs: usize,
    /// Projects that metrics tell apart.
    pub metric_projects: usize,
    /// What keeps the events, for metrics: `file`.
    pub store_backend: &'static str,
}

/// What was made beside the service, and is ready for it.
pub(super) enum Ready {
    /// A plan to start a run of.
    Stored(Box<Stored>),
    /// A run to go on with.
    Reopen(Box<Reopen>),
    /// A wish to be carried again.
    Wished(Box<LateWish>),
}

/// Why a coordinator cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    /// The store takes nothing.
    #[error("the store takes no events")]
    Store(#[from] AppendError),
    /// Messages of agents cannot be had.
    #[error("messages of agents cannot be had")]
    Transport(#[from] SubscribeError),
    /// A run's loop ended because its store failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A coordinator: many runs over one fleet.
pub struct Service {
    pub(super) config: ServiceConfig,
    pub(super) around: Surroundings,
    pub(super) registry: Registry,
    pub(super) post: Post,
    pub(super) side_log: SideLog,
    pub(super) runs: HashMap<RunId, Active>,
    pub(super) loops: JoinSet<LoopEnd>,
    /// Runs that are not over and could not be read at the start, and why: their tasks may run, and are left alone.
    pub(super) unread: BTreeMap<String, String>,
    pub(super) submissions: Submissions,
    /// For those who read an ended run back: each may need as much memory as the run has.
    pub(super) reads: Arc<Semaphore>,
    /// What agents said last that they hold, for those who look.
    pub(super) holds: HashMap<String, Vec<(String, TaskIndex, u32)>>,
    /// Which runs each agent has named lately, with the heartbeat that did last.
    pub(super) named: HashMap<String, HashMap<String, u64>>,
    pub(super) actions: Vec<Action>,
    /// Messages of agents that runs have not taken in yet.
    pub(super) unsettled: UnsettledCount,
    /// To be cloned by what works beside the service.
    pub(super) ready: mpsc::Sender<Ready>,
    made: mpsc::Receiver<Ready>,
    notes: mpsc::UnboundedReceiver<Note>,
    pub(super) health: watch::Receiver<Health>,
    /// Messages of agents come.
    listens: bool,
}

/// What comes to a coordinator.
struct Inboxes {
    heard: mpsc::Receiver<Delivery>,
    dead: mpsc::Receiver<Delivery>,
    printed: mpsc::Receiver<Delivery>,
}

impl Service {
    /// Reads the log and takes over all runs of it that are not over. `head` is told the position of what is durable.
    ///
    /// # Errors
    /// The log cannot be read, or the store takes nothing.
    pub async fn start(config: ServiceConfig, head: watch::Sender<u64>) -> Result<Self, ServiceError> {
        let clock = config.clock.clone();
        let side_log = SideLog::open(config.store.clone(), clock.clone()).await?;
        let post = Post::new(config.transport.clone(), &config.name);
        let (notes_in, notes) = mpsc::unbounded_channel();
        let (ready, made) = mpsc::channel(1);
        let durable = config.store.head().await?;
        head.send_replace(durable.position);
        let around = Surroundings {
            store: config.store.clone(),
            clock: clock.clone(),
            state_directory: config.state_directory.as_path().into(),
            post: post.clone(),
            notes: notes_in,
            head,
            shares: Shares::default(),
            metrics: Measures {
                projects: Projects::new(config.metric_projects),
                store: StoreMetrics::new(config.store_backend),
                fleet: FleetMetrics::new(),
            },
        };
        let mut service = Self {
            registry: Registry::new(&config.name, Timing { lease: config.lease }, clock.now()),
            health: config.transport.health(),
            listens: false,
            around,
            post,
            side_log,
            runs: HashMap::new(),
            loops: JoinSet::new(),
            unread: BTreeMap::new(),
            submissions: Submissions::default(),
            reads: Arc::new(Semaphore::new(MAX_READS)),
            holds: HashMap::new(),
            named: HashMap::new(),
            actions: Vec::new(),
            unsettled: UnsettledCount::default(),
            ready,
            made,
            notes,
            config,
        };
        service.registry.remember_drained(side_log::drained(&*service.config.store).await?);
        service.take_over_all().await?;
        Ok(service)
    }

    /// Serves until `shutdown`, then ends in good order: what was decided is made durable, running tasks are left to
    /// their agents.
    ///
    /// # Errors
    /// The store, or the transport, failed for good.
    pub async fn serve(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        shutdown: CancellationToken,
    ) -> Result<(), ServiceError> {
        let transport = self.config.transport.clone();
        // Nothing waits for the broker: plans are taken, and the end is heard, while it is away.
        let mut listening = pin!(listen(&*transport));
        let (mut heard, mut dead) = (None, None);
        // They end with this future, however that ends.
        let mut beside = JoinSet::new();
        if let Some(feed) = self.feed() {
            beside.spawn(feed.run());
        }
        // Whether there is a connection is told once it was tried.
        if matches!(*self.health.borrow(), Health::Up(_)) {
            self.judge_health();
        } else {
            let health = self.health.borrow().clone();
            self.around.metrics.fleet.transport(&health);
            self.judge_hearing();
        }
        let mut measure = tokio::time::interval(MEASURE_INTERVAL);
        measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let result = loop {
            self.act();
            let now = self.now();
            let wake_in = self.config.clock.until(self.registry.next_deadline());
            tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                listens = &mut listening, if !self.listens => match listens {
                    Ok(inboxes) => {
                        (heard, dead) = (Some(inboxes.heard), Some(inboxes.dead));
                        beside.spawn(self.keep_output(inboxes.printed));
                        self.listens = true;
                        self.judge_hearing();
                    }
                    Err(error) => break Err(error.into()),
                },
                delivery = next(&mut heard) => match delivery {
                    Some(delivery) => self.hear(delivery, now),
                    None => break Err(ServiceError::Transport(SubscribeError::Closed)),
                },
                Some(delivery) = next(&mut dead) => self.bury(delivery),
                Some(request) = requests.recv() => self.answer(request),
                Some(ready) = self.made.recv() => match ready {
                    Ready::Stored(parsed) => self.submit(*parsed).await,
                    Ready::Reopen(reopen) => self.reopen(*reopen).await,
                    Ready::Wished(late) => self.wish_again(*late),
                },
                Some(note) = self.notes.recv() => self.note(note),
                Some(ended) = self.loops.join_next(), if !self.loops.is_empty() => match ended {
                    Ok(end) => if let Err(error) = self.ended(end) { break Err(error) },
                    // A panic of a loop is our bug, and was reported where it happened.
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                },
                Ok(()) = self.health.changed() => self.judge_health(),
                _ = measure.tick() => self.around.metrics.fleet.observe(&self.agents(0)),
                () = tokio::time::sleep(wake_in) => {
                    self.judge_hearing();
                    self.registry.tick(self.config.clock.now(), &mut self.actions);
                }
            }
        };
        drop(requests);
        self.end().await;
        beside.shutdown().await;
        result
    }

    /// What keeps the output of tasks.
    fn keep_output(&self, printed: mpsc::Receiver<Delivery>) -> impl Future<Output = ()> + Send + use<> {
        let budget = Budget::new(self.config.store.clone());
        output::keep(self.config.state_directory.clone(), self.config.log_ends.clone(), budget, printed)
    }

    /// What publishes events, if that is wanted.
    fn feed(&self) -> Option<Feed> {
        self.config.events.then(|| Feed {
            store: self.config.store.clone(),
            transport: self.config.transport.clone(),
            state_directory: self.config.state_directory.clone(),
            clock: self.config.clock.clone(),
            head: self.around.head.subscribe(),
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.config.clock.now()
    }

    /// Carries out what the registry asks for.
    pub(super) fn act(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                // Whatever matters is said again while it is not answered.
                Action::Say { agent, message } => drop(self.post.say(&agent, &message, None)),
                Action::Joined { agent } => self.joined(&agent),
                Action::Changed { agent } => self.changed(&agent),
                Action::Lost { agent, incarnation, reason, gone } => {
                    self.lost(&agent, incarnation, &reason, gone);
                }
                Action::Refused { agent, why } => tracing::warn!(agent, "an agent is not let in: {why}"),
            }
        }
    }

    /// Writes beside the runs. Nothing waits for it: the runs' own streams hold what they need.
    pub(super) fn write(&mut self, event: &SideEvent) {
        drop(self.side_log.write(event, &self.config.name));
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::TakenOver { run, epoch } => {
                let agents: Vec<_> =
                    self.registry.members().filter(|member| !member.is_lost).cloned().collect();
                let trace = self.runs.get(&run).map(|active| active.trace);
                for member in agents {
                    self.order(
                        &member.spec.id,
                        member.spec.incarnation,
                        &run.to_string(),
                        epoch,
                        WireOrder::Recall,
                        trace,
                    );
                }
            }
        }
    }

    /// Gives an order that is about a run as a whole.
    pub(super) fn order(
        &self,
        agent: &str,
        incarnation: u64,
        run: &str,
        epoch: u64,
        order: WireOrder,
        trace: Option<TraceContext>,
    ) {
        let orders = RunOrders { run: run.to_owned(), epoch, incarnation, orders: vec![order] };
        // Not to be waited for: an agent that has not heard it says so by what it holds.
        drop(self.post.say(agent, &ToAgent::Orders(orders), trace));
    }

    /// Leases are counted only while agents can be heard.
    fn judge_health(&mut self) {
        let health = self.health.borrow_and_update().clone();
        match &health {
            Health::Up(broker) => tracing::info!(%broker, "messages flow"),
            Health::Down(cause) => tracing::warn!(%cause, "no connection to agents: dispatch waits"),
            Health::Blocked(cause) => tracing::warn!(%cause, "the broker takes no messages: dispatch waits"),
        }
        self.around.metrics.fleet.transport(&health);
        self.judge_hearing();
    }

    /// Where runs take in no more, because the store is slow, heartbeats wait with the rest: nobody is to blame for it.
    fn judge_hearing(&mut self) {
        let is_up = matches!(*self.health.borrow(), Health::Up(_));
        let hears = is_up && self.listens && self.unsettled.get() < usize::from(WINDOW);
        self.registry.set_hearing(hears, self.config.clock.now());
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Submit(submission, reply) => {
                if self.runs.len() >= self.config.max_active_runs {
                    let limit = self.config.max_active_runs;
                    let _ = reply.send(Err(SubmitError::TooMany { limit }));
                } else {
                    let directory = self.config.state_directory.clone();
                    submit::store(*submission, reply, directory, self.ready.clone());
                }
            }
            Request::Wish { run, part, wish, user, reply } => self.wish(&run, part, wish, user, reply),
            Request::Look { run, look } => self.look(&run, look),
            Request::Agents(reply) => drop(reply.send(self.agents(SHOWN_ATTEMPTS))),
            Request::Drain { agent, drain, user, reply } => self.drain(&agent, drain, &user, reply),
            Request::Audit { action, user, status } => {
                drop(self.side_log.write(&SideEvent::RequestMade { action, status }, &user));
            }
            Request::Health(reply) => drop(reply.send(self.health_view())),
        }
    }
}

/// Listens to agents; what else there is to hear is left to others until then.
async fn listen(transport: &dyn Transport) -> Result<Inboxes, SubscribeError> {
    Ok(Inboxes {
        heard: transport.subscribe(&Address::Coordinator, WINDOW).await?,
        dead: transport.subscribe(&Address::Dead, WINDOW).await?,
        printed: transport.subscribe(&Address::Output, WINDOW).await?,
    })
}

/// What comes next, for ever nothing where nobody listens yet.
async fn next(inbox: &mut Option<mpsc::Receiver<Delivery>>) -> Option<Delivery> {
    match inbox {
        Some(inbox) => inbox.recv().await,
        None => std::future::pending().await,
    }
}
