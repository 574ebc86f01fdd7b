//! The keys of the plan language: one table, from which the reader knows them and the JSON schema is made.

use super::words::nearest;

/// Where a key may stand; sets of places are sums of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level(u8);

impl Level {
    pub(crate) const PLAN: Self = Self(1);
    pub(crate) const MILESTONE: Self = Self(2);
    pub(crate) const TASK: Self = Self(4);
    pub(crate) const DEFAULTS: Self = Self(8);
    pub(crate) const RETRY: Self = Self(16);
    pub(crate) const ESTIMATE: Self = Self(32);
    pub(crate) const PARAMETER: Self = Self(64);
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::PLAN,
        Self::MILESTONE,
        Self::TASK,
        Self::DEFAULTS,
        Self::RETRY,
        Self::ESTIMATE,
        Self::PARAMETER,
    ];
    const NONE: Self = Self(0);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this set holds `level`.
    pub(crate) const fn holds(self, level: Self) -> bool {
        self.0 & level.0 != 0
    }

    /// What stands there, with its article.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PLAN => "a plan",
            Self::MILESTONE => "a milestone",
            Self::TASK => "a task",
            Self::DEFAULTS => "`defaults`",
            Self::RETRY => "`retry`",
            Self::ESTIMATE => "an estimate",
            _ => "a parameter",
        }
    }
}

/// What a key's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The number 1.
    Version,
    /// A project's id.
    Project,
    /// The id of a milestone or task.
    Id,
    /// Text, or a number or truth value as it is written.
    Text,
    /// A list of names.
    Needs,
    /// A shell script.
    Script,
    /// A program and its arguments.
    Words,
    /// A directory.
    Directory,
    /// A duration; the flag says whether zero is one.
    Duration { zero: bool },
    /// How failed attempts are repeated.
    Retry,
    /// Amounts by name.
    Resources,
    /// Labels by name.
    Labels,
    /// Environment variables by name.
    Environment,
    /// A whole number around zero.
    Priority,
    /// A duration, or three.
    Estimate,
    /// `true` or `false`.
    Flag,
    /// A moment of RFC 3339.
    Moment,
    /// Parameters by name.
    Parameters,
    /// A list of values.
    Values,
    /// What tasks inherit.
    Defaults,
    /// A list of milestones.
    Milestones,
    /// A list of tasks.
    Tasks,
    /// A number of attempts.
    Attempts,
    /// How waits grow.
    Backoff,
    /// A number from 0 to 1.
    Share,
    /// Promised, but not there yet; says what to do until then.
    Later(&'static str),
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// Which key it is.
    pub key: Key,
    /// As it is written.
    pub name: &'static str,
    /// Where it may stand.
    pub levels: Level,
    /// Where it must stand.
    pub required: Level,
    /// What its value looks like.
    pub shape: Shape,
    /// What it means, for people.
    pub doc: &'static str,
}

macro_rules! keys {
    ($($key:ident $name:literal in $($level:ident)+ $(; required in $($required:ident)+)? => $shape:expr, $doc:literal)*) => {
        /// A key of the plan language.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Key { $(#[doc = $doc] $key,)* }

        /// The table.
        pub(crate) static KEYS: &[Row] = &[$(Row {
            key: Key::$key,
            name: $name,
            levels: Level::NONE$(.and(Level::$level))+,
            required: Level::NONE$($(.and(Level::$required))+)?,
            shape: $shape,
            doc: $doc,
        },)*];
    };
}

