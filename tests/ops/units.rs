//! The units of systemd, by systemd's own check.

use super::{has_tool, must, root, run};
use std::process::Command;

/// The most that `systemd-analyze security` may find fault with, in tenths: 0 is closed, 100 open. Tasks of an agent are
/// other people's programs, so an agent's unit closes less.
const MAX_EXPOSURE: [(&str, u32); 2] = [("cairn-coordinator.service", 20), ("cairn-agent.service", 60)];

#[test]
fn units_are_sound_and_closed() {
    if !has_tool("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    for (unit, exposure) in MAX_EXPOSURE {
        let text = std::fs::read_to_string(root().join("deploy/systemd").join(unit)).expect("a unit");
        assert!(text.contains("ExecStart=/usr/bin/cairn "), "{unit}");
        // What is checked is the unit, not whether Cairn is installed here.
        let path = folder.path().join(unit);
        std::fs::write(&path, text.replace("/usr/bin/cairn ", "/bin/true ")).expect("written");
        let told = must(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path));
        assert_eq!(told.trim(), "", "{unit}");
        let threshold = format!("--threshold={exposure}");
        let output = run(Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", &threshold])
            .arg(&path));
        assert!(output.status.success(), "{unit}:\n{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_time_to_stop_is_longer_than_the_time_to_drain() {
    let unit =
        std::fs::read_to_string(root().join("deploy/systemd/cairn-coordinator.service")).expect("a unit");
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s'));
    let stop: u64 = stop.and_then(|seconds| seconds.parse().ok()).expect("seconds");
    let drain = cairn_coordinator::service::config::CoordinatorConfig::default().drain;
    assert!(stop > drain.as_secs(), "systemd would kill what is still draining");
}
