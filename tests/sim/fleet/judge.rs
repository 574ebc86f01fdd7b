//! What must hold, judged from outside: from what was answered, from what is durable, and from what processes really did.
//!
//! - I1: what was answered with yes is in the log after every crash.
//! - I2: the engine's own checker follows every run; a task ends once.
//! - I3: a process starts when all that its task needs has durably ended well.
//! - I4: a report of an attempt that is over changes nothing. A result in the log is one that a process of that very
//!   attempt had. An agent obeys no coordinator once it has heard the next owner of the run ([`super::keeper`]).
//! - I5: a process starts because of a durable dispatch to its agent, and a durable grant where one is needed; an attempt
//!   starts once, a task that must not be started twice starts once; no two attempts of a task run at a time.
//!   An agent that is taken for lost has found before that its lease has ended ([`super::world`]).
//! - I6: what is read after a crash is what was there before ([`super::store`]).
//! - I7: after the last fault everything ends ([`super::world`]).
//! - Of agents besides: what they have told of an end they do not take back; who drains takes nothing.

use super::env::{Env, Planned};
use cairn_engine::{State, TaskStatus};
use cairn_model::{AgentIndex, Event, FailureKind, Need, Outcome, TaskIndex, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An attempt of a run of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    pub run: usize,
    pub task: TaskIndex,
    pub number: u32,
}

/// What processes of an attempt really did.
#[derive(Default)]
struct Truth {
    starts: u32,
    completed: bool,
    failed: bool,
}

pub struct Judge {
    /// Runs that were answered with yes, and how many of their events that meant.
    answered: Vec<(usize, usize)>,
    dispatched: BTreeMap<Attempt, AgentIndex>,
    granted: BTreeMap<Attempt, AgentIndex>,
    truths: BTreeMap<Attempt, Truth>,
    /// Processes that run, by host and key.
    running: BTreeMap<(usize, u64), Attempt>,
    /// Attempts with a lower number were before their task was asked to run again.
    reopened: BTreeMap<(usize, TaskIndex), u32>,
    /// Tasks that had what they needed when a part of that was asked to run again: they keep it.
    passed: BTreeSet<(usize, TaskIndex)>,
    /// Hosts whose processes go on without a lease.
    holding: BTreeSet<usize>,
    /// Until when nobody on a host is awake to end its processes.
    asleep: BTreeMap<usize, Timestamp>,
    /// The ends that the lives of agents have told.
    told: BTreeMap<(String, u64, Attempt), Outcome>,
}

impl Judge {
    pub fn new(_: &[Planned]) -> Self {
        Self {
            answered: Vec::new(),
            dispatched: BTreeMap::new(),
            granted: BTreeMap::new(),
            truths: BTreeMap::new(),
            running: BTreeMap::new(),
            reopened: BTreeMap::new(),
            passed: BTreeSet::new(),
            holding: BTreeSet::new(),
            asleep: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// An event is in the log for good; `folded` is the run with it.
    pub fn is_durable(&mut self, run: usize, event: &Event, folded: &State) {
        match *event {
            Event::TaskReopened { task, .. } => {
                self.reopened.insert((run, task), folded.task(task).attempt + 1);
                let out = folded.plan().tasks().filter(|&task| folded.task(task).status.is_out());
                self.passed.extend(out.map(|task| (run, task)));
                self.passed.remove(&(run, task));
            }
            Event::TaskDispatched { task, attempt: number, agent } => {
                self.dispatched.insert(Attempt { run, task, number }, agent);
            }
            Event::TaskGranted { task, attempt: number, agent, .. } => {
                self.granted.insert(Attempt { run, task, number }, agent);
            }
            _ => {}
        }
    }

    /// A process runs.
    pub fn runs(&mut self, host: usize, key: u64, attempt: Attempt, holds: bool) {
        self.running.insert((host, key), attempt);
        if holds {
            self.holding.insert(host);
        }
    }

    /// Nobody on the host ends its processes for a while.
    pub fn sleeps(&mut self, host: usize, until: Timestamp) {
        self.asleep.insert(host, until.plus(WAKING_TAKES));
    }

    /// A process ended, perhaps with a result of its own.
    pub fn process_ended(&mut self, host: usize, key: u64, attempt: Attempt, outcome: &Outcome) {
        self.running.remove(&(host, key));
        let truth = self.truths.entry(attempt).or_default();
        truth.completed |= *outcome == Outcome::Completed;
        truth.failed |= matches!(outcome, Outcome::Failed { .. });
    }

    /// A life of an agent was told that a run is over: it has told nothing of it any more.
    pub fn forgot(&mut self, agent: &str, incarnation: u64, run: usize) {
        self.told.retain(|(who, life, attempt), _| (&**who, *life, attempt.run) != (agent, incarnation, run));
    }

    pub fn was_answered(&mut self, run: usize, events: usize) {
        self.answered.push((run, events));
    }
}

/// How long processes may go on when those wake that end them.
const WAKING_TAKES: Duration = Duration::from_millis(1_200);

/// What a process is started with.
pub struct Start<'a> {
    pub attempt: Attempt,
    /// Whose agent starts it.
    pub agent: &'a str,
    pub incarnation: u64,
    /// It was told to take nothing.
    pub is_drained: bool,
}

impl Env {
    /// I1, after a crash and at the end.
    pub fn check_answered(&self) {
        for &(run, events) in &self.judge.answered {
            let there = self.store.events(run).count();
            self.ensure(there >= events, "what was answered with yes is not in the log (I1)");
        }
    }

