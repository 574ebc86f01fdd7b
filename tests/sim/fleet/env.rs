//! What everybody in the world shares: time, chance, what is going to happen, broker, store and judge.

use super::broker::{Broker, Connection, Letter, Party, Place};
use super::bug::Bug;
use super::judge::Judge;
use super::store::Store;
use crate::sim::random::Random;
use crate::sim::world::Trace;
use cairn_model::{Graph, Plan, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What is going to happen.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A message reaches its queue; one that its sender had to keep, if the sender still lives.
    Arrives(Letter, Option<Connection>),
    /// A queue hands out a message.
    Hand(Place),
    /// Somebody looks at how the connection is.
    Health(Party),
    Reconnect(Party),
    /// What was appended up to there is durable.
    Synced(u64, usize),
    /// The coordinator of that life looks at leases.
    Leases(u64),
    /// A run asks to be decided, or its loop refreshes what it shows.
    RunTick(u64, usize),
    Refresh(u64),
    /// A run may find room that it did not find before.
    Room(u64, usize),
    /// Somebody submits a plan, or wishes something.
    Submit(usize),
    Wish,
    CoordinatorStart,
    CoordinatorCrash,
    /// The coordinator of that life goes on, that was frozen while another took over.
    Wake(u64),
    /// On a host: it is postponed while the host is frozen.
    OnHost(usize, HostHappening),
    /// A host is frozen for that long: its agent, or its tasks' processes as well.
    Freeze(usize, Duration, bool),
    /// Something goes wrong with the network or the broker.
    NetworkFault,
    HostFault,
    /// Faults stop.
    Calm,
    /// In calm weather somebody puts right what people have left undone.
    PutRight,
}

#[derive(Clone, Debug)]
pub enum HostHappening {
    StartKeeper,
    /// A message is handed to the child of that life.
    Deliver(u64, u64, Letter),
    /// The transport tells how it is.
    Health,
    /// The keeper of that life looks at its clock.
    KeeperTick(u64),
    /// A batch of its journal is on disk.
    Written(u64),
    StartChild(u64),
    /// The child of that life tries to listen to its queue.
    Listen(u64),
    /// The child of that life gives its place at the shared queue up, if it still has no room.
    LeavePlace(u64),
    ProcessStarted(u64),
    ProcessEnds(u64),
    /// What a dead keeper left is ended.
    Sweep,
    /// Somebody ends the agent in good order.
    Terminate,
    CrashChild,
    CrashKeeper,
    /// The machine loses its power.
    CrashHost,
    /// So it does, and its disk is replaced.
    WipeHost,
    /// It is never seen again.
    Destroy,
}

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub calm: bool,
    pub max_delay_millis: u64,
    pub max_sync_millis: u64,
    pub loss_permille: u64,
    pub repeat_permille: u64,
    pub reorder_permille: u64,
    pub damage_permille: u64,
    /// Messages that take many seconds.
    pub straggler_permille: u64,
    /// Mean time between two faults of a kind.
    pub fault_every_millis: u64,
    pub wish_every_millis: u64,
}

impl Weather {
    pub fn new(random: &mut Random) -> Self {
        Self {
            calm: false,
            max_delay_millis: *random.pick(&[1, 20, 300]),
            max_sync_millis: *random.pick(&[1, 5, 200]),
            loss_permille: *random.pick(&[0, 0, 30, 150]),
            repeat_permille: *random.pick(&[0, 100, 400]),
            reorder_permille: *random.pick(&[0, 0, 200]),
            damage_permille: *random.pick(&[0, 0, 30]),
            straggler_permille: *random.pick(&[0, 10, 50]),
            fault_every_millis: *random.pick(&[1_500, 4_000, 12_000]),
            wish_every_millis: *random.pick(&[1_500, 5_000, 60_000]),
        }
    }

