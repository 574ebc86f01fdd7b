//! What must hold of the events of a run, judged from the plan and the events alone: a second opinion that shares
//! no code with the engine. Slow, and as plain as the contract.

use cairn_model::{
    AgentIndex, Ended, Event, Failure, FailureKind, Graph, MilestoneIndex, Need, NodeIndex, NodeKind, Plan,
    Scope, TaskIndex,
};
use std::collections::BTreeMap;
use std::sync::Arc;

#[path = "checker_fleet.rs"]
mod fleet;

pub use fleet::AgentFacts;

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Completed,
    Failed,
    /// It failed, and the plan allows it.
    Allowed,
    Skipped,
    Cancelled,
}

impl End {
    fn lets_others_run(self) -> bool {
        matches!(self, Self::Completed | Self::Allowed)
    }
}

/// What is known of a task.
#[derive(Clone, Debug, Default)]
pub struct TaskFacts {
    /// The attempt that is out, and with whom.
    pub out: Option<(u32, AgentIndex)>,
    /// The pool that it was taken out of.
    pool: Option<AgentIndex>,
    pub started: bool,
    pub granted: bool,
    losses: u32,
    /// What it needs ran again when it was out.
    passed: bool,
    pub attempts: u32,
    pub failures: u32,
    pub end: Option<End>,
    pub paused: bool,
    pub cancelling: bool,
}

#[derive(Clone, Debug, Default)]
struct MilestoneFacts {
    started: bool,
    completed: bool,
    ended: bool,
    paused: bool,
    reopened: bool,
}

/// Follows a run and says what is wrong with it.
#[derive(Clone, Debug)]
pub struct Checker {
    plan: Arc<Plan>,
    graph: Arc<Graph>,
    owned: Vec<bool>,
    pub tasks: Vec<TaskFacts>,
    milestones: Vec<MilestoneFacts>,
    pub agents: Vec<AgentFacts>,
    outside: BTreeMap<(MilestoneIndex, NodeIndex), bool>,
    submitted: bool,
    closed_fleet: bool,
    epoch: u64,
    paused: bool,
    interrupted: bool,
    was_reopened: bool,
    pub ended: bool,
}

type Verdict = Result<(), String>;

fn ensure(holds: bool, complaint: &str) -> Verdict {
    if holds { Ok(()) } else { Err(complaint.to_owned()) }
}

impl Checker {
    /// Follows the milestones that are `owned`.
    pub fn new(plan: Arc<Plan>, graph: Arc<Graph>, owned: Vec<bool>) -> Self {
        Self {
            tasks: vec![TaskFacts::default(); plan.task_count()],
            milestones: vec![MilestoneFacts::default(); plan.milestones().len()],
            agents: Vec::new(),
            outside: BTreeMap::new(),
            submitted: false,
            closed_fleet: false,
            epoch: 0,
            paused: false,
            interrupted: false,
            was_reopened: false,
            ended: false,
            plan,
            graph,
            owned,
        }
    }

    /// Takes an event in, and complains if it must not be.
    pub fn take(&mut self, event: &Event) -> Verdict {
        self.judge(event).map_err(|complaint| format!("{complaint}: {event:?}"))
    }

