//! What a loop with a planted bug does too early, or again.

use super::{After, Owner};
use crate::sim::fleet::bug::Bug;
use crate::sim::fleet::env::Env;
use crate::sim::fleet::shell::Post;
use cairn_engine::{Effect, TaskStatus, react};
use cairn_model::{Command, Event, Outcome, Report, ReportKind};
use cairn_shared::message::wire::WireOrder;
use std::ops::Range;

impl Owner {
    /// What does not wait for the disk.
    pub(super) fn make_haste(&mut self, env: &mut Env, post: &Post, after: &mut After, events: Range<usize>) {
        let mut early = After::default();
        if env.is(Bug::AcknowledgeBeforeDurable) {
            early.acknowledgements = std::mem::take(&mut after.acknowledgements);
        }
        let is_submission =
            events.start == 0 || matches!(env.store.log[events.start].event, Event::RunSubmitted(_));
        let answers = if is_submission { Bug::AnswerBeforeDurable } else { Bug::WishAnsweredBeforeDurable };
        if env.is(answers) {
            early.replies = std::mem::take(&mut after.replies);
        }
        self.say(env, post, early);
        if env.is(Bug::GrantBeforeDurable) {
            let mut effects = Vec::new();
            events.clone().for_each(|at| react(&self.state, &env.store.log[at].event, &mut effects));
            effects.retain(|effect| matches!(effect, Effect::Grant { .. }));
            self.carry_out(env, post, effects);
        }
        if env.is(Bug::OrderBeforeDurable) {
            let mut effects = Vec::new();
            events.for_each(|at| react(&self.state, &env.store.log[at].event, &mut effects));
            self.carry_out(env, post, effects);
        }
        if env.is(Bug::ForgottenTooEarly) && self.state.run().status.is_final() {
            self.tell_all(env, post, WireOrder::Forget);
        }
    }

    /// The ends that come again.
    pub(super) fn ends_again(&self, env: &Env, command: &Command) -> Vec<Event> {
        let Command::Reports(reports) = command else { return Vec::new() };
        let is_again = |report: &&Report| {
            let row = self.state.task(report.task);
            let is_end = matches!(&report.kind, ReportKind::Finished { outcome, .. } if *outcome == Outcome::Completed);
            env.is(Bug::EndAppendedTwice)
                && is_end
                && row.status == TaskStatus::Completed
                && row.attempt == report.attempt
        };
        let end = |report: &Report| Event::TaskCompleted {
            task: report.task,
            attempt: report.attempt,
            finished_at: env.now,
            duration: std::time::Duration::ZERO,
        };
        reports.iter().filter(is_again).map(end).collect()
    }

    /// Who asks for what another has taken out of a pool may have it as well.
    pub(super) fn misjudged(&self, env: &Env, mut answers: Vec<Effect>) -> Vec<Effect> {
        for answer in answers.iter_mut().filter(|_| env.is(Bug::PooledBoundTwice)) {
            if let Effect::Stop { task, attempt, agent } = *answer
                && self.state.task(task).is_granted()
                && self.state.task(task).attempt == attempt
            {
                *answer = Effect::Grant { task, attempt, agent };
            }
        }
        answers
    }
}
