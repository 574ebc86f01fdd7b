//! The status of a run, in the form that the contract promises.

use crate::insight::{FailureView, misfit, run_critical_path};
use cairn_engine::{MilestoneStatus, RunStatus, State, TaskStatus};
use cairn_model::{FailureKind, MilestoneIndex, TaskIndex, Timestamp};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

/// The version of the form.
pub const STATUS_SCHEMA: u32 = 1;

/// The status of a run. Tasks are written one by one: a million of them are not held twice. What is not known, or
/// comes from a part that does not exist yet, is `null`.
#[derive(Serialize)]
pub struct StatusView<'a> {
    schema: u32,
    run: &'a str,
    project: &'a str,
    status: RunStatus,
    cancelling: bool,
    progress: f64,
    scale: Option<()>,
    pattern: &'static str,
    storage: &'static str,
    submitted_at: Moment,
    started_at: Option<Moment>,
    finished_at: Option<Moment>,
    counts: Counts<'a>,
    milestones: Vec<MilestoneView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Tasks<'a>>,
    forecast: Option<()>,
    critical_path: Vec<String>,
}

impl<'a> StatusView<'a> {
    /// The status of a run that one loop coordinates and that a file store keeps.
    #[must_use]
    pub fn new(state: &'a State) -> Self {
        let (run, plan) = (state.run(), state.plan());
        let milestones = (0..plan.milestones().len()).map(MilestoneIndex::new);
        Self {
            schema: STATUS_SCHEMA,
            run: &run.id,
            project: &plan.project,
            status: run.status,
            cancelling: run.cancelling && !run.status.is_final(),
            progress: progress(state),
            scale: None,
            pattern: "direct",
            storage: "file",
            submitted_at: Moment(run.submitted_at),
            started_at: run.started_at.map(Moment),
            finished_at: run.finished_at.map(Moment),
            counts: Counts(state),
            milestones: milestones.map(|milestone| MilestoneView::new(state, milestone)).collect(),
            tasks: Some(Tasks(state)),
            forecast: None,
            critical_path: run_critical_path(state)
                .tasks
                .into_iter()
                .map(|task| plan.task_name(task))
                .collect(),
        }
    }

    /// The same without its tasks.
    #[must_use]
    pub fn without_tasks(self) -> Self {
        Self { tasks: None, ..self }
    }
}

/// The share of a run's tasks that is done, from 0 to 1; of a task that runs, what it says of itself. A task whose
/// failure the plan allows counts as done.
#[must_use]
pub fn progress(state: &State) -> f64 {
    let milestones = (0..state.plan().milestones().len()).map(MilestoneIndex::new);
    let done = milestones.map(|milestone| done_of(state, milestone)).sum();
    share(done, state.plan().task_count(), state.run().status == RunStatus::Completed)
}

/// The same of one milestone.
#[must_use]
pub fn milestone_progress(state: &State, milestone: MilestoneIndex) -> f64 {
    let is_completed = state.milestone(milestone).status == MilestoneStatus::Completed;
    share(done_of(state, milestone), state.plan().tasks_of(milestone).len(), is_completed)
}

/// Thousandths of tasks that are done.
fn done_of(state: &State, milestone: MilestoneIndex) -> u64 {
    let tally = state.milestone(milestone);
    let ended = 1000 * u64::from(tally.completed + tally.warnings);
    if tally.open == 0 || state.count(TaskStatus::InProgress) == 0 {
        return ended;
    }
    let running = state.plan().tasks_of(milestone).map(|task| state.task(task));
    let running = running.filter(|row| row.status == TaskStatus::InProgress);
    ended + running.map(|row| u64::from(row.permille)).sum::<u64>()
}

#[expect(clippy::cast_precision_loss, reason = "limits of a plan")]
fn share(done: u64, tasks: usize, is_completed: bool) -> f64 {
    match tasks {
        0 => f64::from(u8::from(is_completed)),
        _ => (done as f64 / 1000.0 / tasks as f64).clamp(0.0, 1.0),
    }
}

/// A moment as RFC 3339.
struct Moment(Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Counts<'a>(&'a State);

impl Serialize for Counts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(TaskStatus::ALL.len()))?;
        for status in TaskStatus::ALL {
            map.serialize_entry(status.name(), &self.0.count(*status))?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct MilestoneView<'a> {
    id: &'a str,
    status: MilestoneStatus,
    progress: f64,
    due: Option<Moment>,
    tasks_total: usize,
    tasks_completed: u32,
}

impl<'a> MilestoneView<'a> {
    fn new(state: &'a State, index: MilestoneIndex) -> Self {
        let milestone = state.plan().milestone(index);
        Self {
            id: &milestone.id,
            status: state.milestone(index).status,
            progress: milestone_progress(state, index),
            due: milestone.due.map(Moment),
            tasks_total: state.plan().tasks_of(index).len(),
            tasks_completed: state.milestone(index).completed,
        }
    }
}

