//! Random plans against random agents and scripts. Each event is judged by the checker and folded as it comes
//! (see [`Rig::try_once`]); here stands what must hold between decisions and at the end.

use super::checker::Checker;
use super::rig::{Rig, failed};
use crate::{State, apply, has_work, next_deadline, recover};
use cairn_model::{
    AgentIndex, Command, Event, Failure, FailureKind, MilestoneIndex, NodeIndex, Outcome, ReportKind,
    RunOptions, Scope, TaskIndex, Timestamp,
};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use std::time::Duration;

const FLAGS: [&str; 12] = [
    "",
    "",
    "",
    "",
    "checkpoint",
    "wait=3",
    "once",
    "allow",
    "tries=2",
    "tries=3 timeout=5",
    "gpu=1",
    "label=x",
];

/// A plan as text: each task with indices of what it needs among those before it, and flags.
fn plans() -> impl Strategy<Value = String> {
    let needs = || prop::collection::vec(any::<Index>(), 0..3);
    let task =
        (needs(), prop::sample::select(&FLAGS[..]), prop::sample::select(&["", "gpu=1", "priority=1"][..]));
    let milestone = (needs(), prop::collection::vec(task, 0..6));
    prop::collection::vec(milestone, 1..5).prop_map(|milestones| {
        let (mut names, mut text) = (Vec::new(), Vec::new());
        for (at, (needs, tasks)) in milestones.into_iter().enumerate() {
            let pick = |needs: Vec<Index>, names: &[String]| {
                let needs = needs.into_iter().filter(|_| !names.is_empty());
                needs.map(|need| need.get(names).clone()).collect::<Vec<_>>().join(",")
            };
            let head = format!("m{at}<-{}", pick(needs, &names));
            let mut words = Vec::new();
            for (task, (needs, first, second)) in tasks.into_iter().enumerate() {
                words.push(format!(
                    "t{task}<-{} {first} {}",
                    pick(needs, &names),
                    if first.contains("gpu") { "" } else { second }
                ));
                names.push(format!("m{at}/t{task}"));
            }
            names.push(format!("m{at}"));
            text.push(format!("{head}: {}", words.join("; ")));
        }
        text.join(" | ")
    })
}

const AGENTS: [&str; 4] =
    ["one 1", "two 2 gpu=1 backlog=1", "three 3 label=x timers=2", "four 1 gpu=2 label=x backlog=3"];

/// One step of a script.
#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Lose(Index),
    Started(Index),
    Progress(Index, u16),
    Finish(Index, u8),
    Stale(Index, Index),
    Pause(Index),
    Resume(Index),
    Cancel(Index),
    Interrupt,
    TakeOver,
    Wait(u64),
    /// Of the last decision, only a part became durable.
    Crash(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..AGENTS.len()).prop_map(Step::Join),
        1 => any::<Index>().prop_map(Step::Lose),
        3 => any::<Index>().prop_map(Step::Started),
        1 => (any::<Index>(), any::<u16>()).prop_map(|(task, permille)| Step::Progress(task, permille)),
        9 => (any::<Index>(), 0..10_u8).prop_map(|(task, how)| Step::Finish(task, how)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(task, attempt)| Step::Stale(task, attempt)),
        1 => any::<Index>().prop_map(Step::Pause),
        2 => any::<Index>().prop_map(Step::Resume),
        1 => any::<Index>().prop_map(Step::Cancel),
        1 => Just(Step::Interrupt),
        1 => Just(Step::TakeOver),
        3 => (0..30_u64).prop_map(Step::Wait),
        2 => any::<Index>().prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 0..60)
}

fn scope(rig: &Rig, index: Index) -> Scope {
    let plan = rig.state.plan();
    let (tasks, milestones) = (plan.task_count(), plan.milestones().len());
    match index.index(1 + milestones + tasks) {
        0 => Scope::Run,
        at if at <= milestones => Scope::Milestone(MilestoneIndex::new(at - 1)),
        at => Scope::Task(TaskIndex::new(at - 1 - milestones)),
    }
}

/// Gives a command, which may be refused.
fn wish(rig: &mut Rig, command: Command) {
    if let Ok(events) = rig.try_once(command) {
        check_order(rig, &events);
    }
}

/// Within a class, one decision dispatches in order.
fn check_order(rig: &Rig, events: &[Event]) {
    let mut last = BTreeMap::new();
    for event in events {
        if let Event::TaskDispatched { task, .. } = event {
            let order = rig.state.order();
            let before = last.insert(order.class_of(*task), order.rank(*task));
            assert!(before.is_none_or(|before| before < order.rank(*task)), "{events:?}");
        }
    }
}

