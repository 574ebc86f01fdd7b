//! Random plans against random agents and scripts. Each event is judged by the checker and folded as it comes
//! (see [`Rig::try_once`]); here stands what must hold between decisions and at the end.

use super::rig::Rig;
use super::script::{AGENTS, Step, finish, is_out, scope, speaker, steps, take, wish};
use crate::{Loan, apply, has_work, next_deadline, recover};
use cairn_model::{
    AgentIndex, Command, Ended, Event, Failure, FailureKind, MilestoneIndex, NodeIndex, RunOptions, Scope,
    TaskIndex,
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

/// Within a class, one decision dispatches in order.
pub fn check_order(rig: &Rig, events: &[Event]) {
    let mut last = BTreeMap::new();
    for event in events {
        if let Event::TaskDispatched { task, .. } = event {
            let order = rig.state.order();
            let before = last.insert(order.class_of(*task), order.rank(*task));
            assert!(before.is_none_or(|before| before < order.rank(*task)), "{events:?}");
        }
    }
}

/// No agent idles while there is a task that it could run, as far as other runs leave it room.
fn check_no_idling(rig: &Rig) {
    assert!(!has_work(&rig.state));
    let agents = &rig.checker.agents;
    let slots_out: u32 = agents.iter().map(|agent| agent.slots).sum();
    for task in rig.state.plan().tasks().filter(|&task| rig.state.is_dispatchable(task)) {
        let slot = rig.state.plan().takes_slot(task);
        let most = rig.state.loan().most_slots;
        if slot && most.is_some_and(|most| slots_out >= most) {
            continue;
        }
        for (index, agent) in agents.iter().enumerate() {
            let lent = rig.state.taken(AgentIndex::new(index)).cloned().unwrap_or_default();
            let room = match slot {
                true => agent.slots + lent.slots < agent.spec.slots,
                false => agent.timers + lent.timers < agent.spec.timers,
            };
            let wanted = &rig.state.plan().settings(task).resources;
            let taken = |name: &String| agent.taken.get(name).unwrap_or(&0) + lent.of(name);
            let has = |name: &String| {
                agent.spec.resources.iter().find(|(has, _)| has == name).map_or(0, |(_, has)| *has)
            };
            let fits = wanted.iter().all(|(name, amount)| taken(name) + amount <= has(name));
            let is_asked = !lent.closed && rig.checker.could_take(task, agent);
            assert!(!(is_asked && room && fits), "{task:?} waits");
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
        for (name, used) in booked.resources_used() {
            assert_eq!(counted.taken[name], used);
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
    rig.state.lend(Loan::default());
    let bound = 40 * (rig.state.plan().task_count() + 10);
    for step in 0..bound {
        if rig.state.run().status.is_final() {
            return;
        }
        let out = is_out(rig);
        match out.iter().find(|&&task| speaker(rig, task).is_some()) {
            Some(&task) => finish(rig, task, (step % 7) as u8),
            // Nobody takes it out of its pool, or nothing is out.
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
            let may_follow_the_end = matches!(step, Step::Retry(..) | Step::TakeOver | Step::Lose(_) | Step::Crash(_));
            if rig.state.run().status.is_final() && !may_follow_the_end {
                continue;
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
        events in prop::collection::vec((0..28_u8, any::<Index>(), any::<Index>(), 0..7_u32), 0..80),
    ) {
        let mut rig = Rig::with(&text, &[], RunOptions::default());
        for text in &AGENTS[..6] {
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
        21 => Event::TaskGranted { task, attempt, agent, awaited: true },
        22 => Event::LeaseExpired { task, attempt },
        23 => Event::RunReopened,
        24 => Event::MilestoneReopened { milestone, paused: attempt > 0 },
        25 => Event::TaskReopened { task, ended: Ended::Failed },
        26 => {
            let mut spec = super::rig::agent(AGENTS[first.index(AGENTS.len())]);
            spec.slots = attempt;
            Event::AgentChanged(Box::new(spec))
        }
        _ => Event::TaskCancelled { task, attempt },
    }
}
