//! A private PostgreSQL cluster, driven by `deploy/services/postgres`; one for a test binary, with a schema for each
//! test. `CAIRN_TEST_POSTGRES` names the directory of one that runs already.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/services/postgres");

/// Ends the cluster when the test process has ended, however it ended: then the pipe is closed.
const WATCH: &str = "trap '' INT TERM HUP; read -r _; exec \"$0\" wipe \"$1\"";

/// Enough for tests that run side by side, some with 16 stores.
const CONFIG: &str = "max_connections = 300";

pub struct Cluster {
    directory: PathBuf,
    /// Kept open as long as the process lives.
    _watch: Option<std::process::Child>,
}

impl Cluster {
    /// The cluster of this test binary. None where PostgreSQL is missing and `CAIRN_REQUIRE_TOOLS` does not ask for it.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        SHARED
            .get_or_init(|| match std::env::var_os("CAIRN_TEST_POSTGRES") {
                Some(directory) => Some(Self { directory: directory.into(), _watch: None }),
                None => Self::own(),
            })
            .as_ref()
    }

    /// A cluster that nobody else uses, for tests that crash it.
    pub fn own() -> Option<Self> {
        let directory =
            std::env::temp_dir().join(format!("cairn-postgres-{}-{}", std::process::id(), number()));
        let watch = Command::new("sh")
            .args(["-c", WATCH, SCRIPT])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let cluster = Self { directory, _watch: Some(watch) };
        let started = cluster.script("start");
        if started.status.success() {
            return Some(cluster);
        }
        let why = String::from_utf8_lossy(&started.stderr).into_owned();
        let is_required = std::env::var_os("CAIRN_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(why.contains("not installed") && !is_required, "no PostgreSQL to test with: {why}");
        let mut stderr = std::io::stderr().lock();
        writeln!(stderr, "SKIPPED: PostgreSQL is not installed; deploy/services/install installs it")
            .unwrap();
        None
    }

    /// Where it is.
    pub fn url(&self) -> String {
        let url = std::fs::read_to_string(self.directory.join("url")).expect("the cluster has no address");
        url.trim().to_owned()
    }

    /// The name of a schema that nobody else uses.
    pub fn schema() -> String {
        format!("case_{}_{}", std::process::id(), number())
    }

    /// Calls the script; `crash` and `start` make a restart in immediate mode.
    pub fn script(&self, verb: &str) -> Output {
        Command::new(SCRIPT)
            .arg(verb)
            .arg(&self.directory)
            .env("CAIRN_POSTGRES_CONFIG", CONFIG)
            .output()
            .unwrap()
    }
}

fn number() -> u32 {
    static NUMBERS: AtomicU32 = AtomicU32::new(1);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}
