//! What a daemon tells of itself: its log on stderr, and its metrics as Prometheus reads them.
//!
//! Not here: names of metrics (each package has its own list), the HTTP route that shows them, traces.

mod log;
mod metrics;
mod process;

pub use self::log::{LogError, LogHandle, start_log};
pub use self::metrics::{Metrics, MetricsError, UPKEEP_INTERVAL};