/// No agent idles while there is a task that it could run.
fn check_no_idling(rig: &Rig) {
    assert!(!has_work(&rig.state));
    for task in rig.state.plan().tasks().filter(|&task| rig.state.is_dispatchable(task)) {
        let slot = rig.state.plan().takes_slot(task);
        for agent in
            rig.checker.agents.iter().filter(|agent| !agent.lost && rig.checker.fits(task, &agent.spec))
        {
            let room = if slot { agent.slots < agent.spec.slots } else { agent.timers < agent.spec.timers };
            let wanted = &rig.state.plan().settings(task).resources;
            let taken = |name: &String| agent.taken[name];
            let has = |name: &String| {
                agent.spec.resources.iter().find(|(has, _)| has == name).map_or(0, |(_, has)| *has)
            };
            assert!(
                !(room && wanted.iter().all(|(name, amount)| taken(name) + amount <= has(name))),
                "{task:?} waits"
            );
        }
    }
}

/// What the engine booked is what the checker counts.
fn check_books(rig: &Rig) {
    for (booked, counted) in rig.state.agents().iter().zip(&rig.checker.agents) {
        if counted.lost {
            continue;
        }
        assert_eq!((booked.slots_used, booked.timers_used), (counted.slots, counted.timers));
        for ((name, amount), free) in booked.spec.resources.iter().zip(&booked.free) {
            assert_eq!(amount - counted.taken[name], *free);
        }
    }
    let ended = |at: usize| rig.checker.tasks[at].end.is_some();
    for task in rig.state.plan().tasks() {
        assert_eq!(rig.state.task(task).status.is_final(), ended(task.get()), "{task:?}");
        assert_eq!(
            rig.state.task(task).status.is_out(),
            rig.checker.tasks[task.get()].out.is_some(),
            "{task:?}"
        );
    }
}

fn is_out(rig: &Rig) -> Vec<TaskIndex> {
    rig.state.plan().tasks().filter(|&task| rig.state.task(task).status.is_out()).collect()
}

