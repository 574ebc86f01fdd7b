//! Real and generated traces of scientific workflows, submitted to a fleet.
#![expect(clippy::print_stdout, reason = "how long a trace takes is worth to be seen")]

use super::support::{Fleet, LONG, SHARED_ROUTE, Setup, lines};
use crate::e2e::real_input::data;
use crate::e2e::support::{check_log, now, told, wait_for};
use serde_json::Value;
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
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

/// Submits a trace, watches it on a pipe to its end, and checks the log. `meanwhile` looks at what the watch has said.
fn runs_while(
    setup: Setup<'_>,
    (trace, scale, runner, expected): (&str, &str, &str, usize),
    meanwhile: impl FnOnce(&Fleet, &str, &Path),
) {
    let fleet = Fleet::shared(setup);
    let Some((edges, tasks)) = import(&fleet, trace, scale, runner) else { return };
    assert_eq!(tasks, expected);
    let start = now();
    let run = fleet.submit("plan.yaml");
    let said = fleet.place.path().join("watch.log");
    let mut watch = fleet.command(&["watch", &run, "--timeout", "170s"]);
    let watch = watch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said).expect("a file"));
    let mut watch = watch.spawn().expect("it starts");
    meanwhile(&fleet, &run, &said);
    let code = watch.wait().expect("it is ours").code();
    let shown = lines(&said);
    assert_eq!(code, Some(0), "{}\n{}", shown.last().map_or("", String::as_str), fleet.logs());
    println!("{trace}: {tasks} tasks in {:?}", now().duration_since(start));
    let end = shown.last().expect("its end");
    assert!(end.contains("completed") && end.contains(&format!("{run} ")), "its end is told: {end}");
    assert_eq!(shown_as_completed(&shown), tasks, "so is that of each task");
    assert_eq!(fleet.ended(&run, LONG)["status"], "completed", "{}", fleet.logs());
    let events = fleet.events(&run);
    check_log(&events, &edges, tasks);
    assert_eq!(agents_of(&events), setup.agents, "all agents had a part in it");
}

fn runs(setup: Setup<'_>, trace: (&str, &str, &str, usize)) {
    runs_while(setup, trace, |_, _, _| {});
}

/// How many tasks a watch has shown as completed.
fn shown_as_completed(shown: &[String]) -> usize {
    shown.iter().filter(|line| line.contains("main/") && line.contains(" completed")).count()
}

/// How many agents had a task.
fn agents_of(events: &[Value]) -> usize {
    let given =
        |event: &&Value| event["event_type"] == "TaskDispatched" || event["event_type"] == "TaskGranted";
    let names = events.iter().filter(given).filter_map(|event| event["event_data"]["agent"].as_str());
    names.filter(|name| ["a1", "a2"].contains(name)).collect::<HashSet<_>>().len()
}

const MONTAGE: &str = "montage-gen-10000.json.gz";
const GENOME: &str = "1000genome-chameleon-22ch-250k-001.json";

#[test]
fn a_trace_of_902_tasks_runs_on_two_agents() {
    runs(Setup { slots: 8, ..Setup::default() }, (GENOME, "0.001", "sleep", 902));
}

#[test]
fn a_trace_of_902_tasks_runs_over_a_shared_queue() {
    runs(Setup { slots: 8, ..SHARED_ROUTE }, (GENOME, "0.001", "sleep", 902));
}

#[test]
fn a_trace_of_ten_thousand_tasks_runs_on_two_agents() {
    runs(Setup::default(), (MONTAGE, "0.0001", "wait", 9_986));
}

#[test]
fn a_trace_of_ten_thousand_tasks_runs_over_a_shared_queue() {
    runs(SHARED_ROUTE, (MONTAGE, "0.0001", "wait", 9_986));
}

/// It takes long enough for its watch to be seen at work.
#[test]
fn a_trace_of_ten_thousand_processes_runs_on_two_agents_and_is_shown_meanwhile() {
    let setup = Setup { slots: 4, ..Setup::default() };
    runs_while(setup, (MONTAGE, "0.0001", "sleep", 9_986), |fleet, run, said| {
        let mut seen = 0;
        for _ in 0..2 {
            seen = wait_for("more tasks that are shown as completed", || {
                let shown = shown_as_completed(&lines(said));
                (shown > seen && fleet.status(run)["status"] == "active").then_some(shown)
            });
        }
    });
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
    // Progress is on the screen while the run goes on: more and more tasks that are done.
    let mut seen = 0;
    for _ in 0..2 {
        seen = wait_for("progress on the screen", || {
            let screen = fleet.place.read("typescript");
            let pictures =
                screen.split(" of 21 ").filter_map(|text| text.rsplit(' ').next()?.parse::<u32>().ok());
            let done = pictures.max().unwrap_or(0);
            (done > seen && fleet.status(&run)["status"] == "active").then_some(done)
        });
    }
    assert_eq!(watching.wait().expect("ours").code(), Some(1), "{}", fleet.place.read("typescript"));
    assert!(fleet.place.read("typescript").contains("exit code 3"));
}
