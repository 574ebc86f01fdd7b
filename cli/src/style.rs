//! How things look to people: states, durations, bars, tables. A state is a glyph and a word, never colour alone.

use crate::context::Context;
use cairn_engine::{MilestoneStatus, RunStatus, TaskStatus};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::Duration;
use unicode_width::UnicodeWidthStr as _;

/// What a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colours are used.
    pub color: bool,
    /// Characters beyond ASCII are used.
    pub unicode: bool,
}

/// What a piece of text is to stand out as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Like all the rest.
    Plain,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Under way.
    Busy,
    /// Asks for attention.
    Warn,
    /// Of less interest.
    Dim,
    /// A heading.
    Bold,
}

impl Paint {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\u{1b}[32m",
            Self::Bad => "\u{1b}[1;31m",
            Self::Busy => "\u{1b}[36m",
            Self::Warn => "\u{1b}[33m",
            Self::Dim => "\u{1b}[2m",
            Self::Bold => "\u{1b}[1m",
        }
    }
}

/// A state of a task, a milestone or a run: how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The word.
    pub word: &'static str,
    glyph: char,
    ascii: char,
    /// Its colour.
    pub paint: Paint,
}

const fn mark(word: &'static str, glyph: char, ascii: char, paint: Paint) -> Mark {
    Mark { word, glyph, ascii, paint }
}

impl From<TaskStatus> for Mark {
    fn from(status: TaskStatus) -> Self {
        let word = status.name();
        match status {
            TaskStatus::Pending => mark(word, '○', '.', Paint::Dim),
            TaskStatus::Ready | TaskStatus::Dispatched => mark(word, '◌', 'o', Paint::Plain),
            TaskStatus::InProgress => mark(word, '●', '*', Paint::Busy),
            TaskStatus::Completed => mark(word, '✔', '+', Paint::Good),
            TaskStatus::Failed => mark(word, '✖', 'x', Paint::Bad),
            TaskStatus::Skipped => mark(word, '⊘', '-', Paint::Dim),
            TaskStatus::Cancelled => mark(word, '■', '#', Paint::Warn),
        }
    }
}

impl From<MilestoneStatus> for Mark {
    fn from(status: MilestoneStatus) -> Self {
        let word = status.name();
        match status {
            MilestoneStatus::Planned => mark(word, '○', '.', Paint::Dim),
            MilestoneStatus::Active => mark(word, '●', '*', Paint::Busy),
            MilestoneStatus::Paused => mark(word, '⏸', '=', Paint::Warn),
            MilestoneStatus::Completed => mark(word, '✔', '+', Paint::Good),
            MilestoneStatus::Failed => mark(word, '✖', 'x', Paint::Bad),
            MilestoneStatus::Skipped => mark(word, '⊘', '-', Paint::Dim),
            MilestoneStatus::Cancelled => mark(word, '■', '#', Paint::Warn),
        }
    }
}

impl From<RunStatus> for Mark {
    fn from(status: RunStatus) -> Self {
        let word = status.name();
        match status {
            RunStatus::Absent => mark(word, '○', '.', Paint::Dim),
            RunStatus::Active => mark(word, '●', '*', Paint::Busy),
            RunStatus::Paused => mark(word, '⏸', '=', Paint::Warn),
            RunStatus::Completed => mark(word, '✔', '+', Paint::Good),
            RunStatus::Failed => mark(word, '✖', 'x', Paint::Bad),
            RunStatus::Cancelled => mark(word, '■', '#', Paint::Warn),
        }
    }
}

impl Style {
    /// For stdout.
    pub fn stdout(context: &Context) -> Self {
        Self { color: context.color_stdout(), unicode: is_utf8(|name| std::env::var_os(name)) }
    }

    /// For stderr.
    pub fn stderr(context: &Context) -> Self {
        Self { color: context.color_stderr(), unicode: is_utf8(|name| std::env::var_os(name)) }
    }

    /// Text in a colour, if colours are used.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if self.color && paint != Paint::Plain {
            format!("{}{text}\u{1b}[0m", paint.code())
        } else {
            text.to_owned()
        }
    }

    /// The glyph of a state.
    pub const fn glyph(&self, mark: Mark) -> char {
        if self.unicode { mark.glyph } else { mark.ascii }
    }

    /// A state: glyph and word, in its colour.
    pub fn state(&self, state: impl Into<Mark>) -> String {
        let mark = state.into();
        self.paint(mark.paint, &self.state_text(mark))
    }

    /// A state: glyph and word.
    pub fn state_text(&self, state: impl Into<Mark>) -> String {
        let mark = state.into();
        format!("{} {}", self.glyph(mark), mark.word)
    }

    /// One of two texts: the second has ASCII only.
    pub const fn choose<'a>(&self, unicode: &'a str, ascii: &'a str) -> &'a str {
        if self.unicode { unicode } else { ascii }
    }

    /// A bar of `width` cells that is filled to `share` (0 to 1). Full only if all is done.
    pub fn bar(&self, share: f64, width: usize) -> String {
        let (full, empty) = if self.unicode { ('█', '░') } else { ('#', '-') };
        let filled = part_of(width, share);
        let cells = std::iter::repeat_n(full, filled).chain(std::iter::repeat_n(empty, width - filled));
        cells.collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clamped"
)]
fn part_of(width: usize, share: f64) -> usize {
    // A little is added for what floating point loses: 0.28 of 100 is 28.
    (share.clamp(0.0, 1.0) * width as f64 + 1e-9).floor() as usize
}

