//! A broker, a coordinator and agents of a test's own.

use crate::e2e::support::{PATIENCE, Place, now, root, told, wait_for};
use cairn_model::Timestamp;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

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

    /// What it said since its last start.
    pub fn log(&self) -> String {
        self.place.read("log/node.log")
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
    pub fn start<S: AsRef<OsStr>>(place: &Place, name: &str, args: &[S], variables: &Variables) -> Self {
        let log = place.path().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        let mut command = place.command(args);
        command.stdout(Stdio::null()).stderr(file).envs(variables.iter().map(|(name, value)| (name, value)));
        Self { child: RefCell::new(command.spawn().expect("it starts")), log }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.borrow().id()
    }

    /// All processes that it started itself, whichever of its threads did.
    pub fn children(&self) -> Vec<u32> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let told = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        let told: Vec<String> = told.collect();
        told.iter().flat_map(|pids| pids.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Of a keeper: the child that has the network.
    pub fn network_child(&self) -> Option<u32> {
        let is_it = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|&byte| byte == 0).any(|word| word == b"--child")
        };
        self.children().into_iter().find(is_it)
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

/// The node that the tests of this process share, each with a virtual host of its own. It ends soon after the process,
/// however that ends: whoever waits for the end of this pipe stops it.
pub fn shared_broker() -> &'static Broker {
    static SHARED: OnceLock<(Broker, ChildStdin)> = OnceLock::new();
    let (broker, _) = SHARED.get_or_init(|| {
        let broker = Broker::start("");
        let stop = "cat; \"$0\" wipe \"$1\"";
        let mut waiter = Command::new("setsid");
        waiter.args(["sh", "-c", stop]).arg(root().join("deploy/services/rabbitmq")).arg(broker.place.path());
        let waiter = waiter.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let pipe = waiter.expect("it starts").stdin.take().expect("a pipe");
        (broker, pipe)
    });
    broker
}

/// The address of a new virtual host of the shared node.
pub fn virtual_host() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    let broker = shared_broker();
    let name = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let all = "<<\".*\">>";
    broker.ctl(&[
        "eval",
        &format!(
            "rabbit_vhost:add(<<\"{name}\">>, <<\"cairn\">>), \
             rabbit_auth_backend_internal:set_permissions(<<\"cairn\">>, <<\"{name}\">>, {all}, {all}, {all}, <<\"cairn\">>)."
        ),
    ]);
    broker.url().replace("%2f", &name)
}

/// How a fleet is set up.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub agents: usize,
    /// Of each agent.
    pub slots: usize,
    /// Variables of the coordinator's.
    pub coordinator: &'a [(&'a str, &'a str)],
    /// Variables of the agents'.
    pub agent: &'a [(&'a str, &'a str)],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { agents: 2, slots: 2, coordinator: &[], agent: &[] }
    }
}

/// Agents that take work from a queue that they share.
pub const SHARED_ROUTE: Setup<'static> = Setup {
    agents: 2,
    slots: 2,
    coordinator: &[("CAIRN_ROUTE", "shared")],
    agent: &[("CAIRN_CAPABILITY", "any")],
};

type Variables = Vec<(String, String)>;

/// A coordinator and agents over a broker. All tasks start in the directory of the fleet.
pub struct Fleet {
    pub place: Place,
    pub coordinator: Daemon,
    pub agents: Vec<Daemon>,
    url: String,
    slots: usize,
    of_coordinator: Variables,
    of_agent: Variables,
}

impl Fleet {
    /// A fleet over the node that tests share.
    pub fn shared(setup: Setup<'_>) -> Self {
        Self::over(&virtual_host(), setup)
    }

