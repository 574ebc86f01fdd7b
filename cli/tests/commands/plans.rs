//! The commands that look at plans, and what the command line says when something is wrong.

use crate::place::Place;
use serde_json::json;
use std::io::Read as _;
use std::process::Stdio;

const PLAN: &str = "\
version: 1
project: apollo
title: Apollo release
milestones:
  - id: build
    title: Everything compiles
    tasks:
      - {id: compile, run: make, estimate: 4m, resources: {cpus: 2}}
      - {id: unit, needs: [compile], exec: [make, test], estimate: 2m}
      - {id: settle, needs: [unit], wait: 5s}
  - id: ship
    needs: [build]
    tasks:
      - {id: publish, needs: [build/compile], run: ./publish.sh, estimate: 25s}
      - {id: announced, needs: [publish]}
";

fn place() -> Place {
    let place = Place::new();
    place.write("plan.yaml", PLAN);
    place.write("bad.yaml", PLAN.replace("needs: [unit]", "nedds: [unit]"));
    place
}

#[test]
fn help_is_as_it_was() {
    let place = place();
    let help = place.cairn("--help").good();
    assert_eq!(help, include_str!("golden/help.txt"));
    assert_eq!(place.cairn("help").good(), help);
    assert_eq!(place.cairn("help run").good(), place.cairn("run --help").good());
}

#[test]
fn a_valid_plan_is_described() {
    let place = place();
    assert_eq!(
        place.cairn("validate plan.yaml").good(),
        "✔ valid plan.yaml: apollo: 2 milestones, 5 tasks, 5 needs, 5 levels\n  critical path 6m30s \
         (build/compile → build/unit → build/settle → ship/publish → ship/announced)\n"
    );
    let path = ["build/compile", "build/unit", "build/settle", "ship/publish", "ship/announced"];
    assert_eq!(
        place.cairn("validate plan.yaml --output json").json(),
        json!({"valid": true, "project": "apollo", "title": "Apollo release", "milestones": 2, "tasks": 5,
               "needs": 5, "depth": 5, "critical_path": path, "critical_path_seconds": 390.0, "warnings": []})
    );
}

#[test]
fn an_invalid_plan_is_told_to_people_and_programs() {
    let place = place();
    let ran = place.cairn("validate bad.yaml");
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(
        ran.err.contains("--> bad.yaml:10:22") && ran.err.contains("did you mean `needs`?"),
        "{}",
        ran.err
    );
    let ran = place.cairn("validate bad.yaml --output json");
    let value: serde_json::Value = serde_json::from_str(&ran.out).expect("one value");
    assert_eq!((ran.code, &value["valid"]), (2, &json!(false)));
    assert_eq!(value["errors"][0]["place"]["line"], json!(10));
    // Any other command that needs the plan says so under `error`.
    let ran = place.cairn("graph bad.yaml --output jsonl");
    let value: serde_json::Value = serde_json::from_str(&ran.out).expect("one value");
    assert_eq!((ran.code, &value["error"]["kind"]), (2, &json!("usage")));
    assert_eq!(value["error"]["diagnostics"][0]["help"], json!("did you mean `needs`?"));
}

#[test]
fn a_plan_may_come_from_stdin_and_may_be_missing() {
    let place = place();
    let input = std::fs::File::open(place.path().join("plan.yaml")).expect("there");
    let output = place.command("validate -").stdin(input).output().expect("it runs");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("✔ valid stdin: apollo"));
    let ran = place.cairn("validate none.yaml");
    assert_eq!(ran.code, 3);
    assert!(ran.err.starts_with("error: cannot read none.yaml: "), "{}", ran.err);
}

#[test]
fn what_is_no_plan_file_is_told_with_what_to_do() {
    let place = place();
    place.write("folder/plan.yaml", "");
    let ran = place.cairn("run folder");
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("cannot read folder: ") && ran.err.contains("help: name a file"), "{}", ran.err);
    for wrong in ["0", "x"] {
        let ran = place.cairn(&format!("run plan.yaml --jobs {wrong}"));
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains("write a whole number from 1"), "{}", ran.err);
    }
    // A file where the state directory is to be: nobody holds it, so that waiting would not help.
    let ran = place.cairn("run plan.yaml --state plan.yaml");
    assert_eq!(ran.code, 5, "{}", ran.err);
    assert!(ran.err.contains("help: make the state directory writable"), "{}", ran.err);
    let ran = place.cairn("list --state plan.yaml");
    assert_eq!(ran.code, 5, "{}", ran.err);
    assert!(ran.err.contains("help: make it a state directory that you can read"), "{}", ran.err);
}

#[test]
fn graphs_have_tasks_and_the_milestones_that_edges_touch() {
    let place = place();
    assert_eq!(
        place.cairn("graph plan.yaml").good(),
        "\
apollo: 2 milestones, 5 tasks, 5 needs, 5 levels, at most 1 at a time

build  Everything compiles
  1  compile
  2    unit      ← compile
  3      settle  ← unit

ship  ← build
  4  publish      ← build/compile
  5    announced  ← publish
"
    );
    let graph = place.cairn("graph plan.yaml --format json").json();
    let ids: Vec<_> = graph["nodes"].as_array().expect("a list").iter().map(|node| &node["id"]).collect();
    assert_eq!(
        ids,
        ["build/compile", "build/unit", "build/settle", "ship/publish", "ship/announced", "build", "ship"]
    );
    assert_eq!(
        graph["edges"],
        json!([{"from": "build/compile", "to": "build/unit"}, {"from": "build/unit", "to": "build/settle"},
               {"from": "build", "to": "ship"}, {"from": "build/compile", "to": "ship/publish"},
               {"from": "ship/publish", "to": "ship/announced"}])
    );
    assert!(place.cairn("graph plan.yaml --format dot").good().starts_with("digraph \"apollo\" {\n"));
    assert!(place.cairn("graph plan.yaml --format mermaid").good().starts_with("flowchart LR\n"));
}

