//! A broker that is allowed all that a broker does: it loses, repeats, reorders, delays and damages messages, is cut off
//! from one party or the other, one way or both ways, blocks, loses its queues, and hands out again what was not settled.
//!
//! It carries bytes: what is said goes through the codec both ways. Damage that would still be read as a message is
//! turned into a loss: checksums on the way are not modelled.

use super::env::{Env, Happening};
use cairn_model::Timestamp;
use cairn_shared::message::codec::{Codec, WireMessage, decode};
use cairn_shared::message::wire::{ToAgent, ToCoordinator};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::time::Duration;

/// How often a message is handed out before it goes to the dead letters.
const DELIVERY_LIMIT: u32 = 6;

/// Where messages wait. It stands for an `Address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Coordinator,
    Dead,
    /// The queue of the agent of that number.
    Agent(usize),
    /// The queue that agents share.
    Work,
}

/// Who is connected: the coordinator, or the child on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    Coordinator,
    Host(usize),
}

/// A connection: it ends with the process that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub party: Party,
    pub life: u64,
}

/// A message on its way.
#[derive(Clone)]
pub struct Letter {
    pub to: Place,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    pub redelivered: bool,
    /// Of a dead letter: where it was to go.
    pub origin: Option<Place>,
    kind: &'static str,
    handed: u32,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let again = if self.redelivered { " again" } else { "" };
        write!(formatter, "{}→{:?}{again}", self.kind, self.to)
    }
}

/// Which way a party is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Out,
    In,
    Both,
}

#[derive(Default)]
pub struct Broker {
    queues: BTreeMap<Place, VecDeque<Letter>>,
    consumers: BTreeMap<Place, Vec<Connection>>,
    unsettled: BTreeMap<u64, (Letter, Connection)>,
    next_tag: u64,
    /// Until when nothing comes from a party, and nothing reaches it.
    cuts: BTreeMap<Party, (Timestamp, Timestamp)>,
    blocked_until: Timestamp,
}

impl Broker {
    /// Until when nothing is taken from a party.
    pub fn held_until(&self, party: Party) -> Timestamp {
        self.cuts.get(&party).map_or(Timestamp::default(), |cut| cut.0).max(self.blocked_until)
    }

    fn hears_until(&self, party: Party) -> Timestamp {
        self.cuts.get(&party).map_or(Timestamp::default(), |cut| cut.1)
    }

    /// Messages that wait.
    pub fn waiting(&self, place: Place) -> usize {
        self.queues.get(&place).map_or(0, VecDeque::len)
    }

    /// Whether a consumer has a message of that queue that it has not settled.
    fn has_one_of(&self, place: Place, consumer: Connection) -> bool {
        self.unsettled.values().any(|(letter, by)| letter.to == place && *by == consumer)
    }

    /// What a transport would say of its connection. It does not see that only one way is cut.
    pub fn is_up(&self, party: Party, now: Timestamp) -> bool {
        let (out, inward) = self.cuts.get(&party).copied().unwrap_or_default();
        now >= self.blocked_until && (now >= out || now >= inward)
    }
}

impl Env {
    /// Sends a message. While it cannot leave, the sender's transport keeps it; with the sender it is lost.
    pub fn publish(
        &mut self,
        from: Connection,
        to: Place,
        codec: Codec,
        message: &(impl WireMessage + Debug),
    ) {
        let body = codec.encode(message).expect("a small message").to_vec();
        let content_type = codec.content_type();
        let kind = message.kind();
        self.note(format!("  {:?} says {kind} to {to:?}", from.party));
        if self.trace.is_shown() {
            self.trace.show(&format!("    {message:?}"));
        }
        let letter = Letter { to, content_type, body, redelivered: false, origin: None, kind, handed: 0 };
        let held_until = self.broker.held_until(from.party);
        if held_until > self.now {
            let at = held_until.plus(self.random.micros(50_000));
            self.at(at, Happening::Arrives(letter, Some(from)));
            return;
        }
        self.carry(letter);
    }

