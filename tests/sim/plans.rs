//! Random plans and fleets in which every task can be run by some agent.

use super::random::Random;
use cairn_model::plan::{Backoff, Milestone, NewTask};
use cairn_model::{
    Action, AgentRole, AgentSpec, MilestoneIndex, Need, Plan, PlanBuilder, Retry, TaskIndex, TaskSettings,
};
use std::time::Duration;

/// One to four agents.
pub fn fleet(random: &mut Random, closed: bool) -> Vec<AgentSpec> {
    let count = if closed { 1 } else { random.between(1, 4) };
    let agent = |number| {
        let mut resources = Vec::new();
        for (name, chance) in [("cpus", 700), ("gpu", 400)] {
            if random.chance(chance) {
                resources.push((name.to_owned(), random.between(1, 4) * 1000));
            }
        }
        let labels =
            if random.chance(400) { vec![("os".to_owned(), "linux".to_owned())] } else { Vec::new() };
        AgentSpec {
            id: format!("agent{number}"),
            incarnation: 1,
            slots: u32::try_from(random.between(1, 3)).expect("small"),
            backlog: u32::try_from(random.below(4)).expect("small"),
            timers: u32::try_from(random.between(1, 3)).expect("small"),
            resources,
            labels,
            role: AgentRole::Own,
        }
    };
    (0..count).map(agent).collect()
}

/// A plan of up to so many milestones with up to so many tasks each.
pub fn plan(random: &mut Random, fleet: &[AgentSpec], milestones: u64, tasks: u64) -> Plan {
    let mut builder = PlanBuilder::new("sim");
    let sizes: Vec<u64> = (0..random.between(1, milestones)).map(|_| random.below(tasks + 1)).collect();
    for (at, &size) in sizes.iter().enumerate() {
        builder.milestone(Milestone { id: format!("m{at}"), ..Milestone::default() }).expect("new");
        for task in 0..size {
            let action = match random.below(10) {
                0 => Action::Checkpoint,
                1 => Action::Wait(Duration::from_millis(random.below(3) * random.below(2_000))),
                _ => Action::Run(":"),
            };
            let task = NewTask {
                id: &format!("t{task}"),
                title: None,
                description: None,
                action,
                settings: settings(random, fleet),
                priority: i32::try_from(random.below(3)).expect("small"),
                estimate: None,
            };
            builder.task(task).expect("new");
        }
    }
    let (mut tasks, mut before) = (0, Vec::new());
    for (at, &size) in sizes.iter().enumerate() {
        let needs = some(random, &before, 2);
        builder.milestone_needs(needs);
        for _ in 0..size {
            let needs = some(random, &before, 3);
            builder.task_needs(needs);
            before.push(Need::Task(TaskIndex(tasks)));
            tasks += 1;
        }
        before.push(Need::Milestone(MilestoneIndex::new(at)));
    }
    builder.finish()
}

/// Up to `most` of what stands before, the nearer the likelier.
fn some(random: &mut Random, before: &[Need], most: u64) -> Vec<Need> {
    let recent = &before[before.len().saturating_sub(8)..];
    let count = if recent.is_empty() { 0 } else { random.below(most + 1) };
    (0..count).map(|_| *random.pick(recent)).collect()
}

fn settings(random: &mut Random, fleet: &[AgentSpec]) -> TaskSettings {
    // Made for one agent of the fleet, so that somebody can run it.
    let agent = random.pick(fleet).clone();
    let mut resources = Vec::new();
    for (name, amount) in &agent.resources {
        if random.chance(300) {
            resources.push((name.clone(), random.between(1, amount / 500) * 500));
        }
    }
    let retry = Retry {
        max_attempts: u32::try_from(random.between(1, 3)).expect("small"),
        backoff: *random.pick(&[Backoff::Constant, Backoff::Linear, Backoff::Exponential]),
        initial: Duration::from_millis(random.below(1_500)),
        max: Duration::from_secs(3),
        jitter_permille: 200,
    };
    TaskSettings {
        timeout: random.chance(300).then(|| Duration::from_millis(random.between(500, 5_000))),
        retry,
        resources,
        requires: if random.chance(300) { agent.labels } else { Vec::new() },
        at_most_once: random.chance(80),
        continue_on_error: random.chance(200),
        ..TaskSettings::default()
    }
}

/// A plan in words.
pub fn describe(plan: &Plan) -> String {
    let milestone = |at| format!("{at:?}<-{:?}", plan.milestone_needs(at));
    let mut words: Vec<_> = (0..plan.milestones().len()).map(MilestoneIndex::new).map(milestone).collect();
    words.extend(plan.tasks().map(|task| {
        let settings = plan.settings(task);
        format!(
            "{} {task:?}<-{:?} {:?} {:?} {:?} {:?}{}{}",
            plan.task_name(task),
            plan.needs(task),
            plan.action(task),
            settings.resources,
            settings.timeout,
            settings.retry,
            if settings.at_most_once { " at_most_once" } else { "" },
            if settings.continue_on_error { " continue_on_error" } else { "" },
        )
    }));
    words.join("; ")
}
