//! Messages between machines, version [`PROTOCOL`]. `docs/protocol.md` explains them to authors of other agents.
//!
//! Invariants: enums and structs only grow at their end, under a new version; numbers are plain, so that any language
//! can read them; moments are microseconds since 1970 by the clock of who says them. In JSON a member that has a
//! natural nought may be left out.
//!
//! Nothing here is trusted: whoever reads a message checks what it says.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// The version of what is said here. Two sides use the highest that both know.
pub const PROTOCOL: u16 = 1;

/// What a coordinator says to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToAgent {
    /// Says hello to an agent that is not known here.
    Introduce,
    /// The agent is part of the fleet.
    Welcome(Welcome),
    /// A heartbeat was heard: the lease goes on from the moment at which it was sent.
    HeartbeatHeard {
        /// Whose.
        incarnation: u64,
        /// Which one.
        sequence: u64,
    },
    /// About the attempts of one run.
    Orders(RunOrders),
    /// Take nothing new; what runs goes on.
    Drain,
    /// Take work again.
    Undrain,
}

/// What an agent that has joined is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Welcome {
    /// Whom it concerns.
    pub incarnation: u64,
    /// Who says so: a name for people.
    pub coordinator: String,
    /// The version to speak. In JSON `protocol` is the version of the message itself.
    #[serde(rename = "chosen_protocol")]
    pub protocol: u16,
    /// How long an attempt may go on without an answered heartbeat.
    pub lease_millis: u64,
    /// How often to send one.
    pub heartbeat_millis: u64,
}

/// Orders about one run, in the order in which they were decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct RunOrders {
    /// The run, `PROJECT.N`.
    pub run: String,
    /// The epoch of the coordinator; an agent refuses one lower than it has heard for the run.
    pub epoch: u64,
    /// The life of the agent that is meant; 0 on a shared queue.
    pub incarnation: u64,
    /// What to do.
    pub orders: Vec<WireOrder>,
}

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WireOrder {
    /// Run this.
    Offer(Box<Offer>),
    /// Start this: that you may is durable.
    Grant(Attempt),
    /// End this.
    Stop(Attempt),
    /// Forget this: its end is durable.
    Acknowledge(Attempt),
    /// Tell again all that you have of the run: a new owner asks, whose epoch this is.
    Recall,
    /// The run is over; nobody asks for anything of it any more.
    Forget,
}

/// An attempt of a task of the run that a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Attempt {
    /// The task's number in its plan.
    pub task: u32,
    /// The attempt's number, from 1: the fencing token.
    pub attempt: u32,
}

/// An attempt with all that is needed to run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Offer {
    /// The task's number in its plan.
    pub task: u32,
    /// The attempt's number, from 1: the fencing token.
    pub attempt: u32,
    /// `MILESTONE/TASK`.
    pub name: String,
    /// What to do.
    pub work: Work,
    /// The plan's and the task's environment; the variables that begin with `CAIRN_` are the agent's to set.
    pub env: Vec<(String, String)>,
    /// Where to start, relative to the agent's workspace.
    pub working_dir: Option<String>,
    /// How long it may run.
    pub timeout_millis: Option<u64>,
    /// What it takes, in thousandths, by name.
    pub resources: Vec<(String, u64)>,
    /// Start only on a grant.
    pub needs_grant: bool,
    /// Without an answered heartbeat, go on rather than end it at the lease's end.
    pub hold: bool,
}

/// What an attempt does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Work {
    /// A script for the shell, unchanged.
    Run {
        /// Its text.
        script: String,
    },
    /// A program.
    Exec {
        /// It and its arguments.
        argv: Vec<String>,
    },
    /// A timer: no process, no slot.
    Wait {
        /// How long.
        micros: u64,
    },
}

/// What an agent says to its coordinators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToCoordinator {
    /// It is there, and what it has.
    Hello(Hello),
    /// It lives, and what it holds.
    Heartbeat(Heartbeat),
    /// About attempts of one run.
    Reports(RunReports),
    /// It ends in good order, with nothing left to say.
    Goodbye {
        /// Its name.
        agent: String,
        /// Its life.
        incarnation: u64,
    },
    /// A piece of a task's output.
    Output(Output),
}

