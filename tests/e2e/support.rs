//! The binary under test, directories to run it in, and what it said.

use serde_json::Value;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest time that a test waits for anything before it gives up: generous, for loaded machines.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary that was built with this test.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let path = profile.join("cairn");
    assert!(path.exists(), "{} is missing: run `cargo build` with the same profile first", path.display());
    path
}

/// The root of the project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the root").to_owned()
}

/// The moment, for waiting only.
#[expect(clippy::disallowed_methods, reason = "a test that waits for a process needs the machine's clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// A directory of a test's own, to run the binary in.
pub struct Place {
    directory: TempDir,
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves it where it is when the value ends, and says where that is.
    #[expect(clippy::print_stderr, reason = "whoever asked to keep it must see where it is")]
    pub fn keep(&mut self) {
        self.directory.disable_cleanup(true);
        eprintln!("kept: {}", self.path().display());
    }

    /// Writes a file into it.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("a file can be written");
    }

    /// Reads a file of it; empty if there is none.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// A command of the binary in this directory, with nothing of the user's configuration.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        // Whoever started the tests in the background has SIGINT ignored, and all below inherit that.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=INT")
            .arg(binary())
            .args(args)
            .current_dir(self.path())
            .stdin(Stdio::null());
        command.env("XDG_CONFIG_HOME", self.path()).env("LANG", "C.UTF-8").env_remove("LC_ALL");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CAIRN_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs a command to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.command(args).output().expect("the binary starts")
    }

    /// Runs a command that must succeed, and gives its stdout.
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{}: {}", output.status, told(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// All events of the log.
    pub fn events(&self) -> Vec<Value> {
        let text = self.ok(["events"]);
        let events: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect();
        for (at, event) in events.iter().enumerate() {
            assert_eq!(event["position"].as_u64(), Some(at as u64 + 1), "positions have no gaps");
        }
        events
    }
}

/// Both outputs, for messages.
pub fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Waits until `done` gives something.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let until = now() + PATIENCE;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(now() < until, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Checks what holds for the log of every run: positions grow, versions have no gaps, each task ended exactly once
/// (`ended`), nothing dispatched before all that it needs is completed. `edges` are pairs of task names.
pub fn check_log(events: &[Value], edges: &[(String, String)], ended: usize) {
    let mut completed: HashMap<&str, u64> = HashMap::new();
    let mut terminal: HashMap<&str, u32> = HashMap::new();
    let mut first_dispatch: HashMap<&str, u64> = HashMap::new();
    let mut versions: HashMap<&str, u64> = HashMap::new();
    let mut last = 0;
    for event in events {
        let position = event["position"].as_u64().expect("a position");
        assert!(position > last, "positions grow");
        last = position;
        let version = versions.entry(event["stream_id"].as_str().expect("a stream")).or_insert(0);
        *version += 1;
        assert_eq!(event["version"].as_u64(), Some(*version), "versions have no gaps: {event}");
        let Some(task) = event["event_data"]["task"].as_str() else { continue };
        match event["event_type"].as_str().expect("a type") {
            "TaskCompleted" => {
                completed.insert(task, position);
                *terminal.entry(task).or_default() += 1;
            }
            "TaskFailed" | "TaskSkipped" | "TaskCancelled" => *terminal.entry(task).or_default() += 1,
            "TaskDispatched" => {
                assert!(!terminal.contains_key(task), "{task} was dispatched after its end");
                first_dispatch.entry(task).or_insert(position);
            }
            _ => {}
        }
    }
    assert_eq!(terminal.len(), ended, "every task has ended");
    assert!(terminal.values().all(|&count| count == 1), "every task has ended once");
    for (parent, child) in edges {
        let (Some(dispatched), parent_completed) =
            (first_dispatch.get(child.as_str()), completed.get(parent.as_str()))
        else {
            continue;
        };
        let before = parent_completed.is_some_and(|position| position < dispatched);
        assert!(before, "{child} was dispatched at {dispatched}, {parent} completed at {parent_completed:?}");
    }
}
