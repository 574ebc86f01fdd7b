//! A plan in the languages of drawing tools.

use super::{Node, edges, milestones, milestones_with_edges};
use cairn_engine::State;
use cairn_model::Plan;
use std::fmt::Write as _;

/// Writing to a string cannot fail.
const WRITTEN: &str = "a string takes everything";

/// In the language of Graphviz: a cluster for each milestone; one that is needed, or needs something, as a whole
/// has a node of its own. What is of a run has its status beside its name.
pub fn dot(plan: &Plan, run: Option<&State>) -> String {
    let mut out = String::new();
    let has_edges = milestones_with_edges(plan);
    writeln!(out, "digraph {} {{", quoted(&plan.project)).expect(WRITTEN);
    out.push_str("  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    for milestone in milestones(plan) {
        let row = plan.milestone(milestone);
        let label =
            row.title.as_deref().map_or_else(|| row.id.clone(), |title| format!("{}\n{title}", row.id));
        writeln!(out, "  subgraph {} {{", quoted(&format!("cluster_{}", row.id))).expect(WRITTEN);
        let label = with_status(label, run.map(|state| state.milestone(milestone).status.name()));
        writeln!(out, "    label={};", quoted(&label)).expect(WRITTEN);
        if has_edges[milestone.get()] {
            writeln!(out, "    {} [shape=hexagon, style=bold];", quoted(&row.id)).expect(WRITTEN);
        }
        for task in plan.tasks_of(milestone) {
            let name = quoted(&plan.task_name(task));
            let status = run.map(|state| state.task(task).status.name());
            let label = with_status(plan.task_id(task).to_owned(), status);
            writeln!(out, "    {name} [label={}];", quoted(&label)).expect(WRITTEN);
        }
        out.push_str("  }\n");
    }
    for (from, to) in edges(plan) {
        writeln!(out, "  {} -> {};", quoted(&from.name(plan)), quoted(&to.name(plan))).expect(WRITTEN);
    }
    out.push_str("}\n");
    out
}

/// A label, and where what it names stands.
fn with_status(label: String, status: Option<&str>) -> String {
    match status {
        Some(status) => format!("{label}: {status}"),
        None => label,
    }
}

/// A string of Graphviz.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

/// In the language of Mermaid: a subgraph for each milestone, which edges may begin and end at.
pub fn mermaid(plan: &Plan, run: Option<&State>) -> String {
    let mut out = String::from("flowchart LR\n");
    for milestone in milestones(plan) {
        let row = plan.milestone(milestone);
        let label =
            row.title.as_deref().map_or_else(|| row.id.clone(), |title| format!("{}: {title}", row.id));
        let label = with_status(label, run.map(|state| state.milestone(milestone).status.name()));
        writeln!(out, "  subgraph m{}[\"{}\"]", milestone.0, escaped(&label)).expect(WRITTEN);
        for task in plan.tasks_of(milestone) {
            let status = run.map(|state| state.task(task).status.name());
            let label = with_status(plan.task_id(task).to_owned(), status);
            writeln!(out, "    t{}[\"{}\"]", task.0, escaped(&label)).expect(WRITTEN);
        }
        out.push_str("  end\n");
    }
    // Ids of plans may hold what Mermaid takes for its own; numbers do not.
    let id = |node| match node {
        Node::Milestone(milestone) => format!("m{}", milestone.0),
        Node::Task(task) => format!("t{}", task.0),
    };
    for (from, to) in edges(plan) {
        writeln!(out, "  {} --> {}", id(from), id(to)).expect(WRITTEN);
    }
    out
}

/// Text inside a label of Mermaid.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => out.push_str("#quot;"),
            '#' => out.push_str("#35;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            _ if character.is_control() => out.push(' '),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_shared::plan::{Options, Source, parse};

    fn plan() -> Plan {
        let text = "
version: 1
project: apollo
milestones:
  - {id: build, title: 'say \"hi\"', tasks: [{id: a#1, run: x}, {id: b, run: x, needs: ['a#1']}]}
  - {id: ship, needs: [build], tasks: [{id: c, run: x}]}
  - {id: alone, tasks: [{id: d, run: x, needs: [ship/c]}]}
";
        parse(&Source::new("p", text), &Options::default()).unwrap_or_else(|wrong| panic!("{wrong}")).plan
    }

    #[test]
    fn graphviz() {
        assert_eq!(
            dot(&plan(), None),
            r#"digraph "apollo" {
  rankdir=LR;
  node [shape=box, style=rounded, fontname="sans-serif"];
  subgraph "cluster_build" {
    label="build\nsay \"hi\"";
    "build" [shape=hexagon, style=bold];
    "build/a#1" [label="a#1"];
    "build/b" [label="b"];
  }
  subgraph "cluster_ship" {
    label="ship";
    "ship" [shape=hexagon, style=bold];
    "ship/c" [label="c"];
  }
  subgraph "cluster_alone" {
    label="alone";
    "alone/d" [label="d"];
  }
  "build/a#1" -> "build/b";
  "build" -> "ship";
  "ship/c" -> "alone/d";
}
"#
        );
    }

    #[test]
    fn mermaid_has_numbers_for_ids_and_escaped_labels() {
        assert_eq!(
            mermaid(&plan(), None),
            r#"flowchart LR
  subgraph m0["build: say #quot;hi#quot;"]
    t0["a#35;1"]
    t1["b"]
  end
  subgraph m1["ship"]
    t2["c"]
  end
  subgraph m2["alone"]
    t3["d"]
  end
  t0 --> t1
  m0 --> m1
  t2 --> t3
"#
        );
    }
}