struct Tasks<'a>(&'a State);

impl Serialize for Tasks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.plan().tasks().map(|task| TaskView::new(self.0, task)))
    }
}

/// A task of a run as people and programs see it.
#[derive(Serialize)]
pub struct TaskView<'a> {
    /// `milestone/task`.
    pub id: String,
    /// Where it stands.
    pub status: TaskStatus,
    /// Somebody asked for its end, which has not come yet; left out where nobody did.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
    /// The number of the newest attempt; 0 if there was none.
    pub attempt: u32,
    /// The agent of the newest attempt.
    pub agent: Option<&'a str>,
    /// The exit code of its process, if that ended with one.
    pub exit_code: Option<i32>,
    /// How far it is, from 0 to 1.
    pub progress: f64,
    started_at: Option<Moment>,
    finished_at: Option<Moment>,
    duration_seconds: Option<f64>,
    /// Why it failed, why it waits for another attempt or for an agent that could run it, or why it is skipped.
    pub error: Option<FailureView>,
}

impl<'a> TaskView<'a> {
    /// A task of a run.
    #[must_use]
    pub fn new(state: &'a State, task: TaskIndex) -> Self {
        let row = state.task(task);
        let has_run = match row.status {
            TaskStatus::InProgress | TaskStatus::Completed => true,
            TaskStatus::Failed | TaskStatus::Cancelled => row.attempt > 0 && !row.duration.is_zero(),
            TaskStatus::Pending | TaskStatus::Ready | TaskStatus::Dispatched | TaskStatus::Skipped => false,
        };
        let has_ended = row.status.is_final();
        let failure = state.failure(task);
        let exit_code = match row.status {
            // A process that is completed ended with 0: anything else is a failure.
            TaskStatus::Completed => state.plan().takes_slot(task).then_some(0),
            TaskStatus::Failed => failure.and_then(|failure| failure.exit_code),
            _ => None,
        };
        Self {
            id: state.plan().task_name(task),
            status: row.status,
            cancelling: row.is_cancelling(),
            attempt: row.attempt,
            agent: row.agent().and_then(|agent| Some(state.agents().get(agent.get())?.spec.id.as_str())),
            exit_code,
            progress: f64::from(row.permille) / 1000.0,
            started_at: has_run.then_some(Moment(row.since)),
            finished_at: has_ended.then(|| Moment(row.since.plus(row.duration))),
            duration_seconds: (has_run && has_ended).then_some(row.duration.as_secs_f64()),
            error: error(state, task),
        }
    }
}

