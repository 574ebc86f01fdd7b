//! A plan drawn with letters: each milestone with its tasks, a task behind what it needs; a large one in numbers.

use super::{Node, milestones};
use crate::style::{Cell, Paint, Style, count, grouped, table};
use cairn_agent::runner::harmless;
use cairn_coordinator::insight::level_sizes;
use cairn_engine::State;
use cairn_model::plan::Need;
use cairn_model::{Graph, MilestoneIndex, Plan, TaskIndex};
use std::fmt::Write as _;

/// Tasks above which a plan is shown in numbers.
const MAX_DRAWN: usize = 200;
/// Needs of a task that are named.
const MAX_NEEDS: usize = 4;
/// Rows of milestones, and of levels, of a large plan.
const MAX_ROWS: usize = 24;
/// Cells of the longest bar.
const BAR: usize = 40;
/// Levels further in than this are not indented more.
const MAX_INDENT: u32 = 20;

/// The drawing; of a run with where each task stands.
pub fn draw(plan: &Plan, graph: &Graph, run: Option<&State>, style: &Style) -> String {
    let sizes = level_sizes(plan, graph);
    let mut out = format!(
        "{}: {}, {}, {}, {}, at most {} at a time\n",
        style.paint(Paint::Bold, run.map_or(&plan.project, |state| &state.run().id)),
        count(plan.milestones().len() as u64, "milestone", "milestones"),
        count(plan.task_count() as u64, "task", "tasks"),
        count(plan.edge_count() as u64, "need", "needs"),
        count(sizes.len() as u64, "level", "levels"),
        grouped(sizes.iter().copied().max().unwrap_or(0) as u64),
    );
    if plan.task_count() > MAX_DRAWN {
        summarise(plan, &sizes, style, &mut out);
    } else {
        let levels = graph.levels();
        for milestone in milestones(plan) {
            out.push('\n');
            draw_milestone(plan, graph, run, &levels, milestone, style, &mut out);
        }
    }
    out
}

fn draw_milestone(
    plan: &Plan,
    graph: &Graph,
    run: Option<&State>,
    levels: &[u32],
    milestone: MilestoneIndex,
    style: &Style,
    out: &mut String,
) {
    let row = plan.milestone(milestone);
    out.push_str(&style.paint(Paint::Bold, &row.id));
    if let Some(state) = run {
        let _ = write!(out, "  {}", style.state(state.milestone(milestone).status));
    }
    if let Some(title) = &row.title {
        let _ = write!(out, "  {}", one_line(title));
    }
    let needs = needs_text(plan, plan.milestone_needs(milestone), style, None);
    if !needs.is_empty() {
        let _ = write!(out, "  {}", style.paint(Paint::Dim, &needs));
    }
    out.push('\n');
    let level = |task: TaskIndex| levels[graph.task(task).get()];
    let mut tasks: Vec<TaskIndex> = plan.tasks_of(milestone).collect();
    tasks.sort_by_key(|&task| (level(task), task));
    let first = tasks.first().map_or(0, |&task| level(task));
    let rows = tasks.into_iter().map(|task| {
        let indent = (level(task) - first).min(MAX_INDENT) as usize;
        let needs = needs_text(plan, plan.needs(task), style, Some(milestone));
        let title = plan.task_title(task).map(one_line).unwrap_or_default();
        let mut cells = vec![
            Cell::right(level(task).to_string()).paint(Paint::Dim),
            Cell::new(format!("{}{}", "  ".repeat(indent), plan.task_id(task))),
        ];
        cells.extend(run.map(|state| Cell::state(style, state.task(task).status)));
        cells.extend([Cell::new(title), Cell::new(needs).paint(Paint::Dim)]);
        cells
    });
    out.push_str(&table(style, "  ", &rows.collect::<Vec<_>>()));
}

