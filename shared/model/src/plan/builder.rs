//! Takes a plan in, row by row.

use super::{
    About, Action, ActionRow, Estimate, Milestone, NONE, Need, Plan, Rows, SettingsIndex, TaskRow,
    TaskSettings, Text, Words, narrow,
};
use crate::ids::{MilestoneIndex, TaskIndex};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::hash::BuildHasher as _;

/// A task as a parser has read it.
#[derive(Clone, Debug)]
pub struct NewTask<'a> {
    /// Its id, unique in its milestone.
    pub id: &'a str,
    /// A line for people.
    pub title: Option<&'a str>,
    /// Prose for people.
    pub description: Option<&'a str>,
    /// What it does.
    pub action: Action<'a>,
    /// What it shares with others.
    pub settings: TaskSettings,
    /// Higher goes first among equals.
    pub priority: i32,
    /// How long it is expected to run.
    pub estimate: Option<Estimate>,
}

/// Collects a plan row by row. Milestones are added in order, each followed by its tasks; when all are in, the
/// needs of each task and milestone are set, again in order, and [`PlanBuilder::finish`] gives the plan.
#[derive(Debug)]
pub struct PlanBuilder {
    plan: Plan,
    /// Indices of `plan.settings` by their contents.
    settings: HashTable<u32>,
    estimates: HashMap<Estimate, u32>,
}

impl PlanBuilder {
    /// A plan of `project` without milestones.
    #[must_use]
    pub fn new(project: impl Into<String>) -> Self {
        let plan = Plan {
            project: project.into(),
            title: None,
            description: None,
            parameters: Vec::new(),
            milestones: Vec::new(),
            milestone_by_id: HashMap::new(),
            first_task: Vec::new(),
            tasks: Vec::new(),
            task_by_id: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            about: Vec::new(),
            estimates: Vec::new(),
            settings: Vec::new(),
            words: Vec::new(),
            text: String::new(),
            task_needs: Rows::default(),
            milestone_needs: Rows::default(),
        };
        Self { plan, settings: HashTable::new(), estimates: HashMap::new() }
    }

    /// The plan's own fields: project, title, description, parameters.
    pub fn header(&mut self) -> &mut Plan {
        &mut self.plan
    }

    /// Adds a milestone; `None` if there is one of that id.
    pub fn milestone(&mut self, milestone: Milestone) -> Option<MilestoneIndex> {
        let index = MilestoneIndex::new(self.plan.milestones.len());
        if self.plan.milestone_by_id.contains_key(&milestone.id) {
            return None;
        }
        self.plan.milestone_by_id.insert(milestone.id.clone(), index);
        self.plan.milestones.push(milestone);
        self.plan.first_task.push(narrow(self.plan.tasks.len()));
        Some(index)
    }

    /// Stores settings that several tasks will share; see [`PlanBuilder::task_sharing`].
    pub fn store_settings(&mut self, settings: TaskSettings) -> SettingsIndex {
        SettingsIndex(self.settings(settings))
    }

    /// Adds a task to the newest milestone; `None` if that has one of that id.
    ///
    /// # Panics
    /// If no milestone was added before.
    pub fn task(&mut self, mut task: NewTask<'_>) -> Option<TaskIndex> {
        let settings = self.store_settings(std::mem::take(&mut task.settings));
        self.task_sharing(task, settings)
    }

    /// The same with settings that are stored already, however large they are: the task's own are not looked at.
    ///
    /// # Panics
    /// If no milestone was added before.
    pub fn task_sharing(&mut self, task: NewTask<'_>, settings: SettingsIndex) -> Option<TaskIndex> {
        let milestone =
            MilestoneIndex::new(self.plan.milestones.len().checked_sub(1).expect("a milestone first"));
        if self.plan.find_task(milestone, task.id).is_some() {
            return None;
        }
        let index = TaskIndex::new(self.plan.tasks.len());
        let about = if task.title.is_none() && task.description.is_none() {
            NONE
        } else {
            let about = About {
                title: task.title.map(|text| self.text(text)),
                description: task.description.map(|text| self.text(text)),
            };
            self.plan.about.push(about);
            narrow(self.plan.about.len() - 1)
        };
        let row = TaskRow {
            id: self.text(task.id),
            action: self.action(&task.action),
            milestone,
            settings: settings.0,
            priority: task.priority,
            estimate: task.estimate.map_or(NONE, |estimate| self.estimate(estimate)),
            about,
        };
        self.plan.tasks.push(row);
        let Plan { tasks, text, hasher, task_by_id, .. } = &mut self.plan;
        let hash_of = |task: &TaskIndex| {
            let row = &tasks[task.get()];
            let id = &text[row.id.start as usize..(row.id.start + row.id.len) as usize];
            hasher.hash_one((row.milestone, id))
        };
        task_by_id.insert_unique(hash_of(&index), index, hash_of);
        Some(index)
    }

