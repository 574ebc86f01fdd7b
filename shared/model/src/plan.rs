//! A plan as data: tables of rows that share one text, sized for a million tasks.
//!
//! A [`PlanBuilder`] takes what a parser has read; [`PlanBuilder::finish`] gives the immutable [`Plan`].
//! Names are unique and needs are resolved by the builder's caller through [`PlanBuilder::so_far`]: [`Plan::find_task`] and
//! [`Plan::find_milestone`]; order and cycles are the graph's business.

mod builder;

pub use builder::{NewTask, PlanBuilder};

use crate::ids::{MilestoneIndex, TaskIndex};
use crate::time::Timestamp;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::hash::BuildHasher as _;
use std::time::Duration;

/// Most tasks of a plan.
pub const MAX_TASKS: usize = 1_000_000;
/// Most edges of a plan, counted as needs that were written.
pub const MAX_EDGES: usize = 10_000_000;
/// Most bytes of a plan's text on one machine.
pub const MAX_PLAN_BYTES: usize = 256 << 20;
/// Most bytes of one task's text.
pub const MAX_TASK_BYTES: usize = 1 << 20;

/// The resource that is counted in cores; amounts of every resource are in thousandths.
pub const CPUS: &str = "cpus";
/// The resource that is counted in bytes; amounts of every resource are in thousandths.
pub const MEMORY: &str = "memory";

/// A piece of the plan's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text {
    start: u32,
    len: u32,
}

/// A piece of the plan's table of words: the arguments of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    start: u32,
    len: u32,
}

/// What a task does, as stored; [`Plan::action`] reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ActionRow {
    Checkpoint,
    Wait(Duration),
    Run(Text),
    Exec(Words),
}

/// What a task does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Nothing: done when its needs are.
    Checkpoint,
    /// A timer kept by the agent.
    Wait(Duration),
    /// A shell script.
    Run(&'a str),
    /// A program and its arguments, at least one word.
    Exec(Vec<&'a str>),
}

/// What a task, or a milestone, needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// A task is completed.
    Task(TaskIndex),
    /// All tasks of a milestone are completed.
    Milestone(MilestoneIndex),
}

/// How the wait before another attempt grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backoff {
    /// Always `initial`.
    Constant,
    /// `initial` times the number of the failure.
    Linear,
    /// `initial`, doubled at each failure.
    Exponential,
}

/// How often, and when, a failed attempt is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    /// Attempts in all, at least 1; one that never started does not count.
    pub max_attempts: u32,
    /// How the wait grows.
    pub backoff: Backoff,
    /// The wait after the first failure.
    pub initial: Duration,
    /// The longest wait, before jitter.
    pub max: Duration,
    /// Jitter in thousandths: the wait is scaled by a factor from `1 - jitter` to `1 + jitter`.
    pub jitter_permille: u16,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 1,
            backoff: Backoff::Exponential,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter_permille: 200,
        }
    }
}

/// What many tasks have in common; equal settings are stored once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TaskSettings {
    /// Environment, sorted by name; the plan's and the task's, merged.
    pub env: Vec<(String, String)>,
    /// Where the task starts, relative to the plan's directory.
    pub working_dir: Option<String>,
    /// The longest time of an attempt.
    pub timeout: Option<Duration>,
    /// How often it is tried.
    pub retry: Retry,
    /// What it takes of an agent, in thousandths, sorted by name; never zero.
    pub resources: Vec<(String, u64)>,
    /// Labels that the agent must have, sorted by name.
    pub requires: Vec<(String, String)>,
    /// Started at most once, whatever happens.
    pub at_most_once: bool,
    /// Its failure lets what needs it run.
    pub continue_on_error: bool,
}

/// How long a task is expected to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Estimate {
    /// If all goes well.
    pub optimistic: Duration,
    /// Most likely.
    pub likely: Duration,
    /// If all goes badly.
    pub pessimistic: Duration,
}

impl Estimate {
    /// The same in each case.
    #[must_use]
    pub const fn point(duration: Duration) -> Self {
        Self { optimistic: duration, likely: duration, pessimistic: duration }
    }

    /// The mean of the PERT distribution, `(optimistic + 4 likely + pessimistic) / 6`
    /// (Malcolm, Roseboom, Clark and Fazar 1959).
    #[must_use]
    pub fn mean(&self) -> Duration {
        (self.optimistic + self.likely * 4 + self.pessimistic) / 6
    }
}