keys! {
    Version "version" in PLAN; required in PLAN => Shape::Version,
        "The version of the plan language: 1."
    Project "project" in PLAN; required in PLAN => Shape::Project,
        "The project that this is a plan of; its runs are PROJECT.1, PROJECT.2 and so on."
    Id "id" in MILESTONE TASK; required in MILESTONE TASK => Shape::Id,
        "The name by which others need it; unique among its neighbours."
    Title "title" in PLAN MILESTONE TASK => Shape::Text,
        "A line for people."
    Description "description" in PLAN MILESTONE TASK PARAMETER => Shape::Text,
        "Prose for people."
    Parameters "parameters" in PLAN => Shape::Parameters,
        "Values to be given with `--param NAME=VALUE`, and read as `${{ params.NAME }}` in env, exec, working_dir, requires, title and description."
    Defaults "defaults" in PLAN MILESTONE => Shape::Defaults,
        "What tasks have unless they say otherwise; a milestone's outrank the plan's."
    Owner "owner" in MILESTONE => Shape::Text,
        "Who answers for the milestone."
    Due "due" in MILESTONE => Shape::Moment,
        "When the milestone should be done, in RFC 3339."
    Needs "needs" in MILESTONE TASK => Shape::Needs,
        "What must be completed before: a task of the same milestone, MILESTONE/TASK, or a milestone (all its tasks)."
    Milestones "milestones" in PLAN => Shape::Milestones,
        "The milestones, each with its tasks."
    Tasks "tasks" in PLAN MILESTONE => Shape::Tasks,
        "The tasks; at the top of a plan, instead of milestones, they form the milestone `main`."
    Run "run" in TASK => Shape::Script,
        "A shell script, passed to the shell unchanged."
    Exec "exec" in TASK => Shape::Words,
        "A program and its arguments, started without a shell."
    Wait "wait" in TASK => Shape::Duration { zero: true },
        "A timer kept by the agent, without a process."
    Env "env" in PLAN TASK DEFAULTS => Shape::Environment,
        "Environment variables; those of the plan, of defaults and of the task are merged by name, the nearest wins."
    WorkingDir "working_dir" in TASK DEFAULTS => Shape::Directory,
        "Where the task starts, relative to the plan's directory (on agents, to their workspace)."
    Timeout "timeout" in TASK DEFAULTS => Shape::Duration { zero: false },
        "The longest time of an attempt."
    Retry "retry" in TASK DEFAULTS => Shape::Retry,
        "How often, and when, a failed attempt is followed by another."
    Resources "resources" in TASK DEFAULTS => Shape::Resources,
        "What the task takes of its agent: `cpus`, `memory`, and any names that agents offer."
    Requires "requires" in TASK DEFAULTS => Shape::Labels,
        "Labels that the agent must have."
    Priority "priority" in MILESTONE TASK => Shape::Priority,
        "Higher goes first among tasks that are ready; a task has its milestone's unless it says otherwise."
    Estimate "estimate" in TASK => Shape::Estimate,
        "How long the task is expected to run: one duration, or the best, the likely and the worst case."
    AtMostOnce "at_most_once" in TASK DEFAULTS => Shape::Flag,
        "The task is started at most once, whatever happens."
    ContinueOnError "continue_on_error" in TASK DEFAULTS => Shape::Flag,
        "Its failure lets what needs it run."
    When "when" in TASK => Shape::Later("make the decision inside the task's script, which ends at once if there is nothing to do"),
        "A condition under which the task runs."
    Matrix "matrix" in TASK => Shape::Later("write a task for each combination"),
        "Makes a task for each combination of values."
    Outputs "outputs" in TASK => Shape::Later("write what other tasks read to a file that they share"),
        "Values that other tasks read."
    Artifacts "artifacts" in TASK => Shape::Later("copy files to a place that all agents reach"),
        "Files that outlive the task."
    Approval "approval" in TASK => Shape::Later("divide the plan there, and run the second part when it is approved"),
        "Waits for a person."
    Concurrency "concurrency" in TASK => Shape::Later("give agents a resource of that name, and let tasks take it with `resources`"),
        "Limits how many tasks of a group run at once."
    MaxAttempts "max_attempts" in RETRY; required in RETRY => Shape::Attempts,
        "Attempts in all; one that never started does not count."
    Backoff "backoff" in RETRY => Shape::Backoff,
        "How the wait before another attempt grows; `exponential` unless said otherwise."
    Initial "initial" in RETRY => Shape::Duration { zero: true },
        "The wait after the first failure; 1s unless said otherwise."
    Max "max" in RETRY => Shape::Duration { zero: true },
        "The longest wait, before jitter; 60s, or `initial` if that is longer, unless said otherwise."
    Jitter "jitter" in RETRY => Shape::Share,
        "By how much a wait is shortened or lengthened at random, from 0 to 1; 0.2 unless said otherwise."
    Optimistic "optimistic" in ESTIMATE; required in ESTIMATE => Shape::Duration { zero: true },
        "If all goes well."
    Likely "likely" in ESTIMATE; required in ESTIMATE => Shape::Duration { zero: true },
        "Most likely."
    Pessimistic "pessimistic" in ESTIMATE; required in ESTIMATE => Shape::Duration { zero: true },
        "If all goes badly."
    Default "default" in PARAMETER => Shape::Text,
        "The value if none is given; without it, one must be given."
    Enum "enum" in PARAMETER => Shape::Values,
        "The values that are allowed."
}

