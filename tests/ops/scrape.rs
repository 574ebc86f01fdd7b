//! A private Prometheus that scrapes given daemons, and asks what the dashboards ask.

use super::dashboards::queries;
use super::has_tool;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long panels may take to have data: two scrapes a second apart make a rate; a loaded machine takes longer.
const WAIT: Duration = Duration::from_secs(60);
/// How often they are asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// What stands before the address of an agent.
const AGENT: &str = "agent=";

/// A Prometheus that ends with its value.
struct Prometheus {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes every second.
    fn start(targets: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let (agents, coordinators): (Vec<&str>, Vec<&str>) =
            targets.iter().map(String::as_str).partition(|target| target.starts_with(AGENT));
        let agents: Vec<&str> = agents.iter().filter_map(|target| target.strip_prefix(AGENT)).collect();
        let job = |name: &str, targets: &[&str]| json!({"job_name": name, "static_configs": [{"targets": targets}]});
        let jobs = [job("cairn-coordinator", &coordinators), job("cairn-agent", &agents)];
        let global = json!({"scrape_interval": "1s", "scrape_timeout": "1s"});
        // JSON is YAML.
        let config = json!({"global": global, "scrape_configs": jobs}).to_string();
        std::fs::write(folder.path().join("prometheus.yml"), config).expect("written");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        drop(listener);
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        Self { child, address, folder }
    }

