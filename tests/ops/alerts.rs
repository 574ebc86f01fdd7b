//! The alerts, by promtool, and the names that they use.

use super::dashboards::assert_known_metrics;
use super::{has_tool, must, root};
use serde_json::Value;
use std::process::Command;

#[test]
fn alerts_and_configuration_are_what_prometheus_reads() {
    if !has_tool("promtool") {
        return;
    }
    let folder = root().join("deploy/prometheus");
    must(Command::new("promtool").args(["check", "config", "prometheus.yml"]).current_dir(&folder));
    must(Command::new("promtool").args(["test", "rules", "alerts_test.yml"]).current_dir(&folder));
}

#[test]
fn every_alert_has_a_test_a_severity_and_a_place_in_the_documentation() {
    let folder = root().join("deploy/prometheus");
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).expect("a file");
    let rules: Value = serde_saphyr::from_str(&read(folder.join("alerts.yml"))).expect("YAML");
    let tests: Value = serde_saphyr::from_str(&read(folder.join("alerts_test.yml"))).expect("YAML");
    let manual = read(root().join("docs/operations.md"));
    let tested: Vec<&Value> = tests["tests"]
        .as_array()
        .expect("tests")
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_array().expect("alerts"))
        .collect();
    let rules = rules["groups"][0]["rules"].as_array().expect("rules");
    assert_eq!(rules.len(), 6);
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        assert_known_metrics(name, rule["expr"].as_str().expect("an expression"));
        let severity = rule["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning")), "{name}: {severity:?}");
        let fires = |fires: bool| {
            tested.iter().any(|test| {
                let expected = test["exp_alerts"].as_array().expect("alerts");
                test["alertname"] == name && expected.is_empty() != fires
            })
        };
        assert!(fires(true), "{name}: no test sees it");
        assert!(fires(false) || name == "CairnTransportDown", "{name}: no test sees its silence");
        assert!(manual.contains(name), "docs/operations.md says nothing of {name}");
    }
}
