//! The log of a daemon.

use crate::config::{LogConfig, LogFormat};
use std::io::IsTerminal as _;
use std::sync::Arc;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::{Layer, Registry, fmt};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error("`{level}` is no level of a log: write error, warn, info, debug or trace, or `info,lapin=warn`")]
    Level {
        /// What was written.
        level: String,
        /// Why it is none.
        #[source]
        source: ParseError,
    },
    /// The process has a log.
    #[error("the process has a log already")]
    Started,
}

/// Changes a log that has started.
#[derive(Clone)]
pub struct LogHandle {
    reload: Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

impl LogHandle {
    /// Sets what is told from here on.
    ///
    /// # Errors
    /// The level is none; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level)?;
        // Fails only when the log is gone, and then there is nothing to tell anybody.
        let _ = (self.reload)(filter);
        Ok(())
    }
}

/// Starts the log of the process, on stderr: lines for people, or one JSON value a line. Colours on a terminal only,
/// and not where `NO_COLOR` is set.
///
/// # Errors
/// The level is none, or the process has a log already.
pub fn start_log(config: &LogConfig) -> Result<LogHandle, LogError> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ansi = std::io::stderr().is_terminal() && !no_color;
    let (subscriber, handle) = subscriber(config, ansi, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Started)?;
    Ok(handle)
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder().parse(level).map_err(|source| LogError::Level { level: level.to_owned(), source })
}

fn subscriber<W>(
    config: &LogConfig,
    ansi: bool,
    writer: W,
) -> Result<(impl tracing::Subscriber + Send + Sync + use<W>, LogHandle), LogError>
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, reload) = reload::Layer::new(filter(&config.level)?);
    let lines = fmt::layer().with_writer(writer).with_ansi(ansi);
    let lines: Box<dyn Layer<_> + Send + Sync> = match config.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    let subscriber = Registry::default().with(filter).with(lines);
    Ok((subscriber, LogHandle { reload: Arc::new(move |filter| reload.reload(filter)) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::Mutex;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
        }
    }

    fn told(format: LogFormat, level: &str, tell: impl Fn(&LogHandle)) -> String {
        let kept = Kept::default();
        let config = LogConfig { level: level.to_owned(), format };
        let writer = kept.clone();
        let (subscriber, handle) =
            subscriber(&config, false, move || writer.clone()).unwrap_or_else(|error| panic!("{error}"));
        tracing::subscriber::with_default(subscriber, || tell(&handle));
        kept.text()
    }

    #[test]
    fn a_line_for_people_has_no_escapes_and_keeps_to_the_level() {
        let text = told(LogFormat::Text, "info", |_| {
            tracing::info!(run = "apollo.3", "submitted");
            tracing::debug!("not told");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("INFO") && text.contains("submitted run=\"apollo.3\""), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_line_for_programs_is_one_json_value() {
        let text = told(LogFormat::Json, "warn,cairn_shared=info", |_| {
            tracing::info!(run = "apollo.3", "two\nlines");
        });
        let value: serde_json::Value = serde_json::from_str(text.trim_end()).expect("one JSON value");
        assert_eq!((&value["message"], &value["run"]), (&"two\nlines".into(), &"apollo.3".into()));
        assert_eq!(value["level"], "INFO");
    }

    #[test]
    fn the_level_can_change_while_it_runs_and_a_wrong_one_leaves_the_old_in_force() {
        let text = told(LogFormat::Text, "info", |handle| {
            tracing::debug!("one");
            handle.set_level("debug").expect("a level");
            tracing::debug!("two");
            assert!(matches!(handle.set_level("lots=of=words"), Err(LogError::Level { .. })));
            tracing::debug!("three");
        });
        assert_eq!((text.contains("one"), text.contains("two"), text.contains("three")), (false, true, true));
    }
}
