//! Diagnostics as text: what is wrong, where, the line with marks under it, what to write instead.
//!
//! ```text
//! error: unknown key `tilte`
//!  --> plan.yaml:3:1
//!   |
//! 3 | tilte: Apollo release
//!   | ^^^^^
//!   = help: did you mean `title`?
//! ```

use super::diagnostic::{Diagnostic, Diagnostics, Excerpt, MAX_SHOWN, Place, Severity};
use super::words::{grouped, is_unprintable};
use std::fmt::{self, Write as _};
use unicode_width::UnicodeWidthChar as _;

/// Columns of a tab.
const TAB: &str = "    ";

/// Escape sequences, or nothing.
struct Style {
    error: &'static str,
    warning: &'static str,
    bold: &'static str,
    dim: &'static str,
    reset: &'static str,
}

const PLAIN: Style = Style { error: "", warning: "", bold: "", dim: "", reset: "" };
const COLOURED: Style = Style {
    error: "\u{1b}[1;31m",
    warning: "\u{1b}[1;33m",
    bold: "\u{1b}[1m",
    dim: "\u{1b}[1;34m",
    reset: "\u{1b}[0m",
};

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Diagnostics {
    /// The first [`MAX_SHOWN`] diagnostics as text, with a blank line between them and a line feed at the end.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let style = if colour { &COLOURED } else { &PLAIN };
        let mut out = String::new();
        for (index, diagnostic) in self.diagnostics.iter().take(MAX_SHOWN).enumerate() {
            if index > 0 {
                out.push('\n');
            }
            // Writing to a String cannot fail.
            let _ = draw(&mut out, &self.file, diagnostic, style);
        }
        let more = self.len().saturating_sub(MAX_SHOWN);
        if more > 0 {
            let _ = writeln!(out, "\n… and {} more", grouped(more));
        }
        out
    }
}

fn draw(out: &mut String, file: &str, diagnostic: &Diagnostic, style: &Style) -> fmt::Result {
    let (colour, word) = match diagnostic.severity {
        Severity::Error => (style.error, "error"),
        Severity::Warning => (style.warning, "warning"),
    };
    let places = diagnostic.notes.iter().filter_map(|note| note.place.as_ref()).chain(&diagnostic.place);
    let gutter = places.map(|place| place.line.to_string().len()).max().unwrap_or(1);
    let Style { bold, dim, reset, .. } = style;
    writeln!(out, "{colour}{word}{reset}{bold}: {}{reset}", diagnostic.message)?;
    match &diagnostic.place {
        Some(place) => draw_place(out, file, place, gutter, (colour, diagnostic.label.as_deref()), style)?,
        None => writeln!(out, "{dim}{:gutter$}-->{reset} {file}", "")?,
    }
    for note in &diagnostic.notes {
        writeln!(out, "{bold}note{reset}: {}", note.message)?;
        if let Some(place) = &note.place {
            draw_place(out, file, place, gutter, (dim, None), style)?;
        }
    }
    if let Some(help) = &diagnostic.help {
        for (index, line) in help.lines().enumerate() {
            match index {
                0 => writeln!(out, "{:gutter$} {dim}={reset} {bold}help{reset}: {line}", "")?,
                _ => writeln!(out, "{:gutter$}         {line}", "")?,
            }
        }
    }
    Ok(())
}

fn draw_place(
    out: &mut String,
    file: &str,
    place: &Place,
    gutter: usize,
    (mark, label): (&str, Option<&str>),
    style: &Style,
) -> fmt::Result {
    let Style { dim, reset, .. } = style;
    let Place { line, column, length, excerpt } = place;
    let (text, before, marked) = drawn_line(excerpt, *length as usize);
    writeln!(out, "{dim}{:gutter$}-->{reset} {file}:{line}:{column}", "")?;
    writeln!(out, "{dim}{:gutter$} |{reset}", "")?;
    let text = text.trim_end();
    let space = if text.is_empty() { "" } else { " " };
    writeln!(out, "{dim}{line:gutter$} |{reset}{space}{text}")?;
    write!(out, "{dim}{:gutter$} |{reset} {:before$}{mark}{}{reset}", "", "", "^".repeat(marked))?;
    match label {
        Some(label) => writeln!(out, " {label}"),
        None => writeln!(out),
    }
}

