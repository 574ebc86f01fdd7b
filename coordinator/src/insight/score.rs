//! The complexity score and what it says: `2 * milestones + 5 * dependency_depth + 3 * concurrent_users +
//! data_mb / 10 + 10 * coordination_complexity`.
//!
//! Here it is only computed, so that it can be explained. Nothing acts on it.

use cairn_model::plan::Need;
use cairn_model::{Graph, MilestoneIndex, NodeKind, Plan};
use serde::Serialize;
use std::collections::BTreeSet;

/// Identities seen in this many seconds count as concurrent users.
pub const USERS_WINDOW_SECONDS: u64 = 300;
/// What the coordination complexity is multiplied with.
pub const COORDINATION_WEIGHT: f64 = 10.0;

/// What the score is made of; a term that is not known is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Terms {
    /// Milestones of the plan.
    pub milestones: u64,
    /// The longest chain of milestones, counted in milestones.
    pub dependency_depth: u64,
    /// Distinct identities within [`USERS_WINDOW_SECONDS`].
    pub concurrent_users: Option<u64>,
    /// Log and outputs of the run, in megabytes of a million bytes.
    pub data_mb: Option<f64>,
    /// How entangled the milestones are.
    pub coordination: Coordination,
}

/// The coordination complexity: `across / milestones + largest_fan_in / 10 + distinct_demands / 4`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Coordination {
    /// Needs, as written, on something of another milestone.
    pub needs_across_milestones: u64,
    /// The most other milestones that one milestone, or its tasks, need something of.
    pub largest_fan_in: u64,
    /// Distinct sets of required labels and resources.
    pub distinct_demands: u64,
    /// The value.
    pub complexity: f64,
}

/// What a score says about the size of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Below 50.
    Small,
    /// Below 200.
    Medium,
    /// Below 500.
    Large,
    /// All else.
    Enterprise,
}

/// What a scale would switch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// Where events go.
    pub storage: &'static str,
    /// How the run is coordinated.
    pub pattern: &'static str,
    /// How much is shown.
    pub view: &'static str,
}

/// A score with what it says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The number.
    pub score: f64,
    /// What it says.
    pub scale: Scale,
}

impl Scale {
    /// The scale of a score.
    #[must_use]
    pub fn of(score: f64) -> Self {
        match score {
            score if score < 50.0 => Self::Small,
            score if score < 200.0 => Self::Medium,
            score if score < 500.0 => Self::Large,
            _ => Self::Enterprise,
        }
    }

    /// The name in JSON and on the screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
            Self::Enterprise => "enterprise",
        }
    }

    /// What a run of this scale asks for.
    #[must_use]
    pub const fn profile(self) -> Profile {
        match self {
            Self::Small => Profile { storage: "file", pattern: "direct", view: "simple" },
            Self::Medium => Profile { storage: "sqlite", pattern: "hierarchical", view: "standard" },
            Self::Large | Self::Enterprise => {
                Profile { storage: "postgres", pattern: "distributed", view: "advanced" }
            }
        }
    }
}

/// The score of these terms.
#[must_use]
pub fn score(terms: &Terms) -> Score {
    let value = 2.0 * number(terms.milestones)
        + 5.0 * number(terms.dependency_depth)
        + 3.0 * number(terms.concurrent_users.unwrap_or(0))
        + terms.data_mb.unwrap_or(0.0) / 10.0
        + COORDINATION_WEIGHT * terms.coordination.complexity;
    Score { score: value, scale: Scale::of(value) }
}

/// Counts of a plan are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "limits of a plan")]
fn number(count: u64) -> f64 {
    count as f64
}

