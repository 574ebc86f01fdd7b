//! The keeper and its child: started, set up, listened to, kept alive, replaced.

use super::{Keeper, Phase};
use crate::keeper::Settings;
use crate::keeper::launch::delay_after;
use crate::link::{Beat, LINK, Setup, ToChild, ToKeeper};
use crate::machine::Input;
use cairn_model::Timestamp;
use cairn_shared::message::codec::Codec;
use cairn_shared::message::wire::{Hello, PROTOCOL};
use sd_notify::NotifyState;
use std::time::Duration;

/// How often an agent says hello that no coordinator has welcomed.
const HELLO_INTERVAL: Duration = Duration::from_secs(1);

/// How often an agent beats that was welcomed and has had no answer to a beat yet.
const FIRST_BEAT_INTERVAL: Duration = Duration::from_millis(250);

/// Beats that a child may leave unanswered; then it is replaced: a frozen one answers none. With a heartbeat of a fifth
/// of the lease the new one is there before the lease ends.
const MAX_UNANSWERED_BEATS: u32 = 2;

/// A child that lived for so long did not fail at its start.
const CHILD_IS_STABLE: Duration = Duration::from_secs(10);

impl Keeper {
    pub(super) fn child_said(&mut self, said: ToKeeper) {
        let now = self.now();
        if let Some(child) = &mut self.child {
            child.unanswered = 0;
        }
        match said {
            ToKeeper::Attached { link } => self.attached(link),
            ToKeeper::Alive => {}
            ToKeeper::Linked(linked) => {
                self.linked = linked;
                if linked {
                    // Its answer may be all that work waits for.
                    self.beat_at = now;
                    self.parts.core.give(Input::RecallAll, now);
                }
            }
            ToKeeper::Welcomed { lease_millis, heartbeat_millis } => {
                let lease = Duration::from_millis(lease_millis.max(1));
                self.lease.welcomed(lease, now);
                // Whatever was said, the agent must beat several times in a lease.
                let heartbeat = Duration::from_millis(heartbeat_millis.max(1)).min(lease / 4);
                self.heartbeat = Some(heartbeat.max(Duration::from_millis(1)));
                // Its answer lets attempts start.
                self.beat_at = now;
            }
            ToKeeper::Answered { sequence } => {
                if self.lease.answered(sequence) {
                    self.parts.core.give(Input::Suspend(false), now);
                }
            }
            ToKeeper::Drain(on) => {
                self.drained_by_coordinator = on;
                self.parts.core.give(Input::Drain(on || self.phase != Phase::Working), now);
                self.beat_at = now;
            }
            ToKeeper::Orders { delivery, shared, trace, orders } => {
                let traced = trace.map(|trace| (orders.run.clone(), trace));
                self.parts.core.is_fenced = self.lease.has_ended(now);
                self.parts.core.is_doubtful = self.lease.is_doubtful(now);
                self.parts.core.obey((delivery, shared), orders, now);
                if shared {
                    // The child has counted it as taken, which it need not be.
                    self.told_room = None;
                }
                if let Some((run, trace)) = traced {
                    self.parts.core.runs.set_trace(&run, trace);
                }
            }
            ToKeeper::Shipped(name) => self.parts.logs.shipped(&name),
            ToKeeper::Done => self.said_goodbye = true,
        }
    }

    fn attached(&mut self, link: u16) {
        if link != LINK {
            tracing::warn!(
                "the program on disk is of another version: the child is started from this keeper's own"
            );
            self.own_image = true;
            self.failures = 0;
            self.replace_child();
            return;
        }
        let Some(child) = &mut self.child else { return };
        child.is_attached = true;
        child.tell(ToChild::Setup(Box::new(setup(&self.parts.settings, self.parts.core.incarnation))));
        self.open_logs.values().for_each(|name| child.tell(ToChild::Started(name.clone())));
        self.parts.logs.unshipped().for_each(|name| child.tell(ToChild::Ended(name.clone())));
        self.beat_at = self.now();
        self.told_room = None;
        self.tell_service_manager(NotifyState::Ready);
    }

    pub(super) fn replace_child(&self) {
        if let Some(child) = &self.child {
            child.kill();
        }
    }

    pub(super) fn child_is_gone(&mut self, how: &str) {
        let now = self.now();
        self.child = None;
        self.linked = false;
        let lived = now.since(self.child_since);
        self.failures = if lived >= CHILD_IS_STABLE { 1 } else { self.failures + 1 };
        self.status.restarts += 1;
        tracing::warn!(how, "the child has ended; tasks go on, and it is started again");
        self.start_child_at = Some(now.plus(delay_after(self.failures)));
    }

    pub(super) fn start_child(&mut self, now: Timestamp) {
        self.generation += 1;
        let launch = &self.parts.settings.launch;
        match launch.start(self.generation, self.own_image, &self.parts.events) {
            Ok(child) => {
                self.child = Some(child);
                self.child_since = now;
                self.start_child_at = None;
            }
            Err(error) => {
                self.failures += 1;
                tracing::error!(%error, program = %launch, "the child cannot be started");
                self.start_child_at = Some(now.plus(delay_after(self.failures)));
            }
        }
    }

    pub(super) fn beat(&mut self, now: Timestamp) {
        let heartbeat = self.heartbeat.unwrap_or(HELLO_INTERVAL);
        // Attempts wait for the first answer: a first beat that is lost must not cost them a whole heartbeat.
        let is_awaited = self.heartbeat.is_some() && self.lease.is_held(now).is_none();
        self.beat_at = now.plus(if is_awaited { heartbeat.min(FIRST_BEAT_INTERVAL) } else { heartbeat });
        if let Some(child) = &mut self.child {
            if child.unanswered >= MAX_UNANSWERED_BEATS {
                tracing::warn!("the child does not answer: it is replaced");
                child.kill();
                return;
            }
            child.unanswered += 1;
        }
        let sequence = self.lease.sent(now);
        let machine = &self.parts.core.machine;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.status.processes = count(machine.processes());
        self.status.busy = count(machine.busy());
        self.status.stale_orders = self.parts.core.stale_orders();
        self.status.lease_held = self.lease.is_held(now);
        let beat = Beat {
            sequence,
            draining: machine.is_draining(),
            holds: self.parts.core.holds(),
            status: self.status,
        };
        self.tell(ToChild::Beat(Box::new(beat)));
        self.flush(true);
    }

    /// Without systemd this does nothing; it is no reason to stop when it fails.
    pub(super) fn tell_service_manager(&self, state: NotifyState<'_>) {
        if !self.parts.settings.launch.is_here() {
            let _ = sd_notify::notify(&[state]);
        }
    }

    pub(super) fn tell(&self, frame: ToChild) {
        if let Some(child) = self.child.as_ref().filter(|child| child.is_attached) {
            child.tell(frame);
        }
    }
}

fn setup(settings: &Settings, incarnation: u64) -> Setup {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Setup {
        hello: Hello {
            agent: settings.id.clone(),
            incarnation,
            protocol: (PROTOCOL, PROTOCOL),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            content_type: Codec::Bincode.content_type().to_owned(),
            slots: count(settings.slots.get()),
            backlog: settings.backlog,
            timers: settings.timers,
            resources: settings.resources.clone(),
            labels: settings.labels.clone(),
            capability: settings.capability.clone(),
            draining: false,
        },
        transport: settings.transport.clone(),
        certificate_authority: settings.certificate_authority.clone(),
        queue_type: settings.queue_type.clone(),
        listen: settings.listen.clone(),
        directory: settings.directory.to_string_lossy().into_owned(),
    }
}