/// Whole percents, 100 only if all is done.
pub fn percent(share: f64) -> String {
    format!("{:>3} %", part_of(100, share))
}

/// Whether the locale is one of UTF-8. The first variable that is set decides.
fn is_utf8(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    set.is_some_and(|value| {
        let value = value.to_string_lossy().to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

/// A duration for people: `250ms`, `1.2s`, `3m05s`, `2h10m`, `3d04h`.
pub fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let tenths = (millis + 50) / 100;
    if tenths < 600 {
        return match tenths % 10 {
            0 => format!("{}s", tenths / 10),
            part => format!("{}.{part}s", tenths / 10),
        };
    }
    let seconds = (millis + 500) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if hours == 0 => format!("{minutes}m{:02}s", seconds % 60),
        () if days == 0 => format!("{hours}h{:02}m", minutes % 60),
        () => format!("{days}d{:02}h", hours % 24),
    }
}

/// A moment for people: UTC, to the second.
pub fn moment(at: cairn_model::Timestamp) -> String {
    let text = at.to_string();
    // `2026-12-01T12:00:00.000000Z`: the form never changes.
    format!("{} {} UTC", &text[..10], &text[11..19])
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 task`, `2,000 tasks`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {many}", grouped(number)) }
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    paint: Paint,
    right: bool,
}

impl Cell {
    /// Plain text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), paint: Paint::Plain, right: false }
    }

    /// A number, set to the right.
    pub fn right(text: impl Into<String>) -> Self {
        Self { right: true, ..Self::new(text) }
    }

    /// A state.
    pub fn state(style: &Style, state: impl Into<Mark>) -> Self {
        let mark = state.into();
        Self::new(style.state_text(mark)).paint(mark.paint)
    }

    /// The same in a colour.
    #[must_use]
    pub fn paint(mut self, paint: Paint) -> Self {
        self.paint = paint;
        self
    }
}

/// Spaces between two columns.
const GAP: &str = "  ";

/// Rows with aligned columns, each line behind `indent`. A column that is empty in all rows is left out; a last cell
/// is not padded.
pub fn table(style: &Style, indent: &str, rows: &[Vec<Cell>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.width());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = indent.to_owned();
        let last = row.iter().rposition(|cell| !cell.text.is_empty());
        for (at, cell) in row.iter().enumerate().take(last.map_or(0, |last| last + 1)) {
            if widths[at] == 0 {
                continue;
            }
            let padding = " ".repeat(widths[at] - cell.text.width());
            let painted = style.paint(cell.paint, &cell.text);
            let gap = if at == 0 { "" } else { GAP };
            let _ = match (cell.right, Some(at) == last) {
                (true, _) => write!(line, "{gap}{padding}{painted}"),
                (false, true) => write!(line, "{gap}{painted}"),
                (false, false) => write!(line, "{gap}{painted}{padding}"),
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_say_them() {
        let texts =
            [0, 1, 999, 1_000, 1_249, 12_000, 59_940, 59_960, 185_000, 3_599_700, 7_800_000, 273_600_000]
                .map(|millis| duration(Duration::from_millis(millis)));
        assert_eq!(
            texts,
            ["0s", "1ms", "999ms", "1s", "1.2s", "12s", "59.9s", "1m00s", "3m05s", "1h00m", "2h10m", "3d04h"]
        );
    }

    #[test]
    fn the_first_variable_that_is_set_names_the_locale() {
        let locale = |pairs: &'static [(&str, &str)]| {
            is_utf8(move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()))
        };
        assert!(locale(&[("LANG", "C.UTF-8")]) && locale(&[("LC_ALL", ""), ("LC_CTYPE", "de_DE.utf8")]));
        assert!(!locale(&[]) && !locale(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")]));
    }

    #[test]
    fn a_bar_is_full_only_at_the_end() {
        let style = Style { color: false, unicode: false };
        assert_eq!(
            [0.0, 0.5, 0.999, 1.0, 7.0].map(|share| style.bar(share, 4)),
            ["----", "##--", "###-", "####", "####"]
        );
        assert_eq!([0.0, 0.28, 0.999_999, 1.0].map(percent), ["  0 %", " 28 %", " 99 %", "100 %"]);
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let style = Style { color: true, unicode: true };
        let rows = [
            vec![Cell::state(&style, TaskStatus::Failed), Cell::new(""), Cell::right("7"), Cell::new("日本")],
            vec![Cell::new("plain"), Cell::new(""), Cell::right("1,000"), Cell::new("")],
        ];
        assert_eq!(
            table(&style, "  ", &rows),
            "  \u{1b}[1;31m✖ failed\u{1b}[0m      7  日本\n  plain     1,000\n"
        );
    }

    #[test]
    fn every_state_has_a_glyph_and_an_ascii_form_of_its_own_kind() {
        let ascii = Style { color: false, unicode: false };
        for status in TaskStatus::ALL {
            let text = ascii.state(*status);
            assert!(text.is_ascii() && text.ends_with(status.name()), "{text}");
        }
        assert_eq!(Style { color: false, unicode: true }.state(RunStatus::Paused), "⏸ paused");
    }
}