/// How entangled the milestones of a plan are.
#[must_use]
pub fn coordination(plan: &Plan) -> Coordination {
    let mut across = 0;
    let mut largest_fan_in = 0;
    for milestone in (0..plan.milestones().len()).map(MilestoneIndex::new) {
        let of_tasks = plan.tasks_of(milestone).flat_map(|task| plan.needs(task));
        let sources = of_tasks.chain(plan.milestone_needs(milestone)).map(|need| match need {
            Need::Task(task) => plan.milestone_of(*task),
            Need::Milestone(other) => *other,
        });
        let mut others = BTreeSet::new();
        for other in sources.filter(|&other| other != milestone) {
            across += 1;
            others.insert(other);
        }
        largest_fan_in = largest_fan_in.max(others.len() as u64);
    }
    let demands: BTreeSet<_> =
        plan.all_settings().iter().map(|settings| (&settings.requires, &settings.resources)).collect();
    let distinct_demands = demands.len() as u64;
    let milestones = number(plan.milestones().len().max(1) as u64);
    let complexity =
        number(across) / milestones + number(largest_fan_in) / 10.0 + number(distinct_demands) / 4.0;
    Coordination { needs_across_milestones: across, largest_fan_in, distinct_demands, complexity }
}

/// The longest chain of milestones, counted in milestones. Along a chain of needs each change of milestone counts:
/// two milestones whose tasks need each other's by turns are as deep as that.
#[must_use]
pub fn milestone_depth(plan: &Plan, graph: &Graph) -> u64 {
    let milestone = |node| match graph.kind(node) {
        NodeKind::Task(task) => plan.milestone_of(task),
        NodeKind::Start(milestone) | NodeKind::End(milestone) => milestone,
    };
    let mut depths = vec![1_u64; graph.node_count()];
    for node in graph.order() {
        for &next in graph.successors(node) {
            let step = u64::from(milestone(next) != milestone(node));
            depths[next.get()] = depths[next.get()].max(depths[node.get()] + step);
        }
    }
    depths.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::tests::plan_of;

    const PLAN: &str = "
version: 1
project: apollo
milestones:
  - {id: a, tasks: [{id: t, run: x, resources: {cpus: 2}}, {id: u, run: x}]}
  - {id: b, needs: [a], tasks: [{id: t, run: x}]}
  - {id: c, tasks: [{id: t, run: x, needs: [a/t, b/t, b]}, {id: u, run: x, needs: [t]}]}
";

    #[test]
    fn the_terms_of_a_plan() {
        let (plan, graph) = plan_of(PLAN);
        let found = coordination(&plan);
        assert_eq!((found.needs_across_milestones, found.largest_fan_in, found.distinct_demands), (4, 2, 2));
        assert!((found.complexity - (4.0 / 3.0 + 0.2 + 0.5)).abs() < 1e-9);
        assert_eq!(milestone_depth(&plan, &graph), 3);
    }

    #[test]
    fn milestones_that_need_each_other_by_turns_are_deep() {
        let (plan, graph) = plan_of(
            "{version: 1, project: p, milestones: [
               {id: a, tasks: [{id: x, run: x}, {id: z, run: x, needs: [b/y]}]},
               {id: b, tasks: [{id: y, run: x, needs: [a/x]}]}]}",
        );
        assert_eq!(milestone_depth(&plan, &graph), 3);
    }

    #[test]
    fn thresholds_are_where_they_were_promised() {
        let scales = [0.0, 49.9, 50.0, 199.9, 200.0, 499.9, 500.0].map(|score| Scale::of(score).name());
        assert_eq!(scales, ["small", "small", "medium", "medium", "large", "large", "enterprise"]);
    }

    #[test]
    fn unknown_terms_count_nothing() {
        let (plan, graph) = plan_of(PLAN);
        let terms = Terms {
            milestones: 3,
            dependency_depth: milestone_depth(&plan, &graph),
            concurrent_users: None,
            data_mb: None,
            coordination: coordination(&plan),
        };
        let without = score(&terms).score;
        let with = score(&Terms { concurrent_users: Some(2), data_mb: Some(50.0), ..terms }).score;
        assert!((with - without - 11.0).abs() < 1e-9);
    }
}