    /// Sets what the next task, in order, needs.
    pub fn task_needs(&mut self, needs: impl IntoIterator<Item = Need>) {
        self.plan.task_needs.push(needs);
    }

    /// Sets what the next milestone, in order, needs.
    pub fn milestone_needs(&mut self, needs: impl IntoIterator<Item = Need>) {
        self.plan.milestone_needs.push(needs);
    }

    /// What has been built so far, to look names up in.
    #[must_use]
    pub fn so_far(&self) -> &Plan {
        &self.plan
    }

    /// The plan. Tasks and milestones whose needs were not set have none.
    #[must_use]
    pub fn finish(mut self) -> Plan {
        let plan = &mut self.plan;
        let pad = |rows: &mut Rows<Need>, count: usize| {
            assert!(rows.ends.len() <= count, "needs of more rows than there are");
            rows.ends.resize(count, narrow(rows.items.len()));
        };
        pad(&mut plan.task_needs, plan.tasks.len());
        pad(&mut plan.milestone_needs, plan.milestones.len());
        plan.text.shrink_to_fit();
        plan.tasks.shrink_to_fit();
        plan.words.shrink_to_fit();
        plan.task_needs.items.shrink_to_fit();
        self.plan
    }

    fn text(&mut self, text: &str) -> Text {
        let start = narrow(self.plan.text.len());
        self.plan.text.push_str(text);
        Text { start, len: narrow(text.len()) }
    }

    fn action(&mut self, action: &Action<'_>) -> ActionRow {
        match action {
            Action::Checkpoint => ActionRow::Checkpoint,
            Action::Wait(duration) => ActionRow::Wait(*duration),
            Action::Run(script) => ActionRow::Run(self.text(script)),
            Action::Exec(words) => {
                let start = narrow(self.plan.words.len());
                for word in words {
                    let word = self.text(word);
                    self.plan.words.push(word);
                }
                ActionRow::Exec(Words { start, len: narrow(words.len()) })
            }
        }
    }

    fn settings(&mut self, settings: TaskSettings) -> u32 {
        // Neighbours mostly share their settings: compare before hashing.
        if self.plan.settings.last() == Some(&settings) {
            return narrow(self.plan.settings.len() - 1);
        }
        let Plan { settings: rows, hasher, .. } = &mut self.plan;
        let hash = hasher.hash_one(&settings);
        if let Some(&index) = self.settings.find(hash, |&index| rows[index as usize] == settings) {
            return index;
        }
        let index = narrow(rows.len());
        rows.push(settings);
        self.settings.insert_unique(hash, index, |&index| hasher.hash_one(&rows[index as usize]));
        index
    }

    fn estimate(&mut self, estimate: Estimate) -> u32 {
        let next = narrow(self.plan.estimates.len());
        let index = *self.estimates.entry(estimate).or_insert(next);
        if index == next {
            self.plan.estimates.push(estimate);
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str) -> NewTask<'_> {
        NewTask {
            id,
            title: None,
            description: None,
            action: Action::Exec(vec!["echo", id]),
            settings: TaskSettings::default(),
            priority: 0,
            estimate: None,
        }
    }

    #[test]
    fn names_are_found_again() {
        let mut builder = PlanBuilder::new("apollo");
        for milestone in ["build", "ship"] {
            builder.milestone(Milestone { id: milestone.into(), ..Milestone::default() }).expect("new");
            for id in ["a", "b", "c"] {
                builder.task(task(id)).expect("new");
            }
        }
        assert_eq!(builder.task(task("a")), None);
        assert_eq!(builder.milestone(Milestone { id: "build".into(), ..Milestone::default() }), None);
        builder.task_needs([]);
        builder.task_needs([Need::Task(TaskIndex(0)), Need::Milestone(MilestoneIndex(1))]);
        let plan = builder.finish();
        assert_eq!(plan.find_task_name("ship/b"), Some(TaskIndex(4)));
        assert_eq!(plan.task_name(TaskIndex(4)), "ship/b");
        assert_eq!(plan.find_task_name("ship/x"), None);
        assert_eq!(plan.tasks_of(MilestoneIndex(1)).collect::<Vec<_>>(), [3, 4, 5].map(TaskIndex));
        assert_eq!(plan.action(TaskIndex(1)), Action::Exec(vec!["echo", "b"]));
        assert_eq!(plan.needs(TaskIndex(1)).len(), 2);
        assert_eq!(plan.needs(TaskIndex(5)), []);
        assert_eq!(plan.all_settings().len(), 1);
    }
}
