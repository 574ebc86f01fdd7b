//! What never changes while a plan runs: which tasks ask for the same, and which of two goes first.

use cairn_model::plan::MEMORY;
use cairn_model::{Graph, Plan, TaskIndex};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

/// Index of a [`Class`].
pub type ClassIndex = usize;

/// What a task asks of an agent. Tasks that ask for the same form a class; one of them waits only for what all
/// of them wait for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// It starts a process and takes a slot; otherwise it is a timer.
    pub takes_slot: bool,
    /// It may be sent to an agent whose slots are full, to wait there. Not what holds resources, and not what
    /// must never be started twice: whether it was started would be unknown after a crash.
    pub may_queue: bool,
    /// What it takes, in thousandths, sorted by name.
    pub resources: Vec<(String, u64)>,
    /// Labels that the agent must have, sorted by name.
    pub requires: Vec<(String, String)>,
}

/// Classes of a plan, and the order of its tasks: longest remaining path first, then higher priority, then the
/// order of the plan.
#[derive(Debug)]
pub struct Order {
    classes: Vec<Class>,
    class_of: Vec<u32>,
    /// Place of a task among all.
    rank: Vec<u32>,
    /// Place of a task in its class.
    place: Vec<u32>,
    /// For each class its tasks, first to last.
    by_class: Vec<Vec<TaskIndex>>,
}

/// A task of which nothing is known counts as one second on a path, as long as nothing is known of any task.
const UNKNOWN_DURATION: Duration = Duration::from_secs(1);

/// What a task counts on a path: the duration that `known` tells of it, else the mean of those that it tells of tasks
/// that start a process; timers say nothing of those.
pub fn path_weight(
    plan: &Plan,
    known: impl Fn(TaskIndex) -> Option<Duration>,
) -> impl Fn(TaskIndex) -> Duration {
    let durations = plan.tasks().filter(|&task| plan.takes_slot(task)).filter_map(&known);
    let (count, total) =
        durations.fold((0_u32, Duration::ZERO), |(count, total), one| (count + 1, total.saturating_add(one)));
    let unknown = total.checked_div(count).unwrap_or(UNKNOWN_DURATION);
    move |task| known(task).unwrap_or(unknown)
}

impl Order {
    /// The order of a plan.
    #[must_use]
    pub fn new(plan: &Plan, graph: &Graph) -> Self {
        let (classes, class_of) = classify(plan);
        let mut sorted: Vec<TaskIndex> = plan.tasks().collect();
        {
            let remaining = graph.longest_remaining(path_weight(plan, |task| plan.expected_duration(task)));
            sorted.sort_by_key(|&task| {
                (Reverse(remaining[graph.task(task).get()]), Reverse(plan.priority(task)), task)
            });
        }
        let mut by_class = vec![Vec::new(); classes.len()];
        let (mut rank, mut place) = (vec![0; sorted.len()], vec![0; sorted.len()]);
        for (at, &task) in sorted.iter().enumerate() {
            let class: &mut Vec<TaskIndex> = &mut by_class[class_of[task.get()] as usize];
            rank[task.get()] = TaskIndex::new(at).0;
            place[task.get()] = TaskIndex::new(class.len()).0;
            class.push(task);
        }
        Self { classes, class_of, rank, place, by_class }
    }

    /// All classes.
    #[must_use]
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The class of a task.
    #[must_use]
    pub fn class_of(&self, task: TaskIndex) -> ClassIndex {
        self.class_of[task.get()] as usize
    }

    /// The place of a task among all; lower goes first.
    #[must_use]
    pub fn rank(&self, task: TaskIndex) -> u32 {
        self.rank[task.get()]
    }

    pub(crate) fn place(&self, task: TaskIndex) -> usize {
        self.place[task.get()] as usize
    }

    pub(crate) fn task_at(&self, class: ClassIndex, place: usize) -> TaskIndex {
        self.by_class[class][place]
    }

    pub(crate) fn class_size(&self, class: ClassIndex) -> usize {
        self.by_class[class].len()
    }
}

fn classify(plan: &Plan) -> (Vec<Class>, Vec<u32>) {
    let mut classes = Vec::new();
    let mut known = BTreeMap::new();
    let mut of_settings = vec![[None; 2]; plan.all_settings().len()];
    let class_of = plan.tasks().map(|task| {
        let takes_slot = plan.takes_slot(task);
        let cached = &mut of_settings[plan.settings_index(task)][usize::from(takes_slot)];
        *cached.get_or_insert_with(|| {
            let settings = plan.settings(task);
            let class = Class {
                takes_slot,
                may_queue: settings.resources.is_empty() && !settings.at_most_once,
                resources: settings.resources.clone(),
                requires: settings.requires.clone(),
            };
            *known.entry(class).or_insert_with_key(|class| {
                classes.push(class.clone());
                u32::try_from(classes.len() - 1).expect("limits of a plan")
            })
        })
    });
    let class_of = class_of.collect();
    (classes, class_of)
}

impl Class {
    /// What it asks for, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let amount = |(name, thousandths): &(String, u64)| describe_amount(name, *thousandths);
        let mut words: Vec<String> = self.resources.iter().map(amount).collect();
        words.extend(self.requires.iter().map(|(label, value)| format!("label {label}={value}")));
        if words.is_empty() { "a free slot".to_owned() } else { words.join(", ") }
    }
}

/// So much of a resource, in words.
#[must_use]
pub fn describe_amount(name: &str, thousandths: u64) -> String {
    let whole = thousandths / 1000;
    if name == MEMORY {
        return format!("{name} {} MiB", whole.div_ceil(1 << 20));
    }
    match thousandths % 1000 {
        0 => format!("{name} {whole}"),
        part => format!("{name} {whole}.{}", format!("{part:03}").trim_end_matches('0')),
    }
}
