//! A broker, a coordinator and agents of a test's own.

use crate::e2e::support::{PATIENCE, Place, binary, now, root, told, wait_for};
use serde_json::Value;
use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A RabbitMQ node of a test's own. It ends with the value.
pub struct Broker {
    place: Place,
}

impl Broker {
    /// Starts one; `config` are further lines for it.
    pub fn start(config: &str) -> Self {
        let broker = Self { place: Place::new() };
        broker.script("start", config);
        broker
    }

    fn script(&self, verb: &str, config: &str) -> String {
        let script = root().join("deploy/services/rabbitmq");
        let output = Command::new(&script)
            .arg(verb)
            .arg(self.place.path())
            .env("CAIRN_RABBITMQ_CONFIG", config)
            .output()
            .expect("the script starts");
        assert!(output.status.success(), "rabbitmq {verb}: {}", told(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.place.read("url").trim().to_owned()
    }

    /// Does something to it with `rabbitmqctl`.
    pub fn ctl(&self, args: &[&str]) -> String {
        let script = root().join("deploy/services/rabbitmq");
        let output = Command::new(&script)
            .arg("ctl")
            .arg(self.place.path())
            .args(args)
            .output()
            .expect("the script starts");
        assert!(output.status.success(), "rabbitmqctl {args:?}: {}", told(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Kills it, as the loss of power would.
    pub fn kill(&self) {
        let pid = self.place.read("pid");
        kill(pid.trim().parse().expect("a pid"), "KILL");
        self.script("stop", "");
    }

    /// Starts it again, with what it had on its disk.
    pub fn start_again(&self) {
        self.script("start", "");
    }

    /// Takes all that it had on its disk from it; it is the same node afterwards.
    pub fn lose_disk(&self) {
        let mnesia = self.place.path().join("mnesia");
        std::fs::remove_dir_all(&mnesia).expect("it is there");
        std::fs::create_dir(&mnesia).expect("it can be made");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let script = root().join("deploy/services/rabbitmq");
        // A test that fails already says why.
        let _ = Command::new(script).arg("stop").arg(self.place.path()).output();
    }
}

/// A process of ours that stays in the foreground. It is killed with the value.
pub struct Daemon {
    child: RefCell<Child>,
    log: PathBuf,
}

impl Daemon {
    /// Starts `cairn ARGS` in a directory; what it says goes to `NAME.log` there.
    pub fn start(place: &Place, name: &str, args: &[&str]) -> Self {
        let log = place.path().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        let mut command = place.command(args);
        command.stdout(Stdio::null()).stderr(file);
        Self { child: RefCell::new(command.spawn().expect("it starts")), log }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.borrow().id()
    }

    /// The processes that it started itself.
    pub fn children(&self) -> Vec<u32> {
        let pid = self.pid();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let told = std::fs::read_to_string(path).unwrap_or_default();
        told.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        kill(self.pid(), signal);
    }

    /// Kills it and waits for its end.
    pub fn kill(&self) {
        self.signal("KILL");
        let _ = self.child.borrow_mut().wait();
    }

    /// Waits for its end; its exit code.
    pub fn wait(&self) -> Option<i32> {
        wait_for("the end of a daemon", || self.child.borrow_mut().try_wait().expect("ours")).code()
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said something.
    pub fn says(&self, what: &str) {
        wait_for(&format!("{what:?} in {}", self.log.display()), || self.log().contains(what).then_some(()));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended is not there any more.
        let _ = self.child.borrow_mut().kill();
        let _ = self.child.borrow_mut().wait();
    }
}

/// Sends a signal to a process of ours.
pub fn kill(pid: u32, signal: &str) {
    let _ = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).output();
}

/// A coordinator and agents over a broker.
pub struct Fleet {
    pub place: Place,
    pub coordinator: Daemon,
    pub agents: Vec<Daemon>,
    url: String,
    options: Vec<String>,
}

impl Fleet {
    /// A coordinator, and as many agents with two slots each, all of them joined.
    pub fn start(broker: &Broker, agents: usize, coordinator_options: &[&str]) -> Self {
        let place = Place::new();
        let url = broker.url();
        let options: Vec<_> = coordinator_options.iter().map(|option| (*option).to_owned()).collect();
        let coordinator = start_coordinator(&place, &url, &options);
        let mut fleet = Self { place, coordinator, agents: Vec::new(), url, options };
        for index in 1..=agents {
            let agent = fleet.start_agent(index);
            fleet.agents.push(agent);
        }
        fleet.wait_for_agents(agents);
        fleet
    }

    /// Starts an agent: `a1` for 1.
    pub fn start_agent(&self, index: usize) -> Daemon {
        let id = format!("a{index}");
        let state = format!("agent-{index}");
        let args = [
            "agent",
            "--transport",
            &self.url,
            "--id",
            &id,
            "--slots",
            "2",
            "--state",
            &state,
            "--listen",
            "127.0.0.1:0",
        ];
        Daemon::start(&self.place, &id, &args)
    }

    /// Starts the coordinator again.
    pub fn start_coordinator_again(&mut self) {
        self.coordinator = start_coordinator(&self.place, &self.url, &self.options);
    }

    /// Waits until as many agents are there.
    pub fn wait_for_agents(&self, count: usize) {
        wait_for(&format!("{count} agents"), || {
            let agents = self.json(&["agents"])?;
            let joined =
                agents["agents"].as_array()?.iter().filter(|agent| agent["state"] == "joined").count();
            (joined == count).then_some(())
        });
    }

    /// A command of the binary that speaks to the coordinator.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        let state = self.place.path().join("state");
        command.env("CAIRN_STATE", &state);
        if let Ok(url) = std::fs::read_to_string(state.join("coordinator.url")) {
            command.env("CAIRN_URL", url.trim());
        }
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary starts")
    }

    /// Runs a command that must succeed, and gives its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}: {}", output.status, told(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What a command says as JSON; nothing where it fails.
    pub fn json(&self, args: &[&str]) -> Option<Value> {
        let args: Vec<_> = args.iter().copied().chain(["--output", "json"]).collect();
        let output = self.run(&args);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// Submits a plan; the run's name.
    pub fn submit(&self, plan: &str) -> String {
        self.ok(&["submit", plan]).trim().to_owned()
    }

    /// The status of a run.
    pub fn status(&self, run: &str) -> Value {
        self.json(&["status", run]).expect("a status")
    }

    /// Waits until a run has ended; its status.
    pub fn ended(&self, run: &str, within: Duration) -> Value {
        let until = now() + within;
        loop {
            if let Some(status) = self.json(&["status", run]) {
                if ["completed", "failed", "cancelled"].iter().any(|end| status["status"] == *end) {
                    return status;
                }
                assert!(now() < until, "{run} did not end: {}\n{}", status["counts"], self.logs());
            }
            assert!(now() < until, "no status of {run}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// All events of a run, read from the coordinator's state directory.
    pub fn events(&self, run: &str) -> Vec<Value> {
        let mut command = self.place.command(["events", run, "--state", "state"]);
        let output = command.output().expect("the binary starts");
        assert!(output.status.success(), "{}", told(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect()
    }

    /// The last words of all daemons, for a test that fails.
    pub fn logs(&self) -> String {
        let all = std::iter::once(&self.coordinator).chain(&self.agents);
        let tail = |daemon: &Daemon| {
            let log = daemon.log();
            let lines: Vec<_> = log.lines().rev().take(30).collect();
            lines.into_iter().rev().fold(String::new(), |text, line| text + line + "\n")
        };
        all.map(tail).collect::<Vec<_>>().join("\n---\n")
    }
}

fn start_coordinator(place: &Place, url: &str, options: &[String]) -> Daemon {
    let _ = std::fs::remove_file(place.path().join("state/coordinator.url"));
    let mut args = vec!["coordinator", "--transport", url, "--state", "state", "--listen", "127.0.0.1:0"];
    args.extend(options.iter().map(String::as_str));
    let daemon = Daemon::start(place, "coordinator", &args);
    let file = place.path().join("state/coordinator.url");
    wait_for("the coordinator", || file.exists().then_some(()));
    daemon
}

/// The slice of time that a fault lasts at least, for tests that time what follows.
pub fn since(start: Instant) -> Duration {
    now().duration_since(start)
}

/// How long anything may take before a test gives up.
pub const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() * 3);

/// The binary under test.
pub fn cairn() -> PathBuf {
    binary()
}

/// The files below a directory, for what tasks leave behind.
pub fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
