//! A private RabbitMQ node, driven by `deploy/services/rabbitmq`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/services/rabbitmq");

/// Virtual hosts that are made at once: one by one they take longer than the cases.
const VHOSTS: u32 = 48;

pub struct Broker {
    directory: PathBuf,
    url: String,
    ours: bool,
    vhosts_taken: AtomicU32,
}

impl Broker {
    /// The node for cases that leave it as it was: the one that is named, or one of our own.
    pub fn for_cases() -> Option<Arc<Self>> {
        match std::env::var_os("CAIRN_TEST_RABBITMQ") {
            Some(directory) => Some(Arc::new(Self::at(PathBuf::from(directory), false))),
            None => Self::own(),
        }
    }

    /// A node of our own, which goes with the last who holds it. None where RabbitMQ is missing, and may be.
    pub fn own() -> Option<Arc<Self>> {
        let directory =
            std::env::temp_dir().join(format!("cairn-broker-{}-{}", std::process::id(), number()));
        let started = script(&directory, "start", &[]);
        if started.status.success() {
            return Some(Arc::new(Self::at(directory, true)));
        }
        script(&directory, "wipe", &[]);
        let why = String::from_utf8_lossy(&started.stderr);
        assert!(
            why.contains("not installed") && std::env::var_os("CI").is_none(),
            "no RabbitMQ to test with: {why}"
        );
        eprintln!("SKIPPED: RabbitMQ is not installed; deploy/services/install installs it");
        None
    }

    fn at(directory: PathBuf, ours: bool) -> Self {
        let url = std::fs::read_to_string(directory.join("url")).expect("the node has no address");
        let broker = Self { directory, url: url.trim().to_owned(), ours, vhosts_taken: AtomicU32::new(0) };
        let vhosts: Vec<_> = (0..VHOSTS).map(|number| format!(r#"{{"name":"{}"}}"#, vhost(number))).collect();
        let rights = |number| {
            format!(
                r#"{{"user":"cairn","vhost":"{}","configure":".*","write":".*","read":".*"}}"#,
                vhost(number)
            )
        };
        let rights: Vec<_> = (0..VHOSTS).map(rights).collect();
        let file = broker.directory.join(format!("{}.json", std::process::id()));
        let definitions =
            format!(r#"{{"vhosts":[{}],"permissions":[{}]}}"#, vhosts.join(","), rights.join(","));
        std::fs::write(&file, definitions).unwrap();
        broker.ctl(&["import_definitions", file.to_str().unwrap()]);
        std::fs::remove_file(file).unwrap();
        broker
    }

    /// A virtual host that nobody else uses.
    pub fn take_vhost(&self) -> String {
        let number = self.vhosts_taken.fetch_add(1, Ordering::Relaxed);
        assert!(number < VHOSTS, "more cases than virtual hosts");
        vhost(number)
    }

    /// Where a virtual host of it is.
    pub fn url(&self, vhost: &str) -> String {
        let vhost: String = vhost.bytes().map(|byte| format!("%{byte:02x}")).collect();
        format!("{}{vhost}", self.url.strip_suffix("%2f").unwrap())
    }

    /// The same for another user.
    pub fn url_of(&self, user: &str, password: &str, vhost: &str) -> String {
        let url = self.url(vhost);
        let (_, place) = url.split_once('@').unwrap();
        format!("amqp://{user}:{password}@{place}")
    }

    /// rabbitmqctl.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        successful(script(&self.directory, "ctl", arguments), arguments)
    }

    pub fn start(&self) {
        successful(script(&self.directory, "start", &[]), &["start"]);
    }

    /// Ends it as a failure of the machine would.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.directory.join("pid")).unwrap().trim().to_owned();
        assert!(self.ours && Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        while Path::new("/proc").join(&pid).join("exe").exists() {
            std::thread::yield_now();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.ours {
            script(&self.directory, "wipe", &[]);
            return;
        }
        for number in 0..VHOSTS {
            script(&self.directory, "ctl", &["delete_vhost", &vhost(number)]);
        }
    }
}

/// With what must be percent-encoded in a URL.
fn vhost(number: u32) -> String {
    format!("case {}/{number}", std::process::id())
}

fn number() -> u32 {
    static MADE: AtomicU32 = AtomicU32::new(0);
    MADE.fetch_add(1, Ordering::Relaxed)
}

fn script(directory: &Path, command: &str, arguments: &[&str]) -> Output {
    Command::new(SCRIPT)
        .arg(command)
        .arg(directory)
        .args(arguments)
        .output()
        .expect("the script cannot be run")
}

fn successful(output: Output, what: &[&str]) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what:?} failed: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
