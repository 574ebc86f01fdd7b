//! What read models consist of: rows of runs and milestones, edges of plans, and totals of days.
//!
//! A row is replaced whole, a day's totals are added to. Durations are kept as sums, and as counts in classes that grow
//! by an eighth of a doubling: quantiles of any span of days are then found from a few hundred numbers, at most a sixteenth off.

use crate::projection::RunOverview;
use cairn_engine::MilestoneStatus;
use cairn_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Tasks of a plan above which only what its milestones need is kept, and not what its tasks need.
pub const MAX_TREE_TASKS: usize = 10_000;

/// Needs of a plan above which the same holds: some megabytes for each run.
pub const MAX_TREE_NEEDS: usize = 50_000;

/// A milestone of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MilestoneOverview {
    /// Its run, `PROJECT.N`.
    pub run: String,
    /// Its id.
    pub id: String,
    /// Its place in the plan, from 0.
    pub place: u64,
    /// A line for people.
    pub title: Option<String>,
    /// Prose for people.
    pub description: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// When it should be done.
    pub due: Option<Timestamp>,
    /// Where it stands.
    pub status: MilestoneStatus,
    /// When all that it needs was completed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Tasks of it.
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

impl MilestoneOverview {
    /// What a search looks through: id, title, description and owner, in small letters, a line each.
    #[must_use]
    pub fn text(&self) -> String {
        let parts = [Some(&self.id), self.title.as_ref(), self.description.as_ref(), self.owner.as_ref()];
        parts.into_iter().flatten().map(|part| part.to_lowercase()).collect::<Vec<_>>().join("\n")
    }
}

/// A need, as a plan has it: nodes are `MILESTONE` or `MILESTONE/TASK`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeedRow {
    /// What needs.
    pub node: String,
    /// What is needed.
    pub needs: String,
}

/// All that is kept of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRows {
    /// The run.
    pub run: RunOverview,
    /// The position of its first event: the order of submission.
    pub first: u64,
    /// Its milestones, by id.
    pub milestones: BTreeMap<String, MilestoneOverview>,
    /// What its milestones need, by milestone: milestones and tasks.
    pub needs: BTreeMap<String, Vec<String>>,
    /// What its next events are understood by, beyond what is shown.
    pub memory: Memory,
}

/// What a run's next events are understood by, beyond what is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Tasks that are with an agent or in a pool and have not started, and since when, in microseconds.
    #[serde(default)]
    pub waiting: BTreeMap<String, i64>,
    /// Milestones that are paused, also those that have not started.
    #[serde(default)]
    pub paused: BTreeSet<String>,
    /// Tasks that had ended and are to be completed again.
    #[serde(default)]
    pub reopened: BTreeSet<String>,
}

/// Whose duration is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// A run, from its submission to its end as completed.
    Run,
    /// The last attempt of a task that completed or failed.
    Task,
    /// A task, from being given to an agent or laid into a pool to its start.
    Wait,
}

impl Span {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Run, Self::Task, Self::Wait];

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Task => "task",
            Self::Wait => "wait",
        }
    }
}

/// Durations, counted in classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Their sum, in microseconds.
    pub micros: u64,
    /// How many there are of each class.
    pub classes: BTreeMap<u32, u64>,
}

impl Durations {
    /// Counts one more.
    pub fn add(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.micros = self.micros.saturating_add(micros);
        *self.classes.entry(class_of(micros)).or_default() += 1;
    }

    /// Counts those, too.
    pub fn merge(&mut self, other: &Self) {
        self.micros = self.micros.saturating_add(other.micros);
        for (class, count) in &other.classes {
            *self.classes.entry(*class).or_default() += count;
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes.values().sum()
    }

    /// Their mean.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        Some(Duration::from_micros(self.micros.checked_div(self.count())?))
    }

    /// The duration that a share of them (0 to 1) does not exceed, as far as the classes tell.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "a rank"
    )]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.classes.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        found.map(|(class, _)| Duration::from_micros(middle_of(*class)))
    }
}

/// Classes of each doubling.
const STEPS: u64 = 8;

