//! The bench of a fleet, through the binary.

use super::support::{Broker, Daemon};
use crate::e2e::support::{Place, told};
use serde_json::Value;

/// A bench of few tasks; what it says.
fn bench(place: &Place, broker: &Broker) -> std::process::Output {
    let mut command = place.command(["bench", "amqp", "--tasks", "2000", "--output", "json"]);
    command.env("CAIRN_TRANSPORT", broker.url()).output().expect("the binary starts")
}

#[test]
fn a_fleet_is_measured_and_leaves_nothing_behind() {
    let (place, broker) = (Place::new(), Broker::start(""));
    let output = bench(&place, &broker);
    assert!(output.status.success(), "{}", told(&output));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    for name in ["amqp, independent", "amqp, layered"] {
        assert_eq!(row(name)["tasks"], 2_000, "{name}");
        assert!(row(name)["peak_rss_bytes"].as_u64() > Some(1 << 20), "{name}: the coordinator's memory");
    }
    assert_eq!(rows.len(), 10, "five of the broker, two of the disk, three of ours");
    row("amqp, ready to started");
    for row in &rows {
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("no {key} in {row}"));
        assert!(number("seconds") > 0.0 && number("limit_per_second") > 0.0, "{row}");
        let rate = number("tasks") / number("seconds");
        assert!((rate / number("tasks_per_second") - 1.0).abs() < 1e-6, "{row}");
        let ratio = number("tasks_per_second") / number("limit_per_second");
        assert!((ratio / number("ratio") - 1.0).abs() < 1e-6, "{row}");
    }
    assert_eq!(broker.ctl(&["list_queues", "name"]).matches("cairn.").count(), 0, "queues are left");
    assert_eq!(std::fs::read_dir(place.path()).expect("a directory").count(), 0, "files are left");
}

#[test]
fn a_fleet_that_uses_the_broker_is_not_disturbed() {
    let (place, broker) = (Place::new(), Broker::start(""));
    let url = broker.url();
    let args = ["coordinator", "--transport", &url, "--state", "state", "--listen", "127.0.0.1:0"];
    let coordinator = Daemon::start(&place, "coordinator", &args, &Vec::new());
    coordinator.says("messages flow");
    crate::e2e::support::wait_for("the coordinator's queue", || {
        let listed = broker.ctl(&["list_queues", "name", "consumers"]);
        listed.lines().any(|line| line == "cairn.coordinator\t1").then_some(())
    });
    let output = bench(&place, &broker);
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    assert!(told(&output).contains("a fleet uses this broker"), "{}", told(&output));
    let listed = broker.ctl(&["list_queues", "name", "consumers"]);
    assert!(listed.lines().any(|line| line == "cairn.coordinator\t1"), "{listed}");
    assert!(!listed.contains("cairn.bench"), "{listed}");
}
