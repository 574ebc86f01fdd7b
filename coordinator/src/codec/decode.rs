//! Records to the events of a run.

use super::SCHEMA;
use super::expand::Body;
use crate::store::StoredRecord;
use cairn_model::{
    AgentIndex, AgentRole, AgentSpec, Ended, Event, Failure, FailureKind, Graph, MilestoneIndex, NodeIndex,
    Plan, RunOptions, RunSubmitted, Scope, TaskIndex, Timestamp,
};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::time::Duration;

/// Why a record cannot be understood. The log is sound (its checksums hold), so another version wrote it.
#[derive(Debug, thiserror::Error)]
#[error("the event at position {position} of stream {stream} cannot be understood")]
pub struct DecodeError {
    /// Where it stands.
    pub position: u64,
    /// Whose it is.
    pub stream: String,
    /// What is wrong with it.
    #[source]
    pub reason: Reason,
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The body is no record.
    #[error("it is not a record of events")]
    NotARecord(#[source] serde_json::Error),
    /// A later release wrote it.
    #[error("it was written by a newer version of cairn (form {found}, this one reads up to {SCHEMA})")]
    Newer {
        /// The form it has.
        found: u32,
    },
    /// A type that this release does not know.
    #[error("type `{0}` is unknown to this version of cairn")]
    UnknownType(String),
    /// A field is missing, or of another form.
    #[error("its field `{0}` is missing or malformed")]
    Field(&'static str),
    /// It names something that the plan does not have.
    #[error("the plan has no `{0}`")]
    NotInPlan(String),
    /// It names an agent that has not joined.
    #[error("agent `{0}` has not joined before")]
    UnknownAgent(String),
}

/// Reads the records of a run, in their order. It knows the plan, and the agents that have joined so far.
#[derive(Debug)]
pub struct Decoder<'a> {
    plan: &'a Plan,
    graph: &'a Graph,
    agents: Vec<String>,
}

impl<'a> Decoder<'a> {
    /// A decoder for a run of `plan` in which `agents` have joined, in that order.
    #[must_use]
    pub fn new(plan: &'a Plan, graph: &'a Graph, agents: Vec<String>) -> Self {
        Self { plan, graph, agents }
    }

    /// Hands the events of a record to `take`, each with its moment.
    ///
    /// # Errors
    /// The record cannot be understood; some of its events may have been handed over.
    pub fn decode(
        &mut self,
        record: &StoredRecord,
        mut take: impl FnMut(Event, Timestamp),
    ) -> Result<(), DecodeError> {
        self.decode_body(record, &mut take).map_err(|reason| DecodeError {
            position: record.position,
            stream: record.stream.to_string(),
            reason,
        })
    }

    fn decode_body(
        &mut self,
        record: &StoredRecord,
        take: &mut dyn FnMut(Event, Timestamp),
    ) -> Result<(), Reason> {
        let body: Body<'_> = serde_json::from_str(&record.body).map_err(Reason::NotARecord)?;
        if body.schema > SCHEMA {
            return Err(Reason::Newer { found: body.schema });
        }
        let at = Timestamp::parse(&body.metadata.timestamp).ok_or(Reason::Field("timestamp"))?;
        for index in 0..record.count as usize {
            let event = self.event(&Row { body: &body, index })?;
            take(event, at);
        }
        Ok(())
    }

