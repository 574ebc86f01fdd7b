//! A coordinator for the interface to talk to: real states, a real store, no agents. What agents would say, the test
//! says with [`Bench::command`].

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request as HttpRequest, StatusCode, header};
use cairn_coordinator::codec::{Encoder, Envelope};
use cairn_coordinator::http::{NewToken, Parts, Role, Rules, Tokens, router};
use cairn_coordinator::plans;
use cairn_coordinator::runtime::new_id;
use cairn_coordinator::service::{
    AgentView, Handle, HealthView, Part, Request, Submission, SubmitError, Submitted, Wish, WishError,
};
use cairn_coordinator::store::file::{FileStore, Options};
use cairn_coordinator::store::{Append, EventStore as _, Holder};
use cairn_engine::{State, decide};
use cairn_model::{AgentSpec, Command, Outcome, Report, ReportKind, RunId, RunSubmitted, Scope, Timestamp};
use cairn_shared::clock::Clock;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// A deadline that only a hang reaches.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const PLAN: &str = "\
version: 1
project: apollo
milestones:
  - {id: build, tasks: [{id: compile, run: make, estimate: 4m}, {id: unit, run: make test, needs: [compile]}]}
  - {id: ship, needs: [build], tasks: [{id: publish, run: ./publish}]}
";

/// What the coordinator knows.
pub struct Fake {
    store: Arc<FileStore>,
    directory: PathBuf,
    head: watch::Sender<u64>,
    runs: BTreeMap<RunId, (State, Encoder)>,
    keys: HashMap<(String, String), (String, RunId)>,
    now: i64,
    pub audit: Vec<(String, String, u16)>,
    pub drained: Vec<(String, bool)>,
    pub is_ready: bool,
}

impl Fake {
    async fn command(&mut self, run: &RunId, command: Command, user: &str) -> Result<(), WishError> {
        let gone = || WishError::NoSuchRun { run: run.to_string() };
        let (state, encoder) = self.runs.get_mut(run).ok_or_else(gone)?;
        let mut events = Vec::new();
        self.now += 1_000_000;
        let at = Timestamp(self.now);
        let _ = decide(state, command, at, &mut events)?;
        let plan = state.plan().clone();
        let names: Vec<String> = state.agents().iter().map(|agent| agent.spec.id.clone()).collect();
        let envelope = Envelope { id: new_id(), at, user, correlation: "test" };
        let records = encoder.encode(&plan, &events, &envelope, |agent| names[agent.get()].as_str());
        if !records.is_empty() {
            self.store.submit(Append { epoch: 1, records }).await.expect("appended");
        }
        let head = self.store.head().await.expect("a head").position;
        self.head.send_replace(head);
        Ok(())
    }

    async fn submit(&mut self, wish: Submission) -> Result<Submitted, SubmitError> {
        let (plan, graph) = (wish.plan.plan().clone(), wish.plan.graph().clone());
        let key = wish.key.clone().map(|key| (wish.user.clone(), key));
        if let Some((text, run)) = key.as_ref().and_then(|key| self.keys.get(key)) {
            let key = wish.key.unwrap_or_default();
            return match text == wish.plan.text() {
                true => Ok(Submitted { run: run.clone(), is_new: false }),
                false => Err(SubmitError::KeyReused { key, run: run.to_string() }),
            };
        }
        let number = self.runs.keys().filter(|run| run.project() == plan.project).count() as u64 + 1;
        let run = RunId::new(plan.project.clone(), number);
        let submitted = RunSubmitted {
            run: run.to_string(),
            plan_hash: plans::save(&self.directory, wish.plan.text()).expect("saved"),
            plan_name: wish.plan.name().to_owned(),
            tasks: plan.task_count() as u64,
            milestones: plan.milestones().len() as u64,
            ..RunSubmitted::default()
        };
        let encoder = Encoder::new(&run.to_string(), HashMap::new());
        self.runs.insert(run.clone(), (State::new(plan, graph), encoder));
        let command = Command::Submit(Box::new(submitted));
        self.command(&run, command, &wish.user).await.expect("a new run");
        if let Some(key) = key {
            self.keys.insert(key, (wish.plan.text().to_owned(), run.clone()));
        }
        Ok(Submitted { run, is_new: true })
    }

    fn find(&self, name: &str) -> Result<RunId, WishError> {
        let exact = RunId::parse(name);
        let wanted = |run: &&RunId| exact.as_ref().map_or(run.project() == name, |exact| exact == *run);
        let gone = || WishError::NoSuchRun { run: name.to_owned() };
        self.runs.keys().rfind(wanted).cloned().ok_or_else(gone)
    }

