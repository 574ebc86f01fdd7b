//! The text of a plan and its lines: from a byte's offset to what a person sees.
//!
//! Offsets are `u32`: a plan is limited to 256 MiB, checked before anything else looks at the text.

use super::diagnostic::{Diagnostics, Finding, Findings, Span};
use super::limits::Limits;

/// A plan's text and the name under which errors show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's name as the user gave it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// A source from a name and its text.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Whether a plan called `name` may have so many bytes; to be asked before they are read, where that is known.
    ///
    /// # Errors
    /// If there are more than `limits` allow.
    pub fn check_length(name: &str, bytes: usize, limits: &Limits) -> Result<(), Diagnostics> {
        match limits.too_large(bytes) {
            Some(finding) => Err(Findings::from(finding).diagnostics(&Self::new(name, ""))),
            None => Ok(()),
        }
    }

    /// A source from the bytes of a file.
    ///
    /// # Errors
    /// If there are more bytes than `limits` allow, or they are not UTF-8; the error shows the line.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>, limits: &Limits) -> Result<Self, Diagnostics> {
        let name = name.into();
        Self::check_length(&name, bytes.len(), limits)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let bytes = error.into_bytes();
                let finding = Finding::error(Span::new(at, 1), "the plan is not UTF-8 text")
                    .help(encoding_help(&bytes));
                // What stands before the damage, and the rest of its line as far as it can be shown.
                let end = (at + MAX_SHOWN_BYTES).min(bytes.len());
                let mut shown = String::from_utf8_lossy(&bytes[..at]).into_owned();
                shown.push_str(&String::from_utf8_lossy(&bytes[at..end]));
                Err(Findings::from(finding).diagnostics(&Self { name, text: shown }))
            }
        }
    }
}

/// How much of a damaged line is shown.
const MAX_SHOWN_BYTES: usize = 200;

fn encoding_help(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        "this looks like UTF-16: save the file as UTF-8"
    } else {
        "save the file as UTF-8"
    }
}

/// How far apart the places are at which an index remembers where it is.
const STEP_BYTES: usize = 64 << 10;

/// What is known at one of those places.
#[derive(Clone, Copy, Debug, Default)]
struct Checkpoint {
    /// Line feeds before.
    lines: u32,
    /// Where the line starts.
    line_start: u32,
    /// Characters between the line's start and here.
    characters: u32,
}

/// Finds lines and columns without walking the text from its start each time, however long its lines are.
#[derive(Debug)]
pub(crate) struct LineIndex<'s> {
    text: &'s str,
    checkpoints: Vec<Checkpoint>,
}

/// A place as people count it, and where its line starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineColumn {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// Offset of the line's first byte.
    pub line_start: usize,
}

impl<'s> LineIndex<'s> {
    /// Reads the whole text once.
    pub(crate) fn new(text: &'s str) -> Self {
        let mut here = Checkpoint::default();
        let mut checkpoints = vec![here];
        for (index, block) in text.as_bytes().chunks(STEP_BYTES).enumerate() {
            here = here.after(index * STEP_BYTES, block);
            checkpoints.push(here);
        }
        Self { text, checkpoints }
    }

    /// Line and column of the character that holds byte `offset`; beyond the text its end.
    pub(crate) fn line_column(&self, offset: u32) -> LineColumn {
        let offset = (offset as usize).min(self.text.len());
        let index = offset / STEP_BYTES;
        let from = index * STEP_BYTES;
        let here = self.checkpoints[index].after(from, &self.text.as_bytes()[from..offset]);
        LineColumn { line: here.lines + 1, column: here.characters + 1, line_start: here.line_start as usize }
    }

    /// The text.
    pub(crate) fn text(&self) -> &'s str {
        self.text
    }
}

impl Checkpoint {
    /// What is known after `block`, which starts at offset `from`.
    fn after(self, from: usize, block: &[u8]) -> Self {
        let lines = block.iter().filter(|&&byte| byte == b'\n').count();
        match block.iter().rposition(|&byte| byte == b'\n') {
            None => Self { characters: self.characters + characters(block), ..self },
            Some(at) => Self {
                lines: self.lines + small(lines),
                line_start: small(from + at + 1),
                characters: characters(&block[at + 1..]),
            },
        }
    }
}

/// Characters that start in these bytes of UTF-8.
fn characters(bytes: &[u8]) -> u32 {
    small(bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count())
}

/// Offsets of a plan fit into 32 bits; see the module's documentation.
pub(crate) fn small(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters() {
        let index = LineIndex::new("aé\nb\r\n\n日本x");
        let place = |offset| {
            let place = index.line_column(offset);
            (place.line, place.column)
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(3), (1, 3), "the line feed after two characters in three bytes");
        assert_eq!(place(4), (2, 1));
        assert_eq!(place(7), (3, 1));
        assert_eq!(place(8), (4, 1));
        assert_eq!(place(14), (4, 3));
        assert_eq!(place(999), (4, 4), "beyond the text is its end");
    }

    #[test]
    fn checkpoints_agree_with_a_walk_from_the_start() {
        let mut text = "é".repeat(STEP_BYTES);
        text.push('\n');
        text.push_str(&"ab\n".repeat(STEP_BYTES));
        text.push_str(&"日".repeat(STEP_BYTES));
        let index = LineIndex::new(&text);
        for (offset, _) in text.char_indices().step_by(4_999) {
            let before = &text[..offset];
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            let expected = LineColumn {
                line: small(before.matches('\n').count()) + 1,
                column: small(before[line_start..].chars().count()) + 1,
                line_start,
            };
            assert_eq!(index.line_column(small(offset)), expected);
        }
    }

    #[test]
    fn what_is_not_utf_8_is_shown_with_its_place() {
        let error =
            Source::from_bytes("p.yaml", b"version: 1\nproject: \xff\xfe\n".to_vec(), &Limits::local());
        let text = error.expect_err("not UTF-8").to_string();
        assert!(text.contains("--> p.yaml:2:10"), "{text}");
        let utf16 = Source::from_bytes("p.yaml", b"\xff\xfev\0".to_vec(), &Limits::local());
        assert!(utf16.expect_err("not UTF-8").to_string().contains("UTF-16"));
    }
}
