use super::*;
use crate::plan::{Action, Milestone, NewTask, PlanBuilder, TaskSettings};
use proptest::prelude::*;

/// A plan with `sizes[m]` tasks in milestone m, and needs as given.
fn plan(sizes: &[usize], task_needs: &[Vec<Need>], milestone_needs: &[Vec<Need>]) -> Plan {
    let mut builder = PlanBuilder::new("test");
    for (at, &size) in sizes.iter().enumerate() {
        builder.milestone(Milestone { id: format!("m{at}"), ..Milestone::default() }).expect("new");
        for task in 0..size {
            let task = NewTask {
                id: &format!("t{task}"),
                title: None,
                description: None,
                action: Action::Checkpoint,
                settings: TaskSettings::default(),
                priority: 0,
                estimate: None,
            };
            builder.task(task).expect("new");
        }
    }
    task_needs.iter().for_each(|needs| builder.task_needs(needs.iter().copied()));
    milestone_needs.iter().for_each(|needs| builder.milestone_needs(needs.iter().copied()));
    builder.finish()
}

fn task(index: u32) -> Need {
    Need::Task(TaskIndex(index))
}

fn milestone(index: u32) -> Need {
    Need::Milestone(MilestoneIndex(index))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn milestones_cost_a_sum_and_not_a_product() {
    let graph = Graph::new(&plan(&[1000, 1000], &[], &[vec![], vec![milestone(0)]])).expect("acyclic");
    assert_eq!(graph.edge_count(), 4 * 1000 + 1);
    assert_eq!(graph.levels().iter().max(), Some(&2));
    assert_eq!(graph.critical_path(|_| SECOND).1, 2 * SECOND);
}

#[test]
fn an_empty_milestone_passes_its_needs_on() {
    let graph = Graph::new(&plan(&[1, 0, 1], &[], &[vec![], vec![milestone(0)], vec![milestone(1)]]))
        .expect("acyclic");
    assert_eq!(graph.critical_path(|_| SECOND), (vec![TaskIndex(0), TaskIndex(1)], 2 * SECOND));
}

#[test]
fn a_cycle_is_told_whole() {
    let looped = plan(&[4], &[vec![task(2)], vec![task(0)], vec![task(1), task(3)], vec![]], &[]);
    let cycle = Graph::new(&looped).expect_err("a cycle");
    assert_eq!(cycle.nodes, [0, 1, 2].map(NodeIndex));
    let steps = cycle.steps(&looped);
    assert_eq!(steps[0].dependent, NodeKind::Task(TaskIndex(0)));
    assert_eq!(steps[0].on, NodeKind::Task(TaskIndex(2)));
    assert!(steps.iter().all(|step| step.need == Some(0)));
}

#[test]
fn a_cycle_through_milestones_is_told_whole() {
    let looped = plan(&[1, 1], &[vec![], vec![]], &[vec![task(1)], vec![milestone(0)]]);
    let cycle = Graph::new(&looped).expect_err("a cycle");
    let steps = cycle.steps(&looped);
    assert_eq!(steps.iter().filter(|step| step.need.is_some()).count(), 2);
    assert_eq!(steps.len(), 5);
}

#[test]
fn a_chain_of_a_million_overflows_no_stack() {
    let count = 1_000_000;
    let mut needs: Vec<Vec<Need>> =
        (0..count).map(|at: u32| at.checked_sub(1).map(task).into_iter().collect()).collect();
    let chain = plan(&[count as usize], &needs, &[]);
    let graph = Graph::new(&chain).expect("acyclic");
    assert_eq!(graph.critical_path(|_| SECOND).1, SECOND * count);
    needs[0] = vec![task(count - 1)];
    let ring = plan(&[count as usize], &needs, &[]);
    assert_eq!(Graph::new(&ring).expect_err("a ring").nodes.len(), count as usize);
}

/// Milestone sizes, and for each task and milestone some needs anywhere.
fn any_plan() -> impl Strategy<Value = Plan> {
    let sizes = prop::collection::vec(0_usize..6, 1..6);
    sizes.prop_flat_map(|sizes| {
        let (tasks, milestones) = (sizes.iter().sum::<usize>(), sizes.len());
        let any_need = (0..tasks + milestones).prop_map(move |at| match at.checked_sub(tasks) {
            None => Need::Task(TaskIndex::new(at)),
            Some(at) => Need::Milestone(MilestoneIndex::new(at)),
        });
        let needs = prop::collection::vec(any_need, 0..2);
        let task_needs = prop::collection::vec(needs.clone(), tasks);
        let milestone_needs = prop::collection::vec(needs, milestones);
        (Just(sizes), task_needs, milestone_needs)
            .prop_map(|(sizes, task_needs, milestone_needs)| plan(&sizes, &task_needs, &milestone_needs))
    })
}

/// The same graph in petgraph, with each milestone's barrier edges drawn to all its tasks.
fn in_petgraph(plan: &Plan) -> petgraph::graph::DiGraph<(), ()> {
    let mut graph = petgraph::graph::DiGraph::new();
    let nodes: Vec<_> =
        (0..plan.task_count() + 2 * plan.milestones().len()).map(|_| graph.add_node(())).collect();
    let start = |milestone: MilestoneIndex| nodes[plan.task_count() + 2 * milestone.get()];
    let end = |milestone: MilestoneIndex| nodes[plan.task_count() + 2 * milestone.get() + 1];
    let source = |need: &Need| match *need {
        Need::Task(task) => nodes[task.get()],
        Need::Milestone(milestone) => end(milestone),
    };
    for index in (0..plan.milestones().len()).map(MilestoneIndex::new) {
        graph.add_edge(start(index), end(index), ());
        for need in plan.milestone_needs(index) {
            graph.add_edge(source(need), start(index), ());
        }
        for task in plan.tasks_of(index) {
            graph.add_edge(start(index), nodes[task.get()], ());
            graph.add_edge(nodes[task.get()], end(index), ());
            for need in plan.needs(task) {
                graph.add_edge(source(need), nodes[task.get()], ());
            }
        }
    }
    graph
}

proptest! {
    #[test]
    fn agrees_with_petgraph(plan in any_plan()) {
        let reference = in_petgraph(&plan);
        match Graph::new(&plan) {
            Ok(graph) => {
                prop_assert!(petgraph::algo::toposort(&reference, None).is_ok());
                let mut place = vec![0; graph.node_count()];
                for (at, node) in graph.order().into_iter().enumerate() {
                    place[node.get()] = at;
                }
                for edge in reference.edge_indices() {
                    let (from, to) = reference.edge_endpoints(edge).expect("an edge");
                    prop_assert!(place[from.index()] < place[to.index()]);
                }
                let (path, length) = graph.critical_path(|_| SECOND);
                prop_assert_eq!(length, SECOND * u32::try_from(path.len()).expect("short"));
                prop_assert_eq!(graph.levels().into_iter().max().unwrap_or(0) as usize, path.len());
            }
            Err(cycle) => {
                prop_assert!(petgraph::algo::toposort(&reference, None).is_err());
                for step in cycle.steps(&plan) {
                    let written = matches!(step.on, NodeKind::End(_))
                        || matches!((step.dependent, step.on), (NodeKind::Start(_), NodeKind::Task(_)));
                    prop_assert!(!written || step.need.is_some(), "{:?}", step);
                }
            }
        }
    }
}
