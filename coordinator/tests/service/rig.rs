//! A coordinator in a directory of its own, and agents that a test plays.

use cairn_coordinator::runtime::new_id;
use cairn_coordinator::service::config::Route;
use cairn_coordinator::service::{
    Handle, LogEnds, ReadPlan, Service, ServiceConfig, ServiceError, Submission, Submitted,
};
use cairn_coordinator::service::{Part, Request, Wish, WishError};
use cairn_coordinator::store::EventReader;
use cairn_coordinator::store::file::Options;
use cairn_coordinator::store::{EventStore, FileStore, Holder};
use cairn_engine::RunStatus;
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use cairn_shared::message::codec::{Codec, decode};
use cairn_shared::message::wire::{
    Attempt, Heartbeat, Held, Hello, Offer, RunOrders, RunReports, ToAgent, ToCoordinator, WireOrder,
    WireOutcome, WireReport, WireReportKind,
};
use cairn_shared::transport::in_process::InProcess;
use cairn_shared::transport::{Address, Delivery, Message, Transport};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A deadline that only a hang reaches.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something, but not for ever.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it should have happened by now")
}

/// A coordinator that serves.
pub struct Coordinator {
    pub handle: Handle,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), ServiceError>>,
    store: Arc<FileStore>,
}

impl Coordinator {
    pub async fn start(state: &Path, transport: Arc<InProcess>, lease: Duration) -> Self {
        Self::start_with(state, transport, lease, false).await
    }

    /// The same with any transport, and with events published or not.
    pub async fn start_with(
        state: &Path,
        transport: Arc<dyn Transport>,
        lease: Duration,
        events: bool,
    ) -> Self {
        let clock = Clock::start(Timestamp(0));
        let holder = Holder::this_process("test".to_owned(), clock.now());
        let store = Arc::new(FileStore::open(state, &holder, Options::new(new_id())).expect("a store"));
        let config = ServiceConfig {
            name: "c1".to_owned(),
            state_directory: state.to_owned(),
            store: store.clone(),
            transport,
            clock,
            lease,
            route: Route::Direct,
            log_ends: LogEnds::default(),
            events,
            max_active_runs: 10,
            metric_projects: 10,
            store_backend: "file",
        };
        let (head_in, head) = watch::channel(0);
        let (handle, requests) = Handle::new(head);
        let shutdown = CancellationToken::new();
        let service = Service::start(config, head_in).await.expect("it starts");
        let serving = tokio::spawn(service.serve(requests, shutdown.clone()));
        Self { handle, shutdown, serving, store }
    }

    pub async fn submit(&self, plan: &str) -> String {
        self.submission(plan, None).await.expect("accepted").run.to_string()
    }

    pub async fn submission(
        &self,
        plan: &str,
        key: Option<&str>,
    ) -> Result<Submitted, cairn_coordinator::service::SubmitError> {
        self.submission_with(plan, key, &[], false).await
    }

    pub async fn submission_with(
        &self,
        plan: &str,
        key: Option<&str>,
        parameters: &[(&str, &str)],
        fail_fast: bool,
    ) -> Result<Submitted, cairn_coordinator::service::SubmitError> {
        let parameters =
            parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let submission = Submission {
            plan: ReadPlan::read("plan.yaml", plan.into(), parameters).expect("a plan"),
            fail_fast,
            key: key.map(str::to_owned),
            user: "ada".to_owned(),
        };
        self.handle.ask(|reply| Request::Submit(Box::new(submission), reply)).await.expect("it serves")
    }

    pub async fn wish(&self, run: &str, wish: Wish) -> Result<(), WishError> {
        let request = |reply| Request::Wish {
            run: run.to_owned(),
            part: Part::default(),
            wish,
            user: "ada".to_owned(),
            reply,
        };
        self.handle.ask(request).await.expect("it serves")
    }

    /// Waits until the run has ended.
    pub async fn ended(&self, run: &str) -> RunStatus {
        let mut head = self.handle.head();
        soon(async {
            loop {
                let status = self.handle.look(run, |state| state.run().status).await.expect("it is there");
                if status.is_final() {
                    return status;
                }
                head.changed().await.expect("it serves");
            }
        })
        .await
    }

    /// How often each event of a run is in the log, by type and task.
    pub fn events(&self, state: &Path) -> Vec<(String, Option<String>)> {
        let reader = cairn_coordinator::store::file::LogReader::open(state).expect("a log");
        let mut cursor = cairn_coordinator::store::Cursor::all(1);
        let mut events = Vec::new();
        loop {
            let page = reader.read(&mut cursor).expect("it reads");
            if page.is_empty() {
                return events;
            }
            for record in &page {
                cairn_coordinator::codec::expand(record, |event| {
                    let event = serde_json::to_value(event).expect("JSON");
                    let task = event["event_data"]["task"].as_str().map(str::to_owned);
                    events.push((event["event_type"].as_str().expect("a type").to_owned(), task));
                })
                .expect("it expands");
            }
        }
    }

    /// Ends it in good order.
    pub async fn stop(self) {
        self.shutdown.cancel();
        soon(self.serving).await.expect("no panic").expect("a good end");
        assert!(self.store.stopped().is_none());
    }