/// The line as a terminal shows it, how many columns stand before the marks, and how many marks there are.
fn drawn_line(excerpt: &Excerpt, length: usize) -> (String, usize, usize) {
    let mut text = String::new();
    let (mut before, mut marked) = (0, 0);
    if excerpt.cut_left {
        text.push('…');
        before += 1;
    }
    for (index, character) in excerpt.text.chars().enumerate() {
        let columns = match character {
            '\t' => {
                text.push_str(TAB);
                TAB.len()
            }
            _ if is_unprintable(character) => {
                text.push(char::REPLACEMENT_CHARACTER);
                1
            }
            _ => {
                text.push(character);
                character.width().unwrap_or(0)
            }
        };
        if index < excerpt.before {
            before += columns;
        } else if index < excerpt.before + length {
            marked += columns;
        }
    }
    if excerpt.cut_right {
        text.push('…');
    }
    (text, before, marked.max(1))
}

#[cfg(test)]
mod tests {
    use super::super::diagnostic::{Finding, Findings, Span};
    use super::super::source::Source;

    fn shown(text: &str, start: usize, len: usize) -> String {
        let source = Source::new("p.yaml", text);
        Findings::from(Finding::error(Span::new(start, len), "wrong")).diagnostics(&source).to_string()
    }

    fn lines_of(text: &str, needle: &str) -> (String, String) {
        let drawn = shown(text, text.find(needle).expect("part of the text"), needle.len());
        let lines: Vec<&str> = drawn.lines().collect();
        (lines[3][4..].to_string(), lines[4][4..].to_string())
    }

    #[test]
    fn marks_stand_under_what_is_meant() {
        assert_eq!(lines_of("abc: def", "def"), ("abc: def".into(), "     ^^^".into()));
        assert_eq!(lines_of("é\tdef", "def"), ("é    def".into(), "     ^^^".into()));
        assert_eq!(lines_of("日本: def", "def"), ("日本: def".into(), "      ^^^".into()));
        assert_eq!(lines_of("日本: def", "日本"), ("日本: def".into(), "^^^^".into()));
        assert_eq!(lines_of("a\u{1b}[m def", "def"), ("a\u{fffd}[m def".into(), "     ^^^".into()));
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}X{}", "é".repeat(5_000), "b".repeat(5_000));
        let (line, marks) = lines_of(&text, "X");
        assert_eq!(line.chars().count(), 102);
        assert!(line.starts_with('…') && line.ends_with('…'));
        let at = line.chars().position(|c| c == 'X');
        assert_eq!(marks.chars().position(|c| c == '^'), at);
    }

    #[test]
    fn what_goes_over_several_lines_is_marked_on_the_first() {
        assert_eq!(lines_of("a: [b,\r\n  c]\n", "[b,\r\n  c]"), ("a: [b,".into(), "   ^^^".into()));
    }

    #[test]
    fn a_place_at_the_end_of_the_text_is_shown() {
        assert!(shown("a\n", 2, 1).contains("p.yaml:2:1"));
        assert!(shown("", 0, 0).contains("p.yaml:1:1"));
        assert!(shown("é", 1, 1).contains("p.yaml:1:1"), "inside a character is at its start");
    }

    #[test]
    fn colour_is_for_the_caller_to_choose() {
        let source = Source::new("p.yaml", "a: b");
        let found = Findings::from(Finding::error(Span::new(0, 1), "wrong")).diagnostics(&source);
        assert!(!found.render(false).contains('\u{1b}'));
        assert!(found.render(true).contains("\u{1b}[1;31merror"));
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        let mut findings = Findings::default();
        for _ in 0..1_234 {
            findings.add(Finding::error(Span::new(0, 1), "wrong"));
        }
        let text = findings.diagnostics(&Source::new("p.yaml", "a: b")).to_string();
        assert_eq!(text.matches("error: wrong").count(), 20);
        assert!(text.ends_with("… and 1,214 more\n"), "{text}");
    }
}
