//! Random scripts: what agents, people and faults do to a run, one step at a time.

use super::checker::{AgentFacts, Checker};
use super::properties::check_order;
use super::rig::{Rig, failed};
use crate::state::{CANCELLING, TIMED_OUT};
use crate::{Effect, Loan, State, Taken, TaskStatus, apply, next_deadline};
use cairn_model::{
    AgentIndex, Command, FailureKind, MilestoneIndex, Outcome, Report, ReportKind, Scope, TaskIndex,
    Timestamp,
};
use proptest::prelude::*;
use proptest::sample::Index;
use std::time::Duration;

/// Who may join: agents, a pool, and its members.
pub const AGENTS: [&str; 7] = [
    "one 1",
    "two 2 gpu=1 backlog=1",
    "three 3 label=x timers=2",
    "four 1 gpu=2 label=x backlog=3",
    "pool 3 gpu=2 timers=2 backlog=2 pool=7",
    "left 1 gpu=1 member=pool",
    "right 2 label=x member=pool",
];

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Step {
    Join(usize),
    Change(Index, u32, u64),
    Lose(Index),
    Accepted(Index, Index, bool),
    Declined(Index),
    Started(Index),
    Progress(Index, u16),
    Finish(Index, u8),
    Stale(Index, Index),
    Stranger(Index, Index),
    Pause(Index),
    Resume(Index),
    Cancel(Index),
    Retry(Index, bool),
    Interrupt,
    TakeOver,
    /// What other runs use of each agent, and the most slots for this one.
    Lend(Vec<(u32, bool)>, Option<u32>),
    Wait(u64),
    /// Of the last decision, only a part became durable.
    Crash(Index),
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let taken = prop::collection::vec((0..3_u32, prop::bool::weighted(0.2)), 0..5);
    let step = prop_oneof![
        3 => (0..AGENTS.len()).prop_map(Step::Join),
        1 => (any::<Index>(), 0..4_u32, 0..3_u64).prop_map(|(at, slots, gpus)| Step::Change(at, slots, gpus)),
        1 => any::<Index>().prop_map(Step::Lose),
        4 => (any::<Index>(), any::<Index>(), any::<bool>())
            .prop_map(|(task, agent, awaits)| Step::Accepted(task, agent, awaits)),
        1 => any::<Index>().prop_map(Step::Declined),
        3 => any::<Index>().prop_map(Step::Started),
        1 => (any::<Index>(), any::<u16>()).prop_map(|(task, permille)| Step::Progress(task, permille)),
        9 => (any::<Index>(), 0..12_u8).prop_map(|(task, how)| Step::Finish(task, how)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(task, attempt)| Step::Stale(task, attempt)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(task, agent)| Step::Stranger(task, agent)),
        1 => any::<Index>().prop_map(Step::Pause),
        2 => any::<Index>().prop_map(Step::Resume),
        1 => any::<Index>().prop_map(Step::Cancel),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(scope, downstream)| Step::Retry(scope, downstream)),
        1 => Just(Step::Interrupt),
        1 => Just(Step::TakeOver),
        1 => (taken, prop::option::of(0..4_u32)).prop_map(|(taken, most)| Step::Lend(taken, most)),
        3 => (0..30_u64).prop_map(Step::Wait),
        2 => any::<Index>().prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 0..80)
}

pub fn scope(rig: &Rig, index: Index) -> Scope {
    let plan = rig.state.plan();
    let (tasks, milestones) = (plan.task_count(), plan.milestones().len());
    match index.index(1 + milestones + tasks) {
        0 => Scope::Run,
        at if at <= milestones => Scope::Milestone(MilestoneIndex::new(at - 1)),
        at => Scope::Task(TaskIndex::new(at - 1 - milestones)),
    }
}

/// Gives a command, which may be refused.
pub fn wish(rig: &mut Rig, command: Command) {
    if let Ok(events) = rig.try_once(command) {
        check_order(rig, &events);
    }
}

pub fn is_out(rig: &Rig) -> Vec<TaskIndex> {
    rig.state.plan().tasks().filter(|&task| rig.state.task(task).status.is_out()).collect()
}

