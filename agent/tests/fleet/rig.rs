//! An agent in processes of its own, and a coordinator that says what a test wants it to say.

use crate::broker::{Broker, Pipe, Settled, Up};
use cairn_agent::child;
use cairn_agent::keeper::{self, Ended, Launch, Settings};
use cairn_agent::link::Setup;
use cairn_agent::runner::find_leftovers;
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use cairn_shared::message::codec::{Codec, decode};
use cairn_shared::message::wire::*;
use cairn_shared::transport::{Address, Transport};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A deadline that only a hang reaches.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The agent's name.
pub const AGENT: &str = "a1";

/// The run of all tests.
pub const RUN: &str = "apollo.1";

const ROLE: &str = "CAIRN_TEST_AGENT_IN";

/// What a process of the agent does; nothing in the test's own process. The keeper has no socket as standard input.
#[test]
fn role() {
    let Some(directory) = std::env::var_os(ROLE).map(PathBuf::from) else { return };
    let is_child = rustix::fs::fstat(std::io::stdin())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket);
    if is_child {
        let connect = |setup: Setup| async move {
            let pipe: Arc<dyn Transport> = Arc::new(Pipe::connect(Path::new(&setup.transport)));
            Ok(pipe)
        };
        child::run(connect).unwrap();
        std::process::exit(0);
    }
    let clock = Clock::start(Timestamp(0));
    let ended = keeper::run(settings(&directory), Box::new(|| Err("nothing changes".into())), clock);
    std::process::exit(match ended {
        Ok(Ended::Drained) => 0,
        Ok(Ended::Stopped) => 3,
        Err(error) => {
            eprintln!("{error}");
            4
        }
    });
}

fn settings(directory: &Path) -> Settings {
    let arguments = ["--exact", "rig::role", "--nocapture"].map(OsString::from).to_vec();
    Settings {
        id: AGENT.into(),
        directory: directory.join(AGENT),
        workspace: directory.join("workspace"),
        transport: directory.join("broker").to_str().unwrap().to_owned(),
        certificate_authority: None,
        queue_type: None,
        slots: 2.try_into().unwrap(),
        backlog: 16,
        timers: 16,
        resources: vec![("cpus".into(), 2000)],
        labels: Vec::new(),
        capability: Some("any".into()),
        hold: false,
        listen: String::new(),
        grace: Duration::from_secs(2),
        logs_limit: 1 << 20,
        withheld: vec!["CAIRN_TEST_SECRET".into()],
        launch: Launch::Program { program: std::env::current_exe().unwrap(), arguments },
        command_line: "test agent".into(),
    }
}

pub struct Rig {
    pub directory: tempfile::TempDir,
    pub broker: Broker,
    pub keeper: Child,
    clock: Clock,
    /// Of the newest hello.
    pub incarnation: u64,
    pub hellos: usize,
    pub heartbeats: Vec<Heartbeat>,
    pub goodbyes: usize,
    pub reports: Vec<WireReport>,
    /// The trace of each message of reports.
    pub reported_with: Vec<Option<String>>,
    pub outputs: Vec<Output>,
    pub settled: Vec<(u64, Settled)>,
    pub subscribed: Vec<String>,
    /// Answer heartbeats.
    pub answers: bool,
    /// Acknowledge ends.
    pub acknowledges: bool,
    pub lease: Duration,
}

impl Rig {
    /// An agent that has been welcomed.
    pub fn new() -> Self {
        Self::with_lease(Duration::from_secs(10))
    }