    /// No faults; messages still take their time.
    pub fn clear(&mut self) {
        let Self { max_delay_millis, max_sync_millis, fault_every_millis, wish_every_millis, .. } = *self;
        *self = Self {
            calm: true,
            max_delay_millis,
            max_sync_millis,
            loss_permille: 0,
            repeat_permille: 0,
            reorder_permille: 0,
            damage_permille: 0,
            straggler_permille: 0,
            fault_every_millis,
            wish_every_millis,
        };
    }
}

macro_rules! summary {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened in a world.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Summary { pub hash: u64, $($(#[$doc])* pub $name: u64,)* }

        impl Summary {
            pub fn add(&mut self, other: &Self) {
                self.hash ^= other.hash;
                $(self.$name += other.$name;)*
            }

            /// All counters, with their names.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

summary! {
    steps,
    events,
    starts,
    grants,
    /// Grants of attempts that lay in a queue that agents share.
    pooled_grants,
    /// Attempts that lay there too long.
    offers_expired,
    goodbyes,
    /// Runs that went on after their end.
    reopened_runs,
    reopened_tasks,
    /// Looks at a queue that somebody else listens at.
    refused_listeners,
    /// Lives of a name that came while another of that name had a lease.
    namesakes,
    /// Processes that ran on without a lease beside another attempt of their task.
    held_overlaps,
    /// Places at it that were given up, with what had been handed out.
    places_left,
    coordinator_crashes,
    /// Coordinators that woke when another had taken over.
    zombies,
    child_crashes,
    keeper_crashes,
    host_crashes,
    wipes,
    freezes,
    lease_ends,
    agents_lost,
    /// Events that a crash of the coordinator undid.
    lost_events,
    /// Records that a crash of a host undid.
    lost_records,
    lost_messages,
    damaged_messages,
    dead_letters,
    stale_reports,
    stale_orders,
    /// Processes that ran beside another attempt of their task because nobody was awake to end them.
    excused_overlaps,
    snapshots,
    completed,
    failed,
    cancelled,
}

/// A plan that becomes a run.
pub struct Planned {
    pub run: String,
    pub plan: Arc<Plan>,
    pub graph: Arc<Graph>,
}

pub struct Env {
    pub random: Random,
    pub now: Timestamp,
    pub bug: Option<Bug>,
    pub weather: Weather,
    pub plans: Vec<Planned>,
    /// Work that agents of the capability may do goes through a queue that they share (`Route::Shared`).
    pub is_shared: bool,
    pub broker: Broker,
    pub store: Store,
    pub judge: Judge,
    pub summary: Summary,
    pub trace: Trace,
    /// Lives of agents that a coordinator has just taken for lost because their lease had ended.
    pub expired: Vec<(String, u64)>,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    sequence: u64,
}

impl Env {
    pub fn new(
        mut random: Random,
        bug: Option<Bug>,
        plans: Vec<Planned>,
        is_shared: bool,
        trace: Trace,
    ) -> Self {
        Self {
            now: Timestamp(1_000_000_000),
            bug,
            weather: Weather::new(&mut random),
            is_shared,
            broker: Broker::default(),
            store: Store::new(&plans),
            judge: Judge::new(&plans),
            summary: Summary::default(),
            trace,
            expired: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            plans,
            random,
        }
    }

    pub fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub fn next(&mut self) -> Option<Happening> {
        let ((at, _), happening) = self.queue.pop_first()?;
        self.now = at;
        Some(happening)
    }

    pub fn after(&mut self, wait: Duration, happening: Happening) {
        self.at(self.now.plus(wait), happening);
    }

    pub fn at(&mut self, at: Timestamp, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), happening);
    }

    pub fn on_host(&mut self, host: usize, wait: Duration, happening: HostHappening) {
        self.after(wait, Happening::OnHost(host, happening));
    }

    pub fn note(&self, step: String) {
        self.trace.note(step);
    }

    /// Fails the world unless it `holds`.
    pub fn ensure(&self, holds: bool, complaint: &str) {
        assert!(holds, "{complaint} (at {})", self.now);
    }

    /// The run of that name.
    pub fn run_of(&self, name: &str) -> Option<usize> {
        self.plans.iter().position(|planned| planned.run == name)
    }
}
