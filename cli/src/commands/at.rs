//! Points of a run's history as users write them.

use cairn_coordinator::projection::{At, AtError};
use cairn_model::Timestamp;
use cairn_model::time::micros;
use cairn_shared::clock::Clock;
use cairn_shared::plan::parse_duration;

/// Reads a position, a time, or how long ago (`-10m`).
///
/// # Errors
/// It is none of these.
pub fn at(text: &str) -> Result<At, String> {
    match text.strip_prefix('-') {
        None => text.parse().map_err(|error: AtError| error.to_string()),
        Some(ago) => {
            let now = Clock::start(Timestamp(0)).now();
            Ok(At::Time(Timestamp(now.0.saturating_sub(micros(parse_duration(ago)?)))))
        }
    }
}