/// Settings that a [`PlanBuilder`] has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsIndex(u32);

/// A milestone of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Milestone {
    /// Its id, unique in the plan.
    pub id: String,
    /// A line for people.
    pub title: Option<String>,
    /// Prose for people.
    pub description: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// When it should be done.
    pub due: Option<Timestamp>,
    /// What its tasks inherit.
    pub priority: i32,
}

/// A parameter of a plan with the value that it has in this plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value: given, or the default.
    pub value: String,
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct TaskRow {
    id: Text,
    action: ActionRow,
    milestone: MilestoneIndex,
    settings: u32,
    priority: i32,
    estimate: u32,
    about: u32,
}

const _: () = assert!(size_of::<TaskRow>() <= 48, "a row per task: a million of them");

#[derive(Clone, Copy, Debug)]
struct About {
    title: Option<Text>,
    description: Option<Text>,
}

/// A validated plan: what a run executes. Immutable.
#[derive(Debug)]
pub struct Plan {
    /// The project's id.
    pub project: String,
    /// A line for people.
    pub title: Option<String>,
    /// Prose for people.
    pub description: Option<String>,
    /// The parameters with their values.
    pub parameters: Vec<Parameter>,
    milestones: Vec<Milestone>,
    milestone_by_id: HashMap<String, MilestoneIndex>,
    first_task: Vec<u32>,
    tasks: Vec<TaskRow>,
    task_by_id: HashTable<TaskIndex>,
    hasher: DefaultHashBuilder,
    about: Vec<About>,
    estimates: Vec<Estimate>,
    settings: Vec<TaskSettings>,
    words: Vec<Text>,
    text: String,
    task_needs: Rows<Need>,
    milestone_needs: Rows<Need>,
}

/// Rows of different lengths in one array.
#[derive(Clone, Debug)]
struct Rows<T> {
    ends: Vec<u32>,
    items: Vec<T>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { ends: Vec::new(), items: Vec::new() }
    }
}

impl<T> Rows<T> {
    fn row(&self, index: usize) -> &[T] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.items[start..self.ends[index] as usize]
    }

    fn push(&mut self, items: impl IntoIterator<Item = T>) {
        self.items.extend(items);
        self.ends.push(narrow(self.items.len()));
    }
}

/// Plans are limited to far fewer rows and bytes than 2^32.
fn narrow(value: usize) -> u32 {
    u32::try_from(value).expect("limits of a plan keep every table below 2^32")
}

impl Plan {
    /// All milestones in the order of the plan.
    #[must_use]
    pub fn milestones(&self) -> &[Milestone] {
        &self.milestones
    }

    /// One milestone.
    #[must_use]
    pub fn milestone(&self, index: MilestoneIndex) -> &Milestone {
        &self.milestones[index.get()]
    }

    /// How many tasks there are.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// The tasks of a milestone: they stand together.
    pub fn tasks_of(&self, milestone: MilestoneIndex) -> impl ExactSizeIterator<Item = TaskIndex> + use<> {
        let end = self.first_task.get(milestone.get() + 1).copied().unwrap_or(narrow(self.tasks.len()));
        (self.first_task[milestone.get()]..end).map(TaskIndex)
    }