    pub fn with_lease(lease: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let broker = Broker::listen(&directory.path().join("broker"));
        let keeper = start(directory.path());
        let mut rig = Self {
            directory,
            broker,
            keeper,
            clock: Clock::start(Timestamp(0)),
            incarnation: 0,
            hellos: 0,
            heartbeats: Vec::new(),
            goodbyes: 0,
            reports: Vec::new(),
            reported_with: Vec::new(),
            outputs: Vec::new(),
            settled: Vec::new(),
            subscribed: Vec::new(),
            answers: true,
            acknowledges: true,
            lease,
        };
        rig.until("a heartbeat", |rig| !rig.heartbeats.is_empty());
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Hears and answers until something holds.
    pub fn until(&mut self, what: &str, holds: impl Fn(&mut Self) -> bool) {
        let deadline = self.clock.now().plus(PATIENCE);
        while !holds(self) {
            let left = self.clock.until(deadline);
            assert!(!left.is_zero(), "{what}: not within the deadline; heard {:#?}", self.reports);
            // Files and processes of others are looked at now and then.
            if let Ok(up) = self.broker.said.recv_timeout(left.min(Duration::from_millis(10))) {
                self.hear(up);
            }
        }
    }

    fn hear(&mut self, up: Up) {
        match up {
            Up::Publish { content_type, trace, body, to, .. } => {
                let said: ToCoordinator = decode(&content_type, &body).unwrap();
                if matches!(said, ToCoordinator::Reports(_)) {
                    self.reported_with.push(trace);
                }
                assert_eq!(
                    to,
                    if matches!(said, ToCoordinator::Output(_)) { "output" } else { "coordinator" }
                );
                self.coordinate(said);
            }
            Up::Subscribe { from } => self.subscribed.push(from),
            Up::Settled { tag, how } => self.settled.push((tag, how)),
        }
    }

    fn coordinate(&mut self, said: ToCoordinator) {
        match said {
            ToCoordinator::Hello(hello) => {
                (self.incarnation, self.hellos) = (hello.incarnation, self.hellos + 1);
                let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
                self.say(&ToAgent::Welcome(Welcome {
                    incarnation: hello.incarnation,
                    coordinator: "test".into(),
                    protocol: PROTOCOL,
                    lease_millis: millis(self.lease),
                    heartbeat_millis: millis(self.lease / 10),
                }));
            }
            ToCoordinator::Heartbeat(heartbeat) => {
                if self.answers {
                    let Heartbeat { incarnation, sequence, .. } = heartbeat;
                    self.say(&ToAgent::HeartbeatHeard { incarnation, sequence });
                }
                self.heartbeats.push(heartbeat);
            }
            ToCoordinator::Reports(RunReports { agent, run, reports, .. }) => {
                assert_eq!((agent.as_str(), run.as_str()), (AGENT, RUN));
                let ends =
                    reports.iter().filter(|report| matches!(report.kind, WireReportKind::Finished { .. }));
                let ends: Vec<_> = ends.map(|report| (report.task, report.attempt)).collect();
                self.reports.extend(reports);
                if self.acknowledges && !ends.is_empty() {
                    let order = |(task, attempt)| WireOrder::Acknowledge(Attempt { task, attempt });
                    self.order(ends.into_iter().map(order).collect());
                }
            }
            ToCoordinator::Goodbye { .. } => self.goodbyes += 1,
            ToCoordinator::Output(output) => self.outputs.push(output),
        }
    }

    pub fn say(&mut self, message: &ToAgent) -> u64 {
        let body = Codec::Bincode.encode(message).unwrap();
        let content = (Codec::Bincode.content_type(), &body[..]);
        self.broker.deliver(&Address::Agent(AGENT.into()), content, false)
    }

    /// Orders on the agent's own queue.
    pub fn order(&mut self, orders: Vec<WireOrder>) -> u64 {
        let incarnation = self.incarnation;
        self.say(&ToAgent::Orders(RunOrders { run: RUN.into(), epoch: 1, incarnation, orders }))
    }

    /// An offer on the shared queue.
    pub fn share(&mut self, offer: Offer, redelivered: bool) -> u64 {
        // Before that nobody listens there.
        self.until("a place at the queue", |rig| rig.subscribed.iter().any(|from| from == "work/any"));
        let orders = vec![WireOrder::Offer(Box::new(offer))];
        let message = ToAgent::Orders(RunOrders { run: RUN.into(), epoch: 1, incarnation: 0, orders });
        let body = Codec::Json.encode(&message).unwrap();
        let content = (Codec::Json.content_type(), &body[..]);
        self.broker.deliver(&Address::Work("any".into()), content, redelivered)
    }

    pub fn offer(&mut self, offer: Offer) -> u64 {
        self.order(vec![WireOrder::Offer(Box::new(offer))])
    }

    /// A script that leaves a trace each time that it runs, then goes on with `rest`.
    pub fn script(&self, task: u32, rest: &str) -> Offer {
        let trace = self.path("trace");
        let script = format!("echo $CAIRN_TASK.$CAIRN_ATTEMPT >> {}; {rest}", trace.display());
        Offer {
            task,
            attempt: 1,
            name: format!("build/t{task}"),
            work: Work::Run { script },
            env: Vec::new(),
            working_dir: None,
            timeout_millis: None,
            resources: Vec::new(),
            needs_grant: false,
            hold: false,
        }
    }

    /// What has run, sorted.
    pub fn traces(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("trace")).unwrap_or_default();
        let mut traces: Vec<_> = text.lines().map(str::to_owned).collect();
        traces.sort();
        traces
    }