impl Key {
    /// Its row.
    pub(crate) fn row(self) -> &'static Row {
        &KEYS[self as usize]
    }

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        self.row().name
    }

    /// The key of that name at that level.
    pub(crate) fn find(name: &str, level: Level) -> Option<&'static Row> {
        rows(level).find(|row| row.name == name)
    }
}

/// The keys of a level, in the order of the table.
pub(crate) fn rows(level: Level) -> impl Iterator<Item = &'static Row> {
    KEYS.iter().filter(move |row| row.levels.holds(level))
}

/// What to write instead of a key that `level` does not have.
pub(crate) fn help_for_unknown(name: &str, level: Level) -> String {
    // Words of other systems, and of YAML 1.1, that no count of letters leads to a key.
    let known_elsewhere = match name {
        "<<" => Some("merge keys are not part of YAML 1.2: use `defaults`"),
        "depends_on" | "depends" | "dependencies" | "after" | "deps" | "requires_tasks" => {
            Some("write `needs: [NAME]`")
        }
        "command" | "cmd" | "script" | "args" if level == Level::TASK => {
            Some("write `run:` for a shell script, `exec:` for a program and its arguments")
        }
        "name" => Some("write `id:` for the name by which others need it, `title:` for people"),
        "environment" | "variables" | "vars" => Some("write `env:`"),
        "steps" | "jobs" | "stages" => Some("write `tasks:`"),
        "cwd" | "dir" | "workdir" => Some("write `working_dir:`"),
        "params" | "inputs" => Some("write `parameters:`"),
        "labels" | "tags" => Some("write `requires:` for labels that the agent must have"),
        "retries" | "attempts" => Some("write `retry: {max_attempts: N}`"),
        _ => None,
    };
    if let Some(help) = known_elsewhere {
        return help.to_string();
    }
    if let Some(key) = nearest(name, rows(level).map(|row| row.name)) {
        return format!("did you mean `{key}`?");
    }
    let names = rows(level).filter(|row| !matches!(row.shape, Shape::Later(_))).map(|row| row.name);
    let places: Vec<_> =
        Level::ALL.into_iter().filter(|&other| Key::find(name, other).is_some()).map(Level::name).collect();
    let elsewhere =
        if places.is_empty() { String::new() } else { format!("it is a key of {}; ", places.join(", ")) };
    format!("{elsewhere}the keys of {} are: {}", level.name(), names.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_their_keys() {
        for (index, row) in KEYS.iter().enumerate() {
            assert_eq!(row.key as usize, index);
            assert_eq!(row.required.0 & !row.levels.0, 0, "{} is required where it may not stand", row.name);
            assert_eq!(KEYS.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
        }
    }

    #[test]
    fn the_contract_is_in_the_table() {
        let names = |level| rows(level).map(|row| row.name).collect::<Vec<_>>();
        for key in "id title description needs run exec wait env working_dir timeout retry resources requires priority \
            estimate at_most_once continue_on_error when matrix outputs artifacts approval concurrency"
            .split_whitespace()
        {
            assert!(names(Level::TASK).contains(&key), "{key}");
        }
        assert_eq!(names(Level::TASK).len(), 23);
        for key in "id title description owner due needs priority defaults tasks".split_whitespace() {
            assert!(names(Level::MILESTONE).contains(&key), "{key}");
        }
        assert_eq!(names(Level::MILESTONE).len(), 9);
    }

    #[test]
    fn unknown_keys_get_help() {
        assert_eq!(help_for_unknown("tilte", Level::TASK), "did you mean `title`?");
        assert!(help_for_unknown("depends_on", Level::TASK).contains("needs"));
        assert!(help_for_unknown("due", Level::TASK).contains("it is a key of a milestone"));
        assert!(help_for_unknown("zzzzzz", Level::TASK).starts_with("the keys of a task are: id"));
    }
}
