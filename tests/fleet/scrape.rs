//! A real Prometheus and the daemons: what they tell is well-formed, and enough for every panel of the dashboards.

use super::support::{Daemon, Fleet, Setup};
use crate::e2e::support::wait_for;
use crate::ops::scrape::every_panel_has_data;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// Where a daemon says that it listens.
fn address(daemon: &Daemon) -> String {
    wait_for("a listening daemon", || {
        let log = daemon.log();
        let (_, rest) = log.split_once("address=")?;
        rest.split_whitespace().next().map(str::to_owned)
    })
}

fn metrics(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.") && head.contains(" 200 "), "{head}");
    body.to_owned()
}

/// What promtool has to say against metrics; nothing where it is not installed.
fn complaints(metrics: &str) -> String {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else { return String::new() };
    child.stdin.take().expect("a pipe").write_all(metrics.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    crate::e2e::support::told(&output)
}

#[test]
fn every_panel_has_data_while_a_fleet_works() {
    let fleet = Fleet::shared(Setup::default());
    let tasks: String = (0..2_000)
        .map(|task| format!("      - {{id: t{task}, run: sleep 0.2, estimate: 200ms}}\n"))
        .collect();
    fleet.place.write(
        "plan.yaml",
        &format!(
            "version: 1\nproject: apollo\nmilestones:\n  - id: build\n    due: 2100-01-01T00:00:00Z\n    tasks:\n{tasks}"
        ),
    );
    let run = fleet.submit("plan.yaml");
    let url = fleet.place.read("state/coordinator.url");
    let coordinator = url.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let agents: Vec<String> = fleet.agents.iter().map(address).collect();
    let targets: Vec<String> = std::iter::once(coordinator.clone())
        .chain(agents.iter().map(|address| format!("agent={address}")))
        .collect();
    assert_eq!(every_panel_has_data(&targets), Ok(()), "{}", fleet.logs());
    for address in std::iter::once(&coordinator).chain(&agents) {
        let text = metrics(address);
        assert_eq!(complaints(&text), "", "{text}");
    }
    // What an agent tells of itself is not added to what the coordinator tells of all.
    let names = |text: &str| -> Vec<String> {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE cairn_"));
        types.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    };
    let (ours, theirs) = (names(&metrics(&coordinator)), names(&metrics(&agents[0])));
    let is_shared = |name: &&String| name.starts_with("transport_") || *name == "build_info";
    let twice: Vec<_> = theirs.iter().filter(|name| ours.contains(name) && !is_shared(name)).collect();
    assert!(twice.is_empty(), "{twice:?}");
    fleet.ok(&["cancel", &run]);
}
