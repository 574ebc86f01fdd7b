//! `cairn graph`: a plan drawn.
//!
//! Nodes are the tasks, by their full names, and those milestones that stand at an end of an edge. Edges are the
//! needs as written: from what is needed to what needs it. An edge from a milestone leaves when all its tasks are
//! completed, an edge to a milestone holds back all its tasks; a task's membership of its milestone is no edge but
//! the field `milestone`.

mod drawing;
mod languages;

use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::Stdout;
use crate::plan_file;
use crate::style::Style;
use cairn_model::plan::Need;
use cairn_model::{Action, Graph, MilestoneIndex, Plan, TaskIndex};
use clap::ValueEnum;
use serde::{Serialize, Serializer};
use std::path::PathBuf;

/// Draw a plan
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The plan, YAML or JSON; `-` reads stdin
    plan: PathBuf,
    /// text, dot, mermaid or json [default: text, or what --output says]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    format: Option<Drawing>,
    /// The value of a parameter of the plan; may be given several times
    #[arg(long = "param", value_name = "K=V", value_parser = plan_file::parameter)]
    params: Vec<(String, String)>,
}

const EXAMPLES: &str = "\
Examples:
  cairn graph plan.yaml
  cairn graph plan.yaml --format dot | dot -Tsvg > plan.svg
  cairn graph plan.yaml --format mermaid
  cairn graph plan.yaml --format json | jq '.edges | length'";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Drawing {
    Text,
    Dot,
    Mermaid,
    Json,
}

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let file = plan_file::read(&args.plan, &args.params)?;
    let (plan, graph) = (&file.plan, &file.graph);
    let mut out = Stdout::new();
    match (args.format, context.format) {
        (Some(Drawing::Dot), _) => out.text(&languages::dot(plan))?,
        (Some(Drawing::Mermaid), _) => out.text(&languages::mermaid(plan))?,
        (Some(Drawing::Text), _) | (None, Format::Text) => {
            out.text(&drawing::draw(plan, graph, &Style::stdout(context)))?;
        }
        (Some(Drawing::Json), format) => {
            out.value(
                if format == Format::Jsonl { format } else { Format::Json },
                &GraphView::new(plan, graph),
            )?;
        }
        (None, format) => out.value(format, &GraphView::new(plan, graph))?,
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// One end of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Milestone(MilestoneIndex),
    Task(TaskIndex),
}

impl From<Need> for Node {
    fn from(need: Need) -> Self {
        match need {
            Need::Task(task) => Self::Task(task),
            Need::Milestone(milestone) => Self::Milestone(milestone),
        }
    }
}

impl Node {
    fn name(self, plan: &Plan) -> String {
        match self {
            Self::Milestone(milestone) => plan.milestone(milestone).id.clone(),
            Self::Task(task) => plan.task_name(task),
        }
    }
}

fn milestones(plan: &Plan) -> impl Iterator<Item = MilestoneIndex> + use<> {
    (0..plan.milestones().len()).map(MilestoneIndex::new)
}

/// All needs as written, each as (what is needed, what needs it), in the order of the plan.
fn edges(plan: &Plan) -> impl Iterator<Item = (Node, Node)> + '_ {
    milestones(plan).flat_map(move |milestone| {
        let own = plan.milestone_needs(milestone).iter();
        let own = own.map(move |&need| (Node::from(need), Node::Milestone(milestone)));
        let of_tasks = plan.tasks_of(milestone).flat_map(move |task| {
            plan.needs(task).iter().map(move |&need| (Node::from(need), Node::Task(task)))
        });
        own.chain(of_tasks)
    })
}

/// For each milestone whether an edge begins or ends at it.
fn milestones_with_edges(plan: &Plan) -> Vec<bool> {
    let mut has = vec![false; plan.milestones().len()];
    for (from, to) in edges(plan) {
        for node in [from, to] {
            if let Node::Milestone(milestone) = node {
                has[milestone.get()] = true;
            }
        }
    }
    has
}

/// The graph as JSON. Written piece by piece: a plan of a million tasks need not be held twice.
#[derive(Serialize)]
struct GraphView<'a> {
    project: &'a str,
    nodes: Nodes<'a>,
    edges: Edges<'a>,
}

struct Nodes<'a>(&'a Plan, &'a Graph);
struct Edges<'a>(&'a Plan);

impl<'a> GraphView<'a> {
    fn new(plan: &'a Plan, graph: &'a Graph) -> Self {
        Self { project: &plan.project, nodes: Nodes(plan, graph), edges: Edges(plan) }
    }
}

#[derive(Serialize)]
struct NodeView<'a> {
    id: String,
    kind: &'static str,
    milestone: &'a str,
    title: Option<&'a str>,
    /// The longest chain that ends with the task, in tasks; a milestone has none.
    level: Option<u32>,
    action: Option<&'static str>,
    expected_seconds: Option<f64>,
}

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(plan, graph) = self;
        let levels = graph.levels();
        let tasks = plan.tasks().map(|task| NodeView {
            id: plan.task_name(task),
            kind: "task",
            milestone: &plan.milestone(plan.milestone_of(task)).id,
            title: plan.task_title(task),
            level: Some(levels[graph.task(task).get()]),
            action: Some(action_name(plan, task)),
            expected_seconds: plan.expected_duration(task).map(|duration| duration.as_secs_f64()),
        });
        let has_edges = milestones_with_edges(plan);
        let milestones = milestones(plan).filter(|milestone| has_edges[milestone.get()]).map(|index| {
            let milestone = plan.milestone(index);
            NodeView {
                id: milestone.id.clone(),
                kind: "milestone",
                milestone: &milestone.id,
                title: milestone.title.as_deref(),
                level: None,
                action: None,
                expected_seconds: None,
            }
        });
        serializer.collect_seq(tasks.chain(milestones))
    }
}

fn action_name(plan: &Plan, task: TaskIndex) -> &'static str {
    match plan.action(task) {
        Action::Checkpoint => "checkpoint",
        Action::Wait(_) => "wait",
        Action::Run(_) => "run",
        Action::Exec(_) => "exec",
    }
}

impl Serialize for Edges<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Edge {
            from: String,
            to: String,
        }
        let plan = self.0;
        serializer
            .collect_seq(edges(plan).map(|(from, to)| Edge { from: from.name(plan), to: to.name(plan) }))
    }
}