    async fn wish(&mut self, run: &str, part: Part, wish: Wish, user: &str) -> Result<(), WishError> {
        let run = self.find(run)?;
        let plan = self.runs[&run].0.plan().clone();
        let missing = |what: String| WishError::NoSuchPart { run: run.to_string(), what };
        let milestone = match &part.milestone {
            Some(id) => Some(plan.find_milestone(id).ok_or_else(|| missing(format!("milestone {id}")))?),
            None => None,
        };
        let scope = match (milestone, &part.task) {
            (Some(milestone), Some(id)) => {
                Scope::Task(plan.find_task(milestone, id).ok_or_else(|| missing(format!("task {id}")))?)
            }
            (Some(milestone), None) => Scope::Milestone(milestone),
            _ => Scope::Run,
        };
        let command = match wish {
            Wish::Pause { reason } => Command::Pause { scope, reason: reason.into() },
            Wish::Resume => Command::Resume { scope },
            Wish::Cancel { reason } => Command::Cancel { scope, reason: reason.into() },
            // No command for it yet.
            Wish::Retry { .. } => return Ok(()),
        };
        self.command(&run, command, user).await
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Submit(wish, reply) => drop(reply.send(self.submit(*wish).await)),
            Request::Wish { run, part, wish, user, reply } => {
                drop(reply.send(self.wish(&run, part, wish, &user).await));
            }
            Request::Look { run, look } => match self.find(&run) {
                Ok(run) => look(Ok(&self.runs[&run].0)),
                Err(error) => look(Err(error)),
            },
            Request::Agents(reply) => drop(reply.send(vec![agent_view()])),
            Request::Drain { agent, drain, reply, .. } => {
                let known = agent == "builder-1";
                if known {
                    self.drained.push((agent.clone(), drain));
                }
                drop(reply.send(if known { Ok(()) } else { Err(WishError::NoSuchAgent { agent }) }));
            }
            Request::Audit { action, user, status } => self.audit.push((action, user, status)),
            Request::Health(reply) => {
                let checks = vec![("store", self.is_ready, "is there".to_owned())];
                drop(reply.send(HealthView { is_ready: self.is_ready, checks }));
            }
        }
    }
}

fn agent_view() -> AgentView {
    AgentView {
        id: "builder-1".to_owned(),
        state: "joined",
        incarnation: 1,
        version: "0.1.0".to_owned(),
        slots: 4,
        slots_used: 2,
        resources: vec![("cpus".to_owned(), 4.0)],
        labels: vec![("os".to_owned(), "linux".to_owned())],
        joined_at: "2026-01-01T00:00:00.000000Z".to_owned(),
        heard_seconds_ago: 0.5,
        attempts: vec!["apollo.1 build/compile.1".to_owned(), "zeus.1 main/a.1".to_owned()],
    }
}

/// The interface over that coordinator.
pub struct Bench {
    pub fake: Arc<Mutex<Fake>>,
    pub router: Router,
    pub parts: Parts,
    pub admin: String,
    pub shutdown: CancellationToken,
    pub directory: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The name of the problem.
    pub fn problem(&self) -> String {
        let kind = self.headers.get(header::CONTENT_TYPE).expect("a type");
        assert_eq!(kind, "application/problem+json", "{}", self.text());
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        assert!(!body["help"].as_str().expect("help").is_empty());
        let name = body["type"].as_str().expect("a type").strip_prefix("urn:cairn:problem:");
        name.expect("ours").to_owned()
    }
}

impl Bench {
    pub async fn new() -> Self {
        // So many that no test but one reaches it.
        Self::with(Rules { requests_per_second: NonZeroU32::new(1_000_000), ..Rules::default() }).await
    }

