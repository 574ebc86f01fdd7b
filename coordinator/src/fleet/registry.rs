//! Who is in the fleet.

use cairn_model::{AgentRole, AgentSpec, Timestamp};
use cairn_shared::message::wire::{Heartbeat, Hello, PROTOCOL, ToAgent, Welcome};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Agents that may be known at a time, lost ones among them: some KiB each.
pub const MAX_AGENTS: usize = 10_000;

/// What one agent may say that it has; beyond it is cut. A machine has some hundred cores.
const MAX_SLOTS: u32 = 4_096;
const MAX_BACKLOG: u32 = 4_096;
const MAX_TIMERS: u32 = 65_536;

/// Resources, and labels, of one agent; and bytes of each name and value.
const MAX_ENTRIES: usize = 64;
const MAX_ENTRY_BYTES: usize = 256;

/// Letters of a name that cannot be one that are told, and refusals that are told once each.
const MAX_TOLD_NAME: usize = 64;
const MAX_TOLD_REFUSALS: usize = 1_000;

/// Heartbeats in a lease: two may be lost, and the third is still in time.
const HEARTBEATS_PER_LEASE: u32 = 5;

/// How long an agent that said goodbye is still known, for those who look: what ended lately is of interest.
const LEFT_KNOWN_FOR: Duration = Duration::from_secs(60 * 60);

/// How long an agent that was lost is still known: until somebody who comes back the next morning has seen it.
const LOST_KNOWN_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The lease, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long an agent is believed to be there after it was heard.
    pub lease: Duration,
}

impl Timing {
    /// How often agents say that they live.
    #[must_use]
    pub fn heartbeat(self) -> Duration {
        self.lease / HEARTBEATS_PER_LEASE
    }
}

/// An agent as the fleet knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it offers.
    pub spec: AgentSpec,
    /// The version of its program, for people.
    pub version: String,
    /// How it wants to be spoken to.
    pub content_type: String,
    /// The shared queue that it takes work from besides its own.
    pub capability: Option<String>,
    /// When it joined.
    pub joined_at: Timestamp,
    /// When it was last heard.
    pub heard_at: Timestamp,
    /// Until when it is believed to be there.
    pub expires_at: Timestamp,
    /// It says that it takes nothing new.
    pub is_draining: bool,
    /// Somebody asked that it be given nothing new.
    pub is_drained: bool,
    /// Its heartbeats do not come as they should: it is believed to be there, and given nothing new until it is heard.
    pub is_silent: bool,
    /// It is gone.
    pub is_lost: bool,
    /// It is gone, and said goodbye.
    pub has_left: bool,
}

impl Member {
    /// Whether it may be given work.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        !self.is_lost && !self.is_draining && !self.is_drained && !self.is_silent
    }

    /// Whether it went so long ago that it is of no interest any more.
    fn is_forgotten(&self, now: Timestamp) -> bool {
        let known_for = if self.has_left { LEFT_KNOWN_FOR } else { LOST_KNOWN_FOR };
        self.is_lost && now.since(self.heard_at) > known_for
    }
}

/// What follows from what was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Say something to an agent.
    Say {
        /// To whom.
        agent: String,
        /// What.
        message: ToAgent,
    },
    /// An agent is there, in a life that was not known or was lost.
    Joined {
        /// Which.
        agent: String,
    },
    /// An agent has more, or less, than before; or takes work, or not; or is believed to be there.
    Changed {
        /// Which.
        agent: String,
    },
    /// An agent will not report any more in this life.
    Lost {
        /// Which.
        agent: String,
        /// Its life.
        incarnation: u64,
        /// Why it is taken for gone.
        reason: String,
        /// What became of it.
        gone: Gone,
    },
    /// An agent was not let in. Told once, until it is.
    Refused {
        /// The name that it gives itself.
        agent: String,
        /// Why.
        why: Refusal,
    },
}

/// Why an agent is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has no name that an agent may have.
    #[error("that is no name: use a-z, 0-9 and -, at most 63 of them, and not - at the beginning")]
    Name,
    /// It speaks another version of the protocol.
    #[error(
        "it speaks versions {lowest} to {highest} of the protocol, and this coordinator {PROTOCOL}: bring both to the same release"
    )]
    Protocol {
        /// The lowest that it speaks.
        lowest: u16,
        /// The highest.
        highest: u16,
    },
    /// There are too many.
    #[error("{MAX_AGENTS} agents are known, which is the limit")]
    Full,
}

/// What became of an agent that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Its lease ended: it did not say goodbye.
    Silent,
    /// It was ended as planned, and said goodbye.
    AsPlanned,
}