    fn event(&mut self, row: &Row<'_>) -> Result<Event, Reason> {
        let attempt = || row.small("attempt");
        Ok(match row.body.event_type.as_ref() {
            "RunSubmitted" => Event::RunSubmitted(Box::new(submitted(row)?)),
            "OwnerChanged" => Event::OwnerChanged { epoch: row.number("epoch")? },
            "RunInterrupted" => Event::RunInterrupted { reason: row.text("reason")?.into() },
            "RunPaused" | "MilestonePaused" | "TaskPaused" => {
                Event::Paused { scope: self.scope(row)?, reason: row.text("reason")?.into() }
            }
            "RunResumed" | "MilestoneResumed" | "TaskResumed" => Event::Resumed { scope: self.scope(row)? },
            "RunCancelRequested" | "MilestoneCancelRequested" | "TaskCancelRequested" => {
                Event::CancelRequested {
                    scope: self.scope(row)?,
                    reason: row.text("reason")?.into(),
                    fail_fast: row.flag("fail_fast")?,
                }
            }
            "RunCompleted" => Event::RunCompleted { warnings: row.small("warnings")? },
            "RunFailed" => Event::RunFailed,
            "RunCancelled" => Event::RunCancelled,
            "RunReopened" => Event::RunReopened,
            "AgentJoined" => {
                let spec = agent(row)?;
                self.agents.push(spec.id.clone());
                Event::AgentJoined(Box::new(spec))
            }
            "AgentChanged" => Event::AgentChanged(Box::new(agent(row)?)),
            "AgentLost" => Event::AgentLost { agent: self.agent(row)?, reason: row.text("reason")?.into() },
            "MilestoneStarted" => Event::MilestoneStarted { milestone: self.milestone(row)? },
            "MilestoneCompleted" => Event::MilestoneCompleted { milestone: self.milestone(row)? },
            "MilestoneFailed" => Event::MilestoneFailed { milestone: self.milestone(row)? },
            "MilestoneSkipped" => Event::MilestoneSkipped { milestone: self.milestone(row)? },
            "MilestoneCancelled" => Event::MilestoneCancelled { milestone: self.milestone(row)? },
            "MilestoneReopened" => Event::MilestoneReopened {
                milestone: self.milestone(row)?,
                paused: row.flag_or("paused", false)?,
            },
            "DependencyResolved" => Event::DependencyResolved {
                milestone: self.milestone(row)?,
                node: self.need(row)?,
                completed: row.flag("completed")?,
                position: row.number("position")?,
            },
            "TaskReopened" => Event::TaskReopened {
                task: self.task(row, "task")?,
                ended: Ended::parse(&row.text("ended")?).ok_or(Reason::Field("ended"))?,
            },
            "TaskDispatched" => Event::TaskDispatched {
                task: self.task(row, "task")?,
                attempt: attempt()?,
                agent: self.agent(row)?,
            },
            "TaskGranted" => Event::TaskGranted {
                task: self.task(row, "task")?,
                attempt: attempt()?,
                agent: self.agent(row)?,
                awaited: row.flag("awaited")?,
            },
            "LeaseExpired" => Event::LeaseExpired { task: self.task(row, "task")?, attempt: attempt()? },
            "TaskStarted" => Event::TaskStarted {
                task: self.task(row, "task")?,
                attempt: attempt()?,
                started_at: row.time("started_at")?,
            },
            "ProgressUpdated" => Event::ProgressUpdated {
                task: self.task(row, "task")?,
                attempt: attempt()?,
                permille: u16::try_from(row.number("permille")?).map_err(|_| Reason::Field("permille"))?,
                message: row.optional_text("message")?.map(Into::into),
            },
            "TaskCompleted" => Event::TaskCompleted {
                task: self.task(row, "task")?,
                attempt: attempt()?,
                finished_at: row.time("finished_at")?,
                duration: row.duration("duration_seconds")?,
            },
            "TaskFailed" => Event::TaskFailed {
                task: self.task(row, "task")?,
                attempt: attempt()?,
                failure: Box::new(failure(row)?),
                finished_at: row.time("finished_at")?,
                duration: row.duration("duration_seconds")?,
            },
            "TaskRetryScheduled" => Event::TaskRetryScheduled {
                task: self.task(row, "task")?,
                attempt: attempt()?,
                failure: Box::new(failure(row)?),
                counts: row.flag("counts")?,
                retry_at: row.time("retry_at")?,
            },
            "RetryDue" => Event::RetryDue { task: self.task(row, "task")? },
            "AttemptTimedOut" => {
                Event::AttemptTimedOut { task: self.task(row, "task")?, attempt: attempt()? }
            }
            "TaskSkipped" => {
                Event::TaskSkipped { task: self.task(row, "task")?, cause: self.task(row, "cause")? }
            }
            "TaskCancelled" => Event::TaskCancelled { task: self.task(row, "task")?, attempt: attempt()? },
            other => return Err(Reason::UnknownType(other.to_owned())),
        })
    }