    /// I3 and I5, whenever a process starts.
    pub fn check_start(&mut self, start: &Start<'_>) {
        let Start { attempt, agent, incarnation, .. } = *start;
        let Attempt { run, task, number } = attempt;
        self.summary.starts += 1;
        let Some(&to) = self.judge.dispatched.get(&attempt) else {
            panic!("a process whose dispatch is not durable (I5, at {})", self.now);
        };
        let state = &self.store.folded[run];
        let granted = self.judge.granted.get(&attempt).copied();
        // What lies in a pool is whose it was granted.
        let is_pooled = state.agents()[to.get()].is_pool();
        self.ensure(
            !is_pooled || granted.is_some(),
            "it is taken out of a pool without a durable grant (I5)",
        );
        let holder = granted.unwrap_or(to);
        let spec = &state.agents()[holder.get()].spec;
        self.ensure(spec.id == agent && spec.incarnation == incarnation, "another agent starts it (I5)");
        let settings = state.plan().settings(task);
        let truth = self.judge.truths.entry(attempt).or_default();
        truth.starts += 1;
        let again = truth.starts > 1;
        self.ensure(!again, "an attempt starts twice (I5)");
        let first = self.judge.reopened.get(&(run, task)).copied().unwrap_or(0);
        let all = Attempt { number: first, ..attempt }..=Attempt { number: u32::MAX, ..attempt };
        let starts: u32 = self.judge.truths.range(all).map(|(_, truth)| truth.starts).sum();
        self.ensure(!settings.at_most_once || starts == 1, "what must not start twice starts twice (I5)");
        self.ensure(!settings.at_most_once || granted.is_some(), "it starts without a durable grant (I5)");
        let has_needs = self.judge.passed.contains(&(run, task)) || has_all_needs(state, task);
        self.ensure(has_needs, "it starts before what it needs (I3)");
        self.ensure(!start.is_drained, "an agent that takes nothing starts something");
        let row = state.task(task);
        self.ensure(row.status.is_out() && row.attempt == number, "an attempt starts that is over (I5)");
        let same = |other: &Attempt| other.run == run && other.task == task;
        let others = self.judge.running.iter().filter(|(_, other)| same(other));
        let others: Vec<_> = others.map(|(&(host, _), &other)| (host, other)).collect();
        for (host, _) in others {
            let is_asleep = self.judge.asleep.get(&host).is_some_and(|until| *until >= self.now);
            if self.judge.holding.contains(&host) {
                // That is what the owner of that agent asked for.
                self.summary.held_overlaps += 1;
                continue;
            }
            self.ensure(is_asleep, "two attempts of a task run at a time (I5)");
            self.summary.excused_overlaps += 1;
        }
    }

    /// I4: a result in the log is one that a process had.
    pub fn check_result(&self, run: usize, event: &Event) {
        let (task, number, completed) = match event {
            Event::TaskCompleted { task, attempt, .. } if *attempt > 0 => (*task, *attempt, true),
            Event::TaskFailed { task, attempt, failure, .. }
            | Event::TaskRetryScheduled { task, attempt, failure, .. }
                if matches!(failure.kind, FailureKind::ExitCode | FailureKind::Signal) =>
            {
                (*task, *attempt, false)
            }
            _ => return,
        };
        if !self.plans[run].plan.takes_slot(task) {
            return;
        }
        let truth = self.judge.truths.get(&Attempt { run, task, number });
        let is_true = truth.is_some_and(|truth| if completed { truth.completed } else { truth.failed });
        self.ensure(is_true, "a result that no process of this attempt had (I4)");
    }

    /// What an agent has told of an end stays so.
    pub fn check_told(&mut self, (agent, incarnation): (&str, u64), attempt: Attempt, outcome: &Outcome) {
        let key = (agent.to_owned(), incarnation, attempt);
        let told = self.judge.told.entry(key).or_insert_with(|| outcome.clone()) == outcome;
        self.ensure(told, "an agent takes back what it told of an end");
    }

    /// An end that was acknowledged is in the log, unless the attempt is another's.
    pub fn check_acknowledged(&self, (agent, incarnation): (&str, u64), attempt: Attempt) {
        let state = &self.store.folded[attempt.run];
        let row = state.task(attempt.task);
        let holder = row.agent().map(|agent| &state.agents()[agent.get()].spec);
        let is_theirs = holder.is_some_and(|spec| spec.id == agent && spec.incarnation == incarnation);
        let is_out = row.status.is_out() && row.attempt == attempt.number && is_theirs;
        self.ensure(!is_out, "an end is acknowledged before it is durable (I1)");
    }
}

fn has_all_needs(state: &State, task: TaskIndex) -> bool {
    let plan = state.plan();
    let milestone = plan.milestone_of(task);
    let is_met = |need: &Need| match *need {
        Need::Task(task) => match state.task(task).status {
            TaskStatus::Completed => true,
            TaskStatus::Failed => plan.settings(task).continue_on_error,
            _ => false,
        },
        Need::Milestone(milestone) => {
            state.milestone(milestone).status == cairn_engine::MilestoneStatus::Completed
        }
    };
    // A milestone that has started needs nothing any more, whatever is asked to run again.
    let has_started = state.milestone(milestone).started_at.is_some();
    let of_milestone = plan.milestone_needs(milestone).iter().filter(|_| !has_started);
    plan.needs(task).iter().chain(of_milestone).all(is_met)
}
