//! Records to changes of rows, the same for every kind of table.
//!
//! Contract: pure. The rows that a run has, and the next records, give the rows that it has then, and what is added to
//! the totals of days; no other thing does. Rows of unfinished runs are kept here between batches, so that tables are
//! read only when a run is met for the first time. What is not understood, as a later release may write it, changes
//! nothing.

use super::rows::{
    DayTotals, MAX_TREE_NEEDS, MAX_TREE_TASKS, Memory, MilestoneOverview, NeedRow, RunRows, Span,
};
use crate::codec::{StoredEvent, expand, read_submitted};
use crate::projection::RunOverview;
use crate::projection::head::Head;
use crate::store::StoredRecord;
use cairn_engine::{MilestoneStatus, RunStatus};
use cairn_model::plan::Need;
use cairn_model::{Ended, MilestoneIndex, Plan, RunId, RunSubmitted, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// What changes with some records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The position of the first event that it knows of and the tables do not.
    pub from: u64,
    /// The position of its last event.
    pub to: u64,
    /// The checksum of the record that ends there.
    pub mark: u32,
    /// Rows of runs, whole.
    pub runs: Vec<RunChange>,
    /// Rows of milestones, whole.
    pub milestones: Vec<MilestoneOverview>,
    /// For runs that begin, what needs what.
    pub needs: Vec<(String, Vec<NeedRow>)>,
    /// What is added, by project and day (days since 1970-01-01).
    pub days: BTreeMap<(String, i64), DayTotals>,
}

/// The row of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunChange {
    /// The run.
    pub run: RunOverview,
    /// The position of its first event.
    pub first: u64,
    /// What reads on.
    pub memory: Memory,
}

/// The plan that a run was submitted with, if it can be had.
pub type PlanOf<'a> = &'a dyn Fn(&RunSubmitted) -> Option<Arc<Plan>>;

/// Folds records, in their order.
#[derive(Debug, Default)]
pub struct Fold {
    runs: HashMap<String, RunRows>,
    touched: BTreeMap<String, BTreeSet<String>>,
    begun: Vec<(String, Vec<NeedRow>)>,
    days: BTreeMap<(String, i64), DayTotals>,
}

impl Fold {
    /// The run whose rows are wanted before the record is taken, if they are not here.
    #[must_use]
    pub fn wants<'r>(&self, record: &'r StoredRecord) -> Option<&'r str> {
        let stream = record.stream.as_str();
        let run = stream.split_once('/').map_or(stream, |(run, _)| run);
        let begins = run.len() == stream.len() && record.first_version == 1;
        (!begins && !self.runs.contains_key(run) && RunId::parse(run).is_some()).then_some(run)
    }

    /// Knows the rows of a run.
    pub fn know(&mut self, rows: RunRows) {
        self.runs.insert(rows.run.run.to_string(), rows);
    }

    /// Takes the next record.
    pub fn take(&mut self, record: &StoredRecord, plan_of: PlanOf<'_>) {
        let stream = record.stream.as_str();
        let (name, milestone) = match stream.split_once('/') {
            Some((run, milestone)) => (run, Some(milestone)),
            None => (stream, None),
        };
        if milestone.is_none() && record.first_version == 1 {
            self.begin(name, record, plan_of);
            return;
        }
        let Some(rows) = self.runs.get_mut(name) else { return };
        let Some(head) = Head::of(&record.body) else { return };
        let Some(at) = head.at() else { return };
        let touched = self.touched.entry(name.to_owned()).or_default();
        let day = self.days.entry((rows.run.run.project().to_owned(), at.0.div_euclid(DAY))).or_default();
        let mut step = Step { rows, day, at, count: u64::from(record.count) };
        match milestone {
            None => step.run(&head),
            Some(id) => {
                touched.insert(id.to_owned());
                step.milestone(id, &head, record);
            }
        }
    }

    /// What has changed since the last batch. Runs that have ended are forgotten.
    pub fn finish(&mut self, from: u64, to: u64, mark: u32) -> Batch {
        let mut batch = Batch { from, to, mark, ..Batch::default() };
        for (name, milestones) in std::mem::take(&mut self.touched) {
            let Some(rows) = self.runs.get(&name) else { continue };
            let (run, first, memory) = (rows.run.clone(), rows.first, rows.memory.clone());
            batch.runs.push(RunChange { run, first, memory });
            batch.milestones.extend(milestones.iter().filter_map(|id| rows.milestones.get(id)).cloned());
        }
        batch.needs = std::mem::take(&mut self.begun);
        batch.days = std::mem::take(&mut self.days);
        batch.days.retain(|_, totals| *totals != DayTotals::default());
        self.runs.retain(|_, rows| !rows.run.status.is_final());
        batch
    }

    fn begin(&mut self, name: &str, record: &StoredRecord, plan_of: PlanOf<'_>) {
        let Some(run) = RunId::parse(name) else { return };
        let Some(read) = read_submitted(record) else { return };
        let plan = plan_of(&read.what);
        let (milestones, needs) = match &plan {
            Some(plan) => (milestones(name, plan), needs(plan)),
            None => Default::default(),
        };
        let day = (run.project().to_owned(), read.at.0.div_euclid(DAY));
        self.days.entry(day).or_default().runs_submitted += 1;
        self.touched.insert(name.to_owned(), milestones.keys().cloned().collect());
        let mut own = BTreeMap::<_, Vec<_>>::new();
        for need in needs.iter().filter(|need| !need.node.contains('/')) {
            own.entry(need.node.clone()).or_default().push(need.needs.clone());
        }
        self.begun.push((name.to_owned(), needs));
        let run = RunOverview::begun(run, read.what, read.at);
        let rows = RunRows { run, first: record.position, milestones, needs: own, memory: Memory::default() };
        self.runs.insert(name.to_owned(), rows);
    }
}

