//! Logs to stdout, in bounded memory.

use crate::context::Format;
use crate::exit::{Exit, Failure};
use crate::output::Stdout;
use crate::style::{Paint, Style};
use cairn_agent::runner::harmless;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// A longer line is shown in pieces.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// Bytes that are read at a time.
const BLOCK_BYTES: usize = 64 << 10;
/// Names of tasks are padded to this at most.
const MAX_PADDING: usize = 40;

/// How logs are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One log as it is; made harmless on a terminal.
    Verbatim {
        /// Stdout is a terminal.
        is_terminal: bool,
    },
    /// Lines behind the name of their task.
    Prefixed {
        /// Stdout is a terminal.
        is_terminal: bool,
    },
    /// A JSON object for each line.
    Lines,
    /// One value.
    Value(Format),
}

/// A line as JSON.
#[derive(Serialize)]
struct LineView<'a> {
    task: &'a str,
    attempt: u32,
    line: &'a str,
}

/// A log in a value.
#[derive(Serialize)]
struct LogView {
    task: String,
    attempt: u32,
    text: String,
}

/// A log that comes piece by piece.
#[derive(Debug)]
pub struct Piece {
    task: String,
    attempt: u32,
    /// The beginning of a line, of at most [`MAX_LINE_BYTES`]; of a [`Form::Value`] all.
    rest: Vec<u8>,
}

impl Piece {
    /// A log of which nothing has come.
    pub fn new(task: &str, attempt: u32) -> Self {
        Self { task: task.to_owned(), attempt, rest: Vec::new() }
    }
}

/// Prints logs.
pub struct Printer {
    pub(super) out: Stdout,
    form: Form,
    tail: Option<usize>,
    padding: usize,
    style: Style,
    /// For [`Form::Value`].
    logs: Vec<LogView>,
}

impl Printer {
    /// A printer; names are up to `width` long.
    pub fn new(form: Form, tail: Option<usize>, width: usize, style: Style) -> Self {
        Self { out: Stdout::new(), form, tail, padding: width.min(MAX_PADDING), style, logs: Vec::new() }
    }

    /// Prints a log that is there, and gives the offset behind what was printed.
    ///
    /// # Errors
    /// The log cannot be read, or nobody listens.
    pub fn whole(&mut self, task: &str, attempt: u32, path: &Path) -> Result<u64, Failure> {
        let unreadable = |error: &io::Error| cannot_read(path, error);
        let mut file = File::open(path).map_err(|error| unreadable(&error))?;
        let start = match self.tail {
            Some(lines) => start_of_last(&mut file, lines).map_err(|error| unreadable(&error))?,
            None => 0,
        };
        self.from(task, attempt, path, start, true)
    }

    /// Prints what a log has from an offset on, and gives the offset behind what was printed. Of a log that still
    /// grows, a line that is not finished waits until it is, unless `to_end`.
    ///
    /// # Errors
    /// The log cannot be read, or nobody listens.
    pub fn from(
        &mut self,
        task: &str,
        attempt: u32,
        path: &Path,
        start: u64,
        to_end: bool,
    ) -> Result<u64, Failure> {
        let unreadable = |error: &io::Error| cannot_read(path, error);
        let mut file = match File::open(path) {
            Ok(file) => file,
            // It wrote nothing, or nothing yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(start),
            Err(error) => return Err(unreadable(&error)),
        };
        file.seek(SeekFrom::Start(start)).map_err(|error| unreadable(&error))?;
        match self.form {
            Form::Verbatim { is_terminal: false } => {
                self.copy(&mut file, start).map_err(|failure| failure.of(path))
            }
            Form::Value(_) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.logs.push(LogView { task: task.to_owned(), attempt, text });
                Ok(start + bytes.len() as u64)
            }
            Form::Verbatim { .. } | Form::Prefixed { .. } | Form::Lines => {
                let mut reader = BufReader::with_capacity(BLOCK_BYTES, file);
                let mut offset = start;
                let mut line = Vec::new();
                loop {
                    line.clear();
                    let mut piece = (&mut reader).take(MAX_LINE_BYTES);
                    let count =
                        piece.read_until(b'\n', &mut line).map_err(|error| unreadable(&error))? as u64;
                    let is_whole = line.ends_with(b"\n") || count == MAX_LINE_BYTES;
                    if count == 0 || !(is_whole || to_end) {
                        return Ok(offset);
                    }
                    offset += count;
                    self.line(task, attempt, &line)?;
                }
            }
        }
    }

    /// Prints more of a log that comes piece by piece. A line that is not finished waits until it is, unless `to_end`.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn feed(&mut self, log: &mut Piece, bytes: &[u8], to_end: bool) -> Result<(), Failure> {
        if matches!(self.form, Form::Verbatim { is_terminal: false }) {
            return self.out.bytes(bytes);
        }
        log.rest.extend_from_slice(bytes);
        if matches!(self.form, Form::Value(_)) {
            if to_end {
                let text = String::from_utf8_lossy(&std::mem::take(&mut log.rest)).into_owned();
                self.logs.push(LogView { task: log.task.clone(), attempt: log.attempt, text });
            }
            return Ok(());
        }
        let rest = std::mem::take(&mut log.rest);
        let mut left = rest.as_slice();
        while !left.is_empty() {
            let longest = left.len().min(MAX_LINE_BYTES as usize);
            let line_end = left[..longest].iter().position(|&byte| byte == b'\n').map(|at| at + 1);
            let end = match line_end {
                Some(end) => end,
                None if to_end || longest == MAX_LINE_BYTES as usize => longest,
                None => break,
            };
            self.line(&log.task, log.attempt, &left[..end])?;
            left = &left[end..];
        }
        log.rest = left.to_vec();
        Ok(())
    }

    /// Whether logs are to be seen whole.
    pub const fn tail(&self) -> Option<usize> {
        self.tail
    }

    fn copy(&mut self, file: &mut File, start: u64) -> Result<u64, CopyError> {
        let mut offset = start;
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let count = file.read(&mut block).map_err(CopyError::Read)?;
            if count == 0 {
                return Ok(offset);
            }
            self.out.bytes(&block[..count]).map_err(CopyError::Write)?;
            offset += count as u64;
        }
    }

    fn line(&mut self, task: &str, attempt: u32, line: &[u8]) -> Result<(), Failure> {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        match self.form {
            Form::Verbatim { .. } => self.out.text(&harmless(line)),
            Form::Prefixed { is_terminal } => {
                let prefix = format!("{task:padding$} | ", padding = self.padding);
                self.out.text(&self.style.paint(Paint::Dim, &prefix))?;
                if is_terminal {
                    self.out.text(&harmless(body))?;
                } else {
                    self.out.bytes(body)?;
                }
                self.out.text("\n")
            }
            Form::Lines | Form::Value(_) => {
                let line = &String::from_utf8_lossy(body);
                self.out.json_line(&LineView { task, attempt, line })
            }
        }
    }

    /// Prints what was collected, and hands over the rest.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn finish(mut self, run: &str) -> Result<(), Failure> {
        if let Form::Value(format) = self.form {
            self.out.value(format, &serde_json::json!({"run": run, "logs": self.logs}))?;
        }
        self.out.flush()
    }
}

