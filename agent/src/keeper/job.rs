//! From an offer to a job for the runner.

use crate::machine::{Terms, Work};
use crate::runner::{Job, LOG_LIMIT, Program};
use cairn_model::{RunId, ids};
use cairn_shared::message::trace::TraceContext;
use cairn_shared::message::wire::{self, Offer};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What jobs of one agent have in common.
#[derive(Clone, Debug)]
pub struct JobMaker {
    /// The agent.
    pub agent: String,
    /// Where tasks start.
    pub workspace: PathBuf,
    /// The directory of the agent.
    pub directory: PathBuf,
    /// How long a task may take to end after SIGTERM.
    pub grace: Duration,
    /// Resources in thousandths, by name.
    pub resources: Vec<(String, u64)>,
    /// Whether all tasks go on without a lease.
    pub hold: bool,
}

/// Why an offer can never be taken here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It belongs to no run.
    #[error("`{0}` is no name of a run")]
    Run(String),
    /// It is about no task.
    #[error("`{0}` is no name of a task")]
    Task(String),
    /// It has no number.
    #[error("attempts count from 1")]
    Attempt,
    /// It has no program.
    #[error("there is nothing to execute")]
    NoProgram,
    /// A variable cannot be set.
    #[error("`{0}` is no name of a variable")]
    Variable(String),
    /// It takes what the agent has not.
    #[error("this agent has no `{0}`")]
    NoResource(String),
    /// It takes more than the agent has.
    #[error("it takes more `{0}` than this agent has")]
    TooMuch(String),
}

impl JobMaker {
    /// What an offer asks for.
    ///
    /// # Errors
    /// It can never run here.
    pub fn terms(&self, run: &str, offer: &Offer, awaits_grant: bool) -> Result<Terms, Unfit> {
        if RunId::parse(run).is_none() {
            return Err(Unfit::Run(run.to_owned()));
        }
        let is_name = |(milestone, task): (&str, &str)| ids::is_id(milestone) && ids::is_id(task);
        if !offer.name.split_once('/').is_some_and(is_name) {
            return Err(Unfit::Task(offer.name.clone()));
        }
        if offer.attempt == 0 {
            return Err(Unfit::Attempt);
        }
        let work = match &offer.work {
            wire::Work::Wait { micros } => Work::Timer(Duration::from_micros(*micros)),
            wire::Work::Exec { argv } if argv.is_empty() => return Err(Unfit::NoProgram),
            wire::Work::Exec { .. } | wire::Work::Run { .. } => Work::Process,
        };
        let is_bad = |name: &str| name.is_empty() || name.contains(['=', '\0']);
        if let Some((name, _)) = offer.env.iter().find(|(name, _)| is_bad(name)) {
            return Err(Unfit::Variable(name.clone()));
        }
        let mut resources: Vec<(usize, u64)> = Vec::new();
        for (name, amount) in &offer.resources {
            let index = self.resources.iter().position(|(own, _)| own == name);
            let index = index.ok_or_else(|| Unfit::NoResource(name.clone()))?;
            let had = resources.iter().find(|(other, _)| *other == index).map_or(0, |&(_, had)| had);
            let sum = had.saturating_add(*amount);
            if sum > self.resources[index].1 {
                return Err(Unfit::TooMuch(name.clone()));
            }
            resources.retain(|(other, _)| *other != index);
            resources.push((index, sum));
        }
        Ok(Terms { work, resources: resources.into(), awaits_grant, hold: self.hold || offer.hold })
    }

    /// The job of an offer that [`JobMaker::terms`] has found fit. Its process is told the trace of the attempt, unless
    /// the plan sets another one.
    pub fn job(&self, key: u64, run: &str, offer: &Offer, trace: Option<TraceContext>) -> Job {
        let (milestone, task) = offer.name.split_once('/').unwrap_or((&offer.name, ""));
        let project = run.rsplit_once('.').map_or(run, |(project, _)| project);
        let attempt = offer.attempt.to_string();
        let program = match &offer.work {
            wire::Work::Run { script } => Program::Shell(script.into()),
            wire::Work::Exec { argv } => Program::Exec(argv.iter().map(OsString::from).collect()),
            // The machine starts no process for these.
            wire::Work::Wait { .. } => Program::Exec(Vec::new()),
        };
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let theirs = offer.env.iter().filter(|(name, _)| !name.starts_with("CAIRN_"));
        let stem = format!("{task}.{attempt}");
        Job {
            key,
            program,
            env: Arc::new([]),
            own_env: trace
                .map(|trace| pair("TRACEPARENT", &trace.to_string()))
                .into_iter()
                // Of two of a name the later counts.
                .chain(theirs.map(|(name, value)| pair(name, value)))
                .chain([
                    pair("CAIRN_PROJECT", project),
                    pair("CAIRN_RUN", run),
                    pair("CAIRN_AGENT", &self.agent),
                    pair("CAIRN_MILESTONE", milestone),
                    pair("CAIRN_TASK", task),
                    pair("CAIRN_ATTEMPT", &attempt),
                ])
                .collect(),
            working_dir: match &offer.working_dir {
                Some(directory) => self.workspace.join(directory),
                None => self.workspace.clone(),
            },
            log_path: logs(&self.directory).join(run).join(milestone).join(format!("{stem}.log")),
            kept_link: self.directory.join("work").join(run).join(milestone).join(stem),
            log_limit: LOG_LIMIT,
            timeout: offer.timeout_millis.map(Duration::from_millis),
            grace: self.grace,
        }
    }
}