    fn judge(&mut self, event: &Event) -> Verdict {
        let follows_the_end =
            matches!(event, Event::OwnerChanged { .. } | Event::AgentLost { .. } | Event::RunReopened);
        ensure(!self.ended || follows_the_end, "an event after the end of the run")?;
        ensure(self.submitted != matches!(event, Event::RunSubmitted(_)), "submitted first, and once")?;
        match event {
            Event::RunSubmitted(submitted) => {
                self.submitted = true;
                self.closed_fleet = submitted.options.closed_fleet;
                Ok(())
            }
            Event::OwnerChanged { epoch } => {
                ensure(*epoch > self.epoch, "an epoch rises")?;
                self.epoch = *epoch;
                self.interrupted = false;
                Ok(())
            }
            Event::RunInterrupted { .. } => {
                self.interrupted = true;
                Ok(())
            }
            Event::Paused { scope, .. } => self.hold(*scope, true),
            Event::Resumed { scope } => self.hold(*scope, false),
            Event::CancelRequested { scope, .. } => self.cancel(*scope),
            Event::RunCompleted { .. } | Event::RunFailed | Event::RunCancelled => self.end_run(event),
            Event::RunReopened => {
                ensure(self.ended, "what goes on is not reopened")?;
                (self.ended, self.paused, self.interrupted) = (false, false, false);
                Ok(())
            }
            Event::AgentJoined(spec) => self.join(spec),
            Event::AgentChanged(spec) => self.change(spec),
            Event::AgentLost { agent, .. } => {
                let agent = &mut self.agents[agent.get()];
                ensure(!std::mem::replace(&mut agent.lost, true), "an agent is lost once")
            }
            Event::MilestoneStarted { milestone } => self.start_milestone(*milestone),
            Event::MilestoneCompleted { milestone }
            | Event::MilestoneFailed { milestone }
            | Event::MilestoneSkipped { milestone }
            | Event::MilestoneCancelled { milestone } => self.end_milestone(*milestone, event),
            Event::MilestoneReopened { milestone, paused } => self.reopen_milestone(*milestone, *paused),
            Event::DependencyResolved { milestone, node, completed, .. } => {
                let before = self.outside.insert((*milestone, *node), *completed);
                ensure(before.is_none(), "a need is resolved once")
            }
            Event::TaskDispatched { task, attempt, agent } => self.dispatch(*task, *attempt, *agent),
            Event::TaskReopened { task, ended } => self.reopen(*task, *ended),
            Event::TaskGranted { task, attempt, agent, .. } => self.grant(*task, *attempt, *agent),
            Event::LeaseExpired { task, attempt } => {
                self.ensure_out(*task, *attempt)?;
                ensure(self.lies_in_pool(*task), "somebody has it")?;
                self.bring_home(*task);
                Ok(())
            }
            Event::TaskStarted { task, attempt, .. } => {
                self.ensure_out(*task, *attempt)?;
                ensure(!self.lies_in_pool(*task), "nobody has it")?;
                let needs_grant = self.plan.settings(*task).at_most_once && !self.closed_fleet;
                ensure(!needs_grant || self.tasks[task.get()].granted, "it starts only on a grant")?;
                let started = &mut self.tasks[task.get()].started;
                ensure(!std::mem::replace(started, true), "an attempt starts once")
            }
            Event::ProgressUpdated { task, attempt, .. } => self.ensure_out(*task, *attempt),
            Event::AttemptTimedOut { task, attempt } => {
                ensure(self.plan.settings(*task).timeout.is_some(), "no time-out without a limit")?;
                self.ensure_out(*task, *attempt)
            }
            Event::TaskCompleted { task, attempt, .. } => self.complete(*task, *attempt),
            Event::TaskFailed { task, attempt, failure, .. } => self.fail(*task, *attempt, failure.kind),
            Event::TaskRetryScheduled { task, attempt, counts, failure, .. } => {
                self.retry(*task, *attempt, *counts, failure)
            }
            Event::RetryDue { task } => {
                let row = &self.tasks[task.get()];
                ensure(row.out.is_none() && row.end.is_none() && row.attempts > 0, "a retry waits for it")
            }
            Event::TaskSkipped { task, cause } => self.skip(*task, *cause),
            Event::TaskCancelled { task, attempt } => {
                ensure(self.tasks[task.get()].cancelling, "somebody asked for it")?;
                if *attempt == 0 {
                    ensure(self.tasks[task.get()].out.is_none(), "the attempt is still out")?;
                } else {
                    self.ensure_out(*task, *attempt)?;
                }
                self.end_task(*task, End::Cancelled)
            }
        }
    }