/// Who can speak of the attempt that is out: its agent, or a member of its pool.
pub fn speaker(rig: &Rig, task: TaskIndex) -> Option<AgentIndex> {
    let agent = rig.state.task(task).agent().expect("it is out");
    if !rig.checker.lies_in_pool(task) {
        return Some(agent);
    }
    let pool = &rig.checker.agents[agent.get()];
    let able = |agent: &AgentFacts| agent.is_member_of(pool) && rig.checker.fits(task, &agent.spec);
    rig.checker.agents.iter().position(able).map(AgentIndex::new)
}

fn says(rig: &mut Rig, agent: AgentIndex, task: TaskIndex, kind: ReportKind) {
    let attempt = rig.state.task(task).attempt;
    wish(rig, Command::Reports(vec![Report { task, attempt, agent, kind }]));
}

/// Who speaks of the attempt, once it has asked for its grant where it needs one; and whether it may start it.
fn holder(rig: &mut Rig, task: TaskIndex) -> Option<(AgentIndex, bool)> {
    let agent = speaker(rig, task)?;
    if !rig.state.needs_grant(task) {
        return Some((agent, true));
    }
    if !rig.state.task(task).is_granted() {
        says(rig, agent, task, ReportKind::Accepted { awaits_grant: true });
    }
    let row = rig.state.task(task);
    let is_to_stop = row.has(CANCELLING) || row.has(TIMED_OUT) || rig.state.run().interrupted;
    Some((agent, row.status == TaskStatus::InProgress || (row.is_granted() && !is_to_stop)))
}

pub fn finish(rig: &mut Rig, task: TaskIndex, how: u8) {
    let Some((agent, may_start)) = holder(rig, task) else { return };
    let outcome = match how {
        _ if !may_start => Outcome::NotStarted,
        0..=4 => Outcome::Completed,
        5 | 6 => failed(FailureKind::ExitCode),
        7 => failed(FailureKind::ProgramNotFound),
        8 => Outcome::Stopped,
        9 => Outcome::Lost { reason: "test".into() },
        _ => Outcome::NotStarted,
    };
    let started_at = Timestamp(rig.now.0 - 1000 * i64::from(how));
    says(rig, agent, task, ReportKind::Finished { outcome, started_at, finished_at: rig.now });
}

/// The last `lost` events never became durable.
fn crash(rig: &mut Rig, lost: usize, fresh: &State) {
    let length = rig.log.len() - lost;
    rig.log.truncate(length);
    let plan = rig.state.plan().clone();
    rig.checker = Checker::new(plan.clone(), rig.state.graph().clone(), vec![true; plan.milestones().len()]);
    rig.folded = fresh.clone();
    for (at, event) in &rig.log {
        rig.checker.take(event).expect("it was right before");
        apply(&mut rig.folded, event, *at);
    }
    rig.state = rig.folded.clone();
}