    pub async fn with(rules: Rules) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let clock = Clock::start(Timestamp(0));
        let holder = Holder::this_process("test", Timestamp(0));
        let store = FileStore::open(directory.path(), &holder, Options::new(new_id())).expect("a store");
        let store = Arc::new(store);
        let (head, seen) = watch::channel(0);
        let (handle, mut requests) = Handle::new(seen);
        let fake = Arc::new(Mutex::new(Fake {
            store: store.clone(),
            directory: directory.path().to_owned(),
            head,
            runs: BTreeMap::new(),
            keys: HashMap::new(),
            now: clock.now().0,
            audit: Vec::new(),
            drained: Vec::new(),
            is_ready: true,
        }));
        let service = fake.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                service.lock().await.answer(request).await;
            }
        });
        let tokens = Arc::new(Tokens::open(directory.path(), clock.clone()).expect("no tokens yet"));
        let path = tokens.ensure_admin().expect("made").expect("the first");
        let admin = std::fs::read_to_string(path).expect("read").trim().to_owned();
        let shutdown = CancellationToken::new();
        let parts = Parts {
            handle,
            store,
            state_directory: directory.path().to_owned(),
            clock,
            tokens,
            metrics: Arc::new(|| "cairn_build_info 1\n".to_owned()),
            log_is_complete: Arc::new(|_, _, _| true),
            shutdown: shutdown.clone(),
        };
        let router = router(parts.clone(), rules);
        Self { fake, router, parts, admin, shutdown, directory }
    }

    /// A token of that role.
    pub fn token(&self, name: &str, role: Role, projects: &[&str]) -> String {
        let projects = projects.iter().map(|&project| project.to_owned()).collect();
        let wish = NewToken { name: name.to_owned(), role, projects, life: None };
        self.parts.tokens.create(&wish).expect("made").0
    }

    /// A request with the administrator's token.
    pub fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        self.request_by(&self.admin, method, path)
    }

    pub fn request_by(&self, token: &str, method: &str, path: &str) -> axum::http::request::Builder {
        let request = HttpRequest::builder().method(method).uri(path).header(header::HOST, "localhost");
        match token {
            "" => request,
            token => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        }
    }

    pub async fn send(&self, request: HttpRequest<Body>) -> Answer {
        let response = self.open(request).await;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, to_bytes(body, usize::MAX)).await.expect("in time");
        Answer { status: parts.status, headers: parts.headers, body: body.expect("a body").to_vec() }
    }

    /// The answer before its body is read.
    pub async fn open(&self, request: HttpRequest<Body>) -> axum::response::Response {
        let answer = self.router.clone().oneshot(request);
        tokio::time::timeout(PATIENCE, answer).await.expect("in time").expect("infallible")
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path).body(Body::empty()).expect("a request")).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.request("POST", path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).expect("a request")).await
    }

    pub async fn submit(&self, plan: &str) -> String {
        let request = self.request("POST", "/api/v1/runs").header(header::CONTENT_TYPE, "application/yaml");
        let answer = self.send(request.body(Body::from(plan.to_owned())).expect("a request")).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.json()["run"].as_str().expect("a run").to_owned()
    }

    /// What agents and others would bring about.
    pub async fn command(&self, run: &str, command: Command) {
        let run = RunId::parse(run).expect("a run");
        self.fake.lock().await.command(&run, command, "agent").await.expect("accepted");
    }

    /// An agent that takes what is ready.
    pub async fn join(&self, run: &str) {
        let agent = AgentSpec { id: "builder-1".to_owned(), slots: 1, timers: 1, ..AgentSpec::default() };
        self.command(run, Command::AgentJoined(Box::new(agent))).await;
    }

    /// What the agent says of the newest attempt of a task.
    pub async fn report(&self, run: &str, task: &str, kind: ReportKind) {
        let id = RunId::parse(run).expect("a run");
        let report = {
            let fake = self.fake.lock().await;
            let state = &fake.runs[&id].0;
            let task = state.plan().find_task_name(task).expect("a task");
            let row = state.task(task);
            Report { task, attempt: row.attempt, agent: row.agent().expect("dispatched"), kind }
        };
        self.command(run, Command::Reports(vec![report])).await;
    }

    pub async fn complete(&self, run: &str, task: &str) {
        let (started_at, finished_at) = (Timestamp(1_000_000), Timestamp(2_000_000));
        let outcome = Outcome::Completed;
        self.report(run, task, ReportKind::Finished { outcome, started_at, finished_at }).await;
    }

    /// Runs the plan to its end.
    pub async fn finish(&self, run: &str) {
        for task in ["build/compile", "build/unit", "ship/publish"] {
            self.complete(run, task).await;
        }
    }
}

/// Reads a body until it holds `wanted`; gives all that was read.
pub async fn read_until(body: &mut axum::body::BodyDataStream, wanted: &str) -> String {
    use futures_util::StreamExt as _;
    let mut text = String::new();
    while !text.contains(wanted) {
        let chunk = tokio::time::timeout(PATIENCE, body.next()).await.expect("in time");
        let chunk = chunk.unwrap_or_else(|| panic!("ended before {wanted}: {text}")).expect("a chunk");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    text
}