    fn hold(&mut self, scope: Scope, paused: bool) -> Verdict {
        match scope {
            Scope::Run => {
                self.paused = paused;
                self.interrupted &= paused;
            }
            Scope::Milestone(milestone) => self.milestones[milestone.get()].paused = paused,
            Scope::Task(task) => self.tasks[task.get()].paused = paused,
        }
        Ok(())
    }

    fn cancel(&mut self, scope: Scope) -> Verdict {
        for task in self.plan.tasks() {
            let milestone = self.plan.milestone_of(task);
            let meant = match scope {
                Scope::Run => true,
                Scope::Milestone(named) => named == milestone,
                Scope::Task(named) => named == task,
            };
            let row = &mut self.tasks[task.get()];
            row.cancelling |= meant && row.end.is_none() && self.owned[milestone.get()];
        }
        Ok(())
    }

    fn reopen_milestone(&mut self, milestone: MilestoneIndex, paused: bool) -> Verdict {
        let mut needs = self.plan.milestone_needs(milestone).iter().map(|&need| self.need(milestone, need));
        let may_go_on = needs.all(|need| need == Some(true));
        let facts = &mut self.milestones[milestone.get()];
        ensure(facts.ended, "what goes on is not reopened")?;
        ensure(facts.paused == paused, "only a wish lifts a pause")?;
        (facts.ended, facts.completed, facts.reopened) = (false, false, true);
        facts.started &= may_go_on;
        Ok(())
    }

    fn reopen(&mut self, task: TaskIndex, ended: Ended) -> Verdict {
        let milestone = self.plan.milestone_of(task);
        ensure(!self.milestones[milestone.get()].ended, "its milestone goes on first")?;
        let own = self.plan.needs(task).iter();
        let of_milestone = self.plan.milestone_needs(milestone).iter();
        let of_milestone = of_milestone.filter(|_| !self.milestones[milestone.get()].started);
        let hopeless = own.chain(of_milestone).any(|&need| self.need(milestone, need) == Some(false));
        ensure(!hopeless, "what it needs can never be")?;
        // What is out has had what it needs, and keeps it.
        self.tasks.iter_mut().for_each(|row| row.passed |= row.out.is_some());
        let row = &mut self.tasks[task.get()];
        let fits = match row.end {
            Some(End::Completed) => ended == Ended::Completed,
            Some(End::Failed | End::Allowed) => ended == Ended::Failed,
            Some(End::Skipped) => ended == Ended::Skipped,
            Some(End::Cancelled) => ended == Ended::Cancelled,
            None => false,
        };
        ensure(fits, "it had ended otherwise")?;
        self.was_reopened = true;
        *row = TaskFacts { attempts: row.attempts, ..TaskFacts::default() };
        Ok(())
    }

    fn ensure_out(&self, task: TaskIndex, attempt: u32) -> Verdict {
        let row = &self.tasks[task.get()];
        ensure(row.end.is_none(), "the task has ended already")?;
        ensure(row.out.is_some_and(|(out, _)| out == attempt), "this attempt is not out")
    }

    /// Whether a need of something in `milestone` is met, or can never be; `None` while it is open.
    fn need(&self, milestone: MilestoneIndex, need: Need) -> Option<bool> {
        let (home, node) = match need {
            Need::Task(task) => (self.plan.milestone_of(task), self.graph.task(task)),
            Need::Milestone(needed) => (needed, self.graph.end(needed)),
        };
        if !self.owned[home.get()] {
            return self.outside.get(&(milestone, node)).copied();
        }
        match need {
            Need::Task(task) => self.tasks[task.get()].end.map(End::lets_others_run),
            Need::Milestone(needed) => {
                let hopeless =
                    |task: TaskIndex| self.tasks[task.get()].end.is_some_and(|end| !end.lets_others_run());
                let facts = &self.milestones[needed.get()];
                if facts.completed {
                    Some(true)
                } else if facts.ended
                    || self.plan.tasks_of(needed).any(hopeless)
                    || !facts.started
                        && self
                            .plan
                            .milestone_needs(needed)
                            .iter()
                            .any(|&deeper| self.need(needed, deeper) == Some(false))
                {
                    Some(false)
                } else {
                    None
                }
            }
        }
    }

