//! What goes to stdout, and what goes to stderr when a command fails.
//!
//! Data on stdout, talk on stderr. A reader that has gone away (`cairn events | head -1`) ends the command quietly.

use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::style::{Paint, Style};
use serde::Serialize;
use serde_json::json;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something has been printed to stdout: an error object behind half a value would be no JSON.
static HAS_PRINTED: AtomicBool = AtomicBool::new(false);

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 64 << 10;

/// Stdout, buffered. [`flush`](Stdout::flush) it at the end: dropping it would hide an error.
pub struct Stdout {
    writer: BufWriter<Noticing<StdoutLock<'static>>>,
}

/// Notices the first write.
struct Noticing<W>(W);

impl<W: Write> Write for Noticing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        HAS_PRINTED.store(true, Ordering::Relaxed);
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stdout {
    /// Takes stdout for the rest of the command.
    pub fn new() -> Self {
        Self { writer: BufWriter::with_capacity(BUFFER_BYTES, Noticing(io::stdout().lock())) }
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Nobody listens, or the write failed.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes).map_err(|error| write_failed(&error))
    }

    /// Writes text as it is.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Writes a value on a line of its own.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.json_value(value)?;
        self.text("\n")
    }

    /// Writes a value without a line break.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn json_value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.writer, value).map_err(|error| write_failed(&error.into()))
    }

    /// Writes a value in the form that was asked for; JSON for text.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn value(&mut self, format: Format, value: &impl Serialize) -> Result<(), Failure> {
        match format {
            Format::Jsonl => self.json_line(value),
            Format::Yaml => self.yaml(value),
            Format::Json | Format::Text => {
                serde_json::to_writer_pretty(&mut self.writer, value)
                    .map_err(|error| write_failed(&error.into()))?;
                self.text("\n")
            }
        }
    }

    fn yaml(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        // Through JSON's model, so that both forms say the same.
        let value = serde_json::to_value(value).map_err(|error| write_failed(&error.into()))?;
        let text = serde_saphyr::to_string(&value).map_err(|error| {
            Failure::new(Exit::Bug, format!("the value cannot be written as YAML: {error}"))
        })?;
        self.text(text.trim_end_matches('\n'))?;
        self.text("\n")
    }

    /// Writes a list: a value a line for `jsonl`, else one value.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn list(&mut self, format: Format, items: &[impl Serialize]) -> Result<(), Failure> {
        match format {
            Format::Jsonl => items.iter().try_for_each(|item| self.json_line(item)),
            Format::Text | Format::Json | Format::Yaml => self.value(format, &items),
        }
    }

    /// Hands over what is buffered.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| write_failed(&error))
    }
}

/// Prints one value and is done.
///
/// # Errors
/// Nobody listens, or the write failed.
pub fn print_value(context: &Context, value: &impl Serialize) -> Result<(), Failure> {
    let mut out = Stdout::new();
    out.value(context.format, value)?;
    out.flush()
}

/// Prints text and is done.
///
/// # Errors
/// Nobody listens, or the write failed.
pub fn print_text(text: &str) -> Result<(), Failure> {
    let mut out = Stdout::new();
    out.text(text)?;
    out.flush()
}

fn write_failed(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::nobody_listens(),
        _ => Failure::new(Exit::OutOfReach, format!("cannot write to stdout: {error}")),
    }
}

/// Says something to the person who typed the command. If stderr is closed, nobody wants to know.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Tells why a command failed: people on stderr, programs that asked for JSON also on stdout.
pub fn report(failure: &Failure, format: Format, style: &Style) {
    if failure.is_silent() {
        return;
    }
    let mut text = String::new();
    if let Some(diagnostics) = &failure.diagnostics {
        text.push_str(&diagnostics.render(style.color));
        text.push('\n');
    }
    text.push_str(&style.paint(Paint::Bad, "error:"));
    text.push(' ');
    text.push_str(&failure.message);
    if let Some(help) = &failure.help {
        text.push('\n');
        text.push_str(&style.paint(Paint::Busy, "help:"));
        text.push(' ');
        text.push_str(help);
    }
    say(&text);
    report_value(failure, format);
}

/// Tells why a command failed as a value on stdout, if values were asked for and none has been printed.
pub fn report_value(failure: &Failure, format: Format) {
    if format == Format::Text || HAS_PRINTED.load(Ordering::Relaxed) {
        return;
    }
    let mut error = json!({"kind": failure.exit.name(), "message": failure.message, "help": failure.help});
    if let Some(diagnostics) = &failure.diagnostics {
        error["diagnostics"] = json!(diagnostics.diagnostics);
    }
    let mut out = Stdout::new();
    // There is nobody left to tell that this failed, too.
    let _ = out.value(format, &json!({"error": error})).and_then(|()| out.flush());
}
