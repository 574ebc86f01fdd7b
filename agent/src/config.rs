//! What an agent can be told: the keys of `config/agent.yaml`, which explains each.

use crate::keeper::{Launch, Settings};
use crate::runtime::{MAX_BACKLOG, MAX_TIMERS, STOP_GRACE, local_labels};
use cairn_model::ids::is_project_id;
use cairn_model::plan::{CPUS, MEMORY};
use cairn_shared::config::{LogConfig, TransportUrl, resource_amount};
pub use cairn_shared::transport::amqp::QueueType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Slots at most: each is a thread.
const MAX_SLOTS: usize = 4096;

/// Attempts that may wait at most: each is kept in memory and in the journal.
const LARGEST_BACKLOG: u32 = 65_536;

/// The configuration of an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// Its name; the host's, made to fit, if there is none.
    pub id: Option<String>,
    /// How messages go.
    pub transport: TransportUrl,
    /// Certificates (PEM) that vouch for the broker besides those of the system.
    pub transport_authority: Option<PathBuf>,
    /// The kind of queue.
    pub queue_type: QueueType,
    /// The state directory.
    pub state: PathBuf,
    /// Where tasks start.
    pub workspace: Option<PathBuf>,
    /// Processes at a time; one for each core if nobody says.
    pub slots: Option<NonZeroUsize>,
    /// Attempts that may wait.
    pub backlog: u32,
    /// Timers at a time.
    pub timers: u32,
    /// Labels besides those of the machine.
    pub labels: BTreeMap<String, String>,
    /// Resources besides those of the machine, or instead of them.
    pub resources: BTreeMap<String, String>,
    /// The shared queue that it takes work from.
    pub capability: Option<String>,
    /// What becomes of tasks when the lease ends.
    pub on_partition: OnPartition,
    /// Where to serve HTTP; nowhere if empty.
    pub listen: String,
    /// How long a task may take to end after SIGTERM.
    #[serde(with = "cairn_shared::config::duration")]
    pub grace: Duration,
    /// How large logs may be together whose output the broker does not have yet.
    pub logs_limit: String,
    /// The log.
    pub log: LogConfig,
}

/// What becomes of tasks when the lease ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnPartition {
    /// They are ended, so that they can be run elsewhere.
    #[default]
    Fence,
    /// They go on; if the coordinator gives them to others they run twice.
    Hold,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            id: None,
            transport: TransportUrl::InProcess,
            transport_authority: None,
            queue_type: QueueType::Classic,
            state: PathBuf::from(".milestones"),
            workspace: None,
            slots: None,
            backlog: MAX_BACKLOG,
            timers: MAX_TIMERS,
            labels: BTreeMap::new(),
            resources: BTreeMap::new(),
            capability: None,
            on_partition: OnPartition::Fence,
            listen: "127.0.0.1:7421".to_owned(),
            grace: STOP_GRACE,
            logs_limit: "1GiB".to_owned(),
            log: LogConfig::default(),
        }
    }
}

/// Why an agent cannot be as it is told to be.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// No name of an agent.
    #[error("`id`: {0:?} is no name of an agent: use up to 63 of a-z, 0-9 and `-`, and begin with no `-`")]
    Id(String),
    /// No name of a capability.
    #[error("`capability`: {0:?} is no name: use up to 63 of a-z, 0-9 and `-`, and begin with no `-`")]
    Capability(String),
    /// There is nobody to take work from.
    #[error(
        "`transport`: an agent of its own needs a broker: --transport amqp://HOST (`cairn run` and a coordinator with \
         `transport: in-process` have agents within their process)"
    )]
    NoBroker,
    /// More than an agent can have.
    #[error("`{key}`: {value} is more than {limit}")]
    TooMany {
        /// The key.
        key: &'static str,
        /// What it says.
        value: usize,
        /// The most that can be.
        limit: usize,
    },
    /// No amount.
    #[error("`{key}`: {why}")]
    Amount {
        /// The key.
        key: String,
        /// What is wrong, and what to write.
        why: String,
    },
    /// A label without a name or value.
    #[error("`labels`: a label has a name and a value")]
    Label,
}

