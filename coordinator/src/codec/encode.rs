//! Events to records.

use super::columns::{Columns, Pair, write_text};
use super::{MAX_RECORD_EVENTS, SCHEMA, milestone_stream};
use crate::store::{NewRecord, StreamId};
use cairn_model::time::micros;
use cairn_model::{
    AgentIndex, AgentRole, AgentSpec, Event, Failure, MilestoneIndex, NodeKind, Plan, RunSubmitted, Scope,
    Timestamp,
};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;
use uuid::Uuid;

/// What stands beside the events of one decision.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// A fresh id; its last 24 bits count the events of the decision, which has fewer than 2^24.
    pub id: Uuid,
    /// The moment of the decision.
    pub at: Timestamp,
    /// Who asked for it.
    pub user: &'a str,
    /// What belongs together: the same for all that one owner of the run does.
    pub correlation: &'a str,
}

/// Turns events into records, and counts the versions of their streams.
#[derive(Debug)]
pub struct Encoder {
    run: String,
    run_stream: StreamId,
    streams: HashMap<MilestoneIndex, StreamId>,
    versions: HashMap<StreamId, u64>,
    columns: Columns,
}

impl Encoder {
    /// An encoder for a run whose streams have the given versions; a stream that is not named is empty.
    #[must_use]
    pub fn new(run: &str, versions: HashMap<StreamId, u64>) -> Self {
        Self {
            run: run.to_owned(),
            run_stream: StreamId::new(run),
            streams: HashMap::new(),
            versions,
            columns: Columns::default(),
        }
    }

    /// The versions of the run's streams after all that was encoded.
    #[must_use]
    pub fn versions(&self) -> &HashMap<StreamId, u64> {
        &self.versions
    }

    /// The records of one decision, in its order. `agent_name` names agents by their index.
    pub fn encode<'a>(
        &mut self,
        plan: &Plan,
        events: &[Event],
        envelope: &Envelope<'_>,
        agent_name: impl Fn(AgentIndex) -> &'a str,
    ) -> Vec<NewRecord> {
        let mut records = Vec::new();
        let first_id = base_id(envelope.id);
        let mut done = 0;
        while done < events.len() {
            // By the name, not the variant: what is paused, resumed or cancelled makes different fields. So does the
            // role of an agent, the key of a submission, and a pause that stays.
            let (stream, kind) = (events[done].milestone(plan), type_name(&events[done]));
            let (role, has_more) = (role_name(&events[done]), has_more(&events[done]));
            let like = |event: &&Event| {
                let is_alike = type_name(event) == kind && event.milestone(plan) == stream;
                is_alike && role_name(event) == role && self::has_more(event) == has_more
            };
            let count = events[done..].iter().take(MAX_RECORD_EVENTS as usize).take_while(like).count();
            let batch = &events[done..done + count];
            self.columns.clear();
            for event in batch {
                write_fields(&mut self.columns, plan, event, &agent_name);
                self.columns.end_row();
            }
            let id = Uuid::from_u128(first_id.as_u128() + done as u128);
            let body = self.body(id, (done > 0).then_some(first_id), kind, envelope);
            let stream = self.stream(plan, stream);
            let version = self.versions.entry(stream.clone()).or_insert(0);
            let first_version = *version + 1;
            *version += count as u64;
            let count = u32::try_from(count).unwrap_or(MAX_RECORD_EVENTS);
            records.push(NewRecord { stream, first_version, count, body });
            done += usize::try_from(count).unwrap_or(usize::MAX);
        }
        records
    }

    /// The stream of a milestone, or of the run.
    fn stream(&mut self, plan: &Plan, milestone: Option<MilestoneIndex>) -> StreamId {
        let Some(milestone) = milestone else { return self.run_stream.clone() };
        let run = &self.run;
        let name = || StreamId::new(milestone_stream(run, plan, milestone));
        self.streams.entry(milestone).or_insert_with(name).clone()
    }

    fn body(&self, id: Uuid, cause: Option<Uuid>, kind: &str, envelope: &Envelope<'_>) -> String {
        let mut body = String::with_capacity(320 + self.columns.bytes());
        let mut id_text = Uuid::encode_buffer();
        body.push_str("{\"event_id\":\"");
        body.push_str(id.hyphenated().encode_lower(&mut id_text));
        body.push_str("\",\"event_type\":\"");
        body.push_str(kind);
        let _ = write!(body, "\",\"schema\":{SCHEMA},\"metadata\":{{\"timestamp\":\"");
        envelope.at.write_to(&mut body);
        body.push_str("\",\"user_id\":");
        write_text(&mut body, envelope.user);
        body.push_str(",\"correlation_id\":");
        write_text(&mut body, envelope.correlation);
        body.push_str(",\"causation_id\":");
        match cause {
            Some(cause) => {
                body.push('"');
                body.push_str(cause.hyphenated().encode_lower(&mut id_text));
                body.push('"');
            }
            None => body.push_str("null"),
        }
        body.push_str("},");
        self.columns.write_to(&mut body);
        body.push('}');
        body
    }
}

