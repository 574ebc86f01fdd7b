//! How long the attempts of an agent may go on: pure, on a clock that counts the time that a machine sleeps.
//!
//! The agent counts from the moment at which it sent the newest beat that was answered: the coordinator counts from when
//! it heard it, which is later. The agent stops at 80 % of the lease, so that its processes are gone when the coordinator
//! gives their tasks to others.

use cairn_model::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// How much of the lease an agent uses, in hundredths.
const USED_PERCENT: u32 = 80;

/// Beats whose answers are waited for. More are out only while nothing is answered at all; then the oldest, whose
/// answers would tell the least, are forgotten.
const MAX_BEATS: usize = 256;

/// The lease of an agent.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    length: Duration,
    beats: VecDeque<(u64, Timestamp)>,
    /// When the newest beat that was answered was sent. `None`: there is no lease yet.
    from: Option<Timestamp>,
    was_told: bool,
}

/// How a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what runs without a lease must be ended"]
pub enum Standing {
    /// No coordinator has welcomed the agent yet.
    None,
    /// What runs may go on.
    Held,
    /// It has ended since the last look.
    JustEnded,
    /// It had ended already.
    Ended,
}

impl Lease {
    /// A coordinator has welcomed the agent, and says how long a lease is. The first one begins now.
    pub fn welcomed(&mut self, length: Duration, now: Timestamp) {
        self.length = length;
        self.from.get_or_insert(now);
    }

    /// A beat goes out.
    pub fn sent(&mut self, sequence: u64, now: Timestamp) {
        if self.beats.len() == MAX_BEATS {
            self.beats.pop_front();
        }
        self.beats.push_back((sequence, now));
    }

    /// A beat was answered. Answers may come late, twice and out of order.
    pub fn answered(&mut self, sequence: u64) {
        let Some(at) = self.beats.iter().position(|&(sent, _)| sent == sequence) else { return };
        let from = self.beats.drain(..=at).next_back().map(|(_, at)| at);
        // Without a welcome nobody has said how long a lease is.
        if self.from.is_some() {
            self.from = self.from.max(from);
        }
    }

    /// When it ends, if it goes on as it is.
    #[must_use]
    pub fn ends_at(&self) -> Option<Timestamp> {
        Some(self.from?.plus(self.length * USED_PERCENT / 100))
    }

    /// Whether it has ended: nothing new may be taken before a later beat is answered. Without a first one nothing has.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.ends_at().is_some_and(|at| at <= now)
    }

    /// When the next look is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.ends_at().filter(|_| !self.was_told)
    }

    /// What is left from the end for an agent to end its processes in, before others may have their tasks.
    #[must_use]
    pub fn margin(&self) -> Duration {
        self.length * (100 - USED_PERCENT) / 100
    }

    /// Whether it is held, for people; `None` before the first one. Only [`Lease::look`] tells of its end.
    #[must_use]
    pub fn is_held(&self, now: Timestamp) -> Option<bool> {
        self.ends_at().map(|ends_at| now < ends_at)
    }

    /// Looks at it.
    pub fn look(&mut self, now: Timestamp) -> Standing {
        let Some(ends_at) = self.ends_at() else { return Standing::None };
        if now < ends_at {
            self.was_told = false;
            return Standing::Held;
        }
        match std::mem::replace(&mut self.was_told, true) {
            false => Standing::JustEnded,
            true => Standing::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp(1_000_000_000 + millis * 1000)
    }

    fn lease() -> Lease {
        let mut lease = Lease::default();
        lease.welcomed(Duration::from_secs(10), at(0));
        lease
    }

    #[test]
    fn before_the_first_welcome_there_is_none() {
        let mut lease = Lease::default();
        lease.sent(1, at(0));
        lease.answered(1);
        assert_eq!((lease.look(at(1_000_000)), lease.ends_at()), (Standing::None, None));
    }

    #[test]
    fn it_runs_from_the_sending_of_the_newest_answered_beat() {
        let mut lease = lease();
        assert_eq!(lease.ends_at(), Some(at(8_000)));
        for sequence in 1_u32..=3 {
            lease.sent(u64::from(sequence), at(i64::from(sequence) * 2_000));
        }
        lease.answered(2);
        assert_eq!(lease.ends_at(), Some(at(12_000)));
        for late_twice_or_never_sent in [1, 2, 9] {
            lease.answered(late_twice_or_never_sent);
            assert_eq!(lease.ends_at(), Some(at(12_000)));
        }
        lease.answered(3);
        assert_eq!(lease.ends_at(), Some(at(14_000)));
        lease.welcomed(Duration::from_secs(10), at(13_000));
        assert_eq!(lease.ends_at(), Some(at(14_000)), "a welcome answers no beat");
    }

    #[test]
    fn its_end_is_told_once_to_the_microsecond_and_a_later_answer_begins_a_new_one() {
        let mut lease = lease();
        assert_eq!(lease.look(Timestamp(at(8_000).0 - 1)), Standing::Held);
        assert_eq!(lease.deadline(), Some(at(8_000)));
        assert_eq!((lease.is_held(at(7_999)), lease.is_held(at(8_000))), (Some(true), Some(false)));
        assert_eq!(lease.look(at(8_000)), Standing::JustEnded, "who only asked has not heard it for us");
        assert_eq!((lease.look(at(8_001)), lease.deadline()), (Standing::Ended, None));
        // The answer to a beat that was sent long ago does not bring it back.
        lease.sent(1, at(100));
        lease.answered(1);
        assert_eq!(lease.look(at(8_200)), Standing::Ended);
        lease.sent(2, at(9_000));
        lease.answered(2);
        assert_eq!(lease.look(at(9_010)), Standing::Held);
        assert_eq!(lease.look(at(17_000)), Standing::JustEnded, "and that one ends as well");
    }

    #[test]
    fn beats_that_nobody_answers_are_bounded() {
        let mut lease = lease();
        (0..1_000).for_each(|sequence| lease.sent(sequence, at(1)));
        assert_eq!(lease.beats.len(), MAX_BEATS);
        lease.answered(999);
        assert!(lease.beats.is_empty());
    }
}
