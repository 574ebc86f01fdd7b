//! How long the attempts of an agent may go on: pure, on a clock that counts the time that a machine sleeps.
//!
//! The agent counts from the moment at which it sent the newest beat that was answered: the coordinator counts from when
//! it heard it, which is later. The agent stops at 80 % of the lease, so that its processes are gone when the coordinator
//! gives their tasks to others.
//!
//! A welcome answers no beat, and may be as late as any message. So it only says how long a lease is: nothing starts
//! before the first beat is answered. What is queued until then is given back if no answer comes.

use cairn_model::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// How much of the lease an agent uses, in hundredths.
const USED_PERCENT: u32 = 80;

/// How many leases long, after one without a lease, an offer may be of before: messages keep their order, unless a
/// connection broke on their way.
const DOUBTED_LEASES: u32 = 2;

/// Beats whose answers are waited for. More are out only while nothing is answered at all; then the oldest, whose
/// answers would tell the least, are forgotten.
const MAX_BEATS: usize = 256;

/// The lease of an agent.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    length: Duration,
    /// A shorter length that was told since, by a coordinator with another configuration. It holds from the next
    /// answered beat on: a length that was shorter at once would end what runs before any beat could be answered.
    shorter: Option<Duration>,
    beats: VecDeque<(u64, Timestamp)>,
    /// The number of the newest beat.
    sequence: u64,
    /// When the newest beat that was answered was sent; before there is one, when the first welcome came. `None`: nobody
    /// has said how long a lease is.
    from: Option<Timestamp>,
    was_answered: bool,
    was_told: bool,
    gap: Gap,
}

/// Whether there was a time without a lease that the coordinator may have noticed.
#[derive(Clone, Copy, Debug, Default)]
enum Gap {
    /// The agent is new: nothing was given to it before it was welcomed.
    Never,
    /// Nobody has been heard since it began. So it is for a keeper that starts.
    #[default]
    Open,
    /// The first beat that was answered after it was sent then.
    Until(Timestamp),
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
    /// The lease of an agent that was not there before.
    #[must_use]
    pub fn of_new_life() -> Self {
        Self { gap: Gap::Never, ..Self::default() }
    }

    /// A coordinator has welcomed the agent, and says how long a lease is. What is offered may be queued from now on.
    pub fn welcomed(&mut self, length: Duration, now: Timestamp) {
        self.shorter = (self.was_answered && length < self.length).then_some(length);
        if self.shorter.is_none() {
            self.length = length;
        }
        self.from.get_or_insert(now);
    }

    /// A beat goes out, with this number. The numbers of a keeper begin with the time: an answer to the keeper before it,
    /// in the same life of the agent, is no answer to this one.
    #[must_use]
    pub fn sent(&mut self, now: Timestamp) -> u64 {
        self.sequence = match self.sequence {
            0 => u64::try_from(now.0).unwrap_or_default().max(1),
            newest => newest.saturating_add(1),
        };
        if self.beats.len() == MAX_BEATS {
            self.beats.pop_front();
        }
        self.beats.push_back((self.sequence, now));
        self.sequence
    }

    /// A beat was answered; whether it is the first one, so that attempts may start. Answers may come late, twice and out
    /// of order.
    #[must_use]
    pub fn answered(&mut self, sequence: u64) -> bool {
        let Some(at) = self.beats.iter().position(|&(sent, _)| sent == sequence) else { return false };
        let Some((_, sent_at)) = self.beats.drain(..=at).next_back() else { return false };
        // Without a welcome nobody has said how long a lease is.
        let Some(from) = self.from else { return false };
        self.length = self.shorter.take().unwrap_or(self.length);
        let is_first = !std::mem::replace(&mut self.was_answered, true);
        if let Gap::Open = self.gap {
            self.gap = Gap::Until(sent_at);
        }
        self.from = Some(if is_first { sent_at } else { from.max(sent_at) });
        is_first
    }

