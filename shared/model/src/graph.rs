//! The graph of a plan in compressed sparse rows (CSR): successors and predecessors as two arrays each.
//!
//! Nodes are the tasks, then for each milestone a start and an end barrier, so that a need on a milestone of n
//! tasks by a milestone of m tasks costs n + m + 1 edges and not n * m:
//!
//! ```text
//!   needs of the milestone ──▶ start ──▶ tasks without a need inside the milestone
//!                                              ⋮
//!              tasks that nothing inside the milestone needs ──▶ end ──▶ whatever needs the milestone
//! ```
//!
//! Invariant: nothing here recurses; a chain of a million tasks takes no more stack than one of ten.

use crate::ids::{MilestoneIndex, NodeIndex, TaskIndex};
use crate::plan::{Need, Plan};
use std::time::Duration;

/// What a node of the graph stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A task.
    Task(TaskIndex),
    /// All that a milestone needs is completed.
    Start(MilestoneIndex),
    /// All tasks of a milestone are completed.
    End(MilestoneIndex),
}

/// Rows of node indices: row `i` is `targets[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Default)]
struct Csr {
    offsets: Vec<u32>,
    targets: Vec<NodeIndex>,
}

/// A validated directed acyclic graph.
#[derive(Debug)]
pub struct Graph {
    tasks: u32,
    milestones: u32,
    successors: Csr,
    predecessors: Csr,
}

/// A cycle: each node must be completed before the next one, and the last before the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// The nodes, at least one.
    pub nodes: Vec<NodeIndex>,
    tasks: u32,
}

/// One edge of a [`Cycle`], in words: `dependent` waits for `on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CycleStep {
    /// What waits.
    pub dependent: NodeKind,
    /// What it waits for.
    pub on: NodeKind,
    /// Which of the needs written at `dependent` says so; `None` where it follows from being in a milestone.
    pub need: Option<usize>,
}

impl Cycle {
    /// The edges of the cycle, each as "this waits for that", starting with the first node waiting for the last.
    #[must_use]
    pub fn steps(&self, plan: &Plan) -> Vec<CycleStep> {
        let count = self.nodes.len();
        let kind = |at: usize| NodeKind::of(self.nodes[at], self.tasks);
        let step = |at: usize| {
            let (dependent, on) = (kind(at), kind((at + count - 1) % count));
            let target = match on {
                NodeKind::Task(task) => Some(Need::Task(task)),
                NodeKind::End(milestone) => Some(Need::Milestone(milestone)),
                NodeKind::Start(_) => None,
            };
            let written = match dependent {
                NodeKind::Task(task) => plan.needs(task),
                NodeKind::Start(milestone) => plan.milestone_needs(milestone),
                NodeKind::End(_) => &[],
            };
            CycleStep { dependent, on, need: written.iter().position(|&need| Some(need) == target) }
        };
        (0..count).map(step).collect()
    }
}

impl NodeKind {
    /// What a node of the graph of a plan with so many tasks stands for.
    #[must_use]
    pub const fn of(node: NodeIndex, tasks: u32) -> Self {
        match node.0.checked_sub(tasks) {
            None => Self::Task(TaskIndex(node.0)),
            Some(barrier) if barrier.is_multiple_of(2) => Self::Start(MilestoneIndex(barrier / 2)),
            Some(barrier) => Self::End(MilestoneIndex(barrier / 2)),
        }
    }
}

impl Graph {
    /// The graph of a plan. Time and memory are linear in tasks and needs.
    ///
    /// # Errors
    /// One of its cycles, if there is any.
    pub fn new(plan: &Plan) -> Result<Self, Cycle> {
        let tasks = u32::try_from(plan.task_count()).expect("limits of a plan");
        let milestones = u32::try_from(plan.milestones().len()).expect("limits of a plan");
        let mut graph = Self { tasks, milestones, successors: Csr::default(), predecessors: Csr::default() };
        let inner = InnerEdges::of(plan);
        graph.successors = Csr::new(graph.node_count(), |add| graph.each_edge(plan, &inner, add));
        graph.predecessors =
            Csr::new(graph.node_count(), |add| graph.each_edge(plan, &inner, |from, to| add(to, from)));
        let order = graph.order();
        if order.len() == graph.node_count() { Ok(graph) } else { Err(graph.find_cycle(&order)) }
    }

