//! What the totals of a project's days say.

use super::rows::{DayTotals, Durations, Span};
use super::{ModelError, ReadModels};
use cairn_engine::RunStatus;
use serde::Serialize;
use std::time::Duration;

/// How durations are spread. Quantiles are at most a sixteenth off.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// How many there are.
    pub count: u64,
    /// Their mean.
    pub mean_seconds: Option<f64>,
    /// What half of them do not exceed.
    pub p50_seconds: Option<f64>,
    /// What nine of ten do not exceed.
    pub p90_seconds: Option<f64>,
}

impl From<&Durations> for Spread {
    fn from(durations: &Durations) -> Self {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        Self {
            count: durations.count(),
            mean_seconds: seconds(durations.mean()),
            p50_seconds: seconds(durations.quantile(0.5)),
            p90_seconds: seconds(durations.quantile(0.9)),
        }
    }
}

/// What became of a project.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Its runs, by where they stand.
    pub runs: Vec<(RunStatus, u64)>,
    /// The share of runs that completed among those that completed or failed.
    pub run_success_ratio: Option<f64>,
    /// The share of tasks that completed among those that completed or failed.
    pub task_success_ratio: Option<f64>,
    /// Tasks that were completed on each day from the first to the last on which something happened.
    pub tasks_per_day: Option<f64>,
    /// The sum of its days.
    pub totals: DayTotals,
    /// The first and the last day.
    pub days: Option<(i64, i64)>,
}

impl Statistics {
    /// How long runs, tasks or waits took.
    #[must_use]
    pub fn spread(&self, span: Span) -> Spread {
        self.totals.durations(span).into()
    }
}

/// The statistics of a project; `None` if it has no runs.
///
/// # Errors
/// The models cannot be read.
pub fn statistics(models: &dyn ReadModels, project: &str) -> Result<Option<Statistics>, ModelError> {
    let runs = models.run_counts(project)?;
    if runs.is_empty() {
        return Ok(None);
    }
    let all = models.days(project, i64::MIN, i64::MAX)?;
    let mut totals = DayTotals::default();
    all.iter().for_each(|(_, day)| totals.merge(day));
    let days = all.first().zip(all.last()).map(|((first, _), (last, _))| (*first, *last));
    let span = days.and_then(|(first, last)| u64::try_from(last - first + 1).ok());
    Ok(Some(Statistics {
        runs,
        run_success_ratio: share(totals.runs_completed, totals.runs_completed + totals.runs_failed),
        task_success_ratio: share(totals.tasks_completed, totals.tasks_completed + totals.tasks_failed),
        tasks_per_day: span.and_then(|span| share(totals.tasks_completed, span)),
        totals,
        days,
    }))
}

#[expect(clippy::cast_precision_loss, reason = "a count of tasks or runs")]
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
