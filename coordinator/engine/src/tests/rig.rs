//! A run under test: plans as text, commands by name, every event checked.

use super::checker::Checker;
use crate::{Decision, Effect, Rejection, State, TaskStatus, apply, decide, has_work, react};
use cairn_model::plan::{Backoff, Estimate, Milestone, NewTask};
use cairn_model::{
    Action, AgentIndex, AgentRole, AgentSpec, Command, Event, FailureKind, Graph, MilestoneIndex, Need,
    Outcome, Plan, PlanBuilder, Report, ReportKind, RunOptions, RunSubmitted, Scope, TaskIndex, TaskSettings,
    Timestamp,
};
use std::sync::Arc;
use std::time::Duration;

/// Splits `name<-need,need rest of it` into its three parts.
fn split(text: &str) -> (&str, Vec<&str>, &str) {
    let (head, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let (name, needs) = head.split_once("<-").unwrap_or((head, ""));
    (name, needs.split(',').filter(|need| !need.is_empty()).collect(), rest)
}

fn amount(text: &str) -> u64 {
    text.parse::<u64>().expect("a number") * 1000
}

fn task<'a>(id: &'a str, flags: &str) -> NewTask<'a> {
    let mut settings = TaskSettings::default();
    let (mut action, mut priority, mut estimate) = (Action::Run(":"), 0, None);
    settings.retry.backoff = Backoff::Constant;
    settings.retry.jitter_permille = 0;
    for flag in flags.split_whitespace() {
        let (key, value) = flag.split_once('=').unwrap_or((flag, ""));
        let seconds = || Duration::from_secs(value.parse().expect("seconds"));
        match key {
            "checkpoint" => action = Action::Checkpoint,
            "wait" => action = Action::Wait(seconds()),
            "once" => settings.at_most_once = true,
            "allow" => settings.continue_on_error = true,
            "tries" => settings.retry.max_attempts = value.parse().expect("a number"),
            "timeout" => settings.timeout = Some(seconds()),
            "priority" => priority = value.parse().expect("a number"),
            "takes" => estimate = Some(Estimate::point(seconds())),
            "label" => settings.requires.push(("label".into(), value.into())),
            resource => settings.resources.push((resource.into(), amount(value))),
        }
    }
    settings.resources.sort();
    NewTask { id, title: None, description: None, action, settings, priority, estimate }
}

/// Reads a plan: milestones divided by `|`, each `id<-needs: task; task`, each task `id<-needs flags`. Needs name
/// a task of the same milestone, `milestone/task`, or a milestone. Flags: `checkpoint wait=S once allow tries=N
/// timeout=S priority=N takes=S label=L`, and any other `name=N` as a resource.
pub fn plan(text: &str) -> Arc<Plan> {
    let milestones: Vec<_> = text.split('|').filter(|part| !part.trim().is_empty()).collect();
    let parts: Vec<_> = milestones.iter().map(|part| part.split_once(':').expect("id: tasks")).collect();
    let mut builder = PlanBuilder::new("test");
    for (head, tasks) in &parts {
        builder.milestone(Milestone { id: split(head).0.into(), ..Milestone::default() }).expect("new");
        for part in tasks.split(';').filter(|part| !part.trim().is_empty()) {
            let (id, _, flags) = split(part);
            builder.task(task(id, flags)).expect("new");
        }
    }
    let (mut task_needs, mut milestone_needs) = (Vec::new(), Vec::new());
    for (at, (head, tasks)) in parts.iter().enumerate() {
        let find = |need: &str| {
            let (plan, home) = (builder.so_far(), MilestoneIndex::new(at));
            let task = plan.find_task(home, need).or_else(|| plan.find_task_name(need));
            task.map(Need::Task)
                .or_else(|| plan.find_milestone(need).map(Need::Milestone))
                .unwrap_or_else(|| panic!("no such need: {need}"))
        };
        milestone_needs.push(split(head).1.into_iter().map(find).collect::<Vec<_>>());
        for part in tasks.split(';').filter(|part| !part.trim().is_empty()) {
            task_needs.push(split(part).1.into_iter().map(find).collect::<Vec<_>>());
        }
    }
    task_needs.into_iter().for_each(|needs| builder.task_needs(needs));
    milestone_needs.into_iter().for_each(|needs| builder.milestone_needs(needs));
    Arc::new(builder.finish())
}

/// Reads an agent: `id slots`, then `backlog=N timers=N label=L incarnation=N member=POOL`, `pool=SECONDS` (how long an
/// offer lies there), and resources as `name=N`.
pub fn agent(text: &str) -> AgentSpec {
    let mut words = text.split_whitespace();
    let id = words.next().expect("an id").to_owned();
    let slots = words.next().expect("slots").parse().expect("a number");
    let mut spec = AgentSpec { id, slots, timers: 100, incarnation: 1, ..AgentSpec::default() };
    for word in words {
        let (key, value) = word.split_once('=').expect("key=value");
        match key {
            "backlog" => spec.backlog = value.parse().expect("a number"),
            "timers" => spec.timers = value.parse().expect("a number"),
            "incarnation" => spec.incarnation = value.parse().expect("a number"),
            "member" => spec.role = AgentRole::Member { pool: value.to_owned() },
            "pool" => spec.role = AgentRole::Pool { offer_lease_micros: amount(value) * 1000 },
            "label" => spec.labels.push(("label".into(), value.into())),
            resource => spec.resources.push((resource.into(), amount(value))),
        }
    }
    spec.resources.sort();
    spec.labels.sort();
    spec
}