pub fn take(rig: &mut Rig, step: Step, fresh: &State) {
    let out = is_out(rig);
    let some = |index: Index| (!out.is_empty()).then(|| *index.get(&out));
    match step {
        Step::Join(at) => {
            let mut spec = super::rig::agent(AGENTS[at]);
            spec.incarnation += rig.state.agents().len() as u64;
            wish(rig, Command::AgentJoined(Box::new(spec)));
        }
        Step::Change(index, slots, gpus) => change(rig, index, slots, gpus),
        Step::Accepted(task, agent, awaits_grant) => {
            let agent = AgentIndex::new(agent.index(rig.state.agents().len().max(1)));
            if let Some(task) = some(task) {
                says(rig, agent, task, ReportKind::Accepted { awaits_grant });
            }
        }
        Step::Declined(index) => {
            if let Some(task) = some(index)
                && let Some(agent) = speaker(rig, task)
            {
                says(rig, agent, task, ReportKind::Declined { reason: "test".into() });
            }
        }
        Step::Lose(index) => {
            let agent = AgentIndex::new(index.index(rig.state.agents().len().max(1)));
            wish(rig, Command::AgentLost { agent, reason: "test".into() });
        }
        Step::Started(index) => {
            if let Some((task, agent)) = to_start(rig, some(index)) {
                let at = rig.now;
                says(rig, agent, task, ReportKind::Started { at });
                says(rig, agent, task, ReportKind::Started { at });
            }
        }
        Step::Progress(index, permille) => {
            if let Some((task, agent)) = to_start(rig, some(index)) {
                says(rig, agent, task, ReportKind::Progress { permille, message: None });
            }
        }
        Step::Finish(index, how) => {
            if let Some(task) = some(index) {
                finish(rig, task, how);
            }
        }
        Step::Stale(index, attempt) => stale(rig, index, attempt),
        Step::Stranger(index, agent) => {
            if let Some(task) = some(index) {
                stranger(rig, task, agent);
            }
        }
        Step::Pause(index) => {
            let scope = scope(rig, index);
            wish(rig, Command::Pause { scope, reason: "test".into() });
        }
        Step::Resume(index) => {
            let scope = scope(rig, index);
            wish(rig, Command::Resume { scope });
        }
        Step::Cancel(index) => {
            let scope = scope(rig, index);
            wish(rig, Command::Cancel { scope, reason: "test".into() });
        }
        Step::Retry(index, downstream) => {
            let scope = scope(rig, index);
            wish(rig, Command::Retry { scope, downstream });
        }
        Step::Lend(taken, most_slots) => {
            let taken = taken.into_iter().map(|(slots, closed)| {
                let resources = vec![("gpu".to_owned(), 1000 * u64::from(slots))];
                Taken { slots, timers: slots, resources, closed }
            });
            rig.state.lend(Loan { agents: taken.collect(), most_slots });
        }
        Step::Interrupt => wish(rig, Command::Interrupt { reason: "test".into() }),
        Step::TakeOver => {
            let epoch = rig.state.run().epoch + 1;
            wish(rig, Command::TakeOver { epoch });
        }
        Step::Wait(seconds) => {
            rig.now = rig.now.plus(Duration::from_secs(seconds));
            wish(rig, Command::Tick);
        }
        Step::Crash(index) => crash(rig, index.index(rig.log.len().min(8)), fresh),
    }
    while next_deadline(&rig.state).is_some_and(|deadline| deadline <= rig.now) {
        let events = rig.try_once(Command::Tick).expect("accepted");
        check_order(rig, &events);
        assert!(!events.is_empty(), "a decision that was asked for says something");
    }
}

/// An attempt that may start, and whose it is.
fn to_start(rig: &mut Rig, task: Option<TaskIndex>) -> Option<(TaskIndex, AgentIndex)> {
    let task = task?;
    let (agent, may_start) = holder(rig, task)?;
    (may_start && rig.state.task(task).status.is_out()).then_some((task, agent))
}

fn change(rig: &mut Rig, index: Index, slots: u32, gpus: u64) {
    let agents = rig.state.agents();
    if agents.is_empty() {
        return;
    }
    let mut spec = agents[index.index(agents.len())].spec.clone();
    (spec.slots, spec.timers) = (slots, slots);
    spec.resources = if gpus > 0 { vec![("gpu".to_owned(), 1000 * gpus)] } else { Vec::new() };
    wish(rig, Command::AgentChanged(Box::new(spec)));
}

/// Who speaks of what is another's is told to stop it, and nothing changes.
fn stranger(rig: &mut Rig, task: TaskIndex, index: Index) {
    let agent = AgentIndex::new(index.index(rig.state.agents().len().max(1)));
    let row = rig.state.task(task);
    let owner = &rig.checker.agents[row.agent().expect("it is out").get()];
    let stranger = &rig.checker.agents[agent.get()];
    if row.agent() == Some(agent) || stranger.is_member_of(owner) || stranger.is_pool() {
        return;
    }
    let (before, attempt) = (rig.state.clone(), row.attempt);
    let kind = ReportKind::Accepted { awaits_grant: true };
    rig.give(Command::Reports(vec![Report { task, attempt, agent, kind }]));
    assert!(rig.state == before, "a stranger changed something");
    assert_eq!(rig.answers, [Effect::Stop { task, attempt, agent }]);
}

/// A report of an attempt that is not out is heard by nobody.
fn stale(rig: &mut Rig, index: Index, attempt: Index) {
    let count = rig.state.plan().task_count();
    if count == 0 {
        return;
    }
    let task = TaskIndex::new(index.index(count));
    let kind =
        ReportKind::Finished { outcome: Outcome::Completed, started_at: rig.now, finished_at: rig.now };
    let mut report = rig.report(&rig.state.plan().task_name(task), kind);
    if rig.state.task(task).status.is_out() {
        report.attempt = u32::try_from(attempt.index(report.attempt as usize)).expect("small");
    }
    let before = rig.state.clone();
    rig.try_once(Command::Reports(vec![report])).expect("accepted");
    assert!(rig.state == before, "a stale report changed something");
}