    fn carry(&mut self, mut letter: Letter) {
        let weather = self.weather;
        if self.random.chance(weather.loss_permille) {
            self.summary.lost_messages += 1;
            return;
        }
        if self.random.chance(weather.damage_permille) && !self.damage(&mut letter) {
            self.summary.lost_messages += 1;
            return;
        }
        // A transport says again what was not confirmed.
        let copies = if self.random.chance(weather.repeat_permille) { 2 } else { 1 };
        for _ in 0..copies {
            let mut delay = self.random.micros(weather.max_delay_millis * 1_000 + 1);
            if self.random.chance(weather.straggler_permille) {
                delay = self.random.micros(15_000_000);
            }
            self.after(delay, Happening::Arrives(letter.clone(), None));
        }
    }

    /// Whether what is left is no message.
    fn damage(&mut self, letter: &mut Letter) -> bool {
        let at = self.random.index(letter.body.len());
        if self.random.chance(300) {
            letter.body.truncate(at);
        } else {
            letter.body[at] ^= 1 << self.random.below(8);
        }
        self.summary.damaged_messages += 1;
        match letter.to {
            Place::Coordinator => decode::<ToCoordinator>(letter.content_type, &letter.body).is_err(),
            _ => decode::<ToAgent>(letter.content_type, &letter.body).is_err(),
        }
    }

    /// A message reaches its queue.
    pub fn arrives(&mut self, letter: Letter) {
        let place = letter.to;
        self.broker.queues.entry(place).or_default().push_back(letter);
        self.after(Duration::ZERO, Happening::Hand(place));
    }

    /// Listens at a place; alone, if it is an agent's.
    pub fn subscribe(&mut self, place: Place, connection: Connection) -> bool {
        let consumers = self.broker.consumers.entry(place).or_default();
        if matches!(place, Place::Agent(_)) && !consumers.is_empty() {
            return consumers.contains(&connection);
        }
        if !consumers.contains(&connection) {
            consumers.push(connection);
        }
        self.kick(place);
        true
    }

    /// A connection is gone: what it has not settled is handed out again.
    pub fn disconnect(&mut self, connection: Connection) {
        for consumers in self.broker.consumers.values_mut() {
            consumers.retain(|consumer| *consumer != connection);
        }
        let tags: Vec<u64> = self.unsettled_by(|by| by == connection);
        tags.into_iter().for_each(|tag| self.requeue(tag));
    }

    fn unsettled_by(&self, by: impl Fn(Connection) -> bool) -> Vec<u64> {
        self.broker.unsettled.iter().filter(|(_, (_, who))| by(*who)).map(|(tag, _)| *tag).collect()
    }

    fn requeue(&mut self, tag: u64) {
        let Some((mut letter, _)) = self.broker.unsettled.remove(&tag) else { return };
        letter.redelivered = true;
        if letter.handed >= DELIVERY_LIMIT {
            return self.bury(letter);
        }
        let place = letter.to;
        self.broker.queues.entry(place).or_default().push_front(letter);
        self.after(Duration::ZERO, Happening::Hand(place));
    }

    fn bury(&mut self, letter: Letter) {
        self.summary.dead_letters += 1;
        if letter.to != Place::Dead {
            self.arrives(Letter { to: Place::Dead, origin: Some(letter.to), handed: 0, ..letter });
        }
    }

    fn kick(&mut self, place: Place) {
        (0..self.broker.waiting(place)).for_each(|_| self.after(Duration::ZERO, Happening::Hand(place)));
    }

    /// Takes a message out of a queue, and says to whom it goes.
    pub fn hand_out(&mut self, place: Place) -> Option<(Connection, u64, Letter)> {
        let reachable = |consumer: &&Connection| {
            self.broker.hears_until(consumer.party) <= self.now
                && (place != Place::Work || !self.broker.has_one_of(place, **consumer))
        };
        let consumers = self.broker.consumers.get(&place)?;
        let reachable: Vec<Connection> = consumers.iter().filter(reachable).copied().collect();
        if reachable.is_empty() {
            return None;
        }
        let consumer = *self.random.pick(&reachable);
        let queue = self.broker.queues.get_mut(&place)?;
        let at = if queue.is_empty() || !self.random.chance(self.weather.reorder_permille) {
            0
        } else {
            self.random.index(queue.len())
        };
        let mut letter = queue.remove(at)?;
        letter.handed += 1;
        let tag = self.broker.next_tag;
        self.broker.next_tag += 1;
        self.broker.unsettled.insert(tag, (letter.clone(), consumer));
        Some((consumer, tag, letter))
    }

