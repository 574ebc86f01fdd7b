//! The example plans: valid, described by the schema, and they do what they say.

use super::support::{Place, root, told};
use serde_json::Value;
use std::path::PathBuf;

fn examples() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(root().join("config/plans")).expect("a folder of plans");
    let mut plans: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
    plans.sort();
    plans
}

#[test]
fn they_are_valid_against_the_schema() {
    let place = Place::new();
    let schema: Value = serde_json::from_str(&place.ok(["schema"])).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a JSON Schema");
    assert_eq!(examples().len(), 5);
    for path in examples() {
        let text = std::fs::read_to_string(&path).expect("a plan");
        let plan: Value = serde_saphyr::from_str(&text).expect("YAML");
        let errors: Vec<_> = validator.iter_errors(&plan).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
    }
    let unknown: Value =
        serde_json::json!({"version": 1, "project": "a", "tasks": [{"id": "a", "rnu": "x"}]});
    assert!(!validator.is_valid(&unknown), "an unknown key is an error");
}

#[test]
fn they_run_to_their_end() {
    for path in examples() {
        let place = Place::new();
        let output = place.run(["run".as_ref(), path.as_os_str()]);
        assert_eq!(output.status.code(), Some(0), "{}: {}", path.display(), told(&output));
    }
}

#[test]
fn the_diamond_is_retried_and_ends_with_a_warning() {
    let place = Place::new();
    let plan = root().join("config/plans/diamond.yaml");
    let output = place.run(["run".as_ref(), plan.as_os_str()]);
    assert!(told(&output).contains("1 failure where the plan allows it"), "{}", told(&output));
    let events = place.events();
    let of = |kind: &str| events.iter().filter(|event| event["event_type"] == kind).count();
    assert_eq!(
        (of("TaskRetryScheduled"), of("TaskFailed"), of("TaskCompleted"), of("RunCompleted")),
        (1, 1, 3, 1)
    );
}