/// Where the logs of an agent are.
pub(crate) fn logs(directory: &Path) -> PathBuf {
    directory.join("logs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maker() -> JobMaker {
        JobMaker {
            agent: "a1".into(),
            workspace: "/srv/w".into(),
            directory: "/var/lib/a1".into(),
            grace: Duration::from_secs(5),
            resources: vec![("cpus".into(), 2000), ("gpu".into(), 1000)],
            hold: false,
        }
    }

    fn offer() -> Offer {
        Offer {
            task: 3,
            attempt: 2,
            name: "build/unit".into(),
            work: wire::Work::Run { script: "true".into() },
            env: vec![("LOG".into(), "info".into()), ("CAIRN_RUN".into(), "forged".into())],
            working_dir: Some("sub".into()),
            timeout_millis: Some(1500),
            resources: vec![("gpu".into(), 1000), ("cpus".into(), 500)],
            needs_grant: false,
            hold: true,
        }
    }

    #[test]
    fn a_job_has_all_that_its_offer_says_and_our_variables_are_ours() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let job = maker().job(7, "apollo.3", &offer(), TraceContext::parse(trace));
        assert_eq!(job.working_dir, Path::new("/srv/w/sub"));
        assert_eq!(job.log_path, Path::new("/var/lib/a1/logs/apollo.3/build/unit.2.log"));
        assert_eq!(job.timeout, Some(Duration::from_millis(1500)));
        let env: Vec<_> = job.own_env.iter().map(|(name, value)| (name.to_str(), value.to_str())).collect();
        let value = |name| {
            env.iter()
                .filter(|(own, _)| *own == Some(name))
                .map(|(_, value)| value.unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(value("LOG"), ["info"]);
        for (name, expected) in [
            ("CAIRN_PROJECT", "apollo"),
            ("CAIRN_RUN", "apollo.3"),
            ("CAIRN_MILESTONE", "build"),
            ("CAIRN_TASK", "unit"),
            ("CAIRN_ATTEMPT", "2"),
            ("CAIRN_AGENT", "a1"),
            ("TRACEPARENT", trace),
        ] {
            assert_eq!(value(name), [expected], "{name}");
        }
        let terms = maker().terms("apollo.3", &offer(), true).unwrap();
        assert_eq!((terms.work, terms.awaits_grant, terms.hold), (Work::Process, true, true));
        assert_eq!(*terms.resources, [(1, 1000), (0, 500)]);
    }

    #[test]
    fn what_can_never_run_here_is_told_apart() {
        let unfit = |run: &str, change: &dyn Fn(&mut Offer)| {
            let mut offer = offer();
            change(&mut offer);
            maker().terms(run, &offer, false).unwrap_err().to_string()
        };
        assert_eq!(unfit("../etc", &|_| {}), "`../etc` is no name of a run");
        for name in ["../x", "a/..", "a/b/c", "x", "/x"] {
            assert_eq!(
                unfit("a.1", &|offer| offer.name = name.into()),
                format!("`{name}` is no name of a task")
            );
        }
        assert_eq!(unfit("a.1", &|offer| offer.attempt = 0), "attempts count from 1");
        assert_eq!(unfit("a.1", &|offer| offer.env[0].0 = "A=B".into()), "`A=B` is no name of a variable");
        assert_eq!(unfit("a.1", &|offer| offer.resources[0].0 = "tpu".into()), "this agent has no `tpu`");
        let twice = |offer: &mut Offer| offer.resources = vec![("cpus".into(), 1500), ("cpus".into(), 1000)];
        assert_eq!(unfit("a.1", &twice), "it takes more `cpus` than this agent has");
        let nothing = |offer: &mut Offer| offer.work = wire::Work::Exec { argv: vec![] };
        assert_eq!(unfit("a.1", &nothing), "there is nothing to execute");
    }
}