    /// A delivery was dealt with. One whose settlement does not arrive comes again.
    pub fn acknowledge(&mut self, tag: u64) {
        let Some((letter, who)) = self.broker.unsettled.get(&tag) else { return };
        let place = letter.to;
        if self.broker.held_until(who.party) <= self.now {
            self.broker.unsettled.remove(&tag);
            self.next_of(place);
        }
    }

    /// Nobody can read it.
    pub fn reject(&mut self, tag: u64) {
        if let Some((letter, _)) = self.broker.unsettled.remove(&tag) {
            let place = letter.to;
            self.bury(letter);
            self.next_of(place);
        }
    }

    /// At the shared queue nobody is handed a message before the one before it is settled.
    fn next_of(&mut self, place: Place) {
        if place == Place::Work {
            self.after(Duration::ZERO, Happening::Hand(place));
        }
    }

    /// Listens at a place no longer: what was not settled is handed out again.
    pub fn leave(&mut self, place: Place, connection: Connection) {
        if let Some(consumers) = self.broker.consumers.get_mut(&place) {
            consumers.retain(|consumer| *consumer != connection);
        }
        let mine =
            |(_, (letter, by)): &(&u64, &(Letter, Connection))| letter.to == place && *by == connection;
        let tags: Vec<u64> = self.broker.unsettled.iter().filter(mine).map(|(tag, _)| *tag).collect();
        tags.into_iter().for_each(|tag| self.requeue(tag));
    }

    /// Cuts a party off for a while. Its connection is found dead when both ways are cut, or at the end.
    pub fn cut(&mut self, party: Party, way: Way, length: Duration) {
        let until = self.now.plus(length);
        let cut = self.broker.cuts.entry(party).or_default();
        if way != Way::In {
            cut.0 = until;
        }
        if way != Way::Out {
            cut.1 = until;
        }
        self.after(Duration::ZERO, Happening::Health(party));
        self.at(until, Happening::Reconnect(party));
    }

    /// A connection that was cut off is made again: what was not settled over the old one comes again.
    pub fn reconnect(&mut self, party: Party) {
        let tags = self.unsettled_by(|by| by.party == party);
        tags.into_iter().for_each(|tag| self.requeue(tag));
        let places: Vec<Place> = self.broker.consumers.keys().copied().collect();
        places.into_iter().for_each(|place| self.kick(place));
        self.after(Duration::ZERO, Happening::Health(party));
    }

    /// Nobody may publish for a while.
    pub fn block(&mut self, length: Duration, parties: usize) {
        self.broker.blocked_until = self.now.plus(length);
        for party in std::iter::once(Party::Coordinator).chain((0..parties).map(Party::Host)) {
            self.after(Duration::ZERO, Happening::Health(party));
            self.at(self.broker.blocked_until, Happening::Reconnect(party));
        }
    }

    /// All that waits in a queue is gone.
    pub fn purge(&mut self, place: Place) {
        let lost = self.broker.queues.remove(&place).map_or(0, |queue| queue.len());
        self.summary.lost_messages += lost as u64;
    }

    /// The broker starts again with nothing; its clients connect again.
    pub fn wipe(&mut self) {
        let lost: usize = self.broker.queues.values().map(VecDeque::len).sum();
        self.summary.lost_messages += (lost + self.broker.unsettled.len()) as u64;
        self.broker.queues.clear();
        self.broker.unsettled.clear();
    }

    /// All ways are open again.
    pub fn heal(&mut self) {
        self.broker.blocked_until = self.now;
        let parties: Vec<Party> = self.broker.cuts.keys().copied().collect();
        self.broker.cuts.clear();
        parties.into_iter().for_each(|party| self.reconnect(party));
    }
}
