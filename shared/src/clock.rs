//! The one place where the shell reads clocks.

use cairn_model::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Wall time at the start plus elapsed boot time: it goes on while the machine sleeps, and does not follow a
/// wall clock that is set. Cheap to clone; all clones are one clock, and none ever goes back.
#[derive(Clone, Debug)]
pub struct Clock {
    offset: i64,
    latest: Arc<AtomicI64>,
}

impl Clock {
    /// A clock that starts at the wall clock's time, or at `not_before` if that is later.
    #[must_use]
    pub fn start(not_before: Timestamp) -> Self {
        let now = wall_clock().max(not_before);
        Self { offset: now.0 - boot_micros(), latest: Arc::new(AtomicI64::new(now.0)) }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = boot_micros() + self.offset;
        Timestamp(self.latest.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// How long from now until `at`; zero if that is past.
    #[must_use]
    pub fn until(&self, at: Timestamp) -> Duration {
        at.since(self.now())
    }
}

fn boot_micros() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(cairn_model::time::micros(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_no_earlier_than_told_and_never_goes_back() {
        let later = Clock::start(Timestamp(0)).now().plus(Duration::from_secs(3_600));
        let clock = Clock::start(later);
        let times: Vec<_> = (0..1000).map(|_| clock.now()).collect();
        assert!(times[0] >= later && times.is_sorted());
        assert!(times[999].since(later) < Duration::from_secs(60));
    }
}
