//! What the keeper is asked for from outside: to end, step by step, and to read its configuration again.

use super::{Keeper, Phase};
use crate::keeper::start::job_maker;
use crate::keeper::{Ended, Settings};
use crate::link::ToChild;
use crate::machine::Input;
use crate::runner::{StopReason, Urgency};
use sd_notify::NotifyState;
use std::time::Duration;
/// How long an agent that ends waits, with nothing running any more, for acknowledgements and for its logs to be taken.
/// What was not acknowledged stands in the journal and is told by the next keeper.
pub(super) const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(10);

/// How long it waits for its goodbye to be said.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(3);

impl Keeper {
    pub(super) fn terminate(&mut self) {
        let now = self.now();
        self.signals += 1;
        match self.signals {
            1 => {
                tracing::info!("draining: what runs goes on to its end; a second signal ends it");
                self.tell_service_manager(NotifyState::Stopping);
                self.phase = Phase::Draining;
                self.parts.core.give(Input::Drain(true), now);
                self.beat_at = now;
            }
            2 => {
                tracing::info!("stopping: what runs is ended");
                self.phase = Phase::Stopping;
                self.parts.core.give(Input::StopAll, now);
            }
            _ => self.parts.runner.stop_all(StopReason::ShuttingDown, Urgency::Immediate),
        }
    }

    pub(super) fn reload(&mut self) {
        match (self.parts.reload)() {
            Err(why) => tracing::error!("the configuration stays as it was: {why}"),
            Ok(mut settings) => {
                let old = &self.parts.settings;
                let fixed = |settings: &Settings| {
                    (
                        settings.id.clone(),
                        settings.slots,
                        settings.resources.clone(),
                        settings.backlog,
                        settings.timers,
                    )
                };
                if fixed(old) != fixed(&settings) || old.directory != settings.directory {
                    tracing::warn!(
                        "id, state, slots, backlog, timers and resources change with a restart only"
                    );
                    settings.id.clone_from(&old.id);
                    settings.directory.clone_from(&old.directory);
                    settings.resources.clone_from(&old.resources);
                    (settings.slots, settings.backlog, settings.timers) =
                        (old.slots, old.backlog, old.timers);
                }
                tracing::info!("the configuration was read again");
                self.parts.core.jobs = job_maker(&settings);
                self.parts.settings = settings;
                // A new child introduces the agent as it is now, from the program that is on disk now.
                self.failures = 0;
                self.own_image = false;
                self.replace_child();
            }
        }
    }

    /// How the keeper has ended, if it has.
    pub(super) fn is_over(&mut self) -> Option<Ended> {
        let ended = match self.phase {
            Phase::Working => return None,
            Phase::Draining => Ended::Drained,
            Phase::Stopping => Ended::Stopped,
            Phase::Leaving { until } => {
                let ended = if self.signals > 1 { Ended::Stopped } else { Ended::Drained };
                return (self.said_goodbye || self.now() >= until || self.child.is_none()).then_some(ended);
            }
        };
        let core = &self.parts.core;
        if core.machine.busy() > 0 || core.has_work() || self.in_flight.is_some() {
            self.quiet_since = None;
            return None;
        }
        let now = self.now();
        let since = *self.quiet_since.get_or_insert(now);
        if core.machine.is_empty() && self.parts.logs.unshipped().next().is_none() && self.linked {
            self.quiet_since = None;
            self.phase = Phase::Leaving { until: now.plus(GOODBYE_PATIENCE) };
            self.tell(ToChild::Goodbye);
            return None;
        }
        (now >= since.plus(LAST_WORDS_PATIENCE)).then_some(ended)
    }
}
