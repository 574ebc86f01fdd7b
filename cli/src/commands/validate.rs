//! `cairn validate`: is it a plan, and what is in it?

use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{print_text, print_value, say};
use crate::plan_file::{self, PlanFile};
use crate::style::{Paint, Style, count, duration};
use cairn_coordinator::insight::{CriticalPath, critical_path, level_sizes};
use cairn_shared::plan::Diagnostic;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

/// Check a plan, and say what is in it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The plan, YAML or JSON; `-` reads stdin
    plan: PathBuf,
    /// The value of a parameter of the plan; may be given several times
    #[arg(long = "param", value_name = "K=V", value_parser = plan_file::parameter)]
    params: Vec<(String, String)>,
}

const EXAMPLES: &str = "\
Examples:
  cairn validate plan.yaml
  cairn validate plan.yaml --param region=us
  cairn import --from wfcommons trace.json | cairn validate -

Exit codes: 0 valid, 2 not valid, 3 there is no such file.";

/// Tasks of a critical path that are named to people.
const MAX_NAMED: usize = 8;

/// What is said of a valid plan.
#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    project: &'a str,
    title: Option<&'a str>,
    milestones: usize,
    tasks: usize,
    needs: usize,
    /// The longest chain, in tasks.
    depth: usize,
    critical_path: Vec<String>,
    critical_path_seconds: Option<f64>,
    warnings: &'a [Diagnostic],
}

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let file = match plan_file::read(&args.plan, &args.params) {
        Ok(file) => file,
        Err(Failure { diagnostics: Some(diagnostics), exit, .. }) if context.format != Format::Text => {
            let report = json!({
                "valid": false,
                "errors": diagnostics.diagnostics,
                "omitted": diagnostics.omitted,
            });
            say(diagnostics.render(context.color_stderr()).trim_end());
            print_value(context, &report)?;
            return Ok(exit);
        }
        Err(failure) => return Err(failure),
    };
    if !file.warnings.is_empty() {
        say(file.warnings.render(context.color_stderr()).trim_end());
    }
    let path = critical_path(&file.plan, &file.graph);
    let depth = level_sizes(&file.plan, &file.graph).len();
    if context.format == Format::Text {
        print_text(&text(&file, &path, depth, &Style::stdout(context)))?;
        return Ok(Exit::Done);
    }
    let plan = &file.plan;
    print_value(
        context,
        &Report {
            valid: true,
            project: &plan.project,
            title: plan.title.as_deref(),
            milestones: plan.milestones().len(),
            tasks: plan.task_count(),
            needs: plan.edge_count(),
            depth,
            critical_path: path.tasks.iter().map(|&task| plan.task_name(task)).collect(),
            critical_path_seconds: path.length().map(|length| length.as_secs_f64()),
            warnings: &file.warnings.diagnostics,
        },
    )?;
    Ok(Exit::Done)
}

fn text(file: &PlanFile, path: &CriticalPath, depth: usize, style: &Style) -> String {
    let PlanFile { name, plan, .. } = file;
    format!(
        "{} {name}: {}: {}, {}, {}, {}\n  critical path {}\n",
        style.paint(Paint::Good, style.choose("✔ valid", "+ valid")),
        style.paint(Paint::Bold, &plan.project),
        count(plan.milestones().len() as u64, "milestone", "milestones"),
        count(plan.task_count() as u64, "task", "tasks"),
        count(plan.edge_count() as u64, "need", "needs"),
        count(depth as u64, "level", "levels"),
        path_text(file, path, style),
    )
}

/// `6m30s (build/compile → …)`, as far as durations are known.
fn path_text(file: &PlanFile, path: &CriticalPath, style: &Style) -> String {
    let length = match path.length() {
        Some(length) => duration(length),
        None if path.known.is_zero() => count(path.tasks.len() as u64, "task", "tasks"),
        None => format!("at least {}", duration(path.known)),
    };
    let arrow = style.choose(" → ", " -> ");
    let mut names: Vec<String> =
        path.tasks.iter().map(|&task| file.plan.task_name(task)).take(MAX_NAMED).collect();
    if path.tasks.len() > MAX_NAMED {
        let last = path.tasks[path.tasks.len() - 1];
        names.truncate(MAX_NAMED - 2);
        names.push(style.choose("…", "...").to_owned());
        names.push(file.plan.task_name(last));
    }
    if names.is_empty() { length } else { format!("{length} ({})", names.join(arrow)) }
}