fn finish(rig: &mut Rig, task: TaskIndex, how: u8) {
    let outcome = match how {
        0..=4 => Outcome::Completed,
        5 | 6 => failed(FailureKind::ExitCode),
        7 => failed(FailureKind::ProgramNotFound),
        8 => Outcome::Stopped,
        _ => Outcome::NotStarted,
    };
    let started_at = Timestamp(rig.now.0 - 1000 * i64::from(how));
    let kind = ReportKind::Finished { outcome, started_at, finished_at: rig.now };
    let report = rig.report(&rig.state.plan().task_name(task), kind);
    wish(rig, Command::Reports(vec![report]));
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

fn take(rig: &mut Rig, step: Step, fresh: &State) {
    let out = is_out(rig);
    let some = |index: Index| (!out.is_empty()).then(|| *index.get(&out));
    let name = |rig: &Rig, task| rig.state.plan().task_name(task);
    match step {
        Step::Join(at) => {
            let mut spec = super::rig::agent(AGENTS[at]);
            spec.incarnation += rig.state.agents().len() as u64;
            wish(rig, Command::AgentJoined(Box::new(spec)));
        }
        Step::Lose(index) => {
            let agent = AgentIndex::new(index.index(rig.state.agents().len().max(1)));
            wish(rig, Command::AgentLost { agent, reason: "test".into() });
        }
        Step::Started(index) => {
            if let Some(task) = some(index) {
                let report = rig.report(&name(rig, task), ReportKind::Started { at: rig.now });
                wish(rig, Command::Reports(vec![report.clone(), report]));
            }
        }
        Step::Progress(index, permille) => {
            if let Some(task) = some(index) {
                let kind = ReportKind::Progress { permille, message: None };
                let report = rig.report(&name(rig, task), kind);
                wish(rig, Command::Reports(vec![report]));
            }
        }
        Step::Finish(index, how) => {
            if let Some(task) = some(index) {
                finish(rig, task, how);
            }
        }
        Step::Stale(index, attempt) => stale(rig, index, attempt),
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

/// Faults end, somebody helps where it takes a person, and one agent can run everything: the run must end.
fn bring_to_an_end(rig: &mut Rig) {
    let milestones =
        (0..rig.state.plan().milestones().len()).map(|at| Scope::Milestone(MilestoneIndex::new(at)));
    let scopes: Vec<_> =
        rig.state.plan().tasks().map(Scope::Task).chain(milestones).chain([Scope::Run]).collect();
    for scope in scopes {
        wish(rig, Command::Resume { scope });
    }
    let mut able = super::rig::agent("able 2 gpu=2 label=x");
    able.incarnation = 9999;
    wish(rig, Command::AgentJoined(Box::new(able)));
    let bound = 20 * (rig.state.plan().task_count() + 10);
    for step in 0..bound {
        if rig.state.run().status.is_final() {
            return;
        }
        match is_out(rig).first() {
            Some(&task) => finish(rig, task, (step % 7) as u8),
            None => {
                let deadline = next_deadline(&rig.state).expect("somebody must move it");
                rig.now = rig.now.max(deadline);
                wish(rig, Command::Tick);
            }
        }
        check_books(rig);
    }
    panic!("the run does not end: {:?}", rig.statuses());
}

proptest! {
    #[test]
    fn every_run_keeps_the_rules_and_ends(
        text in plans(),
        steps in steps(),
        fail_fast in prop::bool::weighted(0.2),
        closed_fleet in prop::bool::weighted(0.2),
        seed in any::<u64>(),
    ) {
        let fresh = Rig::of(super::rig::plan(&text), None).state;
        let mut rig = Rig::with(&text, &[], RunOptions { fail_fast, seed, closed_fleet });
        for step in steps {
            if rig.state.run().status.is_final() {
                break;
            }
            take(&mut rig, step, &fresh);
            check_books(&rig);
            check_no_idling(&rig);
        }
        bring_to_an_end(&mut rig);
        prop_assert!(rig.checker.ended);
        prop_assert!(rig.checker.tasks.iter().all(|task| task.end.is_some()));
        prop_assert_eq!(next_deadline(&rig.state), None);
        prop_assert_eq!(recover(&rig.state), [crate::Effect::Ended]);
    }

    #[test]
    fn events_that_do_not_fit_break_nothing(
        text in plans(),
        events in prop::collection::vec((0..22_u8, any::<Index>(), any::<Index>(), 0..4_u32), 0..80),
    ) {
        let mut rig = Rig::with(&text, &[], RunOptions::default());
        for text in &AGENTS[..2] {
            apply(&mut rig.state, &Event::AgentJoined(Box::new(super::rig::agent(text))), rig.now);
        }
        let any = rig.state.plan().task_count() > 0;
        for (kind, first, second, number) in events.into_iter().filter(|_| any) {
            let event = any_event(&rig, kind, (first, second), number);
            apply(&mut rig.state, &event, rig.now);
            let mut effects = Vec::new();
            crate::react(&rig.state, &event, &mut effects);
            let _ = (recover(&rig.state), has_work(&rig.state), next_deadline(&rig.state));
        }
    }
}

/// Any event about rows that exist, whether it fits or not.
fn any_event(rig: &Rig, kind: u8, (first, second): (Index, Index), attempt: u32) -> Event {
    let plan = rig.state.plan();
    let task = TaskIndex::new(first.index(plan.task_count()));
    let cause = TaskIndex::new(second.index(plan.task_count()));
    let milestone = MilestoneIndex::new(second.index(plan.milestones().len()));
    let agent = AgentIndex(attempt);
    let (at, duration) = (rig.now, Duration::from_secs(u64::from(attempt)));
    let failure = Box::new(Failure { kind: FailureKind::Signal, message: String::new(), exit_code: None });
    match kind {
        0 => Event::OwnerChanged { epoch: u64::from(attempt) },
        1 => Event::RunInterrupted { reason: "".into() },
        2 => Event::Paused { scope: scope(rig, first), reason: "".into() },
        3 => Event::Resumed { scope: scope(rig, first) },
        4 => Event::CancelRequested { scope: scope(rig, first), reason: "".into(), fail_fast: attempt == 0 },
        5 => Event::AgentLost { agent, reason: "".into() },
        6 => Event::MilestoneStarted { milestone },
        7 => Event::MilestoneCompleted { milestone },
        8 => Event::MilestoneFailed { milestone },
        9 => Event::MilestoneSkipped { milestone },
        10 => Event::MilestoneCancelled { milestone },
        11 => {
            let node = NodeIndex::new(first.index(rig.state.graph().node_count()));
            Event::DependencyResolved { milestone, node, completed: attempt == 0, position: 0 }
        }
        12 => Event::TaskDispatched { task, attempt, agent },
        13 => Event::TaskStarted { task, attempt, started_at: at },
        14 => Event::ProgressUpdated { task, attempt, permille: 7, message: Some("half".into()) },
        15 => Event::TaskCompleted { task, attempt, finished_at: at, duration },
        16 => Event::TaskFailed { task, attempt, failure, finished_at: at, duration },
        17 => {
            let retry_at = at.plus(duration);
            Event::TaskRetryScheduled { task, attempt, failure, counts: attempt > 0, retry_at }
        }
        18 => Event::RetryDue { task },
        19 => Event::AttemptTimedOut { task, attempt },
        20 => Event::TaskSkipped { task, cause },
        _ => Event::TaskCancelled { task, attempt },
    }
}
