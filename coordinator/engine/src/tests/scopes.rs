//! Several schedulers of one run: each owns some milestones, and tells the others what was decided.

use super::rig::{Rig, plan};
use cairn_model::{Command, MilestoneIndex, NodeIndex, NodeKind, RunOptions, TaskIndex};

/// Engines that share a run, and tell each other what the others wait for.
struct Team {
    parts: Vec<Rig>,
    told: std::collections::BTreeSet<(usize, NodeIndex)>,
}

impl Team {
    fn new(text: &str, owned: &[&[&str]]) -> Self {
        let part = |owned: &&[&str]| {
            let mut rig = Rig::of(plan(text), Some(owned));
            rig.submit(RunOptions::default());
            if !rig.state.run().status.is_final() {
                rig.join("one 9");
            }
            rig
        };
        let mut team = Self { parts: owned.iter().map(part).collect(), told: Default::default() };
        team.exchange();
        team
    }

    /// Tells each what the others have decided, until nobody has anything new.
    fn exchange(&mut self) {
        let nodes = self.parts[0].state.graph().node_count();
        loop {
            let mut news = Vec::new();
            for (from, part) in self.parts.iter().enumerate() {
                for node in (0..nodes).map(NodeIndex::new) {
                    let home = match part.state.graph().kind(node) {
                        NodeKind::Task(task) => part.state.plan().milestone_of(task),
                        NodeKind::Start(milestone) | NodeKind::End(milestone) => milestone,
                    };
                    if part.state.owns(home)
                        && let Some(completed) = part.checker.decided(node)
                    {
                        news.push((from, node, completed));
                    }
                }
            }
            let mut changed = false;
            for (from, node, completed) in news {
                for to in (0..self.parts.len()).filter(|&to| to != from) {
                    if !self.told.insert((to, node)) {
                        continue;
                    }
                    let command = Command::ResolveDependency { node, completed, position: 1 };
                    let part = &mut self.parts[to];
                    if part.try_once(command.clone()).is_ok() {
                        part.give(Command::Tick);
                        changed = true;
                        // Told again, it changes nothing.
                        let before = part.state.clone();
                        assert!(part.try_once(command).is_err() && part.state == before);
                    }
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn owner(&mut self, task: &str) -> &mut Rig {
        let owns = |part: &&mut Rig| part.state.owns(part.state.plan().milestone_of(part.task(task)));
        self.parts.iter_mut().find(owns).expect("somebody owns it")
    }

    /// How each task and milestone ended, and whether a part failed.
    fn outcome(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let plan = self.parts[0].state.plan();
        let owner = |milestone| self.parts.iter().find(|part| part.state.owns(milestone)).expect("an owner");
        let task = |task: TaskIndex| owner(plan.milestone_of(task)).state.task(task).status.name();
        let milestones = (0..plan.milestones().len()).map(MilestoneIndex::new);
        (
            plan.tasks().map(task).collect(),
            milestones.map(|at| owner(at).state.milestone(at).status.name()).collect(),
        )
    }
}

const TEXT: &str =
    "a: x; y<-x | b<-a: v; w<-v,a/x | c<-a/x: u<-b/v; t | d<-b,c: s checkpoint | e: | f<-e: r<-d/s";

/// Runs the plan to its end; what is named in `failing` fails. `others` cuts it into parts.
fn outcome(failing: &[&str], owned: &[&[&str]]) -> (Vec<&'static str>, Vec<&'static str>) {
    let mut team = Team::new(TEXT, owned);
    loop {
        let out: Vec<String> = team
            .parts
            .iter()
            .flat_map(|part| {
                let plan = part.state.plan();
                plan.tasks()
                    .filter(|&task| part.state.task(task).status.is_out())
                    .map(|task| plan.task_name(task))
                    .collect::<Vec<_>>()
            })
            .collect();
        let Some(task) = out.first() else { break };
        let part = team.owner(task);
        if failing.contains(&task.as_str()) {
            part.fails(task)
        } else {
            part.completes(task)
        };
        team.exchange();
    }
    assert!(team.parts.iter().all(|part| part.state.run().status.is_final()), "each part ends");
    team.outcome()
}

#[test]
fn parts_of_a_run_reach_what_one_engine_reaches() {
    let whole: &[&[&str]] = &[&["a", "b", "c", "d", "e", "f"]];
    let cuts: [&[&[&str]]; 4] = [
        &[&["a", "b"], &["c", "d", "e", "f"]],
        &[&["a", "c", "e"], &["b", "d", "f"]],
        &[&["a"], &["b"], &["c"], &["d"], &["e"], &["f"]],
        &[&["f", "d", "c", "b", "a", "e"], &[]],
    ];
    for failing in [&[][..], &["a/x"], &["a/y"], &["b/v"], &["b/w"], &["c/t"], &["f/r"], &["c/t", "b/w"]] {
        let expected = outcome(failing, whole);
        for cut in cuts {
            assert_eq!(outcome(failing, cut), expected, "{failing:?} {cut:?}");
        }
    }
}

#[test]
fn a_part_counts_and_ends_its_own_tasks_only() {
    let mut rig = Rig::of(plan("a: x | b<-a: y; z"), Some(&["b"]));
    rig.submit(RunOptions::default());
    rig.join("one 9");
    assert_eq!((rig.count(crate::TaskStatus::Pending), rig.out().len()), (2, 0));
    let node = rig.state.graph().end(rig.milestone("a"));
    rig.give(Command::ResolveDependency { node, completed: true, position: 5 });
    assert_eq!(rig.out(), ["y", "z"]);
    rig.complete_all();
    assert_eq!((rig.run_status(), rig.milestone_status("a")), ("completed", "planned"));
}

#[test]
fn a_cancel_reaches_only_what_is_scheduled_here() {
    let mut rig = Rig::of(plan("a: x | b: y"), Some(&["b"]));
    rig.submit(RunOptions::default());
    rig.join("one 9");
    rig.cancel("run");
    assert_eq!((rig.status("a/x"), rig.status("b/y")), ("pending", "dispatched"));
    rig.stopped("b/y");
    assert_eq!(rig.run_status(), "cancelled");
}