    fn task(&self, row: &Row<'_>, field: &'static str) -> Result<TaskIndex, Reason> {
        let name = row.text(field)?;
        self.plan.find_task_name(&name).ok_or_else(|| Reason::NotInPlan(name.into_owned()))
    }

    fn milestone(&self, row: &Row<'_>) -> Result<MilestoneIndex, Reason> {
        let id = row.text("milestone")?;
        self.plan.find_milestone(&id).ok_or_else(|| Reason::NotInPlan(id.into_owned()))
    }

    fn agent(&self, row: &Row<'_>) -> Result<AgentIndex, Reason> {
        let id = row.text("agent")?;
        let found = self.agents.iter().rposition(|agent| *agent == id);
        found.map(AgentIndex::new).ok_or_else(|| Reason::UnknownAgent(id.into_owned()))
    }

    fn need(&self, row: &Row<'_>) -> Result<NodeIndex, Reason> {
        let name = row.text("need")?;
        match self.plan.find_task_name(&name) {
            Some(task) => Ok(self.graph.task(task)),
            None => match self.plan.find_milestone(&name) {
                Some(milestone) => Ok(self.graph.end(milestone)),
                None => Err(Reason::NotInPlan(name.into_owned())),
            },
        }
    }

    /// What the event is about, by its type: a field that is missing must not widen it to the whole run.
    fn scope(&self, row: &Row<'_>) -> Result<Scope, Reason> {
        let kind = row.body.event_type.as_ref();
        if kind.starts_with("Task") {
            self.task(row, "task").map(Scope::Task)
        } else if kind.starts_with("Milestone") {
            self.milestone(row).map(Scope::Milestone)
        } else {
            Ok(Scope::Run)
        }
    }
}

/// One event of a record.
struct Row<'a> {
    body: &'a Body<'a>,
    index: usize,
}

impl<'a> Row<'a> {
    fn get(&self, field: &str) -> Option<&'a RawValue> {
        match self.body.each.get(field) {
            Some(column) => column.get(self.index).copied(),
            None => self.body.event_data.get(field).copied(),
        }
    }

    fn parse<T: serde::Deserialize<'a>>(&self, field: &'static str) -> Result<T, Reason> {
        let value = self.get(field).ok_or(Reason::Field(field))?;
        serde_json::from_str(value.get()).map_err(|_| Reason::Field(field))
    }

    fn text(&self, field: &'static str) -> Result<Cow<'a, str>, Reason> {
        let value = self.get(field).ok_or(Reason::Field(field))?.get();
        // Most text has no escapes and can be borrowed as it stands.
        match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
            _ => self.parse::<String>(field).map(Cow::Owned),
        }
    }

    fn optional_text(&self, field: &'static str) -> Result<Option<String>, Reason> {
        self.get(field).map_or(Ok(None), |_| self.parse(field))
    }

    fn number(&self, field: &'static str) -> Result<u64, Reason> {
        self.parse(field)
    }

    fn small(&self, field: &'static str) -> Result<u32, Reason> {
        self.parse(field)
    }

    fn flag(&self, field: &'static str) -> Result<bool, Reason> {
        self.parse(field)
    }

    fn flag_or(&self, field: &'static str, absent: bool) -> Result<bool, Reason> {
        self.get(field).map_or(Ok(absent), |_| self.flag(field))
    }

    fn time(&self, field: &'static str) -> Result<Timestamp, Reason> {
        Timestamp::parse(&self.text(field)?).ok_or(Reason::Field(field))
    }

    /// Whole seconds and up to six decimals, read exactly.
    fn duration(&self, field: &'static str) -> Result<Duration, Reason> {
        self.micros(field).map(Duration::from_micros)
    }

    fn micros(&self, field: &'static str) -> Result<u64, Reason> {
        let text = self.get(field).ok_or(Reason::Field(field))?.get();
        decimal(text, 6).ok_or(Reason::Field(field))
    }

    fn pairs<T: serde::Deserialize<'a>>(&self, field: &'static str) -> Result<Vec<(String, T)>, Reason> {
        let map: std::collections::BTreeMap<String, T> = self.parse(field)?;
        Ok(map.into_iter().collect())
    }
}

