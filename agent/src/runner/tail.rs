//! The end of a log, made harmless for a terminal.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The last `lines` lines of a file, from its last `max_bytes` bytes at most, as [`harmless`] text. A first line
/// that is cut begins with `…`. A file that is not there is empty: the task wrote nothing.
///
/// # Errors
/// When the file cannot be read.
pub fn tail(path: &Path, lines: usize, max_bytes: u64) -> io::Result<String> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(max_bytes);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes)?;
    let last = last_lines(&bytes, lines);
    let is_cut = from > 0 && last.len() == bytes.len() && !last.is_empty();
    Ok(if is_cut { format!("…{}", harmless(last)) } else { harmless(last) })
}

/// The last lines; a final line break ends the last line and begins none.
fn last_lines(bytes: &[u8], lines: usize) -> &[u8] {
    let Some(before) = lines.checked_sub(1) else { return &[] };
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let start = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(before);
    start.map_or(bytes, |(at, _)| &bytes[at + 1..])
}

/// Output of a task as text that cannot steer a terminal: control characters but line break and tab, and the
/// characters that turn the direction of writing, as `\u{…}` or `\r`, `\x1b`; what is no UTF-8 as `�`.
#[must_use]
pub fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut safe = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\t' => safe.push(character),
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' => safe.push_str("\\r"),
            '\0'..='\x1f' | '\x7f' => {
                let _ = write!(safe, "\\x{:02x}", u32::from(character));
            }
            '\u{80}'..='\u{9f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                let _ = write!(safe, "{}", character.escape_unicode());
            }
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tail_of(content: &[u8], lines: usize, max_bytes: u64) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, content).unwrap();
        tail(&path, lines, max_bytes).unwrap()
    }

    #[test]
    fn the_last_lines() {
        assert_eq!(tail_of(b"a\nb\nc\n", 2, 1000), "b\nc\n");
        assert_eq!(tail_of(b"a\nb\nc", 2, 1000), "b\nc");
        assert_eq!(tail_of(b"a\nb\nc\n", 3, 1000), "a\nb\nc\n");
        assert_eq!(tail_of(b"a\nb\nc\n", 9, 1000), "a\nb\nc\n");
        assert_eq!(tail_of(b"\n\n\n", 2, 1000), "\n\n");
        assert_eq!(tail_of(b"a\nb\n", 0, 1000), "");
        assert_eq!(tail_of(b"", 5, 1000), "");
    }

    #[test]
    fn one_endless_line_is_cut_in_front() {
        assert_eq!(tail_of(&[b'x'; 10_000], 5, 4), "…xxxx");
        assert_eq!(tail_of(b"long first line\nlast\n", 1, 8), "last\n");
    }

    #[test]
    fn a_log_that_was_never_made_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(tail(&directory.path().join("none"), 5, 100).unwrap(), "");
        assert!(tail(directory.path(), 5, 100).is_err());
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(harmless(b"\x1b[2J\x07ok\x00\x7f"), "\\x1b[2J\\x07ok\\x00\\x7f");
        assert_eq!(harmless(b"10%\r20%\r\n"), "10%\\r20%\n");
        assert_eq!(harmless("a\u{9b}31m\u{202e}b".as_bytes()), "a\\u{9b}31m\\u{202e}b");
        assert_eq!(harmless(b"\xff\xfetext \xc3\xa4\tx\n"), "\u{fffd}\u{fffd}text ä\tx\n");
    }
}
