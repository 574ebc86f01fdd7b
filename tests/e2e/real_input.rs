//! Real traces of scientific workflows, imported and run: every process starts in dependency order.

use super::support::{Place, check_log, root, told};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The folder of real inputs; `None`, visibly, where it is missing and nobody insists.
#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
pub fn data() -> Option<PathBuf> {
    let path = std::env::var_os("CAIRN_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    assert!(
        std::env::var_os("CAIRN_REQUIRE_DATA").is_none_or(|value| value != "1"),
        "{} is missing",
        path.display()
    );
    eprintln!("skipped: real inputs are not at {} (CAIRN_DATA)", path.display());
    None
}

/// Imports a trace, runs the plan from stdin, and checks the log against the edges of the graph.
fn import_and_run(trace: &Path, scale: &str, runner: &str) -> usize {
    let place = Place::new();
    let import = ["import", "--from", "wfcommons", "--scale", scale, "--runner", runner];
    let plan = place.ok(import.iter().map(AsRef::as_ref).chain([trace.as_os_str()]));
    place.write("plan.yaml", &plan);
    let graph: Value =
        serde_json::from_str(&place.ok(["graph", "plan.yaml", "--format", "json"])).expect("JSON");
    let edges: Vec<(String, String)> = graph["edges"]
        .as_array()
        .expect("edges")
        .iter()
        .map(|edge| {
            (
                edge["from"].as_str().expect("a name").to_owned(),
                edge["to"].as_str().expect("a name").to_owned(),
            )
        })
        .collect();
    let nodes = graph["nodes"].as_array().expect("nodes");
    let tasks = nodes.iter().filter(|node| node["id"].as_str().is_some_and(|id| id.contains('/'))).count();
    let mut run = place
        .command(["run", "-", "--jobs", "8"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    std::io::Write::write_all(&mut run.stdin.take().expect("a pipe"), plan.as_bytes())
        .expect("the plan is read");
    let output = run.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}: {}", trace.display(), told(&output));
    check_log(&place.events(), &edges, tasks);
    tasks
}

/// The traces of a folder, with their names.
fn traces(data: &Path) -> Vec<PathBuf> {
    let mut traces: Vec<PathBuf> = std::fs::read_dir(data.join("wfcommons"))
        .expect("a folder of traces")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.ends_with(".json") || name.ends_with(".json.gz")) && !name.contains("schema")
        })
        .collect();
    traces.sort();
    assert!(!traces.is_empty());
    traces
}

#[test]
fn every_trace_runs_in_dependency_order() {
    let Some(data) = data() else { return };
    let mut tasks = 0;
    for trace in traces(&data) {
        tasks += import_and_run(&trace, "0.0001", "wait");
    }
    assert!(tasks > 10_000, "{tasks}");
}

#[test]
fn a_trace_of_902_tasks_starts_902_processes() {
    let Some(data) = data() else { return };
    let trace = data.join("wfcommons/1000genome-chameleon-22ch-250k-001.json");
    assert_eq!(import_and_run(&trace, "0.0001", "sleep"), 902);
}
