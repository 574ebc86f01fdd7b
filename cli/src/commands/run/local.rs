//! A run in this process: the loop that owns it and an agent, on one thread, beside the threads of the store and
//! of the slots.

use cairn_agent::runtime::{self as agent, AgentConfig};
use cairn_coordinator::codec::Encoder;
use cairn_coordinator::runtime::{Input, Observer, RunConfig, RunError, RunLoop};
use cairn_coordinator::store::{EventStore, StreamId};
use cairn_engine::{Rejection, State};
use cairn_model::plan::{CPUS, MEMORY};
use cairn_model::{AgentSpec, Command, RunSubmitted};
use cairn_shared::clock::Clock;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

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
    /// The run as it stands; all of it is durable, unless a second signal cut it short.
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
    /// The run cannot begin, or go on.
    #[error("run {run} cannot be started")]
    Refused {
        /// Which run.
        run: String,
        /// Why.
        #[source]
        source: Rejection,
    },
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
        // To be taken over may be all that a run needed to end: what must run at most once is not tried again.
        if owner.state().run().status.is_final() {
            break;
        }
        let refused = |source| LocalError::Refused { run: local.submitted.run.clone(), source };
        owner.command(command).map_err(refused)?;
    }
    let index = owner.state().find_agent(AGENT_ID).unwrap_or(cairn_model::AgentIndex(0));
    owner.connect(index, orders_in);
    let signals = Signals::new().map_err(LocalError::Setup)?;
    let mut agent = tokio::spawn(agent::run(AgentConfig { index, ..run.agent }, orders, reports_in));
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
    let interrupted = watch(&mut owner, &mut inputs, inputs_in, signals, &mut agent).await;
    // Its orders end with the owner: the agent kills what still runs.
    let state = owner.into_state();
    drop(inputs);
    let _ = forward.await;
    if !agent.is_finished() {
        let _ = agent.await;
    }
    Ok(Ended { state, interrupted: interrupted? })
}

/// Drives the loop; `true` if a signal stopped it.
async fn watch(
    owner: &mut RunLoop,
    inputs: &mut mpsc::Receiver<Input>,
    wishes: mpsc::Sender<Input>,
    mut signals: Signals,
    agent: &mut JoinHandle<()>,
) -> Result<bool, LocalError> {
    let mut signalled = false;
    let (driving, breaking) = (owner.drive(inputs), panic_of(agent));
    tokio::pin!(driving, breaking);
    loop {
        tokio::select! {
            ended = &mut driving => return Ok(ended.map(|()| signalled)?),
            never = &mut breaking => match never {},
            name = signals.next() => {
                if signalled {
                    return Ok(true);
                }
                signalled = true;
                let (reply, _) = tokio::sync::oneshot::channel();
                let command = Command::Interrupt { reason: format!("{name} received").into() };
                let wish = Input::Command { command, user: None, reply };
                let wishes = wishes.clone();
                // Beside this loop: the channel may be full just now. If the run is over, nobody listens.
                tokio::spawn(async move { drop(wishes.send(wish).await) });
            }
        }
    }
}

/// A panic of the agent is one of this process: the loop would wait for its reports for ever.
async fn panic_of(agent: &mut JoinHandle<()>) -> Infallible {
    if let Err(panic) = agent.await.map_err(tokio::task::JoinError::try_into_panic)
        && let Ok(panic) = panic
    {
        std::panic::resume_unwind(panic);
    }
    std::future::pending().await
}

/// The signals that stop a run, each with its name.
struct Signals(Vec<(&'static str, Signal)>);

impl Signals {
    /// Whoever starts us with SIGHUP or SIGINT ignored (`nohup`, a shell's background job) means it to stay so.
    fn new() -> std::io::Result<Self> {
        let ignored = ignored_signals();
        let wanted = |kind: SignalKind| ignored & (1 << (kind.as_raw_value() - 1)) == 0;
        let kinds = [("SIGINT", SignalKind::interrupt()), ("SIGHUP", SignalKind::hangup())];
        let kept = kinds.into_iter().filter(|&(_, kind)| wanted(kind));
        let all = kept.chain([("SIGTERM", SignalKind::terminate())]);
        all.map(|(name, kind)| Ok((name, signal(kind)?))).collect::<std::io::Result<_>>().map(Self)
    }

    async fn next(&mut self) -> &'static str {
        poll_fn(|context| {
            for (name, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*name);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The signals that this process was started with ignored: bit N - 1 for signal N. None where the system does not say.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_agent_ends_the_process_and_its_end_does_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let broken = runtime.block_on(async {
            tokio::spawn(async { panic_of(&mut tokio::spawn(async { panic!("a bug") })).await }).await
        });
        assert!(broken.is_err_and(|error| error.is_panic()));
        runtime.block_on(async {
            let mut ended = tokio::spawn(async {});
            let waiting = panic_of(&mut ended);
            tokio::pin!(waiting);
            tokio::select! {
                biased;
                never = &mut waiting => match never {},
                () = tokio::task::yield_now() => {}
            }
        });
    }
}