/// A moment `seconds` after the start of every test.
pub fn at(seconds: u64) -> Timestamp {
    Timestamp(1_000_000_000).plus(Duration::from_secs(seconds))
}

pub struct Rig {
    pub state: State,
    /// What a fold over the events gives.
    pub folded: State,
    pub checker: Checker,
    pub now: Timestamp,
    pub log: Vec<(Timestamp, Event)>,
    pub stale_reports: u32,
    /// What the last decision answered.
    pub answers: Vec<Effect>,
}

impl Rig {
    /// A submitted run with agents.
    pub fn new(text: &str, agents: &[&str]) -> Self {
        Self::with(text, agents, RunOptions::default())
    }

    pub fn with(text: &str, agents: &[&str], options: RunOptions) -> Self {
        let mut rig = Self::of(plan(text), None);
        rig.submit(options);
        for text in agents {
            rig.join(text);
        }
        rig
    }

    /// A run of which nothing has happened; `owned` names the milestones that are scheduled here.
    pub fn of(plan: Arc<Plan>, owned: Option<&[&str]>) -> Self {
        let graph = Arc::new(Graph::new(&plan).expect("acyclic"));
        let is_owned = |id: &String| owned.is_none_or(|owned| owned.contains(&id.as_str()));
        let owned: Vec<bool> = plan.milestones().iter().map(|milestone| is_owned(&milestone.id)).collect();
        let order = State::new(plan.clone(), graph.clone()).order().clone();
        let state = State::with_order(plan.clone(), graph.clone(), order, owned.clone());
        let checker = Checker::new(plan, graph, owned);
        let (log, answers) = (Vec::new(), Vec::new());
        Self { folded: state.clone(), state, checker, now: at(0), log, stale_reports: 0, answers }
    }

    pub fn submit(&mut self, options: RunOptions) {
        let submitted = RunSubmitted { run: "test.1".into(), options, ..RunSubmitted::default() };
        self.give(Command::Submit(Box::new(submitted)));
    }

    pub fn join(&mut self, text: &str) -> AgentIndex {
        self.give(Command::AgentJoined(Box::new(agent(text))));
        AgentIndex::new(self.state.agents().len() - 1)
    }

    /// Decides once; checks every event and that a fold over them gives the same state.
    pub fn try_once(&mut self, command: Command) -> Result<Vec<Event>, Rejection> {
        let mut events = Vec::new();
        let decision = decide(&mut self.state, command, self.now, &mut events)?;
        let Decision { stale_reports, answers } = decision;
        self.stale_reports += stale_reports;
        self.answers.extend(answers);
        for event in &events {
            self.checker.take(event).unwrap_or_else(|complaint| panic!("{complaint}\n{:#?}", self.log));
            apply(&mut self.folded, event, self.now);
            self.log.push((self.now, event.clone()));
        }
        assert!(self.state == self.folded, "a fold over the events gives the live state");
        Ok(events)
    }

    /// Decides until there is nothing left to say.
    pub fn give(&mut self, command: Command) -> Vec<Event> {
        self.answers.clear();
        let mut events = self.try_once(command).expect("accepted");
        while has_work(&self.state) {
            events.extend(self.try_once(Command::Tick).expect("accepted"));
        }
        events
    }

    pub fn refuse(&mut self, command: Command) -> Rejection {
        let before = self.state.clone();
        let rejection = self.try_once(command).expect_err("refused");
        assert!(self.state == before, "a rejection changes nothing");
        rejection
    }

    /// Lets time pass to `seconds` after the start and ticks.
    pub fn tick(&mut self, seconds: u64) -> Vec<Event> {
        self.now = at(seconds);
        self.give(Command::Tick)
    }

    pub fn task(&self, name: &str) -> TaskIndex {
        let plan = self.state.plan();
        let home = MilestoneIndex::new(0);
        plan.find_task_name(name).or_else(|| plan.find_task(home, name)).expect("such a task")
    }

    pub fn milestone(&self, id: &str) -> MilestoneIndex {
        self.state.plan().find_milestone(id).expect("such a milestone")
    }

    /// `"run"`, a milestone, or a task.
    pub fn scope(&self, name: &str) -> Scope {
        match (name, self.state.plan().find_milestone(name)) {
            ("run", _) => Scope::Run,
            (_, Some(milestone)) => Scope::Milestone(milestone),
            _ => Scope::Task(self.task(name)),
        }
    }