impl AgentConfig {
    /// What an agent is by this configuration on this machine. `state` is the absolute path of the state directory.
    ///
    /// # Errors
    /// A value that no agent can have.
    pub fn settings(&self, state: &Path, launch: Launch, command_line: String) -> Result<Settings, Unusable> {
        let id = self.id.clone().unwrap_or_else(|| id_of(&host_name()));
        if !is_project_id(&id) {
            return Err(Unusable::Id(id));
        }
        if let Some(capability) = self.capability.as_ref().filter(|name| !is_project_id(name)) {
            return Err(Unusable::Capability(capability.clone()));
        }
        let transport = match (&self.transport, &launch) {
            (_, Launch::Here(_)) => String::new(),
            (TransportUrl::Amqp(url), Launch::Program { .. }) => url.expose().to_owned(),
            (TransportUrl::InProcess, Launch::Program { .. }) => return Err(Unusable::NoBroker),
        };
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let slots = self.slots.unwrap_or(cores);
        for (key, value, limit) in [
            ("slots", slots.get(), MAX_SLOTS),
            ("backlog", self.backlog as usize, LARGEST_BACKLOG as usize),
            ("timers", self.timers as usize, MAX_TIMERS as usize),
        ] {
            if value > limit {
                return Err(Unusable::TooMany { key, value, limit });
            }
        }
        let amount = |key: String, name: &str, text: &str| {
            resource_amount(name, text).map_err(|why| Unusable::Amount { key, why })
        };
        let mut resources = BTreeMap::from([
            (CPUS.to_owned(), cores.get() as u64 * 1000),
            (MEMORY.to_owned(), memory_bytes().saturating_mul(1000)),
        ]);
        for (name, text) in &self.resources {
            resources.insert(name.clone(), amount(format!("resources.{name}"), name, text)?);
        }
        let mut labels: BTreeMap<_, _> = local_labels().into_iter().collect();
        labels.extend(self.labels.clone());
        if labels.iter().any(|(name, value)| name.is_empty() || value.is_empty()) {
            return Err(Unusable::Label);
        }
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Settings {
            directory: state.join("agents").join(&id),
            id,
            workspace: self.workspace.as_deref().map_or_else(|| state.join("workspace"), absolute),
            transport,
            certificate_authority: None,
            queue_type: match self.queue_type {
                QueueType::Classic => None,
                QueueType::Quorum => Some(crate::link::QUORUM.to_owned()),
            },
            slots,
            backlog: self.backlog,
            timers: self.timers,
            resources: resources.into_iter().collect(),
            labels: labels.into_iter().collect(),
            capability: self.capability.clone(),
            hold: self.on_partition == OnPartition::Hold,
            listen: self.listen.clone(),
            grace: self.grace,
            logs_limit: amount("logs_limit".to_owned(), MEMORY, &self.logs_limit)? / 1000,
            withheld: withheld(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())),
            launch,
            command_line,
        })
    }
}

/// Variables that are meant for us: some hold secrets, and what a task has of this kind is its own.
fn withheld(names: impl Iterator<Item = String>) -> Vec<String> {
    let ours =
        |name: &String| name.starts_with("CAIRN_") || name == "NOTIFY_SOCKET" || name == "WATCHDOG_PID";
    names.filter(ours).collect()
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram)
}

/// The name of a host as that of an agent: what does not fit becomes `-`.
fn id_of(host: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = host.chars().map(fit).skip_while(|c| *c == '-').take(63).collect();
    if name.is_empty() { "agent".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_shared::config::load;

    fn launch() -> Launch {
        Launch::Program { program: "/bin/cairn".into(), arguments: Vec::new() }
    }

    fn read(text: &str) -> Result<Settings, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let flags = [("transport".to_owned(), "amqp://me:secret@broker".to_owned())];
        let loaded = load::<AgentConfig>(Some(file.path()), std::iter::empty(), &flags);
        let config = loaded.map_err(|error| error.to_string())?.value;
        config.settings(Path::new("/s"), launch(), String::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_of_all_keys_says_what_is_the_default() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/agent.yaml"));
        let loaded = load::<AgentConfig>(Some(path), std::iter::empty(), &[]).unwrap();
        let shown = |config: &AgentConfig| serde_json::to_value(config).unwrap();
        assert_eq!(shown(&loaded.value), shown(&AgentConfig::default()));
        let text = std::fs::read_to_string(path).unwrap();
        for setting in loaded.settings {
            let key = setting.key.rsplit('.').next().unwrap_or_default();
            assert!(text.lines().any(|line| line.trim_start().starts_with(&format!("{key}:"))), "{key}");
        }
    }

    #[test]
    fn amounts_labels_and_limits_are_read() {
        let settings = read(
            "id: a-1\nresources: {gpu: 2, memory: 1GiB}\nlabels: {zone: b}\nslots: 3\nlogs_limit: 1MiB\n",
        );
        let settings = settings.unwrap();
        let amount = |name: &str| settings.resources.iter().find(|(own, _)| own == name).unwrap().1;
        assert_eq!((amount("gpu"), amount("memory")), (2000, 1000 << 30));
        assert!(amount("cpus") >= 1000, "what the machine has stays");
        assert!(settings.labels.contains(&("zone".into(), "b".into())) && settings.labels.len() == 3);
        assert_eq!((settings.logs_limit, settings.slots.get()), (1 << 20, 3));
        assert_eq!(settings.directory, Path::new("/s/agents/a-1"));
        assert_eq!(settings.workspace, Path::new("/s/workspace"));
        assert_eq!(settings.transport, "amqp://me:secret@broker");
    }

    #[test]
    fn what_no_agent_can_have_is_said_with_its_key() {
        for (text, told) in [
            ("id: Not_One\n", "`id`: \"Not_One\""),
            ("id: a\ncapability: a/b\n", "`capability`: \"a/b\""),
            ("id: a\nslots: 100000\n", "`slots`: 100000 is more than 4096"),
            ("id: a\nresources: {gpu: many}\n", "`resources.gpu`: this is not an amount"),
            ("id: a\nslot: 1\n", "slots"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        let config = AgentConfig { id: Some("a".into()), ..AgentConfig::default() };
        let error = config.settings(Path::new("/s"), launch(), String::new()).unwrap_err();
        assert!(matches!(error, Unusable::NoBroker));
    }

    #[test]
    fn a_host_gives_its_name_as_far_as_it_fits_and_secrets_stay_here() {
        for (host, id) in
            [("Build-7.example.org", "build-7-example-org"), ("-x", "x"), ("", "agent"), ("…", "agent")]
        {
            assert_eq!(id_of(host), id);
            assert!(is_project_id(&id_of(host)));
        }
        let names = ["PATH", "CAIRN_TRANSPORT", "NOTIFY_SOCKET"].map(str::to_owned);
        assert_eq!(withheld(names.into_iter()), ["CAIRN_TRANSPORT", "NOTIFY_SOCKET"]);
    }
}
