//! What is shown of the fleet, and of the coordinator itself.

use super::handle::{AgentView, HealthView};
use super::service::Service;
use crate::fleet::Member;
use cairn_model::{RunId, TaskIndex};
use cairn_shared::transport::Health;
use std::collections::BTreeMap;

/// Attempts of an agent that are shown.
pub(super) const SHOWN_ATTEMPTS: usize = 100;

/// Runs that could not be read that are named, and characters of the reason of each; the log tells all.
const SHOWN_UNREAD: usize = 5;
const SHOWN_REASON: usize = 200;

impl Service {
    /// All agents that are known.
    pub(super) fn agents(&self, shown_attempts: usize) -> Vec<AgentView> {
        let now = self.config.clock.now();
        let view = |member: &Member| {
            let held = self.holds.get(&member.spec.id).map(Vec::as_slice).unwrap_or_default();
            let name = |(run, task, attempt): &(String, TaskIndex, u32)| {
                let plan = RunId::parse(run).and_then(|run| Some(&self.runs.get(&run)?.plan));
                let task =
                    plan.filter(|plan| task.get() < plan.task_count()).map(|plan| plan.task_name(*task));
                format!("{run} {}.{attempt}", task.as_deref().unwrap_or("?"))
            };
            let state = match member {
                Member { has_left: true, .. } => "left",
                Member { is_lost: true, .. } => "lost",
                Member { is_draining: true, .. } | Member { is_drained: true, .. } => "draining",
                Member { is_silent: true, .. } => "silent",
                Member { .. } => "joined",
            };
            AgentView {
                id: member.spec.id.clone(),
                state,
                incarnation: member.spec.incarnation,
                version: member.version.clone(),
                slots: member.spec.slots,
                slots_used: u32::try_from(held.len()).unwrap_or(u32::MAX).min(member.spec.slots),
                resources: member
                    .spec
                    .resources
                    .iter()
                    .map(|(name, amount)| (name.clone(), units(*amount)))
                    .collect(),
                labels: member.spec.labels.clone(),
                joined_at: member.joined_at.to_string(),
                heard_seconds_ago: now.since(member.heard_at).as_secs_f64(),
                attempts: held.iter().take(shown_attempts).map(name).collect(),
            }
        };
        self.registry.members().map(view).collect()
    }

    /// How the coordinator is.
    pub(super) fn health_view(&self) -> HealthView {
        let store = match self.config.store.stopped() {
            None => ("store", true, "takes events".to_owned()),
            Some(stopped) => ("store", false, stopped.to_string()),
        };
        let transport = match &*self.health.borrow() {
            Health::Up(broker) => ("transport", true, broker.to_string()),
            Health::Down(cause) => ("transport", false, cause.to_string()),
            Health::Blocked(cause) => ("transport", false, format!("blocked: {cause}")),
        };
        let there = self.registry.members().filter(|member| !member.is_lost).count();
        let agents = ("agents", there > 0, format!("{there} in the fleet"));
        let runs = match self.unread.is_empty() {
            true => ("runs", true, format!("{} under way", self.runs.len())),
            false => ("runs", false, unread(&self.unread)),
        };
        // What cannot be read holds up nothing else.
        HealthView { is_ready: store.1 && transport.1, checks: vec![store, transport, agents, runs] }
    }
}

/// Which runs are left alone, and why.
fn unread(unread: &BTreeMap<String, String>) -> String {
    let mut message = "left alone, because they cannot be read: ".to_owned();
    for (at, (run, reason)) in unread.iter().take(SHOWN_UNREAD).enumerate() {
        let reason: String = reason.lines().next().unwrap_or_default().chars().take(SHOWN_REASON).collect();
        let separator = if at > 0 { "; " } else { "" };
        message.push_str(&format!("{separator}{run} ({reason})"));
    }
    match unread.len().saturating_sub(SHOWN_UNREAD) {
        0 => message,
        more => message + &format!(" and {more} more"),
    }
}

/// From thousandths.
#[expect(clippy::cast_precision_loss, reason = "amounts of a machine")]
fn units(thousandths: u64) -> f64 {
    thousandths as f64 / 1000.0
}
