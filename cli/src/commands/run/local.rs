//! A run in this process: the loop that owns it and an agent, on one thread, beside the threads of the store and
//! of the slots.

use cairn_agent::runtime::{self as agent, AgentConfig};
use cairn_coordinator::codec::Encoder;
use cairn_coordinator::runtime::{Input, Observer, RunConfig, RunError, RunLoop};
use cairn_coordinator::store::{EventStore, StreamId};
use cairn_engine::State;
use cairn_model::plan::{CPUS, MEMORY};
use cairn_model::{AgentSpec, Command, RunSubmitted};
use cairn_shared::clock::Clock;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The name of the agent in this process.
const AGENT_ID: &str = "local-1";

/// Messages between loop and agent that may be under way.
const CHANNEL_DEPTH: usize = 64;

/// What a local run is made of.
pub struct LocalRun {
    /// Where events go.
    pub store: Arc<dyn EventStore>,
    /// Marks the processes of this state directory.
    pub marker: (String, String),
    /// The run as far as it has come; nothing has happened of a new one.
    pub state: State,
    /// The versions of its streams.
    pub versions: HashMap<StreamId, u64>,
    /// What it is, or was, submitted with.
    pub submitted: RunSubmitted,
    /// The epoch under which this process owns it.
    pub epoch: u64,
    /// Processes at a time.
    pub jobs: NonZeroUsize,
    /// The state directory, absolute.
    pub state_directory: PathBuf,
    /// The clock of the process.
    pub clock: Clock,
    /// Told what is durable.
    pub observer: Observer,
}

/// How a local run ended.
pub struct Ended {
    /// The run as it stands; all of it is durable.
    pub state: State,
    /// A signal stopped it.
    pub interrupted: bool,
}

/// Why a local run ended early.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The loop failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The system gives no event loop or signals.
    #[error("cannot set up the event loop")]
    Setup(#[source] std::io::Error),
}

/// Runs to the end, or until a signal: the first one (SIGINT, SIGTERM) stops the tasks and waits for them, the
/// second one kills them.
///
/// # Errors
/// The store failed, or the system.
pub fn drive(local: LocalRun) -> Result<Ended, LocalError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(LocalError::Setup)?;
    runtime.block_on(drive_here(local))
}

async fn drive_here(local: LocalRun) -> Result<Ended, LocalError> {
    let (orders_in, orders) = mpsc::channel(CHANNEL_DEPTH);
    let (reports_in, mut reports) = mpsc::channel::<Vec<cairn_model::Report>>(CHANNEL_DEPTH);
    let (inputs_in, mut inputs) = mpsc::channel(CHANNEL_DEPTH);
    let mut run = prepare(&local);
    let mut owner = RunLoop::new(
        RunConfig {
            store: local.store,
            clock: local.clock.clone(),
            user: user_name(),
            plan_hash: local.submitted.plan_hash.clone(),
            observer: local.observer,
        },
        local.state,
        Encoder::new(&local.submitted.run, local.versions),
    );
    for command in run.commands.drain(..) {
        // The commands were made for this very state.
        owner
            .command(command)
            .unwrap_or_else(|rejection| tracing::error!(%rejection, "a command was refused"));
    }
    let index = owner.state().find_agent(AGENT_ID).unwrap_or(cairn_model::AgentIndex(0));
    owner.connect(index, orders_in);
    let agent = tokio::spawn(agent::run(AgentConfig { index, ..run.agent }, orders, reports_in));
    let signals = Signals::new().map_err(LocalError::Setup)?;
    let forward = tokio::spawn({
        let inputs = inputs_in.clone();
        async move {
            while let Some(batch) = reports.recv().await {
                if inputs.send(Input::Reports(batch)).await.is_err() {
                    return;
                }
            }
        }
    });
    let interrupted = watch(&mut owner, &mut inputs, inputs_in, signals).await;
    // Its orders end with the owner: the agent kills what still runs.
    let state = owner.into_state();
    drop(inputs);
    let _ = tokio::join!(agent, forward);
    Ok(Ended { state, interrupted: interrupted? })
}

/// Drives the loop; `true` if a signal stopped it.
async fn watch(
    owner: &mut RunLoop,
    inputs: &mut mpsc::Receiver<Input>,
    wishes: mpsc::Sender<Input>,
    mut signals: Signals,
) -> Result<bool, LocalError> {
    let mut signalled = false;
    let driving = owner.drive(inputs);
    tokio::pin!(driving);
    loop {
        tokio::select! {
            ended = &mut driving => return Ok(ended.map(|()| signalled)?),
            name = signals.next() => {
                if signalled {
                    return Ok(true);
                }
                signalled = true;
                let (reply, _) = tokio::sync::oneshot::channel();
                let command = Command::Interrupt { reason: format!("{name} received").into() };
                let wishes = wishes.clone();
                // Beside this loop: the channel may be full just now. If the run is over, nobody listens.
                tokio::spawn(async move { drop(wishes.send(Input::Command(command, reply)).await) });
            }
        }
    }
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

struct Prepared {
    commands: Vec<Command>,
    agent: AgentConfig,
}

/// The commands that begin, or take over, the run; and the agent.
fn prepare(local: &LocalRun) -> Prepared {
    let state = &local.state;
    let mut commands = Vec::new();
    let is_new = state.run().id.is_empty();
    if is_new {
        commands.push(Command::Submit(Box::new(local.submitted.clone())));
    }
    commands.push(Command::TakeOver { epoch: local.epoch });
    if state.run().status == cairn_engine::RunStatus::Paused {
        commands.push(Command::Resume { scope: cairn_model::Scope::Run });
    }
    commands.push(Command::AgentJoined(Box::new(local_agent(local.jobs, local.epoch))));
    let agent = AgentConfig {
        id: AGENT_ID.to_owned(),
        index: cairn_model::AgentIndex(0),
        slots: local.jobs,
        run: local.submitted.run.clone(),
        plan: state.plan().clone(),
        plan_directory: PathBuf::from(&local.submitted.plan_directory),
        state_directory: local.state_directory.clone(),
        marker: local.marker.clone(),
        clock: local.clock.clone(),
        grace: agent::STOP_GRACE,
    };
    Prepared { commands, agent }
}

/// What this machine offers: its cores, its memory, and as many slots as asked for.
pub fn local_agent(jobs: NonZeroUsize, incarnation: u64) -> AgentSpec {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get) as u64;
    let memory = rustix::system::sysinfo();
    let bytes = u64::from(memory.mem_unit).saturating_mul(memory.totalram);
    let resources = vec![(CPUS.to_owned(), cores * 1000), (MEMORY.to_owned(), bytes.saturating_mul(1000))];
    agent::spec(AGENT_ID, incarnation, jobs, resources)
}

/// Who runs this, as the system calls them.
pub fn user_name() -> String {
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()))
}
