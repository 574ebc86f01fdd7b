//! From JSON text to a tree, ten times as fast as by way of YAML.
//!
//! JSON is YAML, so whatever is not plain JSON here is left to the YAML front end, which finds the same tree or
//! says what is wrong. Nothing here reports a syntax error.

use super::diagnostic::{Finding, Span};
use super::tree::{Style, TreeBuilder};

/// Why there is no tree.
pub(crate) enum Stop {
    /// It may be YAML.
    NotJson,
    /// It is more than the limits allow, whatever it is.
    Refused(Box<Finding>),
}

impl From<Box<Finding>> for Stop {
    fn from(finding: Box<Finding>) -> Self {
        Self::Refused(finding)
    }
}

/// Whether it is worth trying: the outermost value is a mapping in braces.
pub(crate) fn is_likely(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{')
}

/// Reads the one value of `text` into `builder`.
pub(crate) fn read(text: &str, builder: &mut TreeBuilder<'_, '_>) -> Result<(), Stop> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, unescaped: String::new() };
    // Whether each open collection is a mapping.
    let mut open: Vec<bool> = Vec::new();
    loop {
        // A value is expected, and before it, in a mapping, a key.
        let has_ended = reader.value(builder, &mut open)?;
        if !has_ended {
            continue;
        }
        // A value has ended.
        loop {
            reader.skip_space();
            let Some(&is_mapping) = open.last() else {
                return if reader.at == text.len() { Ok(()) } else { Err(Stop::NotJson) };
            };
            match reader.next() {
                Some(b',') => {
                    if is_mapping {
                        reader.skip_space();
                        reader.key(builder)?;
                    }
                    break;
                }
                Some(b'}') if is_mapping => {}
                Some(b']') if !is_mapping => {}
                _ => return Err(Stop::NotJson),
            }
            open.pop();
            builder.close(reader.at)?;
        }
    }
}

struct Reader<'s> {
    text: &'s str,
    bytes: &'s [u8],
    at: usize,
    unescaped: String,
}

impl Reader<'_> {
    /// Reads a scalar, or opens a collection. True if a value has ended, false if one is expected next.
    fn value(&mut self, builder: &mut TreeBuilder<'_, '_>, open: &mut Vec<bool>) -> Result<bool, Stop> {
        self.skip_space();
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.string(builder)?,
            Some(b'{') => {
                self.at += 1;
                builder.open_mapping(Span::new(start, 1))?;
                self.skip_space();
                if self.peek() != Some(b'}') {
                    open.push(true);
                    self.key(builder)?;
                    return Ok(false);
                }
                self.at += 1;
                builder.close(self.at)?;
            }
            Some(b'[') => {
                self.at += 1;
                builder.open_sequence(Span::new(start, 1))?;
                self.skip_space();
                if self.peek() != Some(b']') {
                    open.push(false);
                    return Ok(false);
                }
                self.at += 1;
                builder.close(self.at)?;
            }
            _ => self.word(builder)?,
        }
        Ok(true)
    }

    /// A key and its colon.
    fn key(&mut self, builder: &mut TreeBuilder<'_, '_>) -> Result<(), Stop> {
        self.string(builder)?;
        self.skip_space();
        if self.next() == Some(b':') { Ok(()) } else { Err(Stop::NotJson) }
    }

    fn string(&mut self, builder: &mut TreeBuilder<'_, '_>) -> Result<(), Stop> {
        let start = self.at;
        if self.next() != Some(b'"') {
            return Err(Stop::NotJson);
        }
        self.unescaped.clear();
        let mut copied_to = self.at;
        let mut has_escapes = false;
        loop {
            match self.next() {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    self.unescaped.push_str(&self.text[copied_to..self.at - 1]);
                    let character = self.escape().ok_or(Stop::NotJson)?;
                    self.unescaped.push(character);
                    copied_to = self.at;
                }
                Some(0x20..) => {}
                _ => return Err(Stop::NotJson),
            }
        }
        let span = Span::new(start, self.at - start);
        if has_escapes {
            self.unescaped.push_str(&self.text[copied_to..self.at - 1]);
            builder.scalar(&self.unescaped, Style::Text, span)?;
        } else {
            builder.quoted(span)?;
        }
        Ok(())
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                (self.next()? == b'\\' && self.next()? == b'u').then_some(())?;
                let second = self.hex()?.checked_sub(0xdc00).filter(|&low| low < 0x400)?;
                return char::from_u32(0x10000 + ((first - 0xd800) << 10) + second);
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self, builder: &mut TreeBuilder<'_, '_>) -> Result<(), Stop> {
        let start = self.at;
        while matches!(self.peek(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.')) {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        if !matches!(word, "true" | "false" | "null") && !is_number(word) {
            return Err(Stop::NotJson);
        }
        builder.scalar(word, Style::Plain, Span::new(start, word.len()))?;
        Ok(())
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}

/// Whether `word` is a number of JSON: `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`.
fn is_number(word: &str) -> bool {
    let word = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match word.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (word, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}