    pub fn status(&self, name: &str) -> &'static str {
        self.state.task(self.task(name)).status.name()
    }

    /// All tasks with their status, in the order of the plan.
    pub fn statuses(&self) -> Vec<String> {
        let plan = self.state.plan();
        plan.tasks()
            .map(|task| format!("{} {}", plan.task_id(task), self.state.task(task).status.name()))
            .collect()
    }

    pub fn run_status(&self) -> &'static str {
        self.state.run().status.name()
    }

    pub fn milestone_status(&self, id: &str) -> &'static str {
        self.state.milestone(self.milestone(id)).status.name()
    }

    pub fn failure_kind(&self, name: &str) -> Option<FailureKind> {
        self.state.failure(self.task(name)).map(|failure| failure.kind)
    }

    /// Tasks with an attempt that is out, in the order in which they were dispatched.
    pub fn out(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (_, event) in &self.log {
            if let Event::TaskDispatched { task, attempt, .. } = event
                && self.state.task(*task).status.is_out()
                && self.state.task(*task).attempt == *attempt
            {
                out.push(self.state.plan().task_id(*task).to_owned());
            }
        }
        out
    }

    pub fn report(&self, name: &str, kind: ReportKind) -> Report {
        let task = self.task(name);
        let row = self.state.task(task);
        Report { task, attempt: row.attempt, agent: row.agent().unwrap_or(AgentIndex(0)), kind }
    }

    fn finished(&mut self, name: &str, outcome: Outcome) -> Vec<Event> {
        let kind = ReportKind::Finished { outcome, started_at: self.now, finished_at: self.now };
        let report = self.report(name, kind);
        self.give(Command::Reports(vec![report]))
    }

    /// The agent has it, and starts it once it may.
    pub fn starts(&mut self, name: &str) -> Vec<Event> {
        let task = self.task(name);
        if self.state.needs_grant(task) && !self.state.task(task).is_granted() {
            self.accepts(name, true);
        }
        let report = self.report(name, ReportKind::Started { at: self.now });
        self.give(Command::Reports(vec![report]))
    }

    /// What `agent` says of the newest attempt of a task.
    pub fn says(&mut self, agent: AgentIndex, name: &str, kind: ReportKind) -> Vec<Event> {
        let report = Report { agent, ..self.report(name, kind) };
        self.give(Command::Reports(vec![report]))
    }

    pub fn accepts(&mut self, name: &str, awaits_grant: bool) -> Vec<Event> {
        let report = self.report(name, ReportKind::Accepted { awaits_grant });
        self.give(Command::Reports(vec![report]))
    }

    pub fn declines(&mut self, name: &str) -> Vec<Event> {
        let report = self.report(name, ReportKind::Declined { reason: "test".into() });
        self.give(Command::Reports(vec![report]))
    }

    pub fn loses_it(&mut self, name: &str) -> Vec<Event> {
        self.finished(name, Outcome::Lost { reason: "test".into() })
    }

    pub fn retry(&mut self, name: &str, downstream: bool) -> Vec<Event> {
        self.give(Command::Retry { scope: self.scope(name), downstream })
    }

    pub fn completes(&mut self, name: &str) -> Vec<Event> {
        self.finished(name, Outcome::Completed)
    }

    pub fn fails(&mut self, name: &str) -> Vec<Event> {
        self.finished(name, failed(FailureKind::ExitCode))
    }

    pub fn fails_with(&mut self, name: &str, kind: FailureKind) -> Vec<Event> {
        self.finished(name, failed(kind))
    }

    pub fn stopped(&mut self, name: &str) -> Vec<Event> {
        self.finished(name, Outcome::Stopped)
    }

    pub fn not_started(&mut self, name: &str) -> Vec<Event> {
        self.finished(name, Outcome::NotStarted)
    }

    pub fn pause(&mut self, name: &str) -> Vec<Event> {
        self.give(Command::Pause { scope: self.scope(name), reason: "test".into() })
    }

    pub fn resume(&mut self, name: &str) -> Vec<Event> {
        self.give(Command::Resume { scope: self.scope(name) })
    }

    pub fn cancel(&mut self, name: &str) -> Vec<Event> {
        self.give(Command::Cancel { scope: self.scope(name), reason: "test".into() })
    }

    pub fn leaves(&mut self, agent: AgentIndex) -> Vec<Event> {
        self.give(Command::AgentLeft { agent, reason: "the test ends it".into() })
    }

    pub fn loses(&mut self, agent: AgentIndex) -> Vec<Event> {
        self.give(Command::AgentLost { agent, reason: "test".into() })
    }

    /// Effects of events that have just become durable.
    pub fn effects(&self, events: &[Event]) -> Vec<Effect> {
        let mut effects = Vec::new();
        events.iter().for_each(|event| react(&self.state, event, &mut effects));
        effects
    }

    /// Completes whatever is out, again and again, until nothing is.
    pub fn complete_all(&mut self) {
        loop {
            let plan = self.state.plan().clone();
            let Some(task) = plan.tasks().find(|&task| self.state.task(task).status.is_out()) else { return };
            self.completes(&plan.task_name(task));
        }
    }

    pub fn count(&self, status: TaskStatus) -> u32 {
        self.state.count(status)
    }
}

pub fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed { kind, message: "test".into(), exit_code: Some(1) }
}
