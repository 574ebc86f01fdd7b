//! The loop before a store that answers when the test says so: what leaves it, and when.

use super::*;
use crate::insight::tests::plan_of;
use crate::store::{
    Cursor, Head, LoadedSnapshot, ReadError, Snapshot, SnapshotError, Stopped, StoreFuture, StoredRecord,
    StreamHead, StreamId, TicketAnswer,
};
use cairn_engine::RunStatus;
use cairn_model::{AgentSpec, Outcome, Report, ReportKind, RunSubmitted, Scope};
use cairn_shared::message::OrderKind;
use std::collections::HashMap;
use std::sync::Mutex;

const PLAN: &str = "
version: 1
project: apollo
tasks:
  - {id: a, exec: [x]}
  - {id: b, exec: [x], needs: [a]}
";

/// A deadline that only a hang reaches.
const PATIENCE: Duration = Duration::from_secs(60);

/// Appends go to the test, which answers them.
struct HandStore(mpsc::UnboundedSender<(Append, TicketAnswer)>);

impl EventStore for HandStore {
    fn submit(&self, append: Append) -> Ticket {
        append.check().expect("a valid append");
        let (answer, ticket) = Ticket::new();
        self.0.send((append, answer)).expect("the test listens");
        ticket
    }

    fn room(&self) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn read<'a>(&'a self, _: &'a mut Cursor) -> StoreFuture<'a, Result<Vec<StoredRecord>, ReadError>> {
        unreachable!("a loop does not read")
    }

    fn head(&self) -> StoreFuture<'_, Result<Head, ReadError>> {
        unreachable!("a loop does not read")
    }

    fn stream_head<'a>(&'a self, _: &'a StreamId) -> StoreFuture<'a, Result<StreamHead, AppendError>> {
        unreachable!("a loop does not read")
    }

    fn next_epoch<'a>(&'a self, _: &'a StreamId) -> StoreFuture<'a, Result<u64, AppendError>> {
        unreachable!("a loop is given its epoch")
    }

    fn save_snapshot(&self, _: Snapshot) -> StoreFuture<'_, Result<(), SnapshotError>> {
        unreachable!("a run of a few events has no snapshot")
    }

    fn load_snapshot<'a>(&'a self, _: &'a str) -> StoreFuture<'a, Result<LoadedSnapshot, SnapshotError>> {
        unreachable!("a loop does not read")
    }

    fn stopped(&self) -> Option<Stopped> {
        None
    }
}

/// A loop that runs, and all that it is connected to.
struct Bench {
    appends: mpsc::UnboundedReceiver<(Append, TicketAnswer)>,
    inputs: mpsc::Sender<Input>,
    orders: mpsc::Receiver<Orders>,
    shown: Arc<Mutex<Vec<Event>>>,
    driven: JoinHandle<(Result<(), RunError>, RunStatus)>,
    position: u64,
}

impl Bench {
    /// A loop that has decided to submit a run, and to dispatch its first task to an agent that joined.
    fn new() -> Self {
        let (plan, graph) = plan_of(PLAN);
        let (store, appends) = mpsc::unbounded_channel();
        let (inputs, mut inputs_out) = mpsc::channel(64);
        let (orders_in, orders) = mpsc::channel(64);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let seen = shown.clone();
        let config = RunConfig {
            store: Arc::new(HandStore(store)),
            clock: Clock::start(Timestamp(0)),
            user: "ada".to_owned(),
            plan_hash: "hash".to_owned(),
            observer: Box::new(move |update| seen.lock().expect("sound").extend_from_slice(update.events)),
        };
        let state = State::new(Arc::new(plan), Arc::new(graph));
        let mut owner = RunLoop::new(config, state, Encoder::new("apollo.1", HashMap::new()));
        let submitted = RunSubmitted { run: "apollo.1".to_owned(), ..RunSubmitted::default() };
        owner.command(Command::Submit(Box::new(submitted))).expect("accepted");
        let agent = AgentSpec { id: "local-1".to_owned(), slots: 1, ..AgentSpec::default() };
        owner.command(Command::AgentJoined(Box::new(agent))).expect("accepted");
        owner.connect(AgentIndex(0), orders_in);
        let driven = tokio::spawn(async move {
            let result = owner.drive(&mut inputs_out).await;
            (result, owner.state().run().status)
        });
        Self { appends, inputs, orders, shown, driven, position: 0 }
    }

    async fn append(&mut self) -> (Append, TicketAnswer) {
        tokio::time::timeout(PATIENCE, self.appends.recv()).await.expect("an append").expect("it runs")
    }

    /// Makes the next append durable.
    async fn store(&mut self) {
        let (append, answer) = self.append().await;
        self.answer(&append, answer);
    }

    fn answer(&mut self, append: &Append, answer: TicketAnswer) {
        let position = self.position + 1;
        self.position += append.records.iter().map(|record| u64::from(record.count)).sum::<u64>();
        answer.send(Ok(Appended { position })).expect("the loop waits for it");
    }

    /// Lets the loop do all that it can do now.
    async fn settle(&self) {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }

    async fn order(&mut self) -> Vec<(TaskIndex, OrderKind)> {
        let orders =
            tokio::time::timeout(PATIENCE, self.orders.recv()).await.expect("an order").expect("it runs");
        orders.orders.iter().map(|order| (order.task, order.kind)).collect()
    }

    async fn complete(&self, task: u32) {
        let kind = ReportKind::Finished {
            outcome: Outcome::Completed,
            started_at: Timestamp(0),
            finished_at: Timestamp(0),
        };
        let report = Report { task: TaskIndex(task), attempt: 1, agent: AgentIndex(0), kind };
        self.inputs.send(Input::Reports(vec![report])).await.expect("it runs");
    }

