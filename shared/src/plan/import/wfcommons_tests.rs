//! What can go wrong in a trace; the real ones are read in `tests/import.rs`.

use super::*;
use crate::plan::{Options, Source, parse};
use serde_json::{Value, json};

fn trace() -> Value {
    json!({
        "name": "Fork Join: 10.json",
        "description": "what ${{ it }} does",
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {"tasks": [
                {"id": "a", "name": "first", "parents": [], "children": ["-b", "c"], "more": 1},
                {"id": "-b", "name": "second", "parents": ["a"], "children": []},
                {"id": "c", "name": "third", "parents": ["a", "a"], "children": []},
            ]},
            "execution": {"tasks": [
                {"id": "a", "runtimeInSeconds": 2, "command": {"program": "echo", "arguments": ["x\ny", "z".repeat(99)]}},
                {"id": "-b", "runtimeInSeconds": 0.123},
                {"id": "c", "runtimeInSeconds": 0},
            ]},
        },
    })
}

fn import(trace: &Value) -> Result<String, WfCommonsError> {
    wfcommons(&trace.to_string(), &WfCommonsOptions { scale: 0.5, ..WfCommonsOptions::default() })
}

#[test]
fn a_trace_becomes_a_plan() {
    let text = import(&trace()).expect("a trace");
    let expected = format!(
        "# Imported from WfFormat 1.5; recorded runtimes times 0.5.
version: 1
project: fork-join-10
title: \"Fork Join: 10.json\"
description: \"what $ {{{{ it }}}} does\"
tasks:
  - id: a
    title: \"echo x y {}…\"
    exec: [sleep, \"1\"]
    estimate: 1s
  - id: _-b
    title: second
    needs: [a]
    exec: [sleep, \"0.0615\"]
    estimate: 0.0615s
  - id: c
    title: third
    needs: [a]
    exec: [sleep, \"0\"]
    estimate: 0s
",
        "z".repeat(71)
    );
    assert_eq!(text, expected);
    let parsed = parse(&Source::new("p.yaml", text), &Options::default()).expect("a plan");
    assert_eq!(parsed.plan.edge_count(), 2);
}

#[test]
fn timers_start_no_process() {
    let options = WfCommonsOptions { scale: 1.0, runner: Runner::Wait, project: Some("mine") };
    let text = wfcommons(&trace().to_string(), &options).expect("a trace");
    assert!(
        text.contains("    wait: 123ms\n") && text.contains("project: mine\n") && !text.contains("sleep")
    );
}

#[test]
fn what_contradicts_itself_is_refused_by_name() {
    fn message(change: impl FnOnce(&mut Value)) -> String {
        let mut trace = trace();
        change(&mut trace);
        import(&trace).expect_err("a broken trace").to_string()
    }
    fn task(trace: &mut Value, index: usize) -> &mut Value {
        &mut trace["workflow"]["specification"]["tasks"][index]
    }
    let child_only = message(|trace| task(trace, 1)["parents"] = json!([]));
    assert_eq!(child_only, "the task `a` names `-b` as its child, but `-b` does not name it as a parent");
    let parent_only = message(|trace| task(trace, 0)["children"] = json!(["c"]));
    assert_eq!(parent_only, "the task `-b` names `a` as its parent, but `a` does not name it as a child");
    let unknown = message(|trace| task(trace, 2)["parents"] = json!(["x"]));
    assert_eq!(unknown, "the task `c` names `x` as its parent, but there is no such task");
    assert_eq!(message(|trace| task(trace, 2)["id"] = json!("a")), "two tasks have the id `a`");
    assert_eq!(message(|trace| task(trace, 2)["id"] = json!("")), "a task has an empty id");
    let clash = message(|trace| {
        task(trace, 2)["id"] = json!("_-b");
        task(trace, 0)["children"] = json!(["-b", "_-b"]);
    });
    assert_eq!(clash, "the ids `-b` and `_-b` both become `_-b` in a plan");
    let version = message(|trace| trace["schemaVersion"] = json!("1.4"));
    assert_eq!(version, "WfFormat 1.4 is not known; versions 1.5 and 1.6 are");
    let runtime = message(|trace| trace["workflow"]["execution"]["tasks"][0]["runtimeInSeconds"] = json!(-1));
    assert_eq!(runtime, "the task `a` has the runtime -1 s, which is no duration of a plan");
    let missing = message(|trace| trace["workflow"]["execution"]["tasks"][0]["id"] = json!("q"));
    assert_eq!(missing, "the task `a` has no recorded runtime");
    assert_eq!(
        message(|trace| trace["workflow"]["specification"]["tasks"] = json!([])),
        "the workflow has no tasks"
    );
    assert_eq!(message(|trace| trace["workflow"] = json!(3)), "this is not a WfFormat file");
}

#[test]
fn options_are_checked() {
    let with = |scale, project| {
        wfcommons(&trace().to_string(), &WfCommonsOptions { scale, runner: Runner::Sleep, project })
    };
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(with(scale, None), Err(WfCommonsError::Scale { .. })));
    }
    assert!(matches!(with(1e300, None), Err(WfCommonsError::Runtime { .. })));
    assert!(matches!(with(1.0, Some("No")), Err(WfCommonsError::Project { .. })));
}