    /// When it ends, if it goes on as it is.
    #[must_use]
    pub fn ends_at(&self) -> Option<Timestamp> {
        Some(self.from?.plus(self.length * USED_PERCENT / 100))
    }

    /// Whether it has ended: nothing new may be taken before a later beat is answered.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.ends_at().is_some_and(|at| at <= now)
    }

    /// Whether what is offered now may have been given before a time without a lease, and to somebody else since.
    #[must_use]
    pub fn is_doubtful(&self, now: Timestamp) -> bool {
        match self.gap {
            Gap::Never => self.from.is_none(),
            Gap::Open => true,
            Gap::Until(answered) => now < answered.plus(self.length * DOUBTED_LEASES),
        }
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
        self.ends_at().filter(|_| self.was_answered).map(|ends_at| now < ends_at)
    }

    /// Looks at it.
    pub fn look(&mut self, now: Timestamp) -> Standing {
        let Some(ends_at) = self.ends_at() else { return Standing::None };
        if now < ends_at {
            self.was_told = false;
            return Standing::Held;
        }
        match std::mem::replace(&mut self.was_told, true) {
            false => {
                self.gap = Gap::Open;
                Standing::JustEnded
            }
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

    /// One that was welcomed at 0, and whose beat of 0 was answered.
    fn lease() -> Lease {
        let mut lease = Lease::default();
        lease.welcomed(Duration::from_secs(10), at(0));
        let first = lease.sent(at(0));
        assert!(lease.answered(first));
        lease
    }

    #[test]
    fn before_the_first_welcome_there_is_none() {
        let mut lease = Lease::default();
        let beat = lease.sent(at(0));
        assert!(!lease.answered(beat));
        assert_eq!((lease.look(at(1_000_000)), lease.ends_at()), (Standing::None, None));
    }

    #[test]
    fn a_welcome_begins_none_but_lets_what_is_queued_go_when_no_answer_comes() {
        let mut lease = Lease::default();
        lease.welcomed(Duration::from_secs(10), at(9_000));
        assert_eq!(lease.is_held(at(9_001)), None, "the hello that it answers may be of long ago");
        assert_eq!(lease.look(at(16_999)), Standing::Held);
        assert_eq!(lease.look(at(17_000)), Standing::JustEnded);
        let beat = lease.sent(at(17_500));
        assert!(lease.answered(beat), "now attempts may start");
        assert_eq!((lease.look(at(17_600)), lease.ends_at()), (Standing::Held, Some(at(25_500))));
        let beat = lease.sent(at(18_000));
        assert!(!lease.answered(beat), "they may already");
    }

    #[test]
    fn it_counts_from_the_first_answered_beat_also_if_that_was_sent_before_the_welcome_came() {
        let mut lease = Lease::default();
        let beat = lease.sent(at(0));
        lease.welcomed(Duration::from_secs(10), at(5_000));
        assert!(lease.answered(beat));
        assert_eq!(lease.ends_at(), Some(at(8_000)));
    }

    #[test]
    fn an_answer_to_the_keeper_before_this_one_answers_nothing() {
        let (mut old, mut new) = (lease(), Lease::default());
        let last_words: Vec<u64> = (1..50).map(|beat| old.sent(at(beat * 2_000))).collect();
        new.welcomed(Duration::from_secs(10), at(110_000));
        let first = new.sent(at(110_000));
        assert!(!last_words.into_iter().any(|beat| new.answered(beat)));
        assert_eq!(new.sent(at(110_000)), first + 1, "two of the same moment are two");
        assert!(new.answered(first));
    }

    #[test]
    fn it_runs_from_the_sending_of_the_newest_answered_beat() {
        let mut lease = lease();
        assert_eq!(lease.ends_at(), Some(at(8_000)));
        let beats = [2_000, 4_000, 6_000].map(|sent| lease.sent(at(sent)));
        assert!(!lease.answered(beats[1]));
        assert_eq!(lease.ends_at(), Some(at(12_000)));
        for late_twice_or_never_sent in [beats[0], beats[1], 9] {
            assert!(!lease.answered(late_twice_or_never_sent));
            assert_eq!(lease.ends_at(), Some(at(12_000)));
        }
        assert!(!lease.answered(beats[2]));
        assert_eq!(lease.ends_at(), Some(at(14_000)));
        lease.welcomed(Duration::from_secs(10), at(13_000));
        assert_eq!(lease.ends_at(), Some(at(14_000)), "a welcome answers no beat");
    }

    #[test]
    fn its_end_is_told_once_to_the_microsecond_and_a_later_answer_begins_a_new_one() {
        let mut lease = lease();
        let early = lease.sent(at(100));
        assert_eq!(lease.look(Timestamp(at(8_000).0 - 1)), Standing::Held);
        assert_eq!(lease.deadline(), Some(at(8_000)));
        assert_eq!((lease.is_held(at(7_999)), lease.is_held(at(8_000))), (Some(true), Some(false)));
        assert_eq!(lease.look(at(8_000)), Standing::JustEnded, "who only asked has not heard it for us");
        assert_eq!((lease.look(at(8_001)), lease.deadline()), (Standing::Ended, None));
        // The answer to a beat that was sent long ago does not bring it back.
        assert!(!lease.answered(early));
        assert_eq!(lease.look(at(8_200)), Standing::Ended);
        let later = lease.sent(at(9_000));
        assert!(!lease.answered(later));
        assert_eq!(lease.look(at(9_010)), Standing::Held);
        assert_eq!(lease.look(at(17_000)), Standing::JustEnded, "and that one ends as well");
    }

    #[test]
    fn a_shorter_length_holds_from_the_next_answered_beat_and_a_longer_one_at_once() {
        let mut lease = lease();
        let beat = lease.sent(at(2_000));
        lease.welcomed(Duration::from_secs(1), at(2_500));
        assert_eq!(lease.ends_at(), Some(at(8_000)), "what runs goes on");
        assert!(!lease.answered(beat));
        assert_eq!(lease.ends_at(), Some(at(2_800)));
        lease.welcomed(Duration::from_secs(20), at(2_600));
        assert_eq!(lease.ends_at(), Some(at(18_000)));
        lease.welcomed(Duration::from_secs(10), at(2_600));
        lease.welcomed(Duration::from_secs(20), at(2_700));
        let beat = lease.sent(at(3_000));
        assert!(!lease.answered(beat));
        assert_eq!(lease.ends_at(), Some(at(19_000)), "the newest word counts");
    }

    #[test]
    fn what_is_offered_is_doubted_for_a_while_after_nobody_was_heard() {
        let mut fresh = Lease::of_new_life();
        assert!(fresh.is_doubtful(at(0)), "it is not welcome yet");
        fresh.welcomed(Duration::from_secs(10), at(0));
        assert!(!fresh.is_doubtful(at(0)), "nothing was given to it before");
        let mut lease = lease();
        assert!(lease.is_doubtful(at(19_999)), "the keeper has started again");
        assert!(!lease.is_doubtful(at(20_000)));
        for lease in [&mut fresh, &mut lease] {
            assert_eq!(lease.look(at(100_000)), Standing::JustEnded);
            assert!(lease.is_doubtful(at(100_000)));
            let beat = lease.sent(at(200_000));
            let _ = lease.answered(beat);
            assert!(lease.is_doubtful(at(219_999)) && !lease.is_doubtful(at(220_000)));
        }
    }

    #[test]
    fn beats_that_nobody_answers_are_bounded() {
        let mut lease = lease();
        let beats: Vec<u64> = (0..1_000).map(|_| lease.sent(at(1))).collect();
        assert_eq!(lease.beats.len(), MAX_BEATS);
        assert!(!lease.answered(beats[999]));
        assert!(lease.beats.is_empty());
    }
}