/// The class of a duration: below 8 microseconds each its own, above them eighths of each doubling. Whole numbers
/// only, so that every machine says the same.
fn class_of(micros: u64) -> u32 {
    let Some(log) = micros.checked_ilog2().filter(|log| *log >= 3) else {
        return u32::try_from(micros).unwrap_or(0);
    };
    let step = (micros >> (log - 3)) & (STEPS - 1);
    (log - 2) * 8 + u32::try_from(step).unwrap_or(0)
}

/// The middle of a class.
fn middle_of(class: u32) -> u64 {
    if class < 8 {
        return u64::from(class);
    }
    let (shift, step) = (class / 8 - 1, u64::from(class % 8));
    let width = 1_u64.checked_shl(shift).unwrap_or(u64::MAX);
    (STEPS + step).saturating_mul(width).saturating_add(width / 2)
}

/// What happened in a project on a day (UTC).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayTotals {
    /// Runs that were submitted.
    pub runs_submitted: u64,
    /// Runs that ended as completed.
    pub runs_completed: u64,
    /// Runs that ended as failed.
    pub runs_failed: u64,
    /// Runs that ended as cancelled.
    pub runs_cancelled: u64,
    /// Tasks that were completed, checkpoints included.
    pub tasks_completed: u64,
    /// Tasks that failed for good.
    pub tasks_failed: u64,
    /// Attempts that ended and were followed by another one.
    pub retries: u64,
    /// Durations: of runs, tasks, and their waits.
    pub durations: [Durations; 3],
}

impl DayTotals {
    /// The durations of a kind.
    #[must_use]
    pub fn durations(&self, span: Span) -> &Durations {
        &self.durations[span as usize]
    }

    /// Counts one more duration.
    pub fn add(&mut self, span: Span, duration: Duration) {
        self.durations[span as usize].add(duration);
    }

    /// The numbers, in the order of the columns.
    #[must_use]
    pub const fn counts(&self) -> [u64; 7] {
        [
            self.runs_submitted,
            self.runs_completed,
            self.runs_failed,
            self.runs_cancelled,
            self.tasks_completed,
            self.tasks_failed,
            self.retries,
        ]
    }

    /// The totals of those numbers.
    #[must_use]
    pub fn of_counts(counts: [u64; 7]) -> Self {
        let [
            runs_submitted,
            runs_completed,
            runs_failed,
            runs_cancelled,
            tasks_completed,
            tasks_failed,
            retries,
        ] = counts;
        Self {
            runs_submitted,
            runs_completed,
            runs_failed,
            runs_cancelled,
            tasks_completed,
            tasks_failed,
            retries,
            durations: Default::default(),
        }
    }

    /// Counts what another day has, too.
    pub fn merge(&mut self, other: &Self) {
        let mut counts = self.counts();
        counts.iter_mut().zip(other.counts()).for_each(|(mine, more)| *mine += more);
        let mut durations = std::mem::take(&mut self.durations);
        durations.iter_mut().zip(&other.durations).for_each(|(mine, more)| mine.merge(more));
        *self = Self { durations, ..Self::of_counts(counts) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_what_is_at_most_a_sixteenth_off_its_middle() {
        let mut last = 0;
        for micros in (0..4_096).chain((12..62).flat_map(|log| [(1 << log) - 1, 1 << log, (1 << log) + 7])) {
            let class = class_of(micros);
            assert!(class >= last || micros < 8, "classes grow: {micros}");
            last = class;
            assert!(middle_of(class).abs_diff(micros) <= micros / 16 + 1, "{micros}: {}", middle_of(class));
        }
        assert!(class_of(u64::MAX) < 512 && middle_of(class_of(u64::MAX)) > u64::MAX / 2);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_durations() {
        let mut durations = Durations::default();
        (1..=1_000).for_each(|at| durations.add(Duration::from_millis(at)));
        let near = |found: Option<Duration>, millis: f64| {
            let found = found.expect("there are some").as_secs_f64() * 1_000.0;
            assert!((found - millis).abs() < millis / 16.0, "{found} for {millis}");
        };
        near(durations.quantile(0.5), 500.0);
        near(durations.quantile(0.9), 900.0);
        near(durations.quantile(0.0), 1.0);
        near(durations.quantile(1.0), 1_000.0);
        assert_eq!(durations.mean(), Some(Duration::from_micros(500_500)));
        assert_eq!((Durations::default().mean(), Durations::default().quantile(0.5)), (None, None));
    }
}
