//! Lines at the bottom of a terminal that are painted over, again and again. Knows nothing of runs.
//!
//! The cursor rests below the picture, at the left edge: what the terminal echoes there (`^C`) is painted over, too.
//! Widths are those of a terminal's cells, and nothing ever wraps: a wrapped line would be counted wrong, and
//! the next picture would be painted in the wrong place.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use unicode_width::UnicodeWidthChar as _;

/// What a terminal that does not tell its size is taken for.
const USUAL_SIZE: Size = Size { columns: 80, rows: 24 };

/// The widths of the lines that stand on the terminal now. Of the process, as stderr is: whoever else writes there
/// must take the picture off first.
static ON_SCREEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// The size of a terminal, in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Cells in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

impl Size {
    /// The size of the terminal at stderr. Asked for at each picture, as it may change.
    pub fn of_stderr() -> Self {
        match rustix::termios::tcgetwinsize(io::stderr()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                Self { columns: size.ws_col.into(), rows: size.ws_row.into() }
            }
            _ => USUAL_SIZE,
        }
    }
}

/// Paints these lines in place of the ones before. What does not fit is cut off.
pub fn paint(lines: &[String], size: Size) {
    let mut on_screen = on_screen();
    let text = picture(&mut on_screen, lines, size);
    // A terminal that has gone away needs no picture.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes text to stderr where the picture stood; the next one comes below it.
pub fn write_above(text: &[u8]) -> io::Result<()> {
    let mut on_screen = on_screen();
    if !on_screen.is_empty() {
        let off = picture(&mut on_screen, &[], Size::of_stderr());
        io::stderr().lock().write_all(off.as_bytes())?;
    }
    io::stderr().lock().write_all(text)
}

fn on_screen() -> MutexGuard<'static, Vec<usize>> {
    ON_SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What to send to the terminal to have `lines` in place of what is `on_screen`.
fn picture(on_screen: &mut Vec<usize>, lines: &[String], size: Size) -> String {
    // A terminal that became narrower has wrapped the old lines.
    let up: usize = on_screen.iter().map(|width| width.div_ceil(size.columns).max(1)).sum();
    on_screen.clear();
    let mut text = String::from("\r");
    match up.min(size.rows.saturating_sub(1)) {
        0 => {}
        up => {
            let _ = write!(text, "\x1b[{up}A");
        }
    }
    for line in lines.iter().take(size.rows.saturating_sub(1)) {
        // The last column stays free: a cursor that stands beyond it is treated differently by each terminal.
        let (cut, width) = cut(line, size.columns.saturating_sub(1));
        let _ = write!(text, "{cut}\x1b[K\r\n");
        on_screen.push(width);
    }
    text.push_str("\x1b[J");
    text
}

/// As much of a line as has room in so many cells, with all its colour codes; and its width.
fn cut(line: &str, cells: usize) -> (String, usize) {
    let mut text = String::with_capacity(line.len());
    let (mut width, mut is_full, mut is_code) = (0, false, false);
    for character in line.chars() {
        if is_code || character == '\x1b' {
            is_code = !character.is_ascii_alphabetic();
            text.push(character);
            continue;
        }
        let wider = width + character.width().unwrap_or(0);
        is_full |= wider > cells;
        if !is_full {
            text.push(character);
            width = wider;
        }
    }
    (text, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn lines_are_cut_by_the_cells_that_they_take() {
        assert_eq!(cut("half way", 4), ("half".to_owned(), 4));
        assert_eq!(cut("日本語", 6), ("日本語".to_owned(), 6));
        assert_eq!(
            cut("日本語x", 5),
            ("日本".to_owned(), 4),
            "half a character is none, nor is what follows"
        );
        assert_eq!(cut("\x1b[31mred\x1b[0m and more", 2), ("\x1b[31mre\x1b[0m".to_owned(), 2));
    }

    #[test]
    fn a_picture_takes_the_place_of_the_one_before() {
        let size = Size { columns: 10, rows: 5 };
        let mut on_screen = Vec::new();
        let first = picture(&mut on_screen, &lines(&["head", "日本語日本語"]), size);
        assert_eq!(first, "\rhead\x1b[K\r\n日本語日\x1b[K\r\n\x1b[J");
        assert_eq!(on_screen, [4, 8]);
        assert_eq!(picture(&mut on_screen, &lines(&["one"]), size), "\r\x1b[2Aone\x1b[K\r\n\x1b[J");
        assert_eq!(picture(&mut on_screen, &[], size), "\r\x1b[1A\x1b[J");
        assert!(on_screen.is_empty());
    }

    #[test]
    fn a_narrower_or_lower_terminal_is_filled_and_not_more() {
        let mut on_screen = vec![9, 9];
        let narrow = Size { columns: 5, rows: 4 };
        let text = picture(&mut on_screen, &lines(&["a", "b", "c", "d", "e"]), narrow);
        assert_eq!(text, "\r\x1b[3Aa\x1b[K\r\nb\x1b[K\r\nc\x1b[K\r\n\x1b[J");
    }
}
