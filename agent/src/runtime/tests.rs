//! The loop with real processes, through its channels. Nothing waits for a fixed time: scripts and tests wait for each
//! other through FIFOs, with a deadline that only a hang reaches.

use super::*;
use crate::mailbox::MAX_WAITING_EVENTS;
use crate::runner::Progress;
use cairn_model::{ReportKind, TaskIndex};
use cairn_shared::message::Order;
use cairn_shared::plan::{Options, Source, parse};
use rustix::fs::{CWD, FileType, Mode};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::task::JoinHandle;

/// A deadline that only a hang reaches.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that runs the tasks of a plan in a directory of its own.
struct Bench {
    directory: tempfile::TempDir,
    orders: Option<mpsc::Sender<Orders>>,
    reports: mpsc::Receiver<Vec<Report>>,
    agent: JoinHandle<()>,
}

impl Bench {
    /// `tasks` are actions of tasks as a plan has them, one for each task.
    fn new(slots: usize, tasks: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut text = "version: 1\nproject: apollo\ntasks:\n".to_owned();
        for (at, task) in tasks.iter().enumerate() {
            text.push_str(&format!("  - {{id: t{at}, {task}}}\n"));
        }
        let parsed = parse(&Source::new("plan.yaml", &text), &Options::default());
        let plan = parsed.unwrap_or_else(|wrong| panic!("{wrong}")).plan;
        let (orders, orders_out) = mpsc::channel(8);
        let (reports_in, reports) = mpsc::channel(8);
        let config = AgentConfig {
            id: "local-1".into(),
            index: AgentIndex(0),
            slots: slots.try_into().unwrap(),
            run: "apollo.1".into(),
            plan: Arc::new(plan),
            plan_directory: directory.path().to_owned(),
            state_directory: directory.path().join("state"),
            marker: (
                "CAIRN_TEST_AGENT".into(),
                directory.path().file_name().unwrap().to_str().unwrap().into(),
            ),
            clock: Clock::start(Timestamp(0)),
            grace: PATIENCE,
        };
        let agent = tokio::spawn(run(config, orders_out, reports_in));
        Self { directory, orders: Some(orders), reports, agent }
    }

    async fn order(&self, kind: OrderKind, tasks: impl IntoIterator<Item = u32>) {
        let order = |task| Order { task: TaskIndex(task), attempt: 1, kind };
        let orders = Orders { epoch: 1, orders: tasks.into_iter().map(order).collect() };
        self.orders.as_ref().unwrap().send(orders).await.unwrap();
    }

    async fn batch(&mut self) -> Vec<Report> {
        tokio::time::timeout(PATIENCE, self.reports.recv()).await.expect("a report in time").expect("it runs")
    }

    /// The ends of so many attempts; an attempt ends once.
    async fn ends(&mut self, count: usize) -> BTreeMap<u32, Outcome> {
        let mut ends = BTreeMap::new();
        while ends.len() < count {
            for report in self.batch().await {
                if let ReportKind::Finished { outcome, started_at, finished_at } = report.kind {
                    assert!(started_at <= finished_at);
                    assert_eq!((report.attempt, report.agent), (1, AgentIndex(0)));
                    assert_eq!(ends.insert(report.task.0, outcome), None, "an attempt ends once");
                }
            }
        }
        ends
    }

    /// Makes a FIFO in the directory where tasks start.
    fn fifo(&self, name: &str) {
        let path = self.directory.path().join(name);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    }

    /// What a task writes into a FIFO.
    async fn hear(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(path).unwrap());
        tokio::time::timeout(PATIENCE, text).await.expect("the task writes in time").unwrap()
    }

    /// Ends the agent as its owner does, by ending its orders.
    async fn close(mut self) {
        self.orders = None;
        tokio::time::timeout(PATIENCE, self.agent).await.expect("the agent ends").unwrap();
    }
}

