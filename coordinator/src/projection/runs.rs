//! All runs of a log, a line each, folded from the records in one pass and without reading a plan.

use super::head::Head;
use crate::codec::{StoredEvent, expand, read_submitted};
use crate::runtime::each_record;
use crate::store::{Cursor, EventReader, ReadError, StoredRecord};
use cairn_engine::RunStatus;
use cairn_model::{Ended, RunId, RunSubmitted, Timestamp};
use std::collections::HashMap;
use std::time::Duration;

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOverview {
    /// The run.
    pub run: RunId,
    /// What the plan was called where it came from.
    pub plan_name: String,
    /// Where it stands.
    pub status: RunStatus,
    /// It was stopped, to be continued later.
    pub interrupted: bool,
    /// Somebody asked for its end, which has not come yet.
    pub cancelling: bool,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When its first task was dispatched or done.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Milestones of the plan.
    pub milestones: u64,
    /// Tasks of the plan.
    pub tasks: u64,
    /// Tasks that are completed.
    pub completed: u64,
    /// Tasks that failed, those whose failure the plan allows included.
    pub failed: u64,
    /// Tasks that were skipped.
    pub skipped: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
}

impl RunOverview {
    /// The share of tasks that is done, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "limits of a plan")]
    pub fn progress(&self) -> f64 {
        match (self.status, self.tasks) {
            (RunStatus::Completed, _) => 1.0,
            (_, 0) => 0.0,
            (_, tasks) => (self.completed as f64 / tasks as f64).min(1.0),
        }
    }

    /// How long it took from its submission to its end.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        Some(self.finished_at?.since(self.submitted_at))
    }
}

/// All runs of a log, in the order of their submission.
///
/// # Errors
/// The log cannot be read.
pub fn list(reader: &dyn EventReader) -> Result<Vec<RunOverview>, ReadError> {
    let mut fold = RunsFold::default();
    each_record(reader, &mut Cursor::all(1), |record| {
        fold.take(record);
        Ok::<(), ReadError>(())
    })?;
    Ok(fold.runs)
}

/// Folds records, in their order, to runs.
#[derive(Debug, Default)]
pub struct RunsFold {
    runs: Vec<RunOverview>,
    by_name: HashMap<String, usize>,
    /// The run of the last record: the next one is mostly of the same.
    last: Option<(String, usize)>,
}

impl RunsFold {
    /// Takes the next record. One that cannot be understood, as a later release may write it, changes nothing.
    pub fn take(&mut self, record: &StoredRecord) {
        let stream = record.stream.as_str();
        let (name, is_run) = match stream.split_once('/') {
            Some((name, _)) => (name, false),
            None => (stream, true),
        };
        if is_run && record.first_version == 1 {
            self.begin(name, record);
            return;
        }
        if let Some(at) = self.find(name)
            && let Some(head) = Head::of(&record.body)
        {
            match head.event_type.as_ref() {
                "TaskReopened" => self.runs[at].reopen(record),
                _ => self.runs[at].change(&head, u64::from(record.count)),
            }
        }
    }

    /// The runs so far, in the order of their submission.
    #[must_use]
    pub fn runs(&self) -> &[RunOverview] {
        &self.runs
    }

    fn find(&mut self, name: &str) -> Option<usize> {
        if let Some((last, at)) = &self.last
            && last == name
        {
            return Some(*at);
        }
        let at = *self.by_name.get(name)?;
        self.last = Some((name.to_owned(), at));
        Some(at)
    }

    fn begin(&mut self, name: &str, record: &StoredRecord) {
        let Some(run) = RunId::parse(name) else { return };
        let Some(read) = read_submitted(record) else { return };
        self.by_name.insert(name.to_owned(), self.runs.len());
        self.runs.push(RunOverview::begun(run, read.what, read.at));
    }
}

impl RunOverview {
    /// A run that nothing has happened in but its submission.
    pub(super) fn begun(run: RunId, submitted: RunSubmitted, submitted_at: Timestamp) -> Self {
        Self {
            run,
            plan_name: submitted.plan_name,
            status: RunStatus::Active,
            interrupted: false,
            cancelling: false,
            submitted_at,
            started_at: None,
            finished_at: None,
            milestones: submitted.milestones,
            tasks: submitted.tasks,
            completed: 0,
            failed: 0,
            skipped: 0,
            cancelled: 0,
        }
    }

    pub(super) fn change(&mut self, head: &Head<'_>, count: u64) {
        match head.event_type.as_ref() {
            "TaskDispatched" if self.started_at.is_none() => self.started_at = head.at(),
            "TaskCompleted" => {
                self.completed += count;
                if self.started_at.is_none() {
                    self.started_at = head.at();
                }
            }
            "TaskFailed" => self.failed += count,
            "TaskSkipped" => self.skipped += count,
            "TaskCancelled" => self.cancelled += count,
            "RunReopened" => {
                (self.status, self.finished_at, self.interrupted) = (RunStatus::Active, None, false);
            }
            "RunCancelRequested" => self.cancelling = true,
            "RunPaused" => self.status = RunStatus::Paused,
            "RunResumed" => (self.status, self.interrupted) = (RunStatus::Active, false),
            "RunInterrupted" => self.interrupted = true,
            "OwnerChanged" => self.interrupted = false,
            "RunCompleted" => self.end(RunStatus::Completed, head),
            "RunFailed" => self.end(RunStatus::Failed, head),
            "RunCancelled" => self.end(RunStatus::Cancelled, head),
            _ => {}
        }
    }

