//! What the threads of the slots have said, until the agent's loop hears it.

use crate::runner::RunnerEvent;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Events of the slots that may wait to be heard before a task's word on its progress is dropped: the next one tells
/// more. What must be heard, that a job started and ended, is bounded by the jobs that the runner has.
pub(crate) const MAX_WAITING_EVENTS: usize = 4096;

/// What the threads of the slots have said. Bounded by the jobs that the runner has, and [`MAX_WAITING_EVENTS`].
#[derive(Default)]
pub(crate) struct Mailbox {
    pub(crate) events: Mutex<Vec<RunnerEvent>>,
    wake: Notify,
    /// The slots have work: nobody needs to be woken, the loop looks by itself.
    is_polled: AtomicBool,
}

impl Mailbox {
    pub(crate) fn put(&self, event: RunnerEvent) {
        {
            let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(event, RunnerEvent::Progress { .. }) && events.len() >= MAX_WAITING_EVENTS {
                return;
            }
            events.push(event);
        }
        if !self.is_polled.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    pub(crate) fn take(&self) -> Vec<RunnerEvent> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says whether the loop looks by itself from now on. `true` if it must look once more: what was said between its
    /// last look and the end of its looking has woken nobody.
    #[must_use]
    pub(crate) fn hand_over(&self, is_polled: bool) -> bool {
        let was_polled = self.is_polled.swap(is_polled, Ordering::SeqCst);
        was_polled && !is_polled
    }

    pub(crate) async fn is_worth_a_look(&self) {
        self.wake.notified().await;
    }
}
