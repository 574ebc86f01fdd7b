//! How long to wait before another attempt.

use cairn_model::TaskIndex;
use cairn_model::plan::{Backoff, Retry};
use std::time::Duration;

/// The wait before the next attempt of `task`, of which `failures` (at least 1) have failed. Jitter spreads it
/// evenly over `1 - jitter` to `1 + jitter`; it comes from `seed`, so that a replay waits as long.
#[must_use]
pub fn delay(retry: &Retry, seed: u64, task: TaskIndex, failures: u32) -> Duration {
    let steps = failures.max(1) - 1;
    let base = match retry.backoff {
        Backoff::Constant => retry.initial,
        Backoff::Linear => retry.initial.saturating_mul(steps + 1),
        Backoff::Exponential => retry.initial.saturating_mul(2_u32.saturating_pow(steps)),
    };
    let base = base.min(retry.max);
    let jitter = f64::from(retry.jitter_permille.min(1000)) / 1000.0;
    let random = mix(seed ^ mix(u64::from(task.0) << 32 | u64::from(failures)));
    // The upper 53 bits fill the mantissa of a double: a number from 0 up to, not including, 1.
    let unit = (random >> 11) as f64 / (1_u64 << 53) as f64;
    Duration::try_from_secs_f64(base.as_secs_f64() * (1.0 + jitter * (2.0 * unit - 1.0))).unwrap_or(base)
}

/// The wait after an attempt was declined for the first time; each further time doubles it, so that agents that take
/// nothing are asked ever less often.
const FIRST_DECLINE_WAIT: Duration = Duration::from_millis(100);
/// The longest wait after a decline.
const MAX_DECLINE_WAIT: Duration = Duration::from_secs(30);

/// The wait before another attempt of a task of which `declines` were declined before this one.
pub(crate) fn decline_wait(declines: u32) -> Duration {
    FIRST_DECLINE_WAIT.saturating_mul(2_u32.saturating_pow(declines)).min(MAX_DECLINE_WAIT)
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(backoff: Backoff, jitter_permille: u16) -> Retry {
        let (initial, max) = (Duration::from_secs(1), Duration::from_secs(10));
        Retry { max_attempts: 9, backoff, initial, max, jitter_permille }
    }

    #[test]
    fn grows_as_told_and_no_further_than_the_maximum() {
        let seconds = |backoff| {
            [1, 2, 3, 4, 5, 99].map(|failures| delay(&retry(backoff, 0), 7, TaskIndex(0), failures).as_secs())
        };
        assert_eq!(seconds(Backoff::Constant), [1, 1, 1, 1, 1, 1]);
        assert_eq!(seconds(Backoff::Linear), [1, 2, 3, 4, 5, 10]);
        assert_eq!(seconds(Backoff::Exponential), [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn jitter_is_bounded_spread_and_repeatable() {
        let retry = retry(Backoff::Constant, 500);
        let waits: Vec<_> =
            (0..1000).map(|task| delay(&retry, 1, TaskIndex(task), 1).as_secs_f64()).collect();
        assert!(waits.iter().all(|wait| (0.5..1.5).contains(wait)));
        let mean = waits.iter().sum::<f64>() / 1000.0;
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        assert_eq!(delay(&retry, 1, TaskIndex(3), 1).as_secs_f64(), waits[3]);
        assert_ne!(delay(&retry, 2, TaskIndex(3), 1).as_secs_f64(), waits[3]);
    }
}