/// The agents of a deployment.
#[derive(Clone, Debug)]
pub struct Registry {
    timing: Timing,
    coordinator: String,
    members: BTreeMap<String, Member>,
    /// Whom somebody asked to be given nothing new, whether they are there or not. At most [`MAX_AGENTS`].
    drained: BTreeSet<String>,
    /// When the clock was last looked at.
    looked_at: Timestamp,
    /// Messages of agents can reach us.
    hears: bool,
    stale: u64,
    /// Those that were not let in, and whose refusal was told.
    refused: BTreeSet<String>,
}

impl Registry {
    /// A fleet without agents; `coordinator` is our name for people.
    #[must_use]
    pub fn new(coordinator: &str, timing: Timing, now: Timestamp) -> Self {
        Self {
            timing,
            coordinator: coordinator.to_owned(),
            members: BTreeMap::new(),
            drained: BTreeSet::new(),
            looked_at: now,
            hears: true,
            stale: 0,
            refused: BTreeSet::new(),
        }
    }

    /// Agents that were asked to take nothing new when there was a coordinator before this one.
    pub fn remember_drained(&mut self, agents: impl IntoIterator<Item = String>) {
        self.drained.extend(agents.into_iter().filter(|agent| is_agent_id(agent)).take(MAX_AGENTS));
    }

    /// All that are known, by name; also those that are lost.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// One of them.
    #[must_use]
    pub fn member(&self, agent: &str) -> Option<&Member> {
        self.members.get(agent)
    }

    /// The lease.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// What lives that are over have said: counted, without effect.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// An agent that the log knows to have been there: it has a full lease to be heard, and is asked to say hello.
    pub fn expect(&mut self, spec: &AgentSpec, now: Timestamp, actions: &mut Vec<Action>) {
        if let Some(known) = self.members.get_mut(&spec.id) {
            // Runs were joined by it in different lives: the last one counts. Who has said hello tells it itself.
            if known.content_type.is_empty() && known.spec.incarnation < spec.incarnation {
                known.spec = spec.clone();
                actions.push(Action::Changed { agent: spec.id.clone() });
            }
            return;
        }
        if !is_agent_id(&spec.id) || self.members.len() >= MAX_AGENTS {
            return;
        }
        let member = Member {
            spec: spec.clone(),
            version: String::new(),
            content_type: String::new(),
            capability: None,
            joined_at: now,
            heard_at: now,
            expires_at: now.plus(self.timing.lease),
            is_draining: false,
            is_drained: self.drained.contains(&spec.id),
            is_silent: false,
            is_lost: false,
            has_left: false,
        };
        self.members.insert(spec.id.clone(), member);
        actions.push(Action::Changed { agent: spec.id.clone() });
        actions.push(Action::Say { agent: spec.id.clone(), message: ToAgent::Introduce });
    }

    /// An agent introduces itself.
    pub fn hello(&mut self, hello: Hello, now: Timestamp, actions: &mut Vec<Action>) {
        if let Err(why) = self.admit(&hello) {
            self.stale += 1;
            let agent: String = hello.agent.chars().take(MAX_TOLD_NAME).collect();
            if self.refused.len() < MAX_TOLD_REFUSALS && self.refused.insert(agent.clone()) {
                actions.push(Action::Refused { agent, why });
            }
            return;
        }
        self.refused.remove(&hello.agent);
        let agent = hello.agent.clone();
        let known = self.members.get(&agent);
        if known.is_some_and(|member| member.spec.incarnation > hello.incarnation) {
            // A life that is over, or a copy of it. It is not answered, so its lease ends.
            self.stale += 1;
            return;
        }
        if known.is_some_and(|member| member.spec.incarnation < hello.incarnation && !member.is_lost) {
            // The life before may still run something, on another machine if two have one name. It has until the end of
            // its lease, and whoever said hello says it again.
            return;
        }
        let mut member = member_of(hello, now, now.plus(self.timing.lease));
        member.is_drained = self.drained.contains(&agent);
        match known {
            Some(known) if known.spec.incarnation == member.spec.incarnation && !known.is_lost => {
                member.joined_at = known.joined_at;
                let is_changed = known.spec != member.spec
                    || known.takes_work() != member.takes_work()
                    || known.capability != member.capability;
                if is_changed {
                    actions.push(Action::Changed { agent: agent.clone() });
                }
            }
            _ => actions.push(Action::Joined { agent: agent.clone() }),
        }
        let welcome = Welcome {
            incarnation: member.spec.incarnation,
            coordinator: self.coordinator.clone(),
            protocol: PROTOCOL,
            lease_millis: millis(self.timing.lease),
            heartbeat_millis: millis(self.timing.heartbeat()),
        };
        self.members.insert(agent.clone(), member);
        actions.push(Action::Say { agent, message: ToAgent::Welcome(welcome) });
    }

