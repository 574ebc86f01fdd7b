//! Gathers what is to be sent, so that many items share the cost of a message, and a lone one waits for nothing.
//!
//! ```text
//!   nothing under way      push ──▶ goes at once, alone
//!   a message under way    push ──▶ gathers, until: that message is confirmed, or a millisecond has passed,
//!                                   or the batch is full
//! ```
//!
//! The loop that owns a [`Batcher`] sends every batch that it is handed, says [`confirmed`](Batcher::confirmed) when
//! that is done (or failed), and calls [`take_due`](Batcher::take_due) at [`deadline`](Batcher::deadline). While the
//! transport makes it wait, the loop takes nothing new: the batcher holds one batch at most.
//!
//! Not here: clocks, sending, and one batcher for each run and address (a message is about one run).

use cairn_model::Timestamp;
use std::time::Duration;

/// Items of a batch at most: beyond a few hundred a broker's cost for each message no longer shows.
pub const MAX_BATCH_ITEMS: usize = 512;

/// Bytes of a batch at most, in the binary form, unless a single item has more. Even where JSON escapes each of them
/// as six, a batch stays below [`MAX_MESSAGE_BYTES`](crate::transport::MAX_MESSAGE_BYTES).
pub const MAX_BATCH_BYTES: usize = 256 << 10;

/// How long an item waits for others at most.
pub const MAX_BATCH_WAIT: Duration = Duration::from_millis(1);

/// Gathers items into batches.
#[derive(Debug)]
pub struct Batcher<T> {
    items: Vec<T>,
    bytes: usize,
    /// When the first of the items came.
    since: Timestamp,
    /// Batches that were handed out and not confirmed.
    under_way: usize,
}

impl<T> Default for Batcher<T> {
    fn default() -> Self {
        Self { items: Vec::new(), bytes: 0, since: Timestamp(0), under_way: 0 }
    }
}

impl<T> Batcher<T> {
    /// Adds an item of `bytes` bytes ([`encoded_bytes`](super::codec::encoded_bytes)); gives the batch to send now, if
    /// there is one. Items leave in the order in which they came.
    #[must_use = "a batch that is not sent is lost"]
    pub fn push(&mut self, item: T, bytes: usize, now: Timestamp) -> Option<Vec<T>> {
        let full = if self.bytes.saturating_add(bytes) > MAX_BATCH_BYTES { self.take() } else { None };
        if self.items.is_empty() {
            self.since = now;
        }
        self.items.push(item);
        self.bytes = self.bytes.saturating_add(bytes);
        let is_full = self.items.len() >= MAX_BATCH_ITEMS || self.bytes >= MAX_BATCH_BYTES;
        if full.is_none() && (self.under_way == 0 || is_full) { self.take() } else { full }
    }

    /// A batch that was handed out is not under way any more; gives the next one, if nothing else is.
    #[must_use = "a batch that is not sent is lost"]
    pub fn confirmed(&mut self) -> Option<Vec<T>> {
        self.under_way = self.under_way.saturating_sub(1);
        if self.under_way == 0 { self.take() } else { None }
    }

    /// When to call [`take_due`](Self::take_due).
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        (!self.items.is_empty()).then(|| self.since.plus(MAX_BATCH_WAIT))
    }

    /// The batch whose wait is over.
    #[must_use = "a batch that is not sent is lost"]
    pub fn take_due(&mut self, now: Timestamp) -> Option<Vec<T>> {
        if self.deadline()? <= now { self.take() } else { None }
    }

    fn take(&mut self) -> Option<Vec<T>> {
        if self.items.is_empty() {
            return None;
        }
        self.under_way += 1;
        self.bytes = 0;
        Some(std::mem::take(&mut self.items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    #[test]
    fn a_lone_item_goes_at_once() {
        let mut batcher = Batcher::default();
        for item in 0..3 {
            assert_eq!(batcher.push(item, 10, NOW), Some(vec![item]));
            assert_eq!((batcher.deadline(), batcher.confirmed()), (None, None));
        }
    }

    #[test]
    fn items_gather_while_a_message_is_under_way() {
        let mut batcher = Batcher::default();
        assert_eq!(batcher.push(0, 10, NOW), Some(vec![0]));
        assert_eq!(batcher.push(1, 10, NOW), None);
        assert_eq!(batcher.push(2, 10, Timestamp(NOW.0 + 900)), None);
        assert_eq!(batcher.confirmed(), Some(vec![1, 2]));
        assert_eq!((batcher.confirmed(), batcher.deadline()), (None, None));
    }

    #[test]
    fn no_item_waits_longer_than_a_millisecond() {
        let mut batcher = Batcher::default();
        assert_eq!(batcher.push(0, 10, NOW), Some(vec![0]));
        assert_eq!(batcher.push(1, 10, NOW), None);
        assert_eq!(batcher.push(2, 10, Timestamp(NOW.0 + 999)), None);
        assert_eq!(batcher.deadline(), Some(Timestamp(NOW.0 + 1000)));
        assert_eq!(batcher.take_due(Timestamp(NOW.0 + 999)), None);
        assert_eq!(batcher.take_due(Timestamp(NOW.0 + 1000)), Some(vec![1, 2]));
        assert_eq!(batcher.deadline(), None);
        // Two are under way: the end of one of them is no reason to send.
        assert_eq!(batcher.push(3, 10, NOW), None);
        assert_eq!(batcher.confirmed(), None);
        assert_eq!(batcher.confirmed(), Some(vec![3]));
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let mut batcher = Batcher::default();
        assert!(batcher.push(0, 1, NOW).is_some());
        let handed: Vec<_> = (1..=MAX_BATCH_ITEMS).filter_map(|item| batcher.push(item, 1, NOW)).collect();
        assert_eq!(handed, [(1..=MAX_BATCH_ITEMS).collect::<Vec<_>>()]);
    }

    #[test]
    fn an_item_that_has_no_room_leaves_the_others_alone() {
        let mut batcher = Batcher::default();
        assert_eq!(batcher.push("first", 1, NOW), Some(vec!["first"]));
        assert_eq!(batcher.push("small", 1, NOW), None);
        assert_eq!(batcher.push("huge", usize::MAX, NOW), Some(vec!["small"]));
        assert_eq!(batcher.push("next", 1, NOW), Some(vec!["huge"]));
        assert_eq!(batcher.take_due(NOW.plus(MAX_BATCH_WAIT)), Some(vec!["next"]));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_reordered_late_or_over_the_limits(
            steps in proptest::collection::vec((0_usize..100_000, 0_i64..400, any::<bool>()), 1..400),
        ) {
            let (mut batcher, mut now, mut came, mut left) = (Batcher::default(), NOW, Vec::new(), Vec::new());
            for (bytes, micros, confirm) in steps {
                now = Timestamp(now.0 + micros);
                let mut handed = Vec::from_iter(batcher.take_due(now));
                if confirm {
                    handed.extend(batcher.confirmed());
                }
                came.push((came.len(), bytes, now));
                handed.extend(batcher.push((came.len() - 1, bytes, now), bytes, now));
                for batch in handed {
                    prop_assert!(batch.len() <= MAX_BATCH_ITEMS);
                    prop_assert!(batch.iter().map(|item| item.1).sum::<usize>() <= MAX_BATCH_BYTES);
                    left.extend(batch);
                }
                prop_assert!(batcher.deadline().is_none_or(|at| at > now));
            }
            left.extend(batcher.take_due(now.plus(MAX_BATCH_WAIT)).into_iter().flatten());
            prop_assert_eq!(left, came);
        }
    }
}