    async fn wish(&self, command: Command) -> oneshot::Receiver<Result<(), Rejection>> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(Input::Command { command, user: None, reply }).await.expect("it runs");
        answer
    }

    fn shown(&self) -> usize {
        self.shown.lock().expect("sound").len()
    }
}

#[tokio::test]
async fn nothing_leaves_the_loop_before_its_events_are_durable() {
    let mut bench = Bench::new();
    let (submission, first) = bench.append().await;
    let (joined, second) = bench.append().await;
    bench.settle().await;
    assert_eq!((bench.shown(), bench.orders.try_recv().is_err()), (0, true));
    bench.answer(&submission, first);
    bench.settle().await;
    assert_eq!(bench.shown(), 2, "the run and the start of its milestone");
    assert!(bench.orders.try_recv().is_err(), "the dispatch is not durable yet");
    bench.answer(&joined, second);
    assert_eq!(bench.order().await, [(TaskIndex(0), OrderKind::Offer)]);
    bench.complete(0).await;
    let (completed, third) = bench.append().await;
    bench.settle().await;
    assert!(bench.orders.try_recv().is_err(), "neither acknowledged nor offered");
    bench.answer(&completed, third);
    let next = [(TaskIndex(1), OrderKind::Offer), (TaskIndex(0), OrderKind::Acknowledge)];
    assert_eq!(bench.order().await, next);
    bench.complete(1).await;
    bench.store().await;
    let (result, status) = bench.driven.await.expect("no panic");
    assert!(result.is_ok());
    assert_eq!(status, RunStatus::Completed);
}

#[tokio::test]
async fn a_grant_and_the_answer_to_who_asks_again_wait_until_it_is_durable() {
    let mut bench = Bench::new();
    bench.store().await;
    bench.store().await;
    assert_eq!(bench.order().await, [(TaskIndex(0), OrderKind::Offer)]);
    let asks = |attempt| {
        let kind = ReportKind::Accepted { awaits_grant: true };
        Input::Reports(vec![Report { task: TaskIndex(0), attempt, agent: AgentIndex(0), kind }])
    };
    bench.inputs.send(asks(1)).await.expect("it runs");
    let (granted, answer) = bench.append().await;
    // Again, and of an attempt that is nobody's: neither makes an event.
    bench.inputs.send(asks(1)).await.expect("it runs");
    bench.inputs.send(asks(7)).await.expect("it runs");
    bench.settle().await;
    assert!(bench.orders.try_recv().is_err(), "the grant is not durable yet");
    bench.answer(&granted, answer);
    let grant = (TaskIndex(0), OrderKind::Grant);
    assert_eq!(bench.order().await, [grant, grant, (TaskIndex(0), OrderKind::Stop)]);
    bench.driven.abort();
}

#[tokio::test]
async fn a_report_that_comes_again_is_acknowledged_after_what_is_under_way() {
    let mut bench = Bench::new();
    bench.store().await;
    bench.store().await;
    bench.order().await;
    bench.complete(0).await;
    let (completed, answer) = bench.append().await;
    // Again, while the first one is on its way to the disk: it decides nothing, and must not be answered earlier.
    bench.complete(0).await;
    bench.settle().await;
    assert!(bench.orders.try_recv().is_err() && bench.appends.try_recv().is_err());
    bench.answer(&completed, answer);
    let mut orders = bench.order().await;
    orders.retain(|(_, kind)| *kind == OrderKind::Acknowledge);
    assert_eq!(orders, [(TaskIndex(0), OrderKind::Acknowledge); 2]);
    // And again, when all is durable: at once.
    bench.complete(0).await;
    assert_eq!(bench.order().await, [(TaskIndex(0), OrderKind::Acknowledge)]);
}

#[tokio::test]
async fn a_wish_is_answered_when_it_is_durable_and_refused_at_once() {
    let mut bench = Bench::new();
    bench.store().await;
    bench.store().await;
    let mut paused = bench.wish(Command::Pause { scope: Scope::Run, reason: "lunch".into() }).await;
    let (append, answer) = bench.append().await;
    let again = bench.wish(Command::Pause { scope: Scope::Run, reason: "lunch".into() }).await;
    assert_eq!(again.await, Ok(Err(Rejection::AlreadyPaused)));
    assert!(paused.try_recv().is_err());
    bench.answer(&append, answer);
    assert_eq!(paused.await, Ok(Ok(())));
}

#[tokio::test]
async fn a_burst_of_wishes_does_not_run_ahead_of_the_disk() {
    let mut bench = Bench::new();
    bench.store().await;
    bench.store().await;
    bench.settle().await;
    for _ in 0..8 {
        bench.wish(Command::Pause { scope: Scope::Run, reason: "lunch".into() }).await;
        bench.wish(Command::Resume { scope: Scope::Run }).await;
    }
    let mut waiting = VecDeque::new();
    for stored in 0..16 {
        bench.settle().await;
        while let Ok(append) = bench.appends.try_recv() {
            waiting.push_back(append);
        }
        assert_eq!(waiting.len(), MAX_PENDING_APPENDS.min(16 - stored));
        let (append, answer) = waiting.pop_front().expect("one is under way");
        bench.answer(&append, answer);
    }
}

#[tokio::test]
async fn a_store_that_fails_ends_the_loop_and_nothing_is_said() {
    let mut bench = Bench::new();
    let (_, answer) = bench.append().await;
    answer.send(Err(AppendError::Closed)).expect("the loop waits for it");
    let (result, _) = bench.driven.await.expect("no panic");
    assert!(matches!(result, Err(RunError::Store { run, .. }) if run == "apollo.1"));
    assert!(bench.orders.recv().await.is_none());
    assert_eq!(bench.shown.lock().expect("sound").len(), 0);
}
