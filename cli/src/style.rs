//! How things look: a glyph and a word for every state, durations, bars. Colour is never alone.

use cairn_engine::TaskStatus;
use std::sync::OnceLock;
use std::time::Duration;

/// A glyph with its colour, and what stands for it where the terminal's character set is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    glyph: &'static str,
    ascii: &'static str,
    color: &'static str,
}

impl Mark {
    /// Done.
    pub const COMPLETED: Self = Self { glyph: "✔", ascii: "+", color: "32" };
    /// Failed.
    pub const FAILED: Self = Self { glyph: "✖", ascii: "x", color: "31" };
    /// Runs.
    pub const ACTIVE: Self = Self { glyph: "●", ascii: "*", color: "36" };
    /// Waits.
    pub const PENDING: Self = Self { glyph: "○", ascii: ".", color: "2" };
    /// Could run, or is offered to an agent.
    pub const READY: Self = Self { glyph: "◌", ascii: "o", color: "36" };
    /// Will not run because of another task.
    pub const SKIPPED: Self = Self { glyph: "⊘", ascii: "-", color: "33" };
    /// Somebody cancelled it.
    pub const CANCELLED: Self = Self { glyph: "■", ascii: "#", color: "33" };
    /// Held until it is resumed.
    pub const PAUSED: Self = Self { glyph: "⏸", ascii: "=", color: "33" };

    /// The mark of a task's state.
    pub const fn of(status: TaskStatus) -> Self {
        match status {
            TaskStatus::Pending => Self::PENDING,
            TaskStatus::Ready | TaskStatus::Dispatched => Self::READY,
            TaskStatus::InProgress => Self::ACTIVE,
            TaskStatus::Completed => Self::COMPLETED,
            TaskStatus::Failed => Self::FAILED,
            TaskStatus::Skipped => Self::SKIPPED,
            TaskStatus::Cancelled => Self::CANCELLED,
        }
    }

    /// The glyph, coloured if that is wanted.
    pub fn paint(self, color: bool) -> String {
        let glyph = if is_utf8() { self.glyph } else { self.ascii };
        if color { format!("\u{1b}[{}m{glyph}\u{1b}[0m", self.color) } else { glyph.to_owned() }
    }
}

/// Whether the locale's character set is UTF-8, as the first of the variables that is set says.
pub fn is_utf8() -> bool {
    static IS_UTF8: OnceLock<bool> = OnceLock::new();
    *IS_UTF8.get_or_init(|| {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        match ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set) {
            Some(locale) => {
                let locale = locale.to_ascii_lowercase();
                locale.contains("utf-8") || locale.contains("utf8")
            }
            // Nothing is said: containers and services, whose output is read elsewhere.
            None => true,
        }
    })
}

/// A duration for people: `85ms`, `1.2s`, `3m05s`, `2h10m`, `4d03h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{:.1}s", (duration.as_secs_f64() * 10.0).floor() / 10.0),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A bar of `cells` cells, as full as `done` of `total`.
pub fn bar(done: u32, total: u32, cells: usize) -> String {
    let full = if total == 0 { cells } else { (u64::from(done) * cells as u64 / u64::from(total)) as usize };
    let (on, off) = if is_utf8() { ("█", "░") } else { ("#", "-") };
    on.repeat(full.min(cells)) + &off.repeat(cells - full.min(cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let shown = [0.0851, 1.27, 59.99, 185.0, 7_800.0, 356_400.0].map(|seconds| duration(Duration::from_secs_f64(seconds)));
        assert_eq!(shown, ["85ms", "1.2s", "59.9s", "3m05s", "2h10m", "4d03h"]);
    }

    #[test]
    fn bars_are_full_only_when_all_is_done() {
        let full = |done, total| bar(done, total, 10).chars().filter(|cell| matches!(cell, '█' | '#')).count();
        assert_eq!((full(0, 3), full(2, 3), full(3, 3), full(0, 0), full(999_999, 1_000_000)), (0, 6, 10, 10, 9));
    }
}
