//! A run that is under way: its loop, and what goes with it.

use super::porter;
use super::post::Post;
use crate::codec::Encoder;
use crate::projection::MilestoneFiles;
use crate::runtime::{Input, RunConfig, RunError, RunLoop, Shares, Update};
use crate::store::{EventStore, StreamId};
use crate::telemetry::{FleetMetrics, Projects, RunMetrics, StoreMetrics, Unplaceable};
use cairn_engine::State;
use cairn_model::{AgentSpec, Command, Event, Plan, RunId};
use cairn_shared::clock::Clock;
use cairn_shared::message::trace::TraceContext;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Messages between a loop and what feeds and empties it.
const CHANNEL_DEPTH: usize = 64;

/// How runs are coordinated here, for metrics: one owner decides all of it.
const PATTERN: &str = "direct";

/// What a loop tells the service.
#[derive(Debug)]
pub(super) enum Note {
    /// The loop owns the run, durably: its agents may be asked what they have.
    TakenOver {
        /// The run.
        run: RunId,
        /// Under which epoch.
        epoch: u64,
    },
}

/// What a loop is started with.
pub(super) struct Begin {
    pub(super) run: RunId,
    pub(super) state: State,
    pub(super) versions: HashMap<StreamId, u64>,
    pub(super) plan_hash: String,
    /// What its messages carry.
    pub(super) trace: TraceContext,
    /// Who submitted it.
    pub(super) user: String,
    /// What is decided before all else.
    pub(super) first: Vec<Input>,
}

/// What all loops share.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) clock: Clock,
    pub(super) state_directory: Arc<Path>,
    pub(super) post: Post,
    pub(super) notes: mpsc::UnboundedSender<Note>,
    pub(super) head: watch::Sender<u64>,
    pub(super) shares: Shares,
    pub(super) metrics: Measures,
}

/// What is measured of all runs together.
#[derive(Clone)]
pub(super) struct Measures {
    pub(super) projects: Projects,
    pub(super) store: StoreMetrics,
    pub(super) fleet: FleetMetrics,
}

/// How a loop ended.
pub(super) struct LoopEnd {
    pub(super) run: RunId,
    pub(super) state: State,
    pub(super) result: Result<(), RunError>,
    /// What was still to be said to the loop: taken in, and on its way.
    pub(super) left: VecDeque<Input>,
    pub(super) coming: mpsc::UnboundedReceiver<Input>,
}

/// A run that is under way.
pub(super) struct Active {
    pub(super) plan: Arc<Plan>,
    pub(super) trace: TraceContext,
    /// Not bounded by itself: what agents say is bounded by the deliveries that are not settled, what people wish by
    /// the requests that may wait.
    inputs: mpsc::UnboundedSender<Input>,
}

impl Active {
    /// Makes the loop of a run; it is to be spawned.
    pub(super) fn start(
        begin: Begin,
        around: &Surroundings,
    ) -> (Self, impl Future<Output = LoopEnd> + Send + use<>) {
        let plan = begin.state.plan().clone();
        let (parcels_in, parcels) = mpsc::channel(CHANNEL_DEPTH);
        let (inputs_in, mut inputs) = mpsc::channel(CHANNEL_DEPTH);
        let (coming_in, mut coming) = mpsc::unbounded_channel();
        let porter =
            porter::carry(begin.run.to_string(), begin.trace, plan.clone(), parcels, around.post.clone());
        let config = RunConfig {
            store: around.store.clone(),
            clock: around.clock.clone(),
            user: begin.user,
            plan_hash: begin.plan_hash,
            observer: observer(&begin.run, &begin.state, around),
        };
        let mut owner =
            RunLoop::new(config, begin.state, Encoder::new(&begin.run.to_string(), begin.versions));
        owner.connect_fleet(parcels_in, around.shares.of(&begin.run.to_string()));
        owner.begin(begin.first);
        let run = begin.run;
        let driven = async move {
            let porter = tokio::spawn(porter);
            let feed = async {
                // Room first: an input that was taken out is never lost.
                while let Ok(room) = inputs_in.reserve().await {
                    let Some(input) = coming.recv().await else { break };
                    room.send(input);
                }
                std::future::pending().await
            };
            let result = tokio::select! {
                result = owner.drive(&mut inputs) => result,
                never = feed => never,
            };
            let (state, mut left) = owner.into_parts();
            while let Ok(input) = inputs.try_recv() {
                left.push_back(input);
            }
            // It ends when the loop has dropped its end of the channel.
            let _ = porter.await;
            LoopEnd { run, state, result, left, coming }
        };
        (Self { plan, trace: begin.trace, inputs: coming_in }, driven)
    }
}

impl Active {
    /// Hands something to the loop. One that is ending does not hear it, which its end tells.
    pub(super) fn send(&self, input: Input) {
        let _ = self.inputs.send(input);
    }

    /// Tells the loop of an agent, or a pool, as it is now. What the run knows already is refused there.
    pub(super) fn present(&self, spec: AgentSpec) {
        self.command(Command::AgentJoined(Box::new(spec.clone())));
        self.command(Command::AgentChanged(Box::new(spec)));
    }

    /// Hands a command to the loop that nobody waits for.
    fn command(&self, command: Command) {
        self.send(unasked(command));
    }
}

/// A command that nobody waits for.
pub(super) fn unasked(command: Command) -> Input {
    let (reply, _) = oneshot::channel();
    Input::Command { command, user: None, reply }
}

/// What is done with all that is durable.
fn observer(run: &RunId, state: &State, around: &Surroundings) -> crate::runtime::Observer {
    let mut files = MilestoneFiles::new(&around.state_directory, &run.to_string(), state);
    let (head, notes, run) = (around.head.clone(), around.notes.clone(), run.clone());
    let Measures { projects, store, fleet } = around.metrics.clone();
    let mut metrics = RunMetrics::new(state, &run, PATTERN, &projects);
    let mut unplaceable = Unplaceable::new(&run);
    let mut stale_reports = 0;
    Box::new(move |update: &Update<'_>| {
        head.send_if_modified(|head| {
            let grows = *head < update.position;
            *head = update.position.max(*head);
            grows
        });
        for event in update.events {
            // The first owner has nobody before him whose orders were heard.
            if let Event::OwnerChanged { epoch: epoch @ 2.. } = event {
                // The service may have ended.
                let _ = notes.send(Note::TakenOver { run: run.clone(), epoch: *epoch });
            }
        }
        if !update.events.is_empty() {
            store.appended(update.events.len(), update.append_took);
        }
        metrics.observe(update.state, update.events, update.at);
        if update.events.is_empty() {
            unplaceable.observe(update.state, update.at);
        }
        fleet.stale_reports(update.stale_reports - stale_reports);
        stale_reports = update.stale_reports;
        files.observe(update);
    })
}
