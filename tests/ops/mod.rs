//! What runs around Cairn: dashboards, alerts, units of systemd, users of the broker. Each is given to the tool that
//! will read it.

mod alerts;
mod broker;
mod dashboards;
pub mod scrape;
mod units;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the root").to_owned()
}

/// Whether a tool is installed. A missing one is an error where `CAIRN_REQUIRE_TOOLS` is 1, and told elsewhere.
fn has_tool(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // Where Debian puts what only root runs.
    folders.push("/usr/sbin".into());
    let is_there = folders.iter().any(|folder| folder.join(name).is_file());
    let is_required = std::env::var_os("CAIRN_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(is_there || !is_required, "{name} is not installed and CAIRN_REQUIRE_TOOLS is set");
    if !is_there {
        eprintln!("skipped: {name} is not installed");
    }
    is_there
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a tool that must be content.
fn must(command: &mut Command) -> String {
    let output = run(command);
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{told}", output.status);
    told
}