    /// A coordinator and agents, all of them joined.
    pub fn over(url: &str, setup: Setup<'_>) -> Self {
        let place = Place::new();
        let owned = |variables: &[(&str, &str)]| -> Variables {
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let of_coordinator = owned(setup.coordinator);
        let mut of_agent = owned(setup.agent);
        of_agent.push(("CAIRN_WORKSPACE".to_owned(), place.path().to_string_lossy().into_owned()));
        let url = url.to_owned();
        let coordinator = start_coordinator(&place, &url, &of_coordinator);
        let slots = setup.slots;
        let mut fleet = Self { place, coordinator, agents: Vec::new(), url, slots, of_coordinator, of_agent };
        for index in 1..=setup.agents {
            let agent = fleet.start_agent(index);
            fleet.agents.push(agent);
        }
        fleet.wait_for_agents(setup.agents);
        fleet
    }

    /// Starts an agent: `a1` for 1.
    pub fn start_agent(&self, index: usize) -> Daemon {
        self.start_agent_in(index, &format!("agent-{index}"))
    }

    /// Starts an agent with another state directory than its own.
    pub fn start_agent_in(&self, index: usize, state: &str) -> Daemon {
        let (id, slots) = (format!("a{index}"), self.slots.to_string());
        let mut args = vec!["agent", "--transport", &self.url, "--id", &id, "--slots", &slots];
        args.extend(["--state", state, "--listen", "127.0.0.1:0"]);
        Daemon::start(&self.place, &id, &args, &self.of_agent)
    }

    /// The password of the broker.
    pub fn password(&self) -> &str {
        let (_, rest) = self.url.split_once("cairn:").expect("amqp://cairn:PASSWORD@…");
        rest.split_once('@').expect("amqp://cairn:PASSWORD@…").0
    }

    /// Starts the coordinator again.
    pub fn start_coordinator_again(&mut self) {
        self.coordinator = start_coordinator(&self.place, &self.url, &self.of_coordinator);
    }

    /// Waits until as many agents are there.
    pub fn wait_for_agents(&self, count: usize) {
        let until = now() + PATIENCE;
        loop {
            let agents = self.json(&["agents"]);
            let of_all = agents.as_ref().and_then(|agents| agents["agents"].as_array());
            let joined = of_all.map(|all| all.iter().filter(|agent| agent["state"] == "joined").count());
            if joined == Some(count) {
                return;
            }
            assert!(now() < until, "{count} agents do not join: {agents:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
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

impl Drop for Fleet {
    fn drop(&mut self) {
        // CAIRN_KEEP=1 keeps what a test that fails has left, to look at.
        if std::thread::panicking() && std::env::var_os("CAIRN_KEEP").is_some() {
            self.place.keep();
        }
    }
}

fn start_coordinator(place: &Place, url: &str, variables: &Variables) -> Daemon {
    let _ = std::fs::remove_file(place.path().join("state/coordinator.url"));
    let args = ["coordinator", "--transport", url, "--state", "state", "--listen", "127.0.0.1:0"];
    let daemon = Daemon::start(place, "coordinator", &args, variables);
    let file = place.path().join("state/coordinator.url");
    wait_for("the coordinator", || file.exists().then_some(()));
    daemon
}

/// How long anything may take before a test gives up.
pub const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() * 3);

/// The wall clock, which the times of events are by.
#[expect(
    clippy::disallowed_methods,
    reason = "a test compares the machine's clock with the log of processes"
)]
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp(0).plus(since)
}

/// When an event was recorded.
pub fn recorded_at(event: &Value) -> Timestamp {
    event["metadata"]["timestamp"].as_str().and_then(Timestamp::parse).expect("a time")
}

/// Checks what the tasks of a run wrote into `done.txt`, a line `TASK.ATTEMPT` each when they end: every task ran to its
/// end, no attempt twice, and none that was not dispatched.
pub fn check_executions(fleet: &Fleet, events: &[Value], tasks: usize) {
    let text = fleet.place.read("done.txt");
    let mut dispatched = HashSet::new();
    for event in events.iter().filter(|event| event["event_type"] == "TaskDispatched") {
        let task = event["event_data"]["task"].as_str().expect("a task");
        dispatched.insert(format!("{}.{}", task.trim_start_matches("main/"), event["event_data"]["attempt"]));
    }
    let (mut attempts, mut executed) = (HashSet::new(), HashSet::new());
    for line in text.lines() {
        assert!(attempts.insert(line), "attempt {line} was executed twice");
        assert!(dispatched.contains(line), "attempt {line} was never dispatched");
        executed.insert(line.split_once('.').expect("TASK.ATTEMPT").0);
    }
    assert_eq!(executed.len(), tasks, "every task ran to its end at least once");
}

/// The lines of a file; none, if there is none.
pub fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
