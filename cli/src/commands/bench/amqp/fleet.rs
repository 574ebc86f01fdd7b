//! A coordinator and an agent as users have them: processes of this very program, on a broker that is given.

use super::QueueType;
use crate::client::URL_FILE;
use crate::client::{self, Body, Client, Target, Token};
use crate::exit::{Exit, Failure};
use cairn_coordinator::codec::Decoder;
use cairn_coordinator::http::model::{AgentList, SubmittedBody};
use cairn_coordinator::runtime::{LoadError, belongs, each_record, find_run, read_plan};
use cairn_coordinator::store::Cursor;
use cairn_coordinator::store::file::LogReader;
use cairn_engine::RunStatus;
use cairn_model::{Event, Timestamp};
use cairn_shared::clock::Clock;
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The name of the agent.
const AGENT: &str = "cairn-bench";

/// How often it is looked whether something has come about. Each look makes the coordinator wait for its disk, so it is
/// seldom; the times are those of the log.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a coordinator may take to start, and a run to go on at all.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long a daemon may take to end in good order; then it is killed.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// The queue of the agent.
pub fn agent_queue() -> String {
    format!("cairn.agent.{AGENT}")
}

/// A coordinator and an agent. They end with the value.
pub struct Fleet {
    // Ends first: it says goodbye.
    _agent: Daemon,
    coordinator: Daemon,
    client: Client,
    state: PathBuf,
}

/// What the log of a run tells.
pub struct Times {
    submitted_at: Timestamp,
    ended_at: Timestamp,
    /// Of each process: from the decision that it may start to its start.
    starts: Vec<Duration>,
}

impl Times {
    /// From its submission to its end.
    pub fn took(&self) -> Duration {
        self.ended_at.since(self.submitted_at)
    }

    /// How long a process waited from the moment when it could start, at the median.
    pub fn median_start(mut self) -> Duration {
        self.starts.sort_unstable();
        self.starts.get(self.starts.len() / 2).copied().unwrap_or_default()
    }
}