    /// Whether an agent may come in.
    fn admit(&mut self, hello: &Hello) -> Result<(), Refusal> {
        let (lowest, highest) = hello.protocol;
        let is_new = !self.members.contains_key(&hello.agent);
        match () {
            () if !is_agent_id(&hello.agent) => Err(Refusal::Name),
            () if !(lowest..=highest).contains(&PROTOCOL) => Err(Refusal::Protocol { lowest, highest }),
            () if is_new && !self.make_room() => Err(Refusal::Full),
            () => Ok(()),
        }
    }

    /// An agent lives. Says whether it is one that we know.
    pub fn heartbeat(&mut self, beat: &Heartbeat, now: Timestamp, actions: &mut Vec<Action>) -> bool {
        let Some(member) = self.members.get_mut(&beat.agent) else {
            if is_agent_id(&beat.agent) {
                actions.push(Action::Say { agent: beat.agent.clone(), message: ToAgent::Introduce });
            }
            return false;
        };
        if member.spec.incarnation > beat.incarnation {
            self.stale += 1;
            return false;
        }
        if member.spec.incarnation < beat.incarnation || member.is_lost || member.content_type.is_empty() {
            actions.push(Action::Say { agent: beat.agent.clone(), message: ToAgent::Introduce });
            if member.spec.incarnation != beat.incarnation || member.is_lost {
                return false;
            }
        }
        member.heard_at = now;
        member.expires_at = now.plus(self.timing.lease);
        let was_silent = std::mem::take(&mut member.is_silent);
        let was_draining = std::mem::replace(&mut member.is_draining, beat.draining);
        if member.is_drained && !beat.draining {
            actions.push(Action::Say { agent: beat.agent.clone(), message: ToAgent::Drain });
        }
        let heard = ToAgent::HeartbeatHeard { incarnation: beat.incarnation, sequence: beat.sequence };
        actions.push(Action::Say { agent: beat.agent.clone(), message: heard });
        if was_silent || was_draining != beat.draining {
            // After the answer: it may have no lease to take work before it.
            actions.push(Action::Changed { agent: beat.agent.clone() });
        }
        true
    }

    /// Whether reports of that life are to be listened to. One that is not known is asked to say hello.
    pub fn is_current(&mut self, agent: &str, incarnation: u64, actions: &mut Vec<Action>) -> bool {
        match self.members.get(agent) {
            Some(member) if member.spec.incarnation == incarnation && !member.is_lost => true,
            Some(member) if member.spec.incarnation > incarnation => {
                self.stale += 1;
                false
            }
            Some(_) | None => {
                if is_agent_id(agent) {
                    actions.push(Action::Say { agent: agent.to_owned(), message: ToAgent::Introduce });
                }
                false
            }
        }
    }

    /// An agent ends in good order.
    pub fn goodbye(&mut self, agent: &str, incarnation: u64, actions: &mut Vec<Action>) {
        match self.members.get_mut(agent) {
            Some(member) if member.spec.incarnation == incarnation && !member.is_lost => {
                (member.is_lost, member.has_left) = (true, true);
                actions.push(Action::Lost {
                    agent: agent.to_owned(),
                    incarnation,
                    reason: "it ended in good order".to_owned(),
                    gone: Gone::AsPlanned,
                });
            }
            _ => self.stale += 1,
        }
    }

    /// Gives an agent nothing new, or work again. `false` if there is no such agent.
    pub fn drain(&mut self, agent: &str, drain: bool, actions: &mut Vec<Action>) -> bool {
        match self.members.get_mut(agent) {
            Some(member) => {
                if std::mem::replace(&mut member.is_drained, drain) != drain {
                    actions.push(Action::Changed { agent: agent.to_owned() });
                }
            }
            // Of one that is not known any more the wish is taken back.
            None if !drain && self.drained.contains(agent) => {}
            None => return false,
        }
        if drain {
            if self.drained.len() >= MAX_AGENTS {
                self.drained.retain(|agent| self.members.contains_key(agent));
            }
            self.drained.insert(agent.to_owned());
        } else {
            self.drained.remove(agent);
        }
        // Said again as well: the word may have been lost, or given by a coordinator before us.
        let message = if drain { ToAgent::Drain } else { ToAgent::Undrain };
        actions.push(Action::Say { agent: agent.to_owned(), message });
        true
    }