/// The id with room to count 2^24 events: more than any decision has.
fn base_id(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128() & !0xff_ffff)
}

fn type_name(event: &Event) -> &'static str {
    match event {
        Event::RunSubmitted(_) => "RunSubmitted",
        Event::OwnerChanged { .. } => "OwnerChanged",
        Event::RunInterrupted { .. } => "RunInterrupted",
        Event::Paused { scope, .. } => match scope {
            Scope::Run => "RunPaused",
            Scope::Milestone(_) => "MilestonePaused",
            Scope::Task(_) => "TaskPaused",
        },
        Event::Resumed { scope } => match scope {
            Scope::Run => "RunResumed",
            Scope::Milestone(_) => "MilestoneResumed",
            Scope::Task(_) => "TaskResumed",
        },
        Event::CancelRequested { scope, .. } => match scope {
            Scope::Run => "RunCancelRequested",
            Scope::Milestone(_) => "MilestoneCancelRequested",
            Scope::Task(_) => "TaskCancelRequested",
        },
        Event::RunCompleted { .. } => "RunCompleted",
        Event::RunFailed => "RunFailed",
        Event::RunCancelled => "RunCancelled",
        Event::RunReopened => "RunReopened",
        Event::AgentJoined(_) => "AgentJoined",
        Event::AgentChanged(_) => "AgentChanged",
        Event::AgentLost { .. } => "AgentLost",
        Event::MilestoneStarted { .. } => "MilestoneStarted",
        Event::MilestoneCompleted { .. } => "MilestoneCompleted",
        Event::MilestoneFailed { .. } => "MilestoneFailed",
        Event::MilestoneSkipped { .. } => "MilestoneSkipped",
        Event::MilestoneCancelled { .. } => "MilestoneCancelled",
        Event::MilestoneReopened { .. } => "MilestoneReopened",
        Event::DependencyResolved { .. } => "DependencyResolved",
        Event::TaskReopened { .. } => "TaskReopened",
        Event::TaskDispatched { .. } => "TaskDispatched",
        Event::TaskGranted { .. } => "TaskGranted",
        Event::LeaseExpired { .. } => "LeaseExpired",
        Event::TaskStarted { .. } => "TaskStarted",
        Event::ProgressUpdated { .. } => "ProgressUpdated",
        Event::TaskCompleted { .. } => "TaskCompleted",
        Event::TaskFailed { .. } => "TaskFailed",
        Event::TaskRetryScheduled { .. } => "TaskRetryScheduled",
        Event::RetryDue { .. } => "RetryDue",
        Event::AttemptTimedOut { .. } => "AttemptTimedOut",
        Event::TaskSkipped { .. } => "TaskSkipped",
        Event::TaskCancelled { .. } => "TaskCancelled",
    }
}