    /// Ends it as a crash would.
    pub async fn crash(self) {
        self.serving.abort();
        // Whatever was going on is dropped; the store's thread finishes what was handed to it.
        let _ = self.serving.await;
        soon(async {
            while Arc::strong_count(&self.store) > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// An agent that a test plays.
pub struct Agent {
    id: String,
    incarnation: u64,
    transport: Arc<InProcess>,
    orders: mpsc::Receiver<Delivery>,
    sequence: u64,
    sent: u64,
    /// The trace of the newest message.
    pub trace: Option<String>,
    /// What it holds, by run.
    pub holds: BTreeMap<String, Vec<Attempt>>,
    /// Runs that it may forget.
    pub forgotten: Vec<String>,
}

impl Agent {
    pub async fn join(transport: &Arc<InProcess>, id: &str, incarnation: u64) -> Self {
        let orders = transport.subscribe(&Address::Agent(id.to_owned()), 64).await.expect("its queue");
        let mut agent = Self {
            id: id.to_owned(),
            incarnation,
            transport: transport.clone(),
            orders,
            sequence: 0,
            sent: 0,
            trace: None,
            holds: BTreeMap::new(),
            forgotten: Vec::new(),
        };
        agent.hello().await;
        agent
    }

    pub async fn hello(&mut self) {
        let hello = Hello {
            agent: self.id.clone(),
            incarnation: self.incarnation,
            protocol: (1, 1),
            version: "0.1.0".to_owned(),
            content_type: Codec::Json.content_type().to_owned(),
            slots: 4,
            backlog: 16,
            timers: 1000,
            resources: Vec::new(),
            labels: Vec::new(),
            capability: None,
            draining: false,
        };
        self.say(&ToCoordinator::Hello(hello)).await;
    }

    pub async fn say(&mut self, message: &ToCoordinator) {
        self.sent += 1;
        let message = Message {
            id: format!("{}-{}-{}", self.id, self.incarnation, self.sent),
            content_type: Codec::Json.content_type().to_owned(),
            kind: "test",
            trace: None,
            body: Codec::Json.encode(message).expect("it encodes"),
        };
        self.transport.publish(&Address::Coordinator, message).await.expect("published");
    }

    pub async fn heartbeat(&mut self) {
        self.sequence += 1;
        let held = |(run, attempts): (&String, &Vec<Attempt>)| Held {
            run: run.clone(),
            epoch: 0,
            attempts: attempts.clone(),
        };
        let beat = Heartbeat {
            agent: self.id.clone(),
            incarnation: self.incarnation,
            sequence: self.sequence,
            draining: false,
            holds: self.holds.iter().map(held).collect(),
        };
        self.say(&ToCoordinator::Heartbeat(beat)).await;
    }

    pub async fn report(&mut self, run: &str, task: u32, attempt: u32, kind: WireReportKind) {
        let reports = vec![WireReport { task, attempt, kind }];
        let said = RunReports {
            agent: self.id.clone(),
            incarnation: self.incarnation,
            run: run.to_owned(),
            reports,
        };
        self.say(&ToCoordinator::Reports(said)).await;
    }

    pub async fn finish(&mut self, run: &str, offer: &Offer) {
        self.finish_attempt(run, offer.task, offer.attempt).await;
    }

    pub async fn finish_attempt(&mut self, run: &str, task: u32, attempt: u32) {
        let outcome = WireOutcome::Completed;
        let kind = WireReportKind::Finished { outcome, started_micros: 0, finished_micros: 0 };
        self.report(run, task, attempt, kind).await;
    }

    pub async fn fail(&mut self, run: &str, offer: &Offer) {
        let outcome = WireOutcome::Failed {
            kind: "exit_code".to_owned(),
            exit_code: Some(1),
            message: "no".to_owned(),
        };
        let kind = WireReportKind::Finished { outcome, started_micros: 0, finished_micros: 0 };
        self.report(run, offer.task, offer.attempt, kind).await;
    }

    /// The next message for it.
    pub async fn heard(&mut self) -> ToAgent {
        let delivery = soon(self.orders.recv()).await.expect("a message");
        delivery.receipt.acknowledge();
        self.trace = delivery.trace;
        decode(&delivery.content_type, &delivery.body).expect("it reads")
    }

    /// The next orders; other messages are passed over, and a request to introduce itself is answered.
    pub async fn orders(&mut self) -> RunOrders {
        loop {
            match self.heard().await {
                ToAgent::Orders(orders) => {
                    self.forget(&orders);
                    return orders;
                }
                ToAgent::Introduce => self.hello().await,
                _ => {}
            }
        }
    }

    fn forget(&mut self, orders: &RunOrders) {
        if orders.orders.contains(&WireOrder::Forget) {
            self.forgotten.push(orders.run.clone());
        }
    }

    /// The next order that is an offer, with its run; other orders are passed over.
    pub async fn offer(&mut self) -> (String, Offer) {
        loop {
            let orders = self.orders().await;
            for order in orders.orders {
                if let WireOrder::Offer(offer) = order {
                    return (orders.run, *offer);
                }
            }
        }
    }

    /// Does whatever it is told at once, until `until` is done.
    pub async fn work_until<T>(&mut self, until: impl Future<Output = T>) -> T {
        tokio::pin!(until);
        loop {
            let delivery = tokio::select! {
                done = &mut until => return done,
                delivery = self.orders.recv() => delivery.expect("the transport is there"),
            };
            let message = decode::<ToAgent>(&delivery.content_type, &delivery.body).expect("it reads");
            delivery.receipt.acknowledge();
            match message {
                ToAgent::Introduce => self.hello().await,
                ToAgent::Orders(orders) => {
                    self.forget(&orders);
                    for order in orders.orders {
                        if let WireOrder::Offer(offer) = order {
                            self.finish(&orders.run, &offer).await;
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// A state directory that goes with the test.
pub fn state() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state");
    std::fs::create_dir(&path).expect("a directory");
    (directory, path)
}

pub fn transport() -> Arc<InProcess> {
    Arc::new(InProcess::new())
}
