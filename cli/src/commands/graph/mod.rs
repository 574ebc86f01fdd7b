//! `cairn graph`: a plan, or a run as it is or was, drawn.
//!
//! Nodes are the tasks, by their full names, and those milestones that stand at an end of an edge. Edges are the
//! needs as written: from what is needed to what needs it. An edge from a milestone leaves when all its tasks are
//! completed, an edge to a milestone holds back all its tasks; a task's membership of its milestone is no edge but
//! the field `milestone`.

mod drawing;
mod languages;

use super::at::at;
use super::explain::is_plan;
use crate::client;
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::Stdout;
use crate::plan_file;
use crate::state_directory::{find, load, load_at, open};
use crate::style::Style;
use cairn_coordinator::projection::At;
use cairn_engine::State;
use cairn_model::plan::Need;
use cairn_model::{Action, Graph, MilestoneIndex, Plan, TaskIndex};
use clap::ValueEnum;
use serde::{Serialize, Serializer};
use std::path::Path;
use std::sync::Arc;

/// Draw a plan, or a run with where its tasks stand
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A plan (a file, or `-` for stdin), or a run of the state directory: `apollo.3`, or `apollo` for its newest
    #[arg(value_name = "PLAN|RUN")]
    subject: String,
    /// Draw the run as it was: at a position of the log, a time (`2026-12-01T12:00:00Z`), or so long ago (`-10m`)
    #[arg(long, value_name = "POSITION|TIME", value_parser = at, allow_hyphen_values = true)]
    at: Option<At>,
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
  cairn graph plan.yaml --format json | jq '.edges | length'
  cairn graph apollo.3 --at 412";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Drawing {
    Text,
    Dot,
    Mermaid,
    Json,
}

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let subject = subject(args, context)?;
    let (plan, graph) = (&*subject.plan, &*subject.graph);
    let run = subject.run.as_ref();
    let mut out = Stdout::new();
    match (args.format, context.format) {
        (Some(Drawing::Dot), _) => out.text(&languages::dot(plan, run))?,
        (Some(Drawing::Mermaid), _) => out.text(&languages::mermaid(plan, run))?,
        (Some(Drawing::Text), _) | (None, Format::Text) => {
            out.text(&drawing::draw(plan, graph, run, &Style::stdout(context)))?;
        }
        (Some(Drawing::Json), format) => {
            out.value(
                if format == Format::Jsonl { format } else { Format::Json },
                &GraphView::new(plan, graph, run),
            )?;
        }
        (None, format) => out.value(format, &GraphView::new(plan, graph, run))?,
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// What is drawn.
struct Subject {
    plan: Arc<Plan>,
    graph: Arc<Graph>,
    /// A run of it.
    run: Option<State>,
}

fn subject(args: &Args, context: &Context) -> Result<Subject, Failure> {
    if args.at.is_none() && is_plan(&args.subject) {
        let file = plan_file::read(Path::new(&args.subject), &args.params)?;
        return Ok(Subject { plan: Arc::new(file.plan), graph: Arc::new(file.graph), run: None });
    }
    if client::named(context)?.is_some() {
        return Err(Failure::new(Exit::Usage, "a coordinator does not draw a run yet")
            .help("give the plan instead, or --state DIR where its state directory can be read"));
    }
    let reader = open(context)?;
    let found = find(&*reader, Some(&args.subject))?;
    let loaded = match args.at {
        None => load(context, &*reader, &found)?,
        Some(at) => load_at(context, &*reader, &args.subject, at)?,
    };
    let (plan, graph) = (loaded.state.plan().clone(), loaded.state.graph().clone());
    Ok(Subject { plan, graph, run: Some(loaded.state) })
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
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    nodes: Nodes<'a>,
    edges: Edges<'a>,
}

struct Nodes<'a>(&'a Plan, &'a Graph, Option<&'a State>);
struct Edges<'a>(&'a Plan);

impl<'a> GraphView<'a> {
    fn new(plan: &'a Plan, graph: &'a Graph, run: Option<&'a State>) -> Self {
        Self {
            project: &plan.project,
            run: run.map(|state| state.run().id.as_str()),
            nodes: Nodes(plan, graph, run),
            edges: Edges(plan),
        }
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
    /// Where it stands, in a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(plan, graph, run) = self;
        let levels = graph.levels();
        let tasks = plan.tasks().map(|task| NodeView {
            id: plan.task_name(task),
            kind: "task",
            milestone: &plan.milestone(plan.milestone_of(task)).id,
            title: plan.task_title(task),
            level: Some(levels[graph.task(task).get()]),
            action: Some(action_name(plan, task)),
            expected_seconds: plan.expected_duration(task).map(|duration| duration.as_secs_f64()),
            status: run.map(|state| state.task(task).status.name()),
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
                status: run.map(|state| state.milestone(index).status.name()),
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
