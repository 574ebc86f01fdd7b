//! The metrics of a process.

use super::process;
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use std::time::Duration;

/// How often [`Metrics::upkeep`] is to be called. Between two calls histograms hold each value by itself (24 bytes).
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Seconds of what a machine does: an append, a message, an answer.
const FINE_SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Seconds of what people wait for: a millisecond to a day.
const JOB_SECONDS: [f64; 20] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0,
    3_600.0, 10_800.0, 28_800.0, 86_400.0,
];

/// How many are taken together.
const BATCH_SIZES: [f64; 14] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 50_000.0];

/// Names that end so have the buckets beside them; all others [`FINE_SECONDS`].
const BUCKETS: [(&str, &[f64]); 5] = [
    ("_duration_seconds", &JOB_SECONDS),
    ("_queue_seconds", &JOB_SECONDS),
    ("_events", &BATCH_SIZES),
    ("_messages", &BATCH_SIZES),
    ("_reports", &BATCH_SIZES),
];

/// What runs.
const BUILD_INFO: &str = concat!(
    "# HELP cairn_build_info Always 1; the label says which version runs.\n",
    "# TYPE cairn_build_info gauge\n",
    "cairn_build_info{version=\"",
    env!("CARGO_PKG_VERSION"),
    "\"} 1\n\n",
);

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The buckets are unsound: a mistake in the program.
    #[error("the buckets of metrics are unsound")]
    Buckets(#[source] BuildError),
    /// The process has metrics.
    #[error("the process has metrics already")]
    Installed,
}

/// The metrics of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Keeps the metrics of the process from here on. To be called before anybody takes hold of one.
    ///
    /// # Errors
    /// The process has metrics already.
    pub fn install() -> Result<Self, MetricsError> {
        let (recorder, metrics) = Self::new()?;
        metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Installed)?;
        Ok(metrics)
    }

    /// A recorder, and what it has recorded: for tests that do not want the process's own.
    ///
    /// # Errors
    /// The buckets are unsound.
    pub fn new() -> Result<(PrometheusRecorder, Self), MetricsError> {
        let mut builder =
            PrometheusBuilder::new().set_buckets(&FINE_SECONDS).map_err(MetricsError::Buckets)?;
        for (suffix, buckets) in BUCKETS {
            let matcher = Matcher::Suffix(suffix.to_owned());
            builder = builder.set_buckets_for_metric(matcher, buckets).map_err(MetricsError::Buckets)?;
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Ok((recorder, Self { handle }))
    }

    /// All of them, as Prometheus reads them (text format 0.0.4).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        text.push_str(BUILD_INFO);
        process::write(&mut text);
        text
    }

    /// Puts what histograms have gathered into their buckets. Every [`UPKEEP_INTERVAL`], so that a process that nobody
    /// scrapes does not grow.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(record: impl Fn()) -> String {
        let (recorder, metrics) = Metrics::new().expect("sound buckets");
        metrics::with_local_recorder(&recorder, record);
        metrics.upkeep();
        metrics.render()
    }

    #[test]
    fn histograms_have_the_buckets_of_their_kind() {
        let text = rendered(|| {
            metrics::histogram!("x_append_seconds").record(0.000_07);
            metrics::histogram!("x_task_duration_seconds").record(7_000.0);
            metrics::histogram!("x_append_batch_events").record(40.0);
        });
        for line in [
            "x_append_seconds_bucket{le=\"0.00005\"} 0",
            "x_append_seconds_bucket{le=\"0.0001\"} 1",
            "x_append_seconds_bucket{le=\"10\"} 1",
            "x_task_duration_seconds_bucket{le=\"3600\"} 0",
            "x_task_duration_seconds_bucket{le=\"10800\"} 1",
            "x_append_batch_events_bucket{le=\"20\"} 0",
            "x_append_batch_events_bucket{le=\"50\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("quantile"), "no summaries: they cannot be added up\n{text}");
    }

    #[test]
    fn the_process_and_its_version_are_told() {
        let text = rendered(|| {});
        assert!(text.contains(&format!("cairn_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))));
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
            line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_threads") >= 1.0);
        let start = value("process_start_time_seconds");
        let now = crate::clock::Clock::start(cairn_model::Timestamp(0)).now().0 as f64 / 1e6;
        assert!((now - 86_400.0..=now + 1.0).contains(&start), "{start} is not shortly before {now}");
    }
}