    /// The outcomes that were told of a task, in order.
    pub fn ends(&self, task: u32) -> Vec<WireOutcome> {
        let of = self.reports.iter().filter(|report| report.task == task);
        let end = |report: &WireReport| match &report.kind {
            WireReportKind::Finished { outcome, .. } => Some(outcome.clone()),
            _ => None,
        };
        of.filter_map(end).collect()
    }

    pub fn is_told(&self, task: u32, kind: &WireReportKind) -> bool {
        self.reports.iter().any(|report| report.task == task && report.kind == *kind)
    }

    /// The outcomes of a task, once there are any.
    pub fn end_of(&mut self, task: u32) -> Vec<WireOutcome> {
        self.until("an end", |rig| !rig.ends(task).is_empty());
        self.ends(task)
    }

    pub fn keeper_pid(&self) -> Pid {
        Pid::from_child(&self.keeper)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.keeper_pid(), signal).unwrap();
    }

    /// The process of the child: the keeper's only one in its own group.
    pub fn child_pid(&self) -> Pid {
        let keeper = self.keeper_pid().as_raw_nonzero();
        let tasks = std::fs::read_dir(format!("/proc/{keeper}/task")).unwrap();
        let children =
            tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let text: String = children.collect();
        let is_child = |pid: &i32| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.contains("rig::role")
        };
        let pid = text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).find(is_child);
        Pid::from_raw(pid.expect("a child")).unwrap()
    }

    /// Processes of tasks.
    pub fn processes(&self) -> usize {
        find_leftovers((keeper::MARKER, self.path(AGENT).to_str().unwrap())).len()
    }

    /// Kills the keeper as nothing else would.
    pub fn kill_keeper(&mut self) {
        self.keeper.kill().unwrap();
        self.keeper.wait().unwrap();
    }

    pub fn start_keeper(&mut self) {
        self.heartbeats.clear();
        self.keeper = start(self.directory.path());
    }

    /// Waits for the end of the keeper.
    pub fn exit(&mut self) -> ExitStatus {
        self.until("the keeper's end", |rig| rig.keeper.try_wait().unwrap().is_some());
        self.keeper.wait().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The child ends what is left, and itself.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        let marker = self.path(AGENT);
        let clock = self.clock.clone();
        let clock: cairn_agent::runner::Clock = Arc::new(move || clock.now());
        cairn_agent::runner::end_leftovers(
            (keeper::MARKER, marker.to_str().unwrap()),
            Duration::ZERO,
            &clock,
        );
    }
}

pub fn start(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rig::role", "--nocapture"])
        .env(ROLE, directory)
        .env("CAIRN_TEST_SECRET", "not for tasks")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}