    /// Nodes in all: tasks, and two barriers for each milestone.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.tasks as usize + 2 * self.milestones as usize
    }

    /// Edges in all, those of the barriers included.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.successors.targets.len()
    }

    /// The node of a task.
    #[must_use]
    pub const fn task(&self, task: TaskIndex) -> NodeIndex {
        NodeIndex(task.0)
    }

    /// The node that is reached when all that a milestone needs is completed.
    #[must_use]
    pub const fn start(&self, milestone: MilestoneIndex) -> NodeIndex {
        NodeIndex(self.tasks + 2 * milestone.0)
    }

    /// The node that is reached when all tasks of a milestone are completed.
    #[must_use]
    pub const fn end(&self, milestone: MilestoneIndex) -> NodeIndex {
        NodeIndex(self.tasks + 2 * milestone.0 + 1)
    }

    /// What a node stands for.
    #[must_use]
    pub fn kind(&self, node: NodeIndex) -> NodeKind {
        NodeKind::of(node, self.tasks)
    }

    /// What waits for `node`.
    #[must_use]
    pub fn successors(&self, node: NodeIndex) -> &[NodeIndex] {
        self.successors.row(node)
    }

    /// What `node` waits for.
    #[must_use]
    pub fn predecessors(&self, node: NodeIndex) -> &[NodeIndex] {
        self.predecessors.row(node)
    }

    /// A topological order: every node after all its predecessors; nodes of a cycle, and those behind it, are
    /// missing (A. B. Kahn, "Topological sorting of large networks", 1962).
    #[must_use]
    pub fn order(&self) -> Vec<NodeIndex> {
        let nodes = (0..self.node_count()).map(NodeIndex::new);
        let mut waiting: Vec<u32> = nodes
            .clone()
            .map(|node| u32::try_from(self.predecessors(node).len()).unwrap_or(u32::MAX))
            .collect();
        let mut order = Vec::with_capacity(self.node_count());
        order.extend(nodes.filter(|node| waiting[node.get()] == 0));
        let mut next = 0;
        while let Some(&node) = order.get(next) {
            next += 1;
            for &successor in self.successors(node) {
                waiting[successor.get()] -= 1;
                if waiting[successor.get()] == 0 {
                    order.push(successor);
                }
            }
        }
        order
    }

    /// For each node, how many tasks the longest chain that ends with it has (barriers count nothing).
    #[must_use]
    pub fn levels(&self) -> Vec<u32> {
        let mut levels = vec![0; self.node_count()];
        for node in self.order() {
            let below = self.predecessors(node).iter().map(|before| levels[before.get()]).max().unwrap_or(0);
            levels[node.get()] = below + u32::from(node.0 < self.tasks);
        }
        levels
    }

    /// For each node, the longest path from its start to the end of the run, its own weight included; barriers
    /// weigh nothing (the backward pass of the critical path method, Kelley and Walker 1959).
    #[must_use]
    pub fn longest_remaining(&self, weight: impl Fn(TaskIndex) -> Duration) -> Vec<Duration> {
        let mut remaining = vec![Duration::ZERO; self.node_count()];
        for &node in self.order().iter().rev() {
            let after = self.successors(node).iter().map(|next| remaining[next.get()]).max();
            let own = if node.0 < self.tasks { weight(TaskIndex(node.0)) } else { Duration::ZERO };
            remaining[node.get()] = after.unwrap_or(Duration::ZERO).saturating_add(own);
        }
        remaining
    }

    /// The tasks of a longest path, first to last, and its length. Among equals the first of the plan is taken.
    #[must_use]
    pub fn critical_path(&self, weight: impl Fn(TaskIndex) -> Duration) -> (Vec<TaskIndex>, Duration) {
        let remaining = self.longest_remaining(weight);
        let longest = |nodes: &mut dyn Iterator<Item = NodeIndex>| {
            nodes.max_by_key(|node| (remaining[node.get()], std::cmp::Reverse(node.0)))
        };
        let sources = (0..self.node_count()).map(NodeIndex::new);
        let mut next = longest(&mut sources.filter(|&node| self.predecessors(node).is_empty()));
        let length = next.map_or(Duration::ZERO, |node| remaining[node.get()]);
        let mut path = Vec::new();
        while let Some(node) = next {
            if let NodeKind::Task(task) = self.kind(node) {
                path.push(task);
            }
            next = longest(&mut self.successors(node).iter().copied());
        }
        (path, length)
    }

    fn each_edge(&self, plan: &Plan, inner: &InnerEdges, mut edge: impl FnMut(NodeIndex, NodeIndex)) {
        let source = |need: Need| match need {
            Need::Task(task) => self.task(task),
            Need::Milestone(milestone) => self.end(milestone),
        };
        for milestone in (0..self.milestones).map(MilestoneIndex) {
            let (start, end) = (self.start(milestone), self.end(milestone));
            for &need in plan.milestone_needs(milestone) {
                edge(source(need), start);
            }
            let tasks = plan.tasks_of(milestone);
            if tasks.len() == 0 {
                edge(start, end);
            }
            for task in tasks {
                for &need in plan.needs(task) {
                    edge(source(need), self.task(task));
                }
                if !inner.needs_inside[task.get()] {
                    edge(start, self.task(task));
                }
                if !inner.needed_inside[task.get()] {
                    edge(self.task(task), end);
                }
            }
        }
    }

    /// Every node that is not in `order` has a predecessor that is not either: walking back must close a ring.
    fn find_cycle(&self, order: &[NodeIndex]) -> Cycle {
        let mut free = vec![false; self.node_count()];
        for node in order {
            free[node.get()] = true;
        }
        let mut seen_at = vec![usize::MAX; self.node_count()];
        let mut walk = Vec::new();
        let first = free.iter().position(|&free| !free).expect("some node is not in the order");
        let mut node = NodeIndex::new(first);
        while seen_at[node.get()] == usize::MAX {
            seen_at[node.get()] = walk.len();
            walk.push(node);
            let stuck = self.predecessors(node).iter().find(|before| !free[before.get()]);
            node = *stuck.expect("a node outside the order waits for another one");
        }
        let mut nodes = walk.split_off(seen_at[node.get()]);
        nodes.reverse();
        let smallest = (0..nodes.len()).min_by_key(|&at| nodes[at]).unwrap_or(0);
        nodes.rotate_left(smallest);
        Cycle { nodes, tasks: self.tasks }
    }
}