#[test]
fn the_schema_is_one_value_in_each_form() {
    let place = place();
    let schema = place.cairn("schema").json();
    assert_eq!(schema["required"], json!(["version", "project"]));
    assert_eq!(place.cairn("schema --output jsonl").good().lines().count(), 1);
    assert!(place.cairn("schema --output yaml").good().contains("required:\n- version\n- project\n"));
}

#[test]
fn traces_are_imported_and_other_formats_named() {
    let place = place();
    place.write(
        "trace.json",
        r#"{"name": "Two steps", "schemaVersion": "1.5", "workflow": {
            "specification": {"tasks": [{"id": "a", "parents": [], "children": ["b"]},
                                        {"id": "b", "parents": ["a"], "children": []}]},
            "execution": {"tasks": [{"id": "a", "runtimeInSeconds": 2}, {"id": "b", "runtimeInSeconds": 3}]}}}"#,
    );
    let plan =
        place.cairn("import --from wfcommons --scale 0.5 --runner wait --project two trace.json").good();
    place.write("two.yaml", &plan);
    let valid = place.cairn("validate two.yaml --output json").json();
    assert_eq!((&valid["project"], &valid["critical_path_seconds"]), (&json!("two"), &json!(2.5)), "{plan}");
    let ran = place.cairn("import --from psplib trace.json");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("importing from psplib is not there yet"), "{}", ran.err);
    let ran = place.cairn("import --from wfcommons plan.yaml");
    assert!(ran.code == 2 && ran.err.contains("cannot import plan.yaml: "), "{}", ran.err);
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_was_meant() {
    let place = place();
    let ran = place.cairn("vaildate plan.yaml");
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("a similar subcommand exists: 'validate'"), "{}", ran.err);
    let ran = place.cairn("vaildate plan.yaml --output json");
    let value: serde_json::Value = serde_json::from_str(&ran.out).expect("one value");
    assert_eq!(value["error"]["help"], json!("a similar subcommand exists: 'validate'"));
    assert_eq!(place.cairn("validate plan.yaml --param x").code, 2);
}

#[test]
fn colours_come_only_when_they_are_asked_for() {
    let place = place();
    let has_colour = |line: &str, variable: Option<(&str, &str)>| {
        let output = place.command(line).envs(variable).output().expect("it runs");
        output.stdout.contains(&0x1b)
    };
    assert!(!has_colour("graph plan.yaml", None), "no terminal");
    assert!(has_colour("graph plan.yaml --color always", None));
    assert!(has_colour("graph plan.yaml", Some(("CLICOLOR_FORCE", "1"))));
    assert!(has_colour("graph plan.yaml", Some(("CAIRN_COLOR", "always"))));
    assert!(!has_colour("graph plan.yaml --color never", Some(("CLICOLOR_FORCE", "1"))));
    assert!(!has_colour("graph plan.yaml", Some(("NO_COLOR", "1"))));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = place();
    let mut text = String::from("version: 1\nproject: big\ntasks:\n");
    (0..20_000).for_each(|at| text.push_str(&format!("  - {{id: t{at}}}\n")));
    place.write("big.yaml", &text);
    let mut child = place
        .command("graph big.yaml --format json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut first = [0; 100];
    child.stdout.take().expect("piped").read_exact(&mut first).expect("something comes");
    // The other end is closed now.
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn completions_know_the_commands() {
    let place = place();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(place.cairn(&format!("completions {shell}")).good().contains("validate"), "{shell}");
    }
    assert_eq!(place.cairn("completions tcsh").code, 2);
}

#[test]
fn settings_are_shown_with_who_chose_them() {
    let place = place();
    place.write(".cairn.yaml", "state: runs\njobs: 3\n");
    place.write(".config/cairn/config.yaml", "output: text\njobs: 7\n");
    std::fs::create_dir(place.path().join("below")).expect("made");
    let mut command = place.command("config show --origin --output json");
    let output = command.current_dir(place.path().join("below")).env("CAIRN_COLOR", "never").output();
    let shown: serde_json::Value = serde_json::from_slice(&output.expect("it runs").stdout).expect("a value");
    // The system may know the directory by another name.
    let file = std::fs::canonicalize(place.path()).expect("there").join(".cairn.yaml");
    assert_eq!(
        shown["jobs"],
        json!({"value": 3, "origin": {"kind": "project_file", "path": file, "line": 2}})
    );
    assert_eq!(shown["output"], json!({"value": "json", "origin": {"kind": "flag", "name": "--output"}}));
    assert_eq!(
        shown["color"],
        json!({"value": "never", "origin": {"kind": "environment", "name": "CAIRN_COLOR"}})
    );
    assert_eq!(shown["state"]["value"], json!(file.with_file_name("runs")));
    place.write(".cairn.yaml", "state: runs\njbos: 3\n");
    let ran = place.cairn("schema");
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains(".cairn.yaml:2: `jbos` is not a setting\nhelp: did you mean `jobs`?"),
        "{}",
        ran.err
    );
}