/// `← compile, lint, … and 3 more`; tasks of the milestone `at_home` without its name.
fn needs_text(plan: &Plan, needs: &[Need], style: &Style, at_home: Option<MilestoneIndex>) -> String {
    if needs.is_empty() {
        return String::new();
    }
    let name = |&need: &Need| match need {
        Need::Task(task) if Some(plan.milestone_of(task)) == at_home => plan.task_id(task).to_owned(),
        other => Node::from(other).name(plan),
    };
    let shown = if needs.len() > MAX_NEEDS { MAX_NEEDS - 1 } else { needs.len() };
    let mut text = style.choose("← ", "<- ").to_owned();
    text.push_str(&needs[..shown].iter().map(name).collect::<Vec<_>>().join(", "));
    if shown < needs.len() {
        let _ = write!(text, " and {} more", needs.len() - shown);
    }
    text
}

fn one_line(text: &str) -> String {
    harmless(text.as_bytes()).replace(['\n', '\t'], " ")
}

fn summarise(plan: &Plan, sizes: &[usize], style: &Style, out: &mut String) {
    if plan.milestones().len() > 1 {
        out.push('\n');
        let rows = milestones(plan).take(MAX_ROWS).map(|milestone| {
            let tasks = plan.tasks_of(milestone).len() as u64;
            let needs = needs_text(plan, plan.milestone_needs(milestone), style, None);
            let id = Cell::new(plan.milestone(milestone).id.clone()).paint(Paint::Bold);
            vec![id, Cell::right(count(tasks, "task", "tasks")), Cell::new(needs).paint(Paint::Dim)]
        });
        out.push_str(&table(style, "  ", &rows.collect::<Vec<_>>()));
        rest(plan.milestones().len(), "milestones", out);
    }
    out.push('\n');
    let largest = sizes.iter().copied().max().unwrap_or(1).max(1);
    let rows = sizes.iter().take(MAX_ROWS).enumerate().map(|(level, &size)| {
        // At least one cell: no level is empty.
        let cells = (size * BAR / largest).max(1);
        vec![
            Cell::right(format!("level {}", level + 1)).paint(Paint::Dim),
            Cell::right(grouped(size as u64)),
            Cell::new(style.choose("█", "#").repeat(cells)).paint(Paint::Busy),
        ]
    });
    out.push_str(&table(style, "  ", &rows.collect::<Vec<_>>()));
    rest(sizes.len(), "levels", out);
    let _ = writeln!(out, "\n  too many tasks to draw; --format dot, mermaid or json has them all");
}

fn rest(all: usize, what: &str, out: &mut String) {
    if all > MAX_ROWS {
        let _ = writeln!(out, "  and {} more {what}", grouped((all - MAX_ROWS) as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_shared::plan::{Options, Source, parse};

    const STYLE: Style = Style { color: false, unicode: true };

    fn drawn(text: &str) -> String {
        let source = Source::new("p", text);
        let parsed = parse(&source, &Options::default()).unwrap_or_else(|wrong| panic!("{wrong}"));
        draw(&parsed.plan, &parsed.graph(&source).expect("no cycle"), None, &STYLE)
    }

    #[test]
    fn a_small_plan_is_drawn_task_by_task() {
        let text = drawn(
            "
version: 1
project: apollo
milestones:
  - id: build
    title: Everything compiles
    tasks:
      - {id: compile, run: x, title: \"the\\e[31m code\"}
      - {id: unit, run: x, needs: [compile]}
      - {id: lint, run: x}
      - {id: settle, wait: 5s, needs: [unit, lint]}
  - {id: ship, needs: [build], tasks: [{id: publish, run: x, needs: [build/compile]}]}
",
        );
        assert_eq!(
            text,
            "\
apollo: 2 milestones, 5 tasks, 5 needs, 4 levels, at most 2 at a time

build  Everything compiles
  1  compile     the\\x1b[31m code
  1  lint
  2    unit                        ← compile
  3      settle                    ← unit, lint

ship  ← build
  4  publish  ← build/compile
"
        );
    }

    #[test]
    fn a_large_plan_is_shown_in_numbers() {
        let mut text = String::from("version: 1\nproject: big\ntasks:\n");
        for at in 0..300 {
            text.push_str(&format!(
                "  - {{id: t{at}, run: x, needs: [{}]}}\n",
                if at < 240 { "" } else { "t0" }
            ));
        }
        let text = drawn(&text);
        assert!(text.contains("level 1  240  ████████████████████████████████████████\n"), "{text}");
        assert!(text.contains("level 2   60  ██████████\n"), "{text}");
        assert!(!text.contains("t17"), "{text}");
    }
}