/// Which tasks have a need, or are needed, inside their own milestone.
struct InnerEdges {
    needs_inside: Vec<bool>,
    needed_inside: Vec<bool>,
}

impl InnerEdges {
    fn of(plan: &Plan) -> Self {
        let mut needs_inside = vec![false; plan.task_count()];
        let mut needed_inside = vec![false; plan.task_count()];
        for task in plan.tasks() {
            for &need in plan.needs(task) {
                if let Need::Task(before) = need
                    && plan.milestone_of(before) == plan.milestone_of(task)
                {
                    needs_inside[task.get()] = true;
                    needed_inside[before.get()] = true;
                }
            }
        }
        Self { needs_inside, needed_inside }
    }
}

impl Csr {
    /// Counts, then fills: `each` is called twice and must give the same edges.
    fn new(nodes: usize, each: impl Fn(&mut dyn FnMut(NodeIndex, NodeIndex))) -> Self {
        let mut offsets = vec![0_u32; nodes + 1];
        each(&mut |from, _| offsets[from.get() + 1] += 1);
        for at in 0..nodes {
            offsets[at + 1] += offsets[at];
        }
        let mut targets = vec![NodeIndex(0); offsets[nodes] as usize];
        let mut next = offsets.clone();
        each(&mut |from, to| {
            targets[next[from.get()] as usize] = to;
            next[from.get()] += 1;
        });
        Self { offsets, targets }
    }

    fn row(&self, node: NodeIndex) -> &[NodeIndex] {
        &self.targets[self.offsets[node.get()] as usize..self.offsets[node.get() + 1] as usize]
    }
}

#[cfg(test)]
mod tests;