    fn all_needs(&self, task: TaskIndex) -> impl Iterator<Item = Option<bool>> + '_ {
        let milestone = self.plan.milestone_of(task);
        let needs = self.plan.needs(task).iter().chain(self.plan.milestone_needs(milestone));
        needs.map(move |&need| self.need(milestone, need))
    }

    fn ensure_may_run(&self, task: TaskIndex) -> Verdict {
        let row = &self.tasks[task.get()];
        let milestone = self.plan.milestone_of(task);
        ensure(self.owned[milestone.get()], "it is scheduled elsewhere")?;
        ensure(row.end.is_none() && row.out.is_none(), "it is out, or has ended")?;
        ensure(self.milestones[milestone.get()].started, "its milestone has not started")?;
        // A milestone that has started goes on, also if what it needs is run again.
        let mut needs = self.plan.needs(task).iter().map(|&need| self.need(milestone, need));
        let has_all = row.passed || needs.all(|need| need == Some(true));
        ensure(has_all, "it runs before what it needs")
    }

    fn complete(&mut self, task: TaskIndex, attempt: u32) -> Verdict {
        if attempt == 0 {
            ensure(self.plan.is_checkpoint(task), "only a checkpoint needs no attempt")?;
            self.ensure_may_run(task)?;
        } else {
            self.ensure_out(task, attempt)?;
        }
        self.end_task(task, End::Completed)
    }

    fn fail(&mut self, task: TaskIndex, attempt: u32, kind: FailureKind) -> Verdict {
        let settings = self.plan.settings(task);
        let row = &self.tasks[task.get()];
        if attempt == 0 {
            ensure(
                kind == FailureKind::Unplaceable && self.closed_fleet,
                "only the unplaceable fails unseen",
            )?;
            let placeable = self.agents.iter().any(|agent| self.could_take(task, agent));
            ensure(!placeable && row.out.is_none(), "an agent could run it")?;
        } else {
            self.ensure_out(task, attempt)?;
            ensure(kind != FailureKind::Poisoned || row.losses == 2, "three agents are lost, no less")?;
            let used_up = row.failures + 1 >= settings.retry.max_attempts;
            let last = used_up || settings.at_most_once || row.cancelling || !kind.is_retryable();
            ensure(last, "it has attempts left")?;
        }
        self.end_task(task, if settings.continue_on_error { End::Allowed } else { End::Failed })
    }

    fn retry(&mut self, task: TaskIndex, attempt: u32, counts: bool, failure: &Failure) -> Verdict {
        self.ensure_out(task, attempt)?;
        let is_lost = !counts && failure.kind == FailureKind::AgentLost;
        let is_a_loss = is_lost && !self.lies_in_pool(task) && !self.closed_fleet;
        let may_have_run = self.tasks[task.get()].granted || self.closed_fleet;
        let settings = self.plan.settings(task);
        let row = &mut self.tasks[task.get()];
        let is_over = counts || row.started || (is_lost && may_have_run);
        ensure(!(settings.at_most_once && is_over), "at most once")?;
        row.losses += u32::from(is_a_loss);
        ensure(row.losses < 3, "it has brought three agents down")?;
        ensure(!row.cancelling, "it is to be cancelled")?;
        row.failures += u32::from(counts);
        ensure(!counts || row.failures < settings.retry.max_attempts, "attempts are used up")?;
        self.bring_home(task);
        Ok(())
    }

    fn skip(&mut self, task: TaskIndex, cause: TaskIndex) -> Verdict {
        let row = &self.tasks[task.get()];
        // Unless what it needs ran again in the meantime.
        ensure(row.attempts == 0 || self.was_reopened, "what ran is not skipped")?;
        ensure(self.all_needs(task).any(|need| need == Some(false)), "all that it needs may still be")?;
        let home = self.plan.milestone_of(cause);
        let guilty = matches!(self.tasks[cause.get()].end, Some(End::Failed | End::Cancelled));
        ensure(
            guilty || self.owned.iter().any(|owned| !owned) || !self.owned[home.get()],
            "the cause did it",
        )?;
        self.end_task(task, End::Skipped)
    }

    fn end_task(&mut self, task: TaskIndex, end: End) -> Verdict {
        let milestone = self.plan.milestone_of(task);
        ensure(self.tasks[task.get()].end.is_none(), "a task ends once")?;
        ensure(!self.milestones[milestone.get()].ended, "its milestone has ended")?;
        self.tasks[task.get()].end = Some(end);
        self.bring_home(task);
        Ok(())
    }

    fn start_milestone(&mut self, milestone: MilestoneIndex) -> Verdict {
        let mut needs = self.plan.milestone_needs(milestone).iter().map(|&need| self.need(milestone, need));
        ensure(needs.all(|need| need == Some(true)), "it starts before what it needs")?;
        let facts = &mut self.milestones[milestone.get()];
        ensure(!facts.ended && !std::mem::replace(&mut facts.started, true), "a milestone starts once")
    }

    fn end_milestone(&mut self, milestone: MilestoneIndex, event: &Event) -> Verdict {
        let ends: Option<Vec<End>> =
            self.plan.tasks_of(milestone).map(|task| self.tasks[task.get()].end).collect();
        let ends = ends.ok_or("a task of it is open")?;
        let facts = &mut self.milestones[milestone.get()];
        ensure(!std::mem::replace(&mut facts.ended, true), "a milestone ends once")?;
        let fits = match event {
            Event::MilestoneFailed { .. } => ends.contains(&End::Failed),
            Event::MilestoneCancelled { .. } => {
                !ends.contains(&End::Failed) && ends.contains(&End::Cancelled)
            }
            Event::MilestoneSkipped { .. } => {
                let not_started = ends.is_empty() && !facts.started;
                !ends.contains(&End::Failed)
                    && !ends.contains(&End::Cancelled)
                    && (not_started || ends.contains(&End::Skipped))
            }
            _ => {
                facts.completed = true;
                // A crash can have cut off what was to run again.
                (facts.started || facts.reopened) && ends.iter().all(|end| end.lets_others_run())
            }
        };
        ensure(fits, "the end of a milestone follows from its tasks")
    }

    fn end_run(&mut self, event: &Event) -> Verdict {
        let mut owned = self.milestones.iter().zip(&self.owned).filter(|(_, owned)| **owned);
        ensure(owned.all(|(milestone, _)| milestone.ended), "a milestone is open")?;
        self.ended = true;
        let count = |end: End| self.tasks.iter().filter(|task| task.end == Some(end)).count();
        let fits = match event {
            Event::RunCompleted { warnings } => {
                let bad = count(End::Failed) + count(End::Skipped) + count(End::Cancelled);
                bad == 0 && count(End::Allowed) == *warnings as usize
            }
            Event::RunCancelled => count(End::Cancelled) > 0,
            _ => count(End::Failed) + count(End::Skipped) > 0,
        };
        ensure(fits, "the end of a run follows from its tasks")
    }

    /// Whether `node` has been decided here, and how.
    pub fn decided(&self, node: NodeIndex) -> Option<bool> {
        match self.graph.kind(node) {
            NodeKind::Task(task) => self.tasks[task.get()].end.map(End::lets_others_run),
            NodeKind::End(milestone) => {
                let facts = &self.milestones[milestone.get()];
                facts.ended.then_some(facts.completed)
            }
            NodeKind::Start(_) => None,
        }
    }
}