/// What an agent's role is called in the log. An agent with a queue of its own has none there.
fn role_name(event: &Event) -> Option<&'static str> {
    let (Event::AgentJoined(spec) | Event::AgentChanged(spec)) = event else { return None };
    match spec.role {
        AgentRole::Own => None,
        AgentRole::Pool { .. } => Some("pool"),
        AgentRole::Member { .. } => Some("member"),
    }
}

/// Whether an event has a field that others of its type do not write: a submission its key, a milestone that goes on
/// that it is paused.
fn has_more(event: &Event) -> bool {
    match event {
        Event::RunSubmitted(submitted) => submitted.key.is_some(),
        Event::MilestoneReopened { paused, .. } => *paused,
        _ => false,
    }
}

/// The fields of one event; every event of a type writes the same ones in the same order.
fn write_fields<'a>(
    row: &mut Columns,
    plan: &Plan,
    event: &Event,
    agent_name: &impl Fn(AgentIndex) -> &'a str,
) {
    match event {
        Event::RunSubmitted(submitted) => write_submitted(row, submitted),
        Event::OwnerChanged { epoch } => row.number("epoch", *epoch),
        Event::RunInterrupted { reason } => row.text("reason", reason),
        Event::Paused { scope, reason } => {
            write_scope(row, plan, *scope);
            row.text("reason", reason);
        }
        Event::Resumed { scope } => write_scope(row, plan, *scope),
        Event::CancelRequested { scope, reason, fail_fast } => {
            write_scope(row, plan, *scope);
            row.text("reason", reason);
            row.flag("fail_fast", *fail_fast);
        }
        Event::RunCompleted { warnings } => row.number("warnings", u64::from(*warnings)),
        Event::RunFailed | Event::RunCancelled | Event::RunReopened => {}
        Event::AgentJoined(spec) | Event::AgentChanged(spec) => write_agent(row, spec),
        Event::AgentLost { agent, reason } => {
            row.text("agent", agent_name(*agent));
            row.text("reason", reason);
        }
        Event::MilestoneStarted { milestone }
        | Event::MilestoneCompleted { milestone }
        | Event::MilestoneFailed { milestone }
        | Event::MilestoneSkipped { milestone }
        | Event::MilestoneCancelled { milestone } => row.text("milestone", &plan.milestone(*milestone).id),
        Event::MilestoneReopened { milestone, paused } => {
            row.text("milestone", &plan.milestone(*milestone).id);
            if *paused {
                row.flag("paused", true);
            }
        }
        Event::DependencyResolved { milestone, node, completed, position } => {
            row.text("milestone", &plan.milestone(*milestone).id);
            // The same numbering as the graph's: tasks first, then two barriers for each milestone.
            let tasks = u32::try_from(plan.task_count()).unwrap_or(u32::MAX);
            match NodeKind::of(*node, tasks) {
                NodeKind::Task(task) => row.task("need", plan, task),
                NodeKind::Start(of) | NodeKind::End(of) => row.text("need", &plan.milestone(of).id),
            }
            row.flag("completed", *completed);
            row.number("position", *position);
        }
        Event::TaskDispatched { task, attempt, agent } => {
            row.task("task", plan, *task);
            row.number("attempt", u64::from(*attempt));
            row.text("agent", agent_name(*agent));
        }
        Event::TaskReopened { task, ended } => {
            row.task("task", plan, *task);
            row.text("ended", ended.name());
        }
        Event::TaskGranted { task, attempt, agent, awaited } => {
            row.task("task", plan, *task);
            row.number("attempt", u64::from(*attempt));
            row.text("agent", agent_name(*agent));
            row.flag("awaited", *awaited);
        }
        Event::TaskStarted { task, attempt, started_at } => {
            row.task("task", plan, *task);
            row.number("attempt", u64::from(*attempt));
            row.time("started_at", *started_at);
        }
        Event::ProgressUpdated { task, attempt, permille, message } => {
            row.task("task", plan, *task);
            row.number("attempt", u64::from(*attempt));
            row.number("permille", u64::from(*permille));
            row.optional("message", message.as_deref());
        }
        Event::TaskCompleted { task, attempt, finished_at, duration } => {
            row.task("task", plan, *task);
            row.number("attempt", u64::from(*attempt));
            write_span(row, *finished_at, *duration);
        }
        Event::TaskFailed { task, attempt, failure, finished_at, duration } => {
            row.task("task", plan, *task);
            row.number("attempt", u64::from(*attempt));
            write_failure(row, failure);
            write_span(row, *finished_at, *duration);
        }
        Event::TaskRetryScheduled { task, attempt, failure, counts, retry_at } => {
            row.task("task", plan, *task);
            row.number("attempt", u64::from(*attempt));
            write_failure(row, failure);
            row.flag("counts", *counts);
            row.time("retry_at", *retry_at);
        }
        Event::RetryDue { task } => row.task("task", plan, *task),
        Event::AttemptTimedOut { task, attempt }
        | Event::LeaseExpired { task, attempt }
        | Event::TaskCancelled { task, attempt } => {
            row.task("task", plan, *task);
            row.number("attempt", u64::from(*attempt));
        }
        Event::TaskSkipped { task, cause } => {
            row.task("task", plan, *task);
            row.task("cause", plan, *cause);
        }
    }
}