/// A decimal number without sign as a whole number of its `decimals`-th decimal.
fn decimal(text: &str, decimals: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > decimals || fraction.is_empty() {
        return None;
    }
    let scale = 10_u64.checked_pow(u32::try_from(decimals).ok()?)?;
    let part = fraction.parse::<u64>().ok()? * 10_u64.pow(u32::try_from(decimals - fraction.len()).ok()?);
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(part)
}

fn submitted(row: &Row<'_>) -> Result<RunSubmitted, Reason> {
    Ok(RunSubmitted {
        run: row.text("run")?.into_owned(),
        plan_hash: row.text("plan_hash")?.into_owned(),
        plan_name: row.text("plan_name")?.into_owned(),
        plan_directory: row.text("plan_directory")?.into_owned(),
        parameters: row.pairs("parameters")?,
        options: RunOptions {
            fail_fast: row.flag("fail_fast")?,
            closed_fleet: row.flag("closed_fleet")?,
            seed: row.number("seed")?,
        },
        tasks: row.number("tasks")?,
        milestones: row.number("milestones")?,
        key: row.optional_text("idempotency_key")?,
    })
}

/// What a run was submitted with, read without its plan: to find the plan.
#[derive(Debug, PartialEq)]
pub(crate) struct Submitted {
    pub what: RunSubmitted,
    pub at: Timestamp,
    /// By whom.
    pub user: String,
}

/// The submission that a record tells of, if it does.
pub(crate) fn read_submitted(record: &StoredRecord) -> Option<Submitted> {
    let body: Body<'_> = serde_json::from_str(&record.body).ok()?;
    let at = Timestamp::parse(&body.metadata.timestamp)?;
    let row = Row { body: &body, index: 0 };
    if body.event_type != "RunSubmitted" {
        return None;
    }
    Some(Submitted { what: submitted(&row).ok()?, at, user: body.metadata.user_id.to_string() })
}

fn agent(row: &Row<'_>) -> Result<AgentSpec, Reason> {
    let amounts: Vec<(String, &RawValue)> = row.pairs("resources")?;
    let exact = |(name, amount): (String, &RawValue)| Some((name, decimal(amount.get(), 3)?));
    Ok(AgentSpec {
        id: row.text("agent")?.into_owned(),
        incarnation: row.number("incarnation")?,
        slots: row.small("slots")?,
        backlog: row.small("backlog")?,
        timers: row.small("timers")?,
        resources: amounts.into_iter().map(exact).collect::<Option<_>>().ok_or(Reason::Field("resources"))?,
        labels: row.pairs("labels")?,
        role: role(row)?,
    })
}

/// Logs before there were pools name no role.
fn role(row: &Row<'_>) -> Result<AgentRole, Reason> {
    match row.optional_text("role")?.as_deref() {
        None => Ok(AgentRole::Own),
        Some("pool") => Ok(AgentRole::Pool { offer_lease_micros: row.micros("offer_lease_seconds")? }),
        Some("member") => Ok(AgentRole::Member { pool: row.text("pool")?.into_owned() }),
        Some(_) => Err(Reason::Field("role")),
    }
}

fn failure(row: &Row<'_>) -> Result<Failure, Reason> {
    Ok(Failure {
        kind: FailureKind::parse(&row.text("kind")?).ok_or(Reason::Field("kind"))?,
        message: row.text("message")?.into_owned(),
        exit_code: row.parse("exit_code")?,
    })
}