    /// Whether messages of agents can reach us. While they cannot, nobody is taken for lost; when they can again,
    /// everybody has a full lease to be heard.
    pub fn set_hearing(&mut self, hears: bool, now: Timestamp) {
        if hears && !self.hears {
            self.grant_grace(now);
        }
        self.hears = hears;
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let slept = now.since(self.looked_at) > self.timing.heartbeat() * 2;
        self.looked_at = now;
        if slept {
            // We were not there to hear: what was said meanwhile is still to be read.
            self.grant_grace(now);
        } else {
            self.note_silence(now, actions);
        }
        if !self.hears {
            return;
        }
        self.members.retain(|_, member| !member.is_forgotten(now));
        let lease = self.timing.lease;
        for (agent, member) in self.members.iter_mut().filter(|(_, member)| !member.is_lost) {
            if member.expires_at <= now {
                member.is_lost = true;
                actions.push(Action::Lost {
                    agent: agent.clone(),
                    incarnation: member.spec.incarnation,
                    reason: format!(
                        "it was not heard for {:.1} s",
                        now.since(member.heard_at).max(lease).as_secs_f64()
                    ),
                    gone: Gone::Silent,
                });
            }
        }
    }

    /// When to be told [`tick`](Self::tick) at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Timestamp {
        let ends = self.members.values().filter(|member| !member.is_lost && self.hears);
        let next = ends.map(|member| member.expires_at).min();
        // Often enough that being away is noticed as such.
        self.looked_at.plus(self.timing.heartbeat()).min(next.unwrap_or(Timestamp(i64::MAX)))
    }

    /// Who is not heard may have no lease any more, whoever is to blame, and declines what it is offered.
    fn note_silence(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let longest = self.timing.heartbeat() * 2;
        for (agent, member) in &mut self.members {
            if !member.is_lost && !member.is_silent && now.since(member.heard_at) > longest {
                member.is_silent = true;
                actions.push(Action::Changed { agent: agent.clone() });
            }
        }
    }

    fn grant_grace(&mut self, now: Timestamp) {
        let until = now.plus(self.timing.lease);
        for member in self.members.values_mut() {
            member.expires_at = member.expires_at.max(until);
        }
    }

    /// Room for one more: the one that is lost for longest goes.
    fn make_room(&mut self) -> bool {
        if self.members.len() < MAX_AGENTS {
            return true;
        }
        let lost = self.members.iter().filter(|(_, member)| member.is_lost);
        let oldest = lost.min_by_key(|(_, member)| member.heard_at).map(|(agent, _)| agent.clone());
        oldest.is_some_and(|agent| self.members.remove(&agent).is_some())
    }
}

/// Whether it can be the name of an agent: `[a-z0-9][a-z0-9-]{0,62}`. It becomes part of a queue's name.
#[must_use]
pub fn is_agent_id(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && is_word(bytes[0])
        && bytes.iter().all(|&byte| is_word(byte) || byte == b'-')
}

fn member_of(hello: Hello, now: Timestamp, expires_at: Timestamp) -> Member {
    let spec = AgentSpec {
        id: hello.agent,
        incarnation: hello.incarnation,
        slots: hello.slots.min(MAX_SLOTS),
        backlog: hello.backlog.min(MAX_BACKLOG),
        timers: hello.timers.min(MAX_TIMERS),
        resources: entries(hello.resources, |_| 0),
        labels: entries(hello.labels, String::len),
        role: AgentRole::Own,
    };
    Member {
        spec,
        version: hello.version.chars().take(MAX_ENTRY_BYTES).collect(),
        content_type: hello.content_type,
        capability: hello.capability.filter(|name| is_agent_id(name)),
        joined_at: now,
        heard_at: now,
        expires_at,
        is_draining: hello.draining,
        is_drained: false,
        is_silent: false,
        is_lost: false,
        has_left: false,
    }
}

/// What an agent says that it has, sorted and within bounds.
fn entries<T>(said: Vec<(String, T)>, bytes: impl Fn(&T) -> usize) -> Vec<(String, T)> {
    let fits = |(name, value): &(String, T)| name.len() <= MAX_ENTRY_BYTES && bytes(value) <= MAX_ENTRY_BYTES;
    let mut kept: Vec<_> = said.into_iter().filter(fits).take(MAX_ENTRIES).collect();
    kept.sort_by(|(one, _), (other, _)| one.cmp(other));
    kept.dedup_by(|(one, _), (other, _)| one == other);
    kept
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