impl Fleet {
    /// Starts both in a directory.
    pub fn start(directory: &Path, url: &str, queue_type: QueueType) -> Result<Self, Failure> {
        let directory =
            std::path::absolute(directory).map_err(|error| Failure::because(Exit::OutOfReach, &error))?;
        let state = directory.join("coordinator");
        let start = |name: &'static str, args: &[&str]| {
            let log = directory.join(format!("{name}.log"));
            Daemon::start(name, args, url, queue_type, &directory.join(name), log)
        };
        let coordinator = start("coordinator", &["coordinator", "--listen", "127.0.0.1:0"])?;
        let client = coordinator.wait_for(|| connect(&state).transpose())?;
        let agent = start("agent", &["agent", "--id", AGENT, "--listen", "127.0.0.1:0"])?;
        Ok(Self { _agent: agent, coordinator, client, state })
    }

    /// Runs a plan to its end.
    pub fn run(&self, plan: &str) -> Result<Times, Failure> {
        let run = client::block_on(async {
            let body = Body::plan(plan.to_owned());
            let query = [("name", "bench")];
            let submitted: SubmittedBody =
                self.client.write(Method::POST, &["runs"], &query, Some(&body), None).await?;
            Ok(submitted.run)
        })?;
        let mut done = -1.0;
        let mut since = self.coordinator.clock.now();
        loop {
            let (status, _) = client::block_on(client::reads::status(&self.client, &run, false))?;
            match status.status {
                RunStatus::Completed => return self.times(&run, plan),
                ended if ended.is_final() => {
                    let message = format!("the run did not complete: {}", ended.name());
                    return Err(Failure::new(Exit::Failed, message).help(self.coordinator.last_words()));
                }
                _ => {}
            }
            let now = self.coordinator.clock.now();
            if status.progress > done {
                (done, since) = (status.progress, now);
            }
            if now.since(since) > START_PATIENCE {
                let message = "the run does not go on";
                return Err(Failure::new(Exit::TimedOut, message).help(self.coordinator.last_words()));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Nobody else's agents took part, who came to our coordinator because theirs is away.
    pub fn is_alone(&self) -> Result<(), Failure> {
        let list: AgentList = client::block_on(self.client.get(&["agents"], &[]))?;
        match list.agents.iter().find(|agent| agent.id != AGENT) {
            None => Ok(()),
            Some(other) => {
                let message = format!("a fleet uses this broker: its agent {} is here", other.id);
                Err(Failure::new(Exit::OutOfReach, message).help("measure in a vhost of its own"))
            }
        }
    }

    /// The most memory that the coordinator has had.
    pub fn peak_rss_bytes(&self) -> u64 {
        super::super::peak_rss_bytes(&self.coordinator.child.id().to_string())
    }

    fn times(&self, run: &str, plan: &str) -> Result<Times, Failure> {
        self.read_times(run, plan).map_err(|error| Failure::because(Exit::Bug, &error))
    }

    fn read_times(&self, run: &str, plan: &str) -> Result<Times, LoadError> {
        let reader = LogReader::open(&self.state)?;
        let summary = find_run(&reader, run)?;
        let (plan, graph) = read_plan("bench", plan.to_owned(), &[])
            .map_err(|wrong| LoadError::Parse { run: run.to_owned(), diagnostics: Box::new(wrong) })?;
        let mut times =
            Times { submitted_at: summary.submitted_at, ended_at: summary.submitted_at, starts: Vec::new() };
        let mut ready = HashMap::new();
        let mut decoder = Decoder::new(&plan, &graph, Vec::new());
        each_record(&reader, &mut Cursor::all(1), |record| {
            if !belongs(record.stream.as_str(), run) {
                return Ok(());
            }
            decoder.decode(record, |event, at| {
                times.ended_at = at.max(times.ended_at);
                match event {
                    Event::TaskDispatched { task, .. } => drop(ready.insert(task, at)),
                    Event::TaskCompleted { task, finished_at, duration, .. } if plan.takes_slot(task) => {
                        let started_at = Timestamp(finished_at.0 - duration.as_micros() as i64);
                        times.starts.extend(ready.get(&task).map(|ready| started_at.since(*ready)));
                    }
                    _ => {}
                }
            })?;
            Ok::<(), LoadError>(())
        })?;
        Ok(times)
    }
}

/// A client of the coordinator of a state directory, once it serves.
fn connect(state: &Path) -> Result<Option<Client>, Failure> {
    let read = |name: &str| std::fs::read_to_string(state.join(name)).ok();
    let (Some(url), Some(token)) = (read(URL_FILE), read("admin.token")) else { return Ok(None) };
    let url: Url = url.trim().parse().map_err(|error| Failure::because(Exit::Bug, &error))?;
    let header: HeaderValue =
        format!("Bearer {}", token.trim()).parse().map_err(|error| Failure::because(Exit::Bug, &error))?;
    let token = Some(Token { header, from: "its own file".to_owned() });
    Client::new(Target { url, named_by: "the bench".to_owned(), token }).map(Some)
}

/// A process of this program.
struct Daemon {
    child: Child,
    log: PathBuf,
    clock: Clock,
}

impl Daemon {
    /// Starts one; what it says goes to a file. The broker's password goes by the environment.
    fn start(
        name: &'static str,
        args: &[&str],
        url: &str,
        queue_type: QueueType,
        state: &Path,
        log: PathBuf,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Exit::OutOfReach, format!("cannot start the {name}: {error}"))
        };
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        // What the user has set is for another fleet.
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("CAIRN_") {
                command.env_remove(key);
            }
        }
        command
            .args(args)
            .arg("--state")
            .arg(state)
            .env("CAIRN_TRANSPORT", url)
            .env("CAIRN_QUEUE_TYPE", queue_type.name())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).map_err(failed)?);
        let child = command.spawn().map_err(failed)?;
        Ok(Self { child, log, clock: Clock::start(Timestamp(0)) })
    }

    /// Waits until something is there.
    fn wait_for<T>(&self, mut there: impl FnMut() -> Option<Result<T, Failure>>) -> Result<T, Failure> {
        let since = self.clock.now();
        loop {
            if let Some(found) = there() {
                return found;
            }
            if self.clock.now().since(since) > START_PATIENCE {
                let message = "the coordinator does not start";
                return Err(Failure::new(Exit::TimedOut, message).help(self.last_words()));
            }
            std::thread::sleep(LOOK_INTERVAL / 10);
        }
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut lines: Vec<_> = said.lines().rev().take(10).collect();
        lines.reverse();
        format!("it said last:\n{}", lines.join("\n"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let since = self.clock.now();
        while self.clock.now().since(since) < END_PATIENCE {
            // An error says that it is not ours any more.
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_INTERVAL / 10);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
