//! Real and generated traces of scientific workflows, submitted to a fleet.
#![expect(clippy::print_stdout, reason = "how long a trace takes is worth to be seen")]

use super::support::{Fleet, LONG, SHARED_ROUTE, Setup};
use crate::e2e::real_input::data;
use crate::e2e::support::{check_log, now, told};
use serde_json::Value;
use std::process::{Command, Stdio};

/// Imports a trace into `plan.yaml`; its edges, and how many tasks it has.
fn import(fleet: &Fleet, trace: &str, scale: &str, runner: &str) -> Option<(Vec<(String, String)>, usize)> {
    let trace = data()?.join("wfcommons").join(trace);
    let mut import = fleet.place.command(["import", "--from", "wfcommons", "--project", "trace"]);
    let plan = import.args(["--scale", scale, "--runner", runner]).arg(trace).output().expect("it starts");
    assert!(plan.status.success(), "{}", told(&plan));
    fleet.place.write("plan.yaml", &String::from_utf8(plan.stdout).expect("UTF-8"));
    let graph = fleet.ok(&["graph", "plan.yaml", "--format", "json"]);
    let graph: Value = serde_json::from_str(&graph).expect("JSON");
    let name = |value: &Value| value.as_str().expect("a name").to_owned();
    let edges = graph["edges"].as_array().expect("edges");
    let edges = edges.iter().map(|edge| (name(&edge["from"]), name(&edge["to"]))).collect();
    let nodes = graph["nodes"].as_array().expect("nodes");
    let tasks = nodes.iter().filter(|node| node["id"].as_str().is_some_and(|id| id.contains('/'))).count();
    Some((edges, tasks))
}

/// Submits a trace, watches it on a pipe to its end, and checks the log.
fn runs(setup: Setup<'_>, trace: &str, scale: &str, runner: &str, expected: usize) {
    let fleet = Fleet::shared(setup);
    let Some((edges, tasks)) = import(&fleet, trace, scale, runner) else { return };
    assert_eq!(tasks, expected);
    let start = now();
    let run = fleet.submit("plan.yaml");
    let mut watch = fleet.command(&["watch", &run, "--timeout", "170s"]);
    let watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("it starts");
    assert_eq!(watch.status.code(), Some(0), "{}\n{}", told(&watch), fleet.logs());
    println!("{trace}: {tasks} tasks in {:?}", now().duration_since(start));
    let shown = told(&watch);
    assert!(shown.contains("completed"), "{shown}");
    assert!(shown.contains(&format!("{run} ")), "its end is told: {shown}");
    assert_eq!(fleet.ended(&run, LONG)["status"], "completed", "{}", fleet.logs());
    check_log(&fleet.events(&run), &edges, tasks);
}

const GENOME: &str = "1000genome-chameleon-22ch-250k-001.json";

#[test]
fn a_trace_of_902_tasks_runs_on_two_agents() {
    runs(Setup { slots: 8, ..Setup::default() }, GENOME, "0.001", "sleep", 902);
}

#[test]
fn a_trace_of_902_tasks_runs_over_a_shared_queue() {
    runs(Setup { slots: 8, ..SHARED_ROUTE }, GENOME, "0.001", "sleep", 902);
}

#[test]
fn a_trace_of_ten_thousand_tasks_runs_on_two_agents() {
    runs(Setup::default(), "montage-gen-10000.json.gz", "0.0001", "wait", 9_986);
}

#[test]
fn a_terminal_shows_how_a_run_goes_on() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: `script` is not installed");
        return;
    }
    let fleet = Fleet::shared(Setup::default());
    let mut plan = "version: 1\nproject: show\ntasks:\n".to_owned();
    for task in 0..20 {
        plan += &format!("- {{id: t{task}, run: 'sleep 0.2'}}\n");
    }
    plan += "- {id: bad, run: exit 3}\n";
    fleet.place.write("plan.yaml", &plan);
    let run = fleet.submit("plan.yaml");
    let watch = fleet.command(&["watch", &run]);
    let line: Vec<_> = watch.get_args().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", &line.join(" "), "typescript"]);
    script.current_dir(fleet.place.path()).env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::null());
    for (name, value) in watch.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let mut watching = script.spawn().expect("it starts");
    // Progress is on the screen while the run goes on.
    crate::e2e::support::wait_for("progress on the screen", || {
        let screen = fleet.place.read("typescript");
        (screen.contains(" of 21 ") && fleet.status(&run)["status"] == "active").then_some(())
    });
    assert_eq!(watching.wait().expect("ours").code(), Some(1), "{}", fleet.place.read("typescript"));
    assert!(fleet.place.read("typescript").contains("exit code 3"));
}
