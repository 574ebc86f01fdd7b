//! What a keeper does with orders: `keeper::service::contact`, and what is wrong with it where a bug is planted.

use super::Keeper;
use crate::sim::fleet::bug::Bug;
use crate::sim::fleet::env::Env;
use crate::sim::fleet::hosts::{Host, agent_name};
use crate::sim::fleet::judge::Attempt;
use cairn_agent::machine::AttemptId;
use cairn_model::TaskIndex;
use cairn_shared::message::wire::{RunOrders, WireOrder};

impl Host {
    pub(super) fn obey(
        &mut self,
        env: &mut Env,
        (tag, shared, redelivered): (u64, bool, bool),
        mut orders: RunOrders,
    ) {
        let name = agent_name(self.number);
        let Some(keeper) = &mut self.keeper else { return };
        let number = keeper.core.runs.find(&orders.run);
        let is_hasty = match env.bug {
            Some(Bug::SharedNotGranted) => shared,
            Some(Bug::RedeliveredNotGranted) => shared && redelivered,
            _ => false,
        };
        if is_hasty {
            orders.incarnation = keeper.core.incarnation;
        }
        if env.is(Bug::OrdersToEarlierLivesObeyed) {
            orders.incarnation = keeper.core.incarnation;
        }
        let run = env.run_of(&orders.run);
        let highest = keeper.epochs.entry(orders.run.clone()).or_default();
        let is_meant = shared || orders.incarnation == keeper.core.incarnation;
        let is_fenced = orders.epoch < *highest && is_meant;
        // What was said of a run that it never heard of is not kept.
        let is_about_new = |order: &WireOrder| matches!(order, WireOrder::Offer(_) | WireOrder::Stop(_));
        if number.is_some() || orders.orders.iter().any(is_about_new) {
            *highest = orders.epoch.max(*highest);
        }
        if env.is(Bug::EpochIgnored) {
            orders.epoch = *highest;
        }
        let named: Vec<_> = number.map_or_else(Vec::new, |run| attempts(run, &orders));
        let standing = |keeper: &Keeper| {
            let machine = &keeper.core.machine;
            let standing = |id: &AttemptId| (machine.is_under_way(*id), machine.is_stopping(*id));
            named.iter().map(standing).collect::<Vec<_>>()
        };
        let stood = standing(keeper);
        let mut again = Vec::new();
        for order in &mut orders.orders {
            match order {
                WireOrder::Offer(offer) => {
                    offer.needs_grant &= !env.is(Bug::GrantNotAwaited);
                    let task = TaskIndex(offer.task);
                    let id = number.map(|run| AttemptId { run, task, attempt: offer.attempt });
                    let settled =
                        |id: &AttemptId| keeper.core.machine.settled().any(|settled| settled == *id);
                    again.extend(id.filter(|id| env.is(Bug::SettledRunAgain) && settled(id)));
                }
                WireOrder::Acknowledge(of) if orders.incarnation == keeper.core.incarnation => {
                    if let Some(run) = run {
                        let task = TaskIndex(of.task);
                        let life = (&*name, keeper.core.incarnation);
                        env.check_acknowledged(life, Attempt { run, task, number: of.attempt });
                    }
                }
                _ => {}
            }
        }
        let is_over = orders.orders.contains(&WireOrder::Forget) && is_meant && !is_fenced;
        if let Some(run) = run.filter(|_| is_over) {
            env.judge.forgot(&name, keeper.core.incarnation, run);
        }
        let before = keeper.core.stale_orders();
        keeper.core.is_fenced = keeper.lease.has_ended(env.now) && !env.is(Bug::LeaseNeverEndsAtAgent);
        keeper.core.is_doubtful = keeper.lease.is_doubtful(env.now);
        keeper.core.obey((tag, shared && !is_hasty), orders, env.now);
        if shared && !env.is(Bug::RoomNotToldAgain) {
            keeper.told_room = None;
        }
        env.summary.stale_orders += keeper.core.stale_orders() - before;
        env.ensure(
            !is_fenced || standing(keeper) == stood,
            "an agent obeys a coordinator whose run is another's (I4)",
        );
        again.into_iter().for_each(|id| self.start_process(env, id));
    }
}

/// The attempts that are offered, granted or stopped.
fn attempts(run: u32, orders: &RunOrders) -> Vec<AttemptId> {
    let attempt = |order: &WireOrder| match order {
        WireOrder::Offer(offer) => Some((offer.task, offer.attempt)),
        WireOrder::Grant(of) | WireOrder::Stop(of) => Some((of.task, of.attempt)),
        WireOrder::Acknowledge(_) | WireOrder::Recall | WireOrder::Forget => None,
    };
    let id = |(task, attempt)| AttemptId { run, task: TaskIndex(task), attempt };
    orders.orders.iter().filter_map(attempt).map(id).collect()
}