    /// Its tasks may have ended in different ways.
    pub(super) fn reopen(&mut self, record: &StoredRecord) {
        let take = |event: &StoredEvent<'_>| {
            let ended = event.event_data.get("ended").map(|text| text.get().trim_matches('"'));
            let count = match ended.and_then(Ended::parse) {
                Some(Ended::Completed) => &mut self.completed,
                Some(Ended::Failed) => &mut self.failed,
                Some(Ended::Skipped) => &mut self.skipped,
                Some(Ended::Cancelled) => &mut self.cancelled,
                None => return,
            };
            *count = count.saturating_sub(1);
        };
        // One that cannot be read changes nothing, like all that is not understood here.
        let _ = expand(record, take);
    }

    fn end(&mut self, status: RunStatus, head: &Head<'_>) {
        (self.status, self.finished_at, self.cancelling) = (status, head.at(), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Encoder, Envelope};
    use crate::insight::tests::{agent, command, plan_of};
    use crate::runtime::new_id;
    use cairn_engine::State;
    use cairn_model::{
        AgentIndex, Command, Event, FailureKind, Outcome, Report, ReportKind, Scope, TaskIndex,
    };
    use std::sync::Arc;

    const PLAN: &str = "{version: 1, project: apollo, tasks: [
        {id: a, run: x}, {id: b, run: x, needs: [a]}, {id: c}, {id: d, needs: [c]}]}";

    fn records(encoder: &mut Encoder, state: &State, events: &[Event], second: i64) -> Vec<StoredRecord> {
        let at = Timestamp(second * 1_000_000);
        let envelope = Envelope { id: new_id(), at, user: "ada \"{", correlation: "c" };
        let records = encoder.encode(state.plan(), events, &envelope, |_: AgentIndex| "local-1");
        let stored = |record: crate::store::NewRecord| StoredRecord {
            position: 1,
            stream: record.stream,
            first_version: record.first_version,
            count: record.count,
            epoch: 1,
            body: record.body,
        };
        records.into_iter().map(stored).collect()
    }

    #[test]
    fn counts_what_the_state_counts() {
        let (plan, graph) = plan_of(PLAN);
        let mut state = State::new(Arc::new(plan), Arc::new(graph));
        let mut encoder = Encoder::new("apollo.1", HashMap::new());
        let mut fold = RunsFold::default();
        let submitted =
            RunSubmitted { run: "apollo.1".into(), tasks: 4, milestones: 1, ..RunSubmitted::default() };
        let commands = [
            (1, Command::Submit(Box::new(submitted))),
            (2, agent("local-1", 1, 1_000)),
            (3, Command::Pause { scope: Scope::Run, reason: "".into() }),
        ];
        for (second, wish) in commands {
            let events = command(&mut state, second, wish);
            records(&mut encoder, &state, &events, second).iter().for_each(|record| fold.take(record));
        }
        let [run] = fold.runs() else { panic!("one run") };
        assert_eq!((run.status, run.completed, run.tasks), (RunStatus::Paused, 2, 4));
        assert_eq!((run.started_at, run.duration()), (state.run().started_at, None));
        assert!((run.progress() - 0.5).abs() < 1e-9);
        let events = command(&mut state, 9, Command::Cancel { scope: Scope::Run, reason: "".into() });
        records(&mut encoder, &state, &events, 9).iter().for_each(|record| fold.take(record));
        // What is with the agent is not cancelled before it says so.
        assert_eq!((fold.runs()[0].cancelled, fold.runs()[0].status), (1, RunStatus::Paused));
        assert!(fold.runs()[0].cancelling);
    }

    #[test]
    fn a_run_that_goes_on_counts_what_runs_again_no_more() {
        let (plan, graph) = plan_of(PLAN);
        let mut state = State::new(Arc::new(plan), Arc::new(graph));
        let mut encoder = Encoder::new("apollo.1", HashMap::new());
        let mut fold = RunsFold::default();
        let submitted = RunSubmitted { run: "apollo.1".into(), tasks: 4, ..RunSubmitted::default() };
        let mut say = |state: &mut State, second, wish| {
            let events = command(state, second, wish);
            records(&mut encoder, state, &events, second).iter().for_each(|record| fold.take(record));
            fold.runs()[0].clone()
        };
        say(&mut state, 1, Command::Submit(Box::new(submitted)));
        say(&mut state, 2, agent("local-1", 1, 1_000));
        let outcome = Outcome::Failed { kind: FailureKind::ExitCode, message: "".into(), exit_code: Some(1) };
        let kind = ReportKind::Finished { outcome, started_at: Timestamp(0), finished_at: Timestamp(0) };
        let report = Report { task: TaskIndex(0), attempt: 1, agent: AgentIndex(0), kind };
        let ended = say(&mut state, 3, Command::Reports(vec![report]));
        assert_eq!(
            (ended.status, ended.failed, ended.skipped, ended.completed),
            (RunStatus::Failed, 1, 1, 2)
        );
        assert!(!ended.cancelling);
        let again = say(&mut state, 4, Command::Retry { scope: Scope::Run, downstream: false });
        assert_eq!(
            (again.status, again.failed, again.skipped, again.completed),
            (RunStatus::Active, 0, 0, 2)
        );
        assert_eq!((again.finished_at, state.run().finished_at), (None, None));
        let again = say(&mut state, 5, Command::Retry { scope: Scope::Task(TaskIndex(2)), downstream: true });
        assert_eq!(again.completed, 2, "checkpoints are reached again at once");
    }
}