fn error(state: &State, task: TaskIndex) -> Option<FailureView> {
    match state.task(task).status {
        TaskStatus::Ready => {
            let message = misfit(state, task)?;
            Some(FailureView { kind: FailureKind::Unplaceable.name().into(), message })
        }
        TaskStatus::Failed | TaskStatus::Pending => state.failure(task).map(FailureView::from),
        TaskStatus::Skipped => {
            let cause = state.task(task).skipped_because_of()?;
            let status = state.task(cause).status.name();
            let message = format!("{} is {status}", state.plan().task_name(cause));
            Some(FailureView { kind: "skipped".into(), message })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::tests::{agent, command, submitted_state};
    use cairn_model::{Command, FailureKind, Outcome, Report, ReportKind, Scope};
    use serde_json::{Value, json};

    const PLAN: &str = "
version: 1
project: apollo
milestones:
  - {id: build, due: 2026-12-01T12:00:00Z, tasks: [{id: compile, run: x}, {id: unit, run: x, needs: [compile]}]}
  - {id: ship, needs: [build], tasks: [{id: publish, run: x}, {id: announced, needs: [publish]}]}
";

    fn report(state: &mut State, name: &str, second: i64, kind: ReportKind) {
        let task = state.plan().find_task_name(name).expect("in the plan");
        let row = *state.task(task);
        let report = Report { task, attempt: row.attempt, agent: row.agent().expect("out"), kind };
        command(state, second, Command::Reports(vec![report]));
    }

    fn ended(outcome: Outcome, from: i64, to: i64) -> ReportKind {
        let (started_at, finished_at) = (Timestamp(from), Timestamp(to));
        ReportKind::Finished { outcome, started_at, finished_at }
    }

    fn view(state: &State) -> Value {
        serde_json::to_value(StatusView::new(state)).expect("JSON")
    }

    #[test]
    fn has_the_fields_of_the_contract() {
        let mut state = submitted_state(PLAN);
        command(&mut state, 1, agent("local-1", 1, 1_000));
        report(&mut state, "build/compile", 3, ended(Outcome::Completed, 1_500_000, 2_750_000));
        report(&mut state, "build/unit", 4, ReportKind::Started { at: Timestamp(3_500_000) });
        report(&mut state, "build/unit", 5, ReportKind::Progress { permille: 200, message: None });
        assert_eq!(
            view(&state),
            json!({
                "schema": 1, "run": "apollo.1", "project": "apollo", "status": "active", "cancelling": false,
                "progress": 0.3,
                "scale": null, "pattern": "direct", "storage": "file",
                "submitted_at": "1970-01-01T00:00:00.000000Z", "started_at": "1970-01-01T00:00:01.000000Z",
                "finished_at": null,
                "counts": {"pending": 2, "ready": 0, "dispatched": 0, "in_progress": 1, "completed": 1, "failed": 0,
                           "skipped": 0, "cancelled": 0},
                "milestones": [
                    {"id": "build", "status": "active", "progress": 0.6, "due": "2026-12-01T12:00:00.000000Z",
                     "tasks_total": 2, "tasks_completed": 1},
                    {"id": "ship", "status": "planned", "progress": 0.0, "due": null, "tasks_total": 2,
                     "tasks_completed": 0}],
                "tasks": [
                    {"id": "build/compile", "status": "completed", "attempt": 1, "agent": "local-1", "exit_code": 0,
                     "progress": 1.0, "started_at": "1970-01-01T00:00:01.500000Z",
                     "finished_at": "1970-01-01T00:00:02.750000Z", "duration_seconds": 1.25, "error": null},
                    {"id": "build/unit", "status": "in_progress", "attempt": 1, "agent": "local-1",
                     "exit_code": null, "progress": 0.2, "started_at": "1970-01-01T00:00:03.500000Z",
                     "finished_at": null, "duration_seconds": null, "error": null},
                    {"id": "ship/publish", "status": "pending", "attempt": 0, "agent": null, "exit_code": null,
                     "progress": 0.0, "started_at": null, "finished_at": null, "duration_seconds": null,
                     "error": null},
                    {"id": "ship/announced", "status": "pending", "attempt": 0, "agent": null, "exit_code": null,
                     "progress": 0.0, "started_at": null, "finished_at": null, "duration_seconds": null,
                     "error": null}],
                "forecast": null,
                "critical_path": ["build/compile", "build/unit", "ship/publish", "ship/announced"],
            })
        );
    }

    #[test]
    fn failures_and_what_they_skip_say_why() {
        let mut state = submitted_state(PLAN);
        command(&mut state, 1, agent("local-1", 1, 1_000));
        let failed = Outcome::Failed {
            kind: FailureKind::ExitCode,
            message: "exit code 7".into(),
            exit_code: Some(7),
        };
        report(&mut state, "build/compile", 3, ended(failed, 1_000_000, 2_000_000));
        let view = view(&state);
        assert_eq!((&view["status"], &view["progress"]), (&json!("failed"), &json!(0.0)));
        assert_eq!(view["tasks"][0]["exit_code"], json!(7));
        assert_eq!(view["tasks"][0]["error"], json!({"kind": "exit_code", "message": "exit code 7"}));
        assert_eq!(
            view["tasks"][2]["error"],
            json!({"kind": "skipped", "message": "build/compile is failed"})
        );
        assert_eq!(view["tasks"][2]["started_at"], Value::Null);
    }

    #[test]
    fn a_wish_to_cancel_is_seen_until_it_is_done() {
        let mut state = submitted_state(PLAN);
        command(&mut state, 1, agent("local-1", 1, 1_000));
        command(&mut state, 2, Command::Cancel { scope: Scope::Run, reason: "".into() });
        let waiting = view(&state);
        assert_eq!((&waiting["status"], &waiting["cancelling"]), (&json!("active"), &json!(true)));
        assert_eq!(waiting["tasks"][0]["cancelling"], json!(true), "it is with its agent");
        assert_eq!(waiting["tasks"][1]["cancelling"], Value::Null, "it has ended");
        report(&mut state, "build/compile", 3, ended(Outcome::Stopped, 1, 2));
        let ended = view(&state);
        assert_eq!((&ended["status"], &ended["cancelling"]), (&json!("cancelled"), &json!(false)));
        assert_eq!(ended["tasks"][0]["cancelling"], Value::Null);
    }

    #[test]
    fn a_task_that_no_agent_could_run_says_why_it_waits() {
        let plan = PLAN.replace("{id: compile, run: x}", "{id: compile, run: x, requires: {gpu: 'yes'}}");
        let mut state = submitted_state(&plan);
        assert_eq!(view(&state)["tasks"][0]["error"], Value::Null, "agents may be on their way");
        command(&mut state, 1, agent("local-1", 1, 1_000));
        let waiting = view(&state);
        assert_eq!(waiting["tasks"][0]["status"], json!("ready"));
        let error = json!({"kind": "unplaceable", "message": "no agent has label gpu=yes"});
        assert_eq!((&waiting["tasks"][0]["error"], &waiting["tasks"][1]["error"]), (&error, &Value::Null));
    }
}
