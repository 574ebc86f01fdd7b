//! One picture of a run, ready to be painted: what is shown of a run of a million tasks is as much as has room.

use cairn_model::Timestamp;
use std::time::Duration;

/// Milestones shown at most; the rest is counted.
const MAX_MILESTONES: usize = 8;
/// Running tasks shown at most, unless there are more slots; the rest is counted.
const MAX_RUNNING: usize = 8;
/// Running tasks shown at most.
const MAX_RUNNING_OF_MANY: usize = 16;

/// A milestone's part of the picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MilestoneView {
    /// Its id.
    pub id: String,
    /// Tasks in all.
    pub total: u32,
    /// Tasks that have ended well.
    pub completed: u32,
    /// Tasks that failed.
    pub failed: u32,
    /// Tasks that were skipped or cancelled.
    pub dropped: u32,
    /// Attempts that run.
    pub running: u32,
}

impl MilestoneView {
    /// Tasks that have ended.
    pub const fn done(&self) -> u32 {
        self.completed + self.failed + self.dropped
    }

    const fn is_under_way(&self) -> bool {
        self.done() != self.total && self.done() + self.running > 0
    }

    fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.completed += other.completed;
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.running += other.running;
    }
}

/// A task that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningView {
    /// Since when it has run, or has been with the agent.
    pub since: Timestamp,
    /// It is known to have started. The start of a short task is recorded with its end.
    pub started: bool,
    /// Thousandths of the work done, as it told.
    pub permille: u16,
    /// What it said last.
    pub message: Option<Box<str>>,
    /// Which attempt.
    pub attempt: u32,
}

/// The line of a task that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningLine {
    /// `milestone/task`.
    pub name: String,
    /// How it stands.
    pub view: RunningView,
}

/// One picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The run.
    pub run: String,
    /// All milestones together.
    pub sum: MilestoneView,
    /// Milestones under way that are shown; none if the run has but one.
    pub milestones: Vec<MilestoneView>,
    /// Further milestones under way.
    pub more_milestones: usize,
    /// Tasks that run.
    pub running: usize,
    /// Some of them, the longest first.
    pub lines: Vec<RunningLine>,
    /// The time left as it seems.
    pub left: Option<Duration>,
    /// What is said of its being stopped, if it is.
    pub stopping: Option<String>,
}

impl Frame {
    /// The picture of a run with these milestones and running tasks: how many, and the lines of some.
    pub fn new(
        run: &str,
        milestones: &[MilestoneView],
        running: (usize, Vec<RunningLine>),
        left: Option<Duration>,
        stopping: Option<String>,
    ) -> Self {
        let mut sum = MilestoneView::default();
        milestones.iter().for_each(|milestone| sum.add(milestone));
        let under_way = milestones.iter().filter(|one| one.is_under_way());
        let (shown, more_milestones) = match milestones.len() {
            0 | 1 => (Vec::new(), 0),
            _ => {
                let count = under_way.clone().count();
                (under_way.take(MAX_MILESTONES).cloned().collect(), count.saturating_sub(MAX_MILESTONES))
            }
        };
        Self {
            run: run.to_owned(),
            left: left.filter(|_| sum.done() < sum.total),
            sum,
            milestones: shown,
            more_milestones,
            running: running.0,
            lines: running.1,
            stopping,
        }
    }

    /// How many running tasks have a line where there are so many slots.
    pub fn running_lines(slots: usize) -> usize {
        MAX_RUNNING.max(slots.min(MAX_RUNNING_OF_MANY))
    }
}
