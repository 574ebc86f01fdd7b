//! What is wrong with a plan, where, and what to write instead.
//!
//! While a plan is read, findings are kept with offsets ([`Finding`], [`Findings`]); at the end they become
//! [`Diagnostics`], which hold their lines and columns and the lines to show, and so outlive the text.
//! Not here: how they are drawn (`render`).

use super::source::{LineIndex, Source, small};
use serde::Serialize;

/// Most findings of one plan that are kept; the others are counted.
pub const MAX_KEPT: usize = 100;
/// Most diagnostics that are shown as text; the others are counted.
pub const MAX_SHOWN: usize = 20;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The plan cannot be used.
    Error,
    /// The plan can be used, but probably means something else.
    Warning,
}

/// A place in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// How many characters are meant, at least 1, within the line.
    pub length: u32,
    /// The part of the line to show.
    #[serde(skip)]
    pub(crate) excerpt: Excerpt,
}

/// The part of a line that is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The text, cut around the place.
    pub text: String,
    /// Characters of it before the place.
    pub before: usize,
    /// Something of the line is missing on the left.
    pub cut_left: bool,
    /// Something of the line is missing on the right.
    pub cut_right: bool,
}

/// Another place that explains a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What is there.
    pub message: String,
    /// Where it is.
    pub place: Option<Place>,
}

/// One thing that is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where; unknown for what concerns the plan as a whole.
    pub place: Option<Place>,
    /// What is at that place, if the message does not say so.
    pub label: Option<String>,
    /// What to write instead.
    pub help: Option<String>,
    /// Other places that have to do with it.
    pub notes: Vec<Note>,
}

/// All that is wrong with a plan, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// The plan's name.
    pub file: String,
    /// What was found, at most [`MAX_KEPT`].
    pub diagnostics: Vec<Diagnostic>,
    /// How many more were found.
    pub omitted: usize,
}

impl std::error::Error for Diagnostics {}

impl Diagnostics {
    /// Nothing is wrong with `file`.
    #[must_use]
    pub fn none(file: impl Into<String>) -> Self {
        Self { file: file.into(), diagnostics: Vec::new(), omitted: 0 }
    }

    /// One diagnostic for `file`.
    #[must_use]
    pub fn one(file: impl Into<String>, diagnostic: Diagnostic) -> Self {
        Self { file: file.into(), diagnostics: vec![diagnostic], omitted: 0 }
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// How many were found, the omitted ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.diagnostics.len() + self.omitted
    }
}

/// A range of bytes of the plan's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    pub(crate) fn new(start: usize, len: usize) -> Self {
        Self { start: small(start), len: small(len) }
    }
}

/// A diagnostic in the making.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    severity: Severity,
    message: String,
    span: Option<Span>,
    label: Option<String>,
    help: Option<String>,
    notes: Vec<(Span, String)>,
}

impl Finding {
    /// An error at a place.
    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        Self { span: Some(span), ..Self::unplaced(message) }
    }

    /// A warning at a place.
    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// An error of the plan as a whole.
    pub(crate) fn unplaced(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span: None,
            label: None,
            help: None,
            notes: Vec::new(),
        }
    }

    /// What is at the place.
    #[must_use]
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// What to write instead.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What to write instead, if that is known.
    #[must_use]
    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Another place that has to do with it.
    #[must_use]
    pub(crate) fn note(mut self, span: Span, message: impl Into<String>) -> Self {
        self.notes.push((span, message.into()));
        self
    }

    /// The finding with its lines looked up.
    pub(crate) fn diagnostic(self, index: &LineIndex<'_>) -> Diagnostic {
        let notes = self.notes.into_iter();
        Diagnostic {
            severity: self.severity,
            message: self.message,
            place: self.span.map(|span| place(index, span)),
            label: self.label,
            help: self.help,
            notes: notes.map(|(span, message)| Note { message, place: Some(place(index, span)) }).collect(),
        }
    }
}

/// Findings of one plan, bounded.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: Vec<Finding>,
    omitted: usize,
    errors: usize,
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Self {
        let mut findings = Self::default();
        findings.add(finding);
        findings
    }
}

impl Findings {
    /// Adds a finding; past [`MAX_KEPT`] it is only counted.
    pub(crate) fn add(&mut self, finding: Finding) {
        self.errors += usize::from(finding.severity == Severity::Error);
        if self.kept.len() < MAX_KEPT {
            self.kept.push(finding);
        } else {
            self.omitted += 1;
        }
    }

    /// Whether another finding is likely to be shown: help that takes time to find can be left out if not.
    pub(crate) fn wants_help(&self) -> bool {
        self.kept.len() < MAX_SHOWN
    }

    /// Whether there was an error.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The findings in the order of their places.
    pub(crate) fn diagnostics(mut self, source: &Source) -> Diagnostics {
        if self.kept.is_empty() {
            return Diagnostics::none(&source.name);
        }
        let index = LineIndex::new(&source.text);
        self.kept.sort_by_key(|finding| finding.span.map_or(0, |span| span.start));
        Diagnostics {
            file: source.name.clone(),
            diagnostics: self.kept.into_iter().map(|finding| finding.diagnostic(&index)).collect(),
            omitted: self.omitted,
        }
    }
}

/// Most characters of a line that are shown.
const MAX_EXCERPT: usize = 100;
/// How many of them stand before the place if the line is cut.
const EXCERPT_BEFORE: usize = 40;

fn place(index: &LineIndex<'_>, span: Span) -> Place {
    let text = index.text();
    let start = floor_boundary(text, (span.start as usize).min(text.len()));
    let found = index.line_column(small(start));
    let meant = &text[start..floor_boundary(text, (start + span.len as usize).min(text.len()))];
    let line_rest = |text: &str| text.find(['\n', '\r']).unwrap_or(text.len());
    let length = small(meant[..line_rest(meant)].trim_end().chars().count()).max(1);
    let before = &text[found.line_start..start];
    let shown_before: Vec<char> = before.chars().rev().take(MAX_EXCERPT).collect();
    // No more of a long line is looked at than can be shown.
    let mut after: Vec<char> = text[start..].chars().take(2 * MAX_EXCERPT).collect();
    after.truncate(after.iter().position(|&c| c == '\n').unwrap_or(after.len()));
    if after.last() == Some(&'\r') {
        after.pop();
    }
    let whole = shown_before.len() + after.len() <= MAX_EXCERPT && shown_before.len() < MAX_EXCERPT;
    let keep_before = if whole { shown_before.len() } else { shown_before.len().min(EXCERPT_BEFORE) };
    let keep_after = after.len().min(MAX_EXCERPT - keep_before);
    let kept = shown_before[..keep_before].iter().rev().chain(&after[..keep_after]);
    Place {
        line: found.line,
        column: found.column,
        length,
        excerpt: Excerpt {
            text: kept.collect(),
            before: keep_before,
            cut_left: keep_before < shown_before.len(),
            cut_right: keep_after < after.len(),
        },
    }
}

fn floor_boundary(text: &str, mut offset: usize) -> usize {
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