fn milestones(run: &str, plan: &Plan) -> BTreeMap<String, MilestoneOverview> {
    let all = (0..plan.milestones().len()).map(|place| {
        let index = MilestoneIndex::new(place);
        let milestone = plan.milestone(index);
        let row = MilestoneOverview {
            title: milestone.title.clone(),
            description: milestone.description.clone(),
            owner: milestone.owner.clone(),
            due: milestone.due,
            tasks: plan.tasks_of(index).len() as u64,
            ..unplanned(run, &milestone.id, place as u64)
        };
        (milestone.id.clone(), row)
    });
    all.collect()
}

/// A milestone of which no more is known than its name.
fn unplanned(run: &str, id: &str, place: u64) -> MilestoneOverview {
    MilestoneOverview {
        run: run.to_owned(),
        id: id.to_owned(),
        place,
        title: None,
        description: None,
        owner: None,
        due: None,
        status: MilestoneStatus::Planned,
        started_at: None,
        finished_at: None,
        tasks: 0,
        completed: 0,
        failed: 0,
        skipped: 0,
        cancelled: 0,
    }
}

/// The needs of a plan, as written; of a large one those of its milestones.
fn needs(plan: &Plan) -> Vec<NeedRow> {
    let name = |need: &Need| match need {
        Need::Task(task) => plan.task_name(*task),
        Need::Milestone(milestone) => plan.milestone(*milestone).id.clone(),
    };
    let mut rows = Vec::new();
    let with_tasks = plan.task_count() <= MAX_TREE_TASKS && plan.edge_count() <= MAX_TREE_NEEDS;
    for index in (0..plan.milestones().len()).map(MilestoneIndex::new) {
        let row = |node: &str, need: &Need| NeedRow { node: node.to_owned(), needs: name(need) };
        let id = &plan.milestone(index).id;
        rows.extend(plan.milestone_needs(index).iter().map(|need| row(id, need)));
        for task in plan.tasks_of(index).take_while(|_| with_tasks) {
            let node = plan.task_name(task);
            rows.extend(plan.needs(task).iter().map(|need| row(&node, need)));
        }
    }
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// One record taken by one run.
struct Step<'a> {
    rows: &'a mut RunRows,
    day: &'a mut DayTotals,
    at: Timestamp,
    count: u64,
}