/// An agent introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Hello {
    /// Its name, `[a-z0-9][a-z0-9-]{0,62}`.
    pub agent: String,
    /// Rises each time that it starts with no memory of its last life.
    pub incarnation: u64,
    /// The lowest and the highest version that it speaks.
    #[serde(rename = "protocols", default = "defaults::protocols")]
    pub protocol: (u16, u16),
    /// The version of its program, for people.
    #[serde(default)]
    pub version: String,
    /// How it wants to be spoken to: a content type of [`super`]'s codecs.
    #[serde(default = "defaults::content_type")]
    pub content_type: String,
    /// Processes at a time.
    pub slots: u32,
    /// Attempts that it takes beyond its slots.
    #[serde(default)]
    pub backlog: u32,
    /// Timers at a time.
    #[serde(default)]
    pub timers: u32,
    /// Resources in thousandths, sorted by name.
    #[serde(default)]
    pub resources: Vec<(String, u64)>,
    /// Labels, sorted by name.
    #[serde(default)]
    pub labels: Vec<(String, String)>,
    /// The shared queue that it takes work from besides its own.
    pub capability: Option<String>,
    /// It takes nothing new.
    #[serde(default)]
    pub draining: bool,
}

/// An agent lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Heartbeat {
    /// Its name.
    pub agent: String,
    /// Its life.
    pub incarnation: u64,
    /// Counts up, so that an answer tells which one was heard.
    pub sequence: u64,
    /// It takes nothing new.
    #[serde(default)]
    pub draining: bool,
    /// All that it holds and that was not acknowledged, by run.
    pub holds: Vec<Held>,
}

/// What an agent holds of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Held {
    /// The run.
    pub run: String,
    /// The highest epoch that it has heard for it.
    pub epoch: u64,
    /// Attempts, sorted.
    pub attempts: Vec<Attempt>,
}

/// Reports about one run, in the order in which things happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct RunReports {
    /// Who says so.
    pub agent: String,
    /// Its life.
    pub incarnation: u64,
    /// The run.
    pub run: String,
    /// What there is to say.
    pub reports: Vec<WireReport>,
}

/// A report about an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct WireReport {
    /// The task's number in its plan.
    pub task: u32,
    /// The attempt's number.
    pub attempt: u32,
    /// What there is to say.
    #[serde(flatten)]
    pub kind: WireReportKind,
}

/// What can be said about an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WireReportKind {
    /// It is in the agent's journal: it will run, or its end will be told.
    Accepted {
        /// It starts only on a grant.
        awaits_grant: bool,
    },
    /// The agent will not run it, and has not.
    Declined {
        /// Why.
        reason: String,
    },
    /// It runs.
    Started {
        /// Since when; 0: since it is heard.
        #[serde(default)]
        at_micros: i64,
    },
    /// It is on its way.
    Progress {
        /// Thousandths of the work done.
        permille: u16,
        /// What it said.
        message: Option<String>,
    },
    /// It has ended. Told again until it is acknowledged.
    Finished {
        /// How.
        outcome: WireOutcome,
        /// When it began; 0: when it was heard to run.
        #[serde(default)]
        started_micros: i64,
        /// When it ended; 0: when that is heard.
        #[serde(default)]
        finished_micros: i64,
    },
    /// It has printed nothing, and will not: no output comes. Said once, with its end; who misses it waits for a while.
    Silent,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WireOutcome {
    /// As it should.
    Completed,
    /// Not as it should.
    Failed {
        /// The stable name of the cause: [`cairn_model::FailureKind`]. Without one it is the exit code, or the signal
        /// if that is negative.
        #[serde(default)]
        kind: String,
        /// What a person reads.
        #[serde(default)]
        message: String,
        /// The exit code, where the process gave one.
        exit_code: Option<i32>,
    },
    /// A coordinator asked to stop it while it ran.
    Stopped,
    /// It was stopped, or given back, before anything ran.
    NotStarted,
    /// It was ended, or is gone, without a result, by no wish of the coordinator's: the lease had ended, or the
    /// machine went down.
    Lost {
        /// What a person reads.
        reason: String,
    },
}

/// A piece of what a task printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Output {
    /// Who says so.
    pub agent: String,
    /// The run.
    pub run: String,
    /// `MILESTONE/TASK`.
    pub task: String,
    /// The attempt's number.
    pub attempt: u32,
    /// Where in the log the piece begins, in bytes: what comes twice lands on itself.
    pub offset: u64,
    /// The piece; in JSON as base64.
    #[serde(with = "base64_bytes")]
    pub bytes: Vec<u8>,
    /// Nothing follows.
    pub is_last: bool,
}

/// What an agent that speaks JSON may leave unsaid.
mod defaults {
    pub fn protocols() -> (u16, u16) {
        (1, 1)
    }

    pub fn content_type() -> String {
        super::super::codec::Codec::Json.content_type().to_owned()
    }
}

/// Bytes in JSON.
mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