enum CopyError {
    Read(io::Error),
    Write(Failure),
}

impl CopyError {
    fn of(self, path: &Path) -> Failure {
        match self {
            Self::Read(error) => cannot_read(path, &error),
            Self::Write(failure) => failure,
        }
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::OutOfReach, format!("cannot read the log {}: {error}", path.display()))
}

/// Where the last `lines` lines of a file begin. Read from its end, block by block.
fn start_of_last(file: &mut File, lines: usize) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut left = lines;
    let mut block = vec![0; BLOCK_BYTES];
    while end > 0 {
        let begin = end.saturating_sub(BLOCK_BYTES as u64);
        let size = usize::try_from(end - begin).unwrap_or(BLOCK_BYTES);
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut block[..size])?;
        for at in (0..size).rev() {
            let position = begin + at as u64;
            // The line break at the very end ends the last line and begins none.
            if block[at] != b'\n' || position + 1 == length {
                continue;
            }
            left -= 1;
            if left == 0 {
                return Ok(position + 1);
            }
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(content: &[u8], lines: usize) -> u64 {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        std::fs::write(&path, content).expect("written");
        start_of_last(&mut File::open(&path).expect("there"), lines).expect("read")
    }

    #[test]
    fn the_last_lines_begin_where_they_do() {
        assert_eq!([0, 1, 2, 3, 9].map(|lines| last(b"a\nb\nc\n", lines)), [6, 4, 2, 0, 0]);
        assert_eq!([1, 2].map(|lines| last(b"a\nb\nc", lines)), [4, 2]);
        assert_eq!(last(b"", 3), 0);
    }

    #[test]
    fn pieces_make_the_same_lines_wherever_they_are_cut() {
        let text = b"one\n\ntwo\nrest";
        for cut in 0..text.len() {
            let style = Style { color: false, unicode: false };
            let mut printer = Printer::new(Form::Value(Format::Json), None, 0, style);
            let mut piece = Piece::new("build/unit", 2);
            printer.feed(&mut piece, &text[..cut], false).expect("printed");
            printer.feed(&mut piece, &text[cut..], true).expect("printed");
            assert_eq!(printer.logs[0].text.as_bytes(), text);
            assert_eq!((printer.logs.len(), printer.logs[0].attempt), (1, 2));
        }
    }

    #[test]
    fn blocks_are_put_together() {
        let mut content = vec![b'x'; 3 * BLOCK_BYTES];
        content[BLOCK_BYTES - 1] = b'\n';
        content[2 * BLOCK_BYTES] = b'\n';
        assert_eq!(
            [1, 2, 3].map(|lines| last(&content, lines)),
            [2 * BLOCK_BYTES as u64 + 1, BLOCK_BYTES as u64, 0]
        );
    }
}
