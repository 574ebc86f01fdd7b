//! The end of an agent in good order: it drains, tells what is left to tell, and says goodbye.

use super::Event;
use crate::sim::fleet::broker::Place;
use crate::sim::fleet::bug::Bug;
use crate::sim::fleet::env::Env;
use crate::sim::fleet::hosts::{Host, agent_name};
use cairn_agent::machine::Input;
use cairn_shared::message::codec::Codec;
use cairn_shared::message::wire::ToCoordinator;
use std::time::Duration;

/// How long an agent that ends waits for acknowledgements, with nothing running any more.
pub(super) const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(10);

/// How far an end in good order has come (`keeper::service::Phase`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    No,
    /// Nothing new is taken, and what runs goes on.
    Draining,
    /// What runs is ended.
    Stopping,
}

impl Host {
    /// Somebody ends the agent (`Keeper::terminate`).
    pub fn terminate(&mut self, env: &mut Env) {
        let Some(keeper) = &mut self.keeper else { return };
        match keeper.leaving {
            Leaving::No => {
                keeper.leaving = Leaving::Draining;
                keeper.core.give(Input::Drain(true), env.now);
                keeper.beat_at = env.now;
            }
            Leaving::Draining | Leaving::Stopping => {
                keeper.leaving = Leaving::Stopping;
                keeper.core.give(Input::StopAll, env.now);
            }
        }
        self.step(env, Event::Time);
    }

    /// Whether it has ended in good order, now (`Keeper::is_over`, `Post::say_goodbye`).
    pub(super) fn end_in_good_order(&mut self, env: &mut Env) -> bool {
        let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.leaving != Leaving::No) else {
            return false;
        };
        let machine = &keeper.core.machine;
        let is_busy = machine.busy() > 0 || keeper.core.has_work() || keeper.in_flight.is_some();
        let is_hasty = env.is(Bug::GoodbyeTooEarly);
        if is_busy && !is_hasty {
            keeper.quiet_since = None;
            return false;
        }
        let since = *keeper.quiet_since.get_or_insert(env.now);
        let (is_empty, linked) = (machine.is_empty() || is_hasty, keeper.linked);
        let incarnation = keeper.core.incarnation;
        if is_empty
            && linked
            && let Some(child) = &self.child
        {
            env.summary.goodbyes += 1;
            let goodbye = ToCoordinator::Goodbye { agent: agent_name(self.number), incarnation };
            env.publish(self.connection(child.life), Place::Coordinator, Codec::Bincode, &goodbye);
            if is_hasty {
                // It has said so, and goes on.
                self.drained = None;
                if let Some(keeper) = &mut self.keeper {
                    keeper.leaving = Leaving::No;
                }
                return false;
            }
        } else if env.now < since.plus(LAST_WORDS_PATIENCE) {
            return false;
        }
        self.end_keeper(env);
        true
    }
}
