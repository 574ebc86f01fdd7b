//! From a row of the plan to a job for the runner.

use super::AgentConfig;
use crate::machine::AttemptId;
use crate::runner::{Job, LOG_LIMIT, Program};
use cairn_model::{Action, MilestoneIndex, Plan};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Environments remembered at most; a plan can have a different one for each of a million tasks.
const MAX_SHARED_ENVIRONMENTS: usize = 1024;

/// Makes jobs; remembers what tasks share.
pub(super) struct JobMaker {
    plan: Arc<Plan>,
    plan_directory: PathBuf,
    kept: PathBuf,
    logs: PathBuf,
    grace: Duration,
    common_env: Vec<(OsString, OsString)>,
    /// For each settings of the plan, the environment that its tasks share.
    env: HashMap<usize, Arc<[(OsString, OsString)]>>,
}

impl JobMaker {
    pub fn new(config: &AgentConfig) -> Self {
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        Self {
            plan: config.plan.clone(),
            plan_directory: config.plan_directory.clone(),
            kept: config.state_directory.join("work").join(&config.run),
            logs: config.state_directory.join("logs").join(&config.run),
            grace: config.grace,
            common_env: vec![
                pair("CAIRN_PROJECT", &config.plan.project),
                pair("CAIRN_RUN", &config.run),
                pair("CAIRN_AGENT", &config.id),
            ],
            env: HashMap::new(),
        }
    }

    pub fn job(&mut self, key: u64, id: AttemptId) -> Job {
        let plan = self.plan.clone();
        let settings = plan.settings(id.task);
        let milestone: MilestoneIndex = plan.milestone_of(id.task);
        let (milestone, task) = (plan.milestone(milestone).id.as_str(), plan.task_id(id.task));
        let attempt = id.attempt.to_string();
        let stem = format!("{task}.{attempt}");
        let program = match plan.action(id.task) {
            Action::Run(script) => Program::Shell(script.into()),
            Action::Exec(words) => Program::Exec(words.into_iter().map(OsString::from).collect()),
            // The machine starts no process for these.
            Action::Wait(_) | Action::Checkpoint => Program::Exec(Vec::new()),
        };
        Job {
            key,
            program,
            env: self.env_of(id),
            own_env: vec![
                ("CAIRN_MILESTONE".into(), milestone.into()),
                ("CAIRN_TASK".into(), task.into()),
                ("CAIRN_ATTEMPT".into(), attempt.into()),
            ],
            working_dir: match &settings.working_dir {
                Some(directory) => self.plan_directory.join(directory),
                None => self.plan_directory.clone(),
            },
            log_path: self.logs.join(milestone).join(format!("{stem}.log")),
            kept_link: self.kept.join(milestone).join(stem),
            log_limit: LOG_LIMIT,
            timeout: settings.timeout,
            grace: self.grace,
        }
    }

    fn env_of(&mut self, id: AttemptId) -> Arc<[(OsString, OsString)]> {
        let Self { plan, common_env, env, .. } = self;
        let shared = || {
            let own = plan.settings(id.task).env.iter();
            let own = own.map(|(name, value)| (OsString::from(name), OsString::from(value)));
            own.chain(common_env.iter().cloned()).collect()
        };
        if env.len() >= MAX_SHARED_ENVIRONMENTS {
            env.clear();
        }
        env.entry(plan.settings_index(id.task)).or_insert_with(shared).clone()
    }
}