#[tokio::test]
async fn what_is_offered_runs_and_is_reported() {
    let mut bench = Bench::new(
        2,
        &[
            "run: 'echo $CAIRN_PROJECT $CAIRN_RUN $CAIRN_MILESTONE $CAIRN_TASK $CAIRN_ATTEMPT $CAIRN_AGENT $OWN', env: {OWN: mine}",
            "run: 'exit 3'",
            "exec: [no-such-program-anywhere]",
            "wait: 1ms",
            "exec: ['true'], working_dir: missing",
        ],
    );
    bench.order(OrderKind::Offer, 0..5).await;
    let ends = bench.ends(5).await;
    let failed = |task: u32| match &ends[&task] {
        Outcome::Failed { kind, exit_code, message } => {
            assert!(!message.is_empty());
            (*kind, *exit_code)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!([&ends[&0], &ends[&3]], [&Outcome::Completed; 2]);
    assert_eq!(failed(1), (FailureKind::ExitCode, Some(3)));
    assert_eq!(failed(2), (FailureKind::ProgramNotFound, None));
    assert_eq!(failed(4), (FailureKind::WorkingDirectory, None));
    let log = |name: &str| bench.directory.path().join("state/logs/apollo.1").join(name);
    let main =
        bench.directory.path().join("state/logs/apollo.1").read_dir().unwrap().next().unwrap().unwrap();
    let milestone = main.file_name().into_string().unwrap();
    let said = std::fs::read_to_string(log(&format!("{milestone}/t0.1.log"))).unwrap();
    assert_eq!(said, format!("apollo apollo.1 {milestone} t0 1 local-1 mine\n"));
    bench.close().await;
}

#[tokio::test]
async fn an_attempt_that_goes_on_is_announced_before_its_end() {
    let mut bench = Bench::new(1, &["run: 'cat go'"]);
    bench.fifo("go");
    bench.order(OrderKind::Offer, [0]).await;
    let first = bench.batch().await;
    assert!(matches!(first[..], [Report { kind: ReportKind::Started { .. }, .. }]), "{first:?}");
    let go = bench.directory.path().join("go");
    tokio::task::spawn_blocking(move || std::fs::write(go, "").unwrap()).await.unwrap();
    assert_eq!(bench.ends(1).await[&0], Outcome::Completed);
    bench.close().await;
}

#[tokio::test]
async fn a_stop_ends_what_runs_and_gives_back_what_waits() {
    let mut bench = Bench::new(1, &["run: 'echo > began; exec sleep 600'", "exec: ['true']", "wait: 600s"]);
    bench.fifo("began");
    bench.order(OrderKind::Offer, 0..3).await;
    bench.hear("began").await;
    bench.order(OrderKind::Stop, 0..3).await;
    let ends = bench.ends(3).await;
    assert_eq!(
        [&ends[&0], &ends[&1], &ends[&2]],
        [&Outcome::Stopped, &Outcome::NotStarted, &Outcome::Stopped]
    );
    // It must not start any more, whatever comes late.
    bench.order(OrderKind::Acknowledge, [1]).await;
    bench.order(OrderKind::Offer, [1]).await;
    bench.order(OrderKind::Stop, [0]).await;
    let again = bench.batch().await;
    let told =
        |report: &Report| matches!(report.kind, ReportKind::Finished { outcome: Outcome::Stopped, .. });
    assert!(again.len() == 1 && told(&again[0]) && again[0].task == TaskIndex(0), "{again:?}");
    bench.close().await;
}

#[tokio::test]
async fn what_still_runs_is_killed_when_the_orders_end() {
    let bench = Bench::new(1, &["run: 'trap \"\" TERM; echo $$ > began; while :; do sleep 600; done'"]);
    bench.fifo("began");
    bench.order(OrderKind::Offer, [0]).await;
    let process = Path::new("/proc").join(bench.hear("began").await.trim());
    assert!(process.exists());
    bench.close().await;
    assert!(!process.exists(), "it is gone, and reaped, when the agent is");
}

#[tokio::test]
async fn an_agent_whose_reports_nobody_hears_ends() {
    let mut bench = Bench::new(1, &["exec: ['true']"]);
    bench.reports.close();
    bench.order(OrderKind::Offer, [0]).await;
    tokio::time::timeout(PATIENCE, bench.agent).await.expect("the agent ends").unwrap();
}

#[tokio::test]
async fn what_is_known_together_is_reported_together() {
    let mut bench = Bench::new(1, &["wait: 0s"; 100]);
    bench.order(OrderKind::Offer, 0..100).await;
    assert_eq!(bench.batch().await.len(), 100);
    bench.close().await;
}

#[tokio::test]
async fn every_end_is_reported_while_the_loop_changes_from_waiting_to_looking_and_back() {
    const TASKS: u32 = 60;
    let mut bench = Bench::new(2, &["exec: ['true']"; TASKS as usize]);
    // Bursts of different sizes: below, at and above what the slots take at a time.
    let mut next = 0;
    for burst in [1, 2, 3, 20, 1, 33] {
        bench.order(OrderKind::Offer, next..next + burst).await;
        let ends = bench.ends(burst as usize).await;
        assert!(ends.keys().copied().eq(next..next + burst), "{ends:?}");
        assert!(ends.values().all(|outcome| *outcome == Outcome::Completed), "{ends:?}");
        next += burst;
    }
    assert_eq!(next, TASKS);
    bench.close().await;
}

fn started(key: u64) -> RunnerEvent {
    RunnerEvent::Started { key, pid: 1, at: Timestamp(0) }
}

fn progress(key: u64) -> RunnerEvent {
    RunnerEvent::Progress { key, progress: Progress { permille: 1, message: String::new() } }
}

/// Whether somebody has been woken since the last time this was asked.
async fn is_woken(mailbox: &Mailbox) -> bool {
    tokio::select! {
        biased;
        () = mailbox.is_worth_a_look() => true,
        () = std::future::ready(()) => false,
    }
}

#[tokio::test]
async fn a_mailbox_wakes_whoever_does_not_look_by_himself() {
    let mailbox = Mailbox::default();
    mailbox.put(started(1));
    assert!(is_woken(&mailbox).await);
    assert!(!mailbox.hand_over(true));
    mailbox.put(started(2));
    assert!(!is_woken(&mailbox).await, "the loop looks by itself");
    assert_eq!(mailbox.take().len(), 2);
    mailbox.put(started(3));
    assert!(mailbox.hand_over(false), "what came since the last look has woken nobody");
    assert!(!is_woken(&mailbox).await);
    assert_eq!(mailbox.take().len(), 1);
    assert!(!mailbox.hand_over(false));
    mailbox.put(started(4));
    assert!(is_woken(&mailbox).await);
}

#[tokio::test]
async fn no_event_is_lost_in_the_hand_over() {
    const EVENTS: u64 = 20_000;
    let mailbox = Arc::new(Mailbox::default());
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let mailbox = mailbox.clone();
            std::thread::spawn(move || (0..EVENTS).for_each(|key| mailbox.put(started(key))))
        })
        .collect();
    let (mut heard, mut turn) = (0, 0_u32);
    while heard < 2 * EVENTS {
        heard += mailbox.take().len() as u64;
        turn += 1;
        let is_polled = turn.is_multiple_of(3);
        if mailbox.hand_over(is_polled) || is_polled || heard == 2 * EVENTS {
            continue;
        }
        tokio::time::timeout(PATIENCE, mailbox.is_worth_a_look()).await.expect("what was said wakes");
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((heard, mailbox.take().len()), (2 * EVENTS, 0));
}

#[test]
fn a_mailbox_that_nobody_empties_is_bounded() {
    let mailbox = Mailbox::default();
    (0..2 * MAX_WAITING_EVENTS as u64).for_each(|key| mailbox.put(progress(key)));
    mailbox.put(started(1));
    assert_eq!(mailbox.take().len(), MAX_WAITING_EVENTS + 1, "starts and ends are never dropped");
}

#[test]
fn keys_and_attempts_name_each_other() {
    for (task, attempt) in [(0, 1), (u32::MAX, u32::MAX), (7, 1 << 31)] {
        let id = AttemptId { run: 0, task: TaskIndex(task), attempt };
        assert_eq!(id_of(key_of(id)), id);
    }
}