fn write_submitted(row: &mut Columns, submitted: &RunSubmitted) {
    row.text("run", &submitted.run);
    row.text("plan_hash", &submitted.plan_hash);
    row.text("plan_name", &submitted.plan_name);
    row.text("plan_directory", &submitted.plan_directory);
    row.pairs(
        "parameters",
        submitted.parameters.iter().map(|(name, value)| (name.as_str(), Pair::Text(value))),
    );
    row.flag("fail_fast", submitted.options.fail_fast);
    row.flag("closed_fleet", submitted.options.closed_fleet);
    row.number("seed", submitted.options.seed);
    row.number("tasks", submitted.tasks);
    row.number("milestones", submitted.milestones);
    if let Some(key) = &submitted.key {
        row.text("idempotency_key", key);
    }
}

fn write_agent(row: &mut Columns, spec: &AgentSpec) {
    row.text("agent", &spec.id);
    row.number("incarnation", spec.incarnation);
    row.number("slots", u64::from(spec.slots));
    row.number("backlog", u64::from(spec.backlog));
    row.number("timers", u64::from(spec.timers));
    row.pairs(
        "resources",
        spec.resources.iter().map(|(name, amount)| (name.as_str(), Pair::Thousandths(*amount))),
    );
    row.pairs("labels", spec.labels.iter().map(|(name, value)| (name.as_str(), Pair::Text(value))));
    match &spec.role {
        AgentRole::Own => {}
        AgentRole::Pool { offer_lease_micros } => {
            row.text("role", "pool");
            write_seconds(row, "offer_lease_seconds", *offer_lease_micros);
        }
        AgentRole::Member { pool } => {
            row.text("role", "member");
            row.text("pool", pool);
        }
    }
}

fn write_scope(row: &mut Columns, plan: &Plan, scope: Scope) {
    match scope {
        Scope::Run => {}
        Scope::Milestone(milestone) => row.text("milestone", &plan.milestone(milestone).id),
        Scope::Task(task) => row.task("task", plan, task),
    }
}

fn write_failure(row: &mut Columns, failure: &Failure) {
    row.text("kind", failure.kind.name());
    row.text("message", &failure.message);
    row.write("exit_code", |out| match failure.exit_code {
        Some(code) => drop(write!(out, "{code}")),
        None => out.push_str("null"),
    });
}

fn write_span(row: &mut Columns, finished_at: Timestamp, duration: Duration) {
    row.time("finished_at", finished_at);
    // The longest that is told is the longest that can be read back: see `micros`.
    write_seconds(row, "duration_seconds", micros(duration).unsigned_abs());
}

fn write_seconds(row: &mut Columns, name: &'static str, all: u64) {
    row.write(name, |out| {
        let (seconds, micros) = (all / 1_000_000, all % 1_000_000);
        let _ = if micros == 0 { write!(out, "{seconds}") } else { write!(out, "{seconds}.{micros:06}") };
    });
}