    /// All tasks in the order of the plan.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = TaskIndex> + use<> {
        (0..narrow(self.tasks.len())).map(TaskIndex)
    }

    /// The task's id within its milestone.
    #[must_use]
    pub fn task_id(&self, task: TaskIndex) -> &str {
        self.text(self.tasks[task.get()].id)
    }

    /// The task's full name, `milestone/task`.
    #[must_use]
    pub fn task_name(&self, task: TaskIndex) -> String {
        format!("{}/{}", self.milestone(self.milestone_of(task)).id, self.task_id(task))
    }

    /// The milestone that holds the task.
    #[must_use]
    pub fn milestone_of(&self, task: TaskIndex) -> MilestoneIndex {
        self.tasks[task.get()].milestone
    }

    /// A line for people.
    #[must_use]
    pub fn task_title(&self, task: TaskIndex) -> Option<&str> {
        self.about(task)?.title.map(|text| self.text(text))
    }

    /// Prose for people.
    #[must_use]
    pub fn task_description(&self, task: TaskIndex) -> Option<&str> {
        self.about(task)?.description.map(|text| self.text(text))
    }

    /// What the task does.
    #[must_use]
    pub fn action(&self, task: TaskIndex) -> Action<'_> {
        match self.tasks[task.get()].action {
            ActionRow::Checkpoint => Action::Checkpoint,
            ActionRow::Wait(duration) => Action::Wait(duration),
            ActionRow::Run(script) => Action::Run(self.text(script)),
            ActionRow::Exec(Words { start, len }) => {
                let words = &self.words[start as usize..(start + len) as usize];
                Action::Exec(words.iter().map(|&word| self.text(word)).collect())
            }
        }
    }

    /// Whether the task is done as soon as its needs are.
    #[must_use]
    pub fn is_checkpoint(&self, task: TaskIndex) -> bool {
        matches!(self.tasks[task.get()].action, ActionRow::Checkpoint)
    }

    /// Whether the task starts a process, and so takes a slot of its agent.
    #[must_use]
    pub fn takes_slot(&self, task: TaskIndex) -> bool {
        matches!(self.tasks[task.get()].action, ActionRow::Run(_) | ActionRow::Exec(_))
    }

    /// Which settings the task has, as an index into [`Plan::all_settings`].
    #[must_use]
    pub fn settings_index(&self, task: TaskIndex) -> usize {
        self.tasks[task.get()].settings as usize
    }

    /// What the task shares with others.
    #[must_use]
    pub fn settings(&self, task: TaskIndex) -> &TaskSettings {
        &self.settings[self.settings_index(task)]
    }

    /// All different settings.
    #[must_use]
    pub fn all_settings(&self) -> &[TaskSettings] {
        &self.settings
    }

    /// The task's own priority, or its milestone's.
    #[must_use]
    pub fn priority(&self, task: TaskIndex) -> i32 {
        self.tasks[task.get()].priority
    }

    /// How long the task is expected to run.
    #[must_use]
    pub fn estimate(&self, task: TaskIndex) -> Option<&Estimate> {
        self.estimates.get(self.tasks[task.get()].estimate as usize)
    }

    /// The expected duration: the estimate's mean; without one, a timer's length, else nothing is known.
    #[must_use]
    pub fn expected_duration(&self, task: TaskIndex) -> Option<Duration> {
        match (self.estimate(task), self.tasks[task.get()].action) {
            (Some(estimate), _) => Some(estimate.mean()),
            (None, ActionRow::Wait(duration)) => Some(duration),
            (None, ActionRow::Checkpoint) => Some(Duration::ZERO),
            (None, ActionRow::Run(_) | ActionRow::Exec(_)) => None,
        }
    }

    /// What the task needs, as written.
    #[must_use]
    pub fn needs(&self, task: TaskIndex) -> &[Need] {
        self.task_needs.row(task.get())
    }

    /// What the milestone needs, as written.
    #[must_use]
    pub fn milestone_needs(&self, milestone: MilestoneIndex) -> &[Need] {
        self.milestone_needs.row(milestone.get())
    }

    /// All needs that were written.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.task_needs.items.len() + self.milestone_needs.items.len()
    }

    /// The milestone of that id.
    #[must_use]
    pub fn find_milestone(&self, id: &str) -> Option<MilestoneIndex> {
        self.milestone_by_id.get(id).copied()
    }

    /// The task of that id in that milestone.
    #[must_use]
    pub fn find_task(&self, milestone: MilestoneIndex, id: &str) -> Option<TaskIndex> {
        let hash = self.hasher.hash_one((milestone, id));
        let same = |&task: &TaskIndex| self.milestone_of(task) == milestone && self.task_id(task) == id;
        self.task_by_id.find(hash, same).copied()
    }

    /// The task of that full name, `milestone/task`.
    #[must_use]
    pub fn find_task_name(&self, name: &str) -> Option<TaskIndex> {
        let (milestone, task) = name.split_once('/')?;
        self.find_task(self.find_milestone(milestone)?, task)
    }

    fn about(&self, task: TaskIndex) -> Option<&About> {
        self.about.get(self.tasks[task.get()].about as usize)
    }

    fn text(&self, text: Text) -> &str {
        &self.text[text.start as usize..(text.start + text.len) as usize]
    }
}