impl Step<'_> {
    fn run(&mut self, head: &Head<'_>) {
        self.rows.run.change(head, self.count);
        match head.event_type.as_ref() {
            "RunCompleted" => {
                self.day.runs_completed += 1;
                self.day.add(Span::Run, self.at.since(self.rows.run.submitted_at));
            }
            "RunFailed" => self.day.runs_failed += 1,
            "RunCancelled" => self.day.runs_cancelled += 1,
            _ => return,
        }
        debug_assert!(self.rows.run.status != RunStatus::Active, "it has ended");
        self.rows.memory.waiting.clear();
    }

    fn milestone(&mut self, id: &str, head: &Head<'_>, record: &StoredRecord) {
        let kind = head.event_type.as_ref();
        if kind == "TaskReopened" {
            self.rows.run.reopen(record);
        } else {
            self.rows.run.change(head, self.count);
        }
        let place = self.rows.milestones.len() as u64;
        let name = self.rows.run.run.to_string();
        self.rows.milestones.entry(id.to_owned()).or_insert_with(|| unplanned(&name, id, place));
        if kind.starts_with("Milestone") {
            self.milestone_itself(id, kind, record);
        } else {
            self.tasks(id, kind, record);
        }
    }

    fn milestone_itself(&mut self, id: &str, kind: &str, record: &StoredRecord) {
        let waits = kind == "MilestoneReopened" && self.waits(id);
        let RunRows { milestones, memory, .. } = &mut *self.rows;
        let Some(row) = milestones.get_mut(id) else { return };
        let is_paused = memory.paused.contains(id);
        let end = match kind {
            "MilestoneStarted" => {
                row.status = if is_paused { MilestoneStatus::Paused } else { MilestoneStatus::Active };
                row.started_at = Some(self.at);
                return;
            }
            "MilestonePaused" => {
                memory.paused.insert(id.to_owned());
                if row.status == MilestoneStatus::Active {
                    row.status = MilestoneStatus::Paused;
                }
                return;
            }
            "MilestoneResumed" => {
                memory.paused.remove(id);
                if row.status == MilestoneStatus::Paused {
                    row.status = MilestoneStatus::Active;
                }
                return;
            }
            "MilestoneReopened" => {
                if row.finished_at.take().is_some() {
                    if !stays_paused(record) {
                        memory.paused.remove(id);
                    }
                    row.started_at = row.started_at.filter(|_| !waits);
                    row.status = match (row.started_at, memory.paused.contains(id)) {
                        (None, _) => MilestoneStatus::Planned,
                        (Some(_), true) => MilestoneStatus::Paused,
                        (Some(_), false) => MilestoneStatus::Active,
                    };
                }
                return;
            }
            "MilestoneCompleted" => MilestoneStatus::Completed,
            "MilestoneFailed" => MilestoneStatus::Failed,
            "MilestoneSkipped" => MilestoneStatus::Skipped,
            "MilestoneCancelled" => MilestoneStatus::Cancelled,
            _ => return,
        };
        (row.status, row.finished_at) = (end, Some(self.at));
    }

    /// Whether something that the milestone needs is to be done again.
    fn waits(&self, id: &str) -> bool {
        let RunRows { milestones, memory, needs, .. } = &*self.rows;
        let is_open = |need: &String| match milestones.get(need) {
            Some(milestone) => milestone.status != MilestoneStatus::Completed,
            None => memory.reopened.contains(need),
        };
        needs.get(id).is_some_and(|needs| needs.iter().any(is_open))
    }

    fn tasks(&mut self, id: &str, kind: &str, record: &StoredRecord) {
        let Self { rows, day, at, count } = self;
        let RunRows { milestones, memory, .. } = &mut **rows;
        let Some(row) = milestones.get_mut(id) else { return };
        match kind {
            "TaskCompleted" => {
                (row.completed, day.tasks_completed) = (row.completed + *count, day.tasks_completed + *count)
            }
            "TaskFailed" => (row.failed, day.tasks_failed) = (row.failed + *count, day.tasks_failed + *count),
            "TaskSkipped" => row.skipped += *count,
            "TaskCancelled" => row.cancelled += *count,
            "TaskRetryScheduled" => day.retries += *count,
            "TaskDispatched" | "TaskStarted" | "TaskReopened" | "LeaseExpired" => {}
            _ => return,
        }
        // One that cannot be read changes nothing, like all that is not understood here.
        let _ = expand(record, |event| {
            let Some(task) = text(event, "task") else { return };
            match kind {
                "TaskDispatched" => drop(memory.waiting.insert(task, at.0)),
                "TaskStarted" => {
                    let started = text(event, "started_at").and_then(|at| Timestamp::parse(&at));
                    let since = memory.waiting.remove(&task);
                    if let (Some(since), Some(started)) = (since, started) {
                        day.add(Span::Wait, started.since(Timestamp(since)));
                    }
                }
                "TaskCompleted" | "TaskFailed" => {
                    memory.reopened.remove(&task);
                    end(event, memory.waiting.remove(&task), day);
                }
                "TaskReopened" => {
                    count_down(row, event);
                    memory.reopened.insert(task);
                }
                _ => drop(memory.waiting.remove(&task)),
            }
        });
    }
}

/// Counts how long an attempt ran, and how long it had waited, if its start was told with its end.
fn end(event: &StoredEvent<'_>, since: Option<i64>, day: &mut DayTotals) {
    let attempt = event.event_data.get("attempt").and_then(|value| value.get().parse::<u32>().ok());
    let seconds = event.event_data.get("duration_seconds").and_then(|value| value.get().parse::<f64>().ok());
    // A checkpoint, and what was never tried, has no attempt.
    let (Some(1..), Some(ran)) = (attempt, seconds.and_then(|it| Duration::try_from_secs_f64(it).ok()))
    else {
        return;
    };
    day.add(Span::Task, ran);
    let finished = text(event, "finished_at").and_then(|at| Timestamp::parse(&at));
    if let (Some(since), Some(finished)) = (since, finished) {
        day.add(Span::Wait, finished.since(Timestamp(since)).saturating_sub(ran));
    }
}

fn count_down(row: &mut MilestoneOverview, event: &StoredEvent<'_>) {
    let count = match text(event, "ended").as_deref().and_then(Ended::parse) {
        Some(Ended::Completed) => &mut row.completed,
        Some(Ended::Failed) => &mut row.failed,
        Some(Ended::Skipped) => &mut row.skipped,
        Some(Ended::Cancelled) => &mut row.cancelled,
        None => return,
    };
    *count = count.saturating_sub(1);
}

/// A field of an event that is text.
fn text(event: &StoredEvent<'_>, field: &str) -> Option<String> {
    serde_json::from_str(event.event_data.get(field)?.get()).ok()
}

/// Whether a milestone that goes on is still paused.
fn stays_paused(record: &StoredRecord) -> bool {
    let mut paused = false;
    // A record that cannot be understood says nothing.
    let _ = expand(record, |event| {
        paused = event.event_data.get("paused").is_some_and(|value| value.get() == "true");
    });
    paused
}