    /// The numbers that an expression gives now; nothing if it cannot be asked yet.
    fn ask(&self, expression: &str) -> Vec<f64> {
        let output = Command::new("promtool")
            .args(["query", "instant", "--format=json"])
            .arg(format!("http://{}", self.address))
            .arg(expression)
            .output()
            .expect("promtool runs");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let samples = found.as_array().map(Vec::as_slice).unwrap_or_default();
        samples.iter().filter_map(|sample| sample["value"][1].as_str()?.parse().ok()).collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(Path::new(self.folder.path()).join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Scrapes the daemons at `targets` (`HOST:PORT` of a coordinator, `agent=HOST:PORT` of an agent), and asks every query of every panel until it has a number.
///
/// There is one for all of them while a run is under way whose plan has estimates and a milestone with a due date that
/// has not ended, and tasks of it start and end.
///
/// # Errors
/// What has had none within a minute: panel and query.
pub fn every_panel_has_data(targets: &[String]) -> Result<(), Vec<String>> {
    if !has_tool("prometheus") || !has_tool("promtool") {
        return Ok(());
    }
    let mut prometheus = Prometheus::start(targets);
    let mut without = queries();
    let pauses = WAIT.as_millis() / PAUSE.as_millis();
    for _ in 0..pauses {
        without.retain(|query| !prometheus.ask(&query.expression).iter().any(|value| value.is_finite()));
        if without.is_empty() {
            return Ok(());
        }
        if let Ok(Some(status)) = prometheus.child.try_wait() {
            return Err(vec![format!("prometheus ended: {status}\n{}", prometheus.log())]);
        }
        // Another process is awaited, which tells nobody when it has scraped.
        std::thread::sleep(PAUSE);
    }
    Err(without.iter().map(|query| format!("{}: {}", query.name, query.expression)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{has_tool, must};
    use super::*;
    use cairn_coordinator::metric_definitions::describe;
    use cairn_coordinator::service::AgentView;
    use cairn_coordinator::telemetry::{FleetMetrics, Projects, RunMetrics, StoreMetrics};
    use cairn_engine::{State, decide};
    use cairn_model::{AgentIndex, Command as Wish, Event, RunId, RunSubmitted, Timestamp};
    use cairn_shared::plan::{Options, Source, parse};
    use cairn_shared::telemetry::Metrics;
    use cairn_shared::transport::Health;
    use std::io::{Read as _, Write as _};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const PLAN: &str = "
version: 1
project: apollo
milestones:
  - {id: build, due: 2030-01-01T00:00:00Z, tasks: [{id: compile, run: x, estimate: 20s}, {id: unit, run: x}]}
";

    /// A coordinator as metrics see it: each look finds that more has happened.
    struct Busy {
        state: State,
        run: RunMetrics,
        fleet: FleetMetrics,
        store: StoreMetrics,
    }

    impl Busy {
        fn new() -> Self {
            let source = Source::new("plan.yaml", PLAN);
            let parsed = parse(&source, &Options::default()).unwrap_or_else(|wrong| panic!("{wrong}"));
            let graph = parsed.graph(&source).expect("no cycle");
            let mut state = State::new(Arc::new(parsed.plan), Arc::new(graph));
            let submitted = RunSubmitted { run: "apollo.1".into(), ..RunSubmitted::default() };
            let mut events = Vec::new();
            let submit = Wish::Submit(Box::new(submitted));
            let _ = decide(&mut state, submit, Timestamp(0), &mut events).expect("accepted");
            let run = RunId::parse("apollo.1").expect("a run");
            describe();
            Self {
                run: RunMetrics::new(&state, &run, "direct", &Projects::new(10)),
                fleet: FleetMetrics::new(),
                store: StoreMetrics::new("file"),
                state,
            }
        }

        fn happen(&mut self) {
            let (agent, finished_at) = (AgentIndex::new(0), Timestamp(2_000_000));
            let duration = Duration::from_secs(1);
            let events: Vec<Event> = self
                .state
                .plan()
                .tasks()
                .flat_map(|task| {
                    let dispatched = Event::TaskDispatched { task, attempt: 1, agent };
                    [dispatched, Event::TaskCompleted { task, attempt: 1, finished_at, duration }]
                })
                .collect();
            self.store.appended(events.len(), Duration::from_micros(300));
            self.run.observe(&self.state, &events, Timestamp(500_000));
            self.run.observe(&self.state, &[], Timestamp(3_000_000));
            let agent = AgentView {
                id: "a".into(),
                state: "joined",
                incarnation: 1,
                version: String::new(),
                slots: 2,
                slots_used: 1,
                resources: Vec::new(),
                labels: Vec::new(),
                joined_at: String::new(),
                heard_seconds_ago: 0.0,
                attempts: Vec::new(),
            };
            self.fleet.observe(&[agent]);
            self.fleet.transport(&Health::Up("in-process".into()));
        }
    }

    /// Answers every request with metrics, until it is dropped.
    struct Daemon {
        address: String,
        stop: Arc<AtomicBool>,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Daemon {
        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("its address").to_string();
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = stop.clone();
            let thread = std::thread::spawn(move || {
                let (recorder, metrics) = Metrics::new().expect("sound buckets");
                metrics::with_local_recorder(&recorder, || {
                    let mut busy = Busy::new();
                    for stream in listener.incoming() {
                        if stopped.load(Ordering::Acquire) {
                            return;
                        }
                        busy.happen();
                        let mut stream = stream.expect("a connection");
                        // A request is a line and some headers, in one packet on this machine.
                        let _ = stream.read(&mut [0; 4096]);
                        let text = metrics.render();
                        let head =
                            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
                        let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                    }
                });
            });
            Self { address, stop, thread: Some(thread) }
        }
    }

    impl Drop for Daemon {
        fn drop(&mut self) {
            self.stop.store(true, Ordering::Release);
            // The thread waits for somebody to come.
            let _ = std::net::TcpStream::connect(&self.address);
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        }
    }

    #[test]
    fn what_a_coordinator_tells_is_there_for_every_panel() {
        let daemon = Daemon::start();
        let answer = every_panel_has_data(std::slice::from_ref(&daemon.address));
        assert_eq!(answer, Ok(()));
    }

    #[test]
    fn what_is_told_is_what_prometheus_reads() {
        if !has_tool("promtool") {
            return;
        }
        let (recorder, metrics) = Metrics::new().expect("sound buckets");
        metrics::with_local_recorder(&recorder, || Busy::new().happen());
        metrics.upkeep();
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("metrics");
        std::fs::write(&file, metrics.render()).expect("written");
        let input = std::fs::File::open(&file).expect("a file");
        must(Command::new("promtool").args(["check", "metrics"]).stdin(input));
    }
}
