//! From YAML text to a tree. The grammar is granit-parser's; here its events become rows, and its errors say
//! what to write instead.

use super::diagnostic::{Finding, Findings, Span};
use super::limits::{Limits, too_deep};
use super::tree::{Anchor, Style, TreeBuilder};
use super::words::quoted;
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};
use std::borrow::Cow;
use std::collections::HashMap;

/// Reads the one document of `text` into `builder`. What does not stop the reading is added to `findings`.
///
/// # Errors
/// What makes it impossible to read on.
pub(crate) fn read(
    text: &str,
    limits: &Limits,
    builder: &mut TreeBuilder<'_, '_>,
    findings: &mut Findings,
) -> Result<(), Box<Finding>> {
    // The parser looks ahead, and so may meet the limit of depth before the builder does.
    let options = granit_parser::options! {
        flow_nesting_limit: limits.depth,
        block_nesting_limit: limits.depth,
    };
    let mut reader =
        Reader { text, builder, findings, anchors: HashMap::new(), open: Vec::new(), documents: 0 };
    for item in Parser::new_from_str_with_options(text, options) {
        match item {
            Ok((event, place)) => reader.event(event, &place)?,
            Err(error) if *error.kind() == ErrorKind::RecursionLimitExceeded => {
                return Err(Box::new(too_deep(Span::new(offset(error.marker()), 1), limits)));
            }
            Err(error) => return Err(Box::new(syntax_error(text, &error, reader.builder.open_span()))),
        }
    }
    Ok(())
}

struct Reader<'r, 's, 'l> {
    text: &'r str,
    builder: &'r mut TreeBuilder<'s, 'l>,
    findings: &'r mut Findings,
    /// By the parser's number; nothing while the anchored collection is still open.
    anchors: HashMap<usize, Option<Anchor>>,
    /// The anchor, or 0, of each open collection.
    open: Vec<usize>,
    documents: usize,
}

impl Reader<'_, '_, '_> {
    fn event(&mut self, event: Event<'_>, place: &granit_parser::Span) -> Result<(), Box<Finding>> {
        let span = span(place);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a second document starts here";
                    let help =
                        "a file holds one document: remove the `---`, or put the rest into another file";
                    return Err(Box::new(Finding::error(span, message).help(help)));
                }
            }
            Event::Scalar(value, style, anchor, tag) => {
                let style = if style == ScalarStyle::Plain && !is_text_tag(tag.as_deref()) {
                    Style::Plain
                } else {
                    Style::Text
                };
                self.check_tag(tag, place, span);
                let node = self.builder.scalar(&value, style, span)?;
                self.define(anchor, Some(node));
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag, place, span);
                self.builder.open_sequence(span)?;
                self.define(anchor, None);
                self.open.push(anchor);
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag, place, span);
                self.builder.open_mapping(span)?;
                self.define(anchor, None);
                self.open.push(anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = self.builder.close(offset(&place.end))?;
                let anchor = self.open.pop().unwrap_or(0);
                self.define(anchor, Some(node));
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).copied().flatten() {
                Some(target) => self.builder.alias(target, span)?,
                None => {
                    let message = format!("the alias {} stands inside what it refers to", self.written(span));
                    return Err(Box::new(Finding::error(span, message)));
                }
            },
            // Streams have no content; what is optional in the parser is not asked for.
            _ => {}
        }
        Ok(())
    }

    fn define(&mut self, anchor: usize, node: Option<Anchor>) {
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
    }

    fn written(&self, span: Span) -> String {
        let (start, len) = (span.start as usize, span.len as usize);
        quoted(self.text.get(start..start + len).unwrap_or_default())
    }

    /// The tags of YAML's core schema say nothing new; any other would be ignored, so it is refused.
    fn check_tag(&mut self, tag: Option<Cow<'_, Tag>>, place: &granit_parser::Span, node: Span) {
        let Some(tag) = tag else { return };
        if tag.core_suffix().is_some() || is_unspecific(&tag) {
            return;
        }
        let message = format!(
            "the tag {} has no meaning here",
            quoted(&format!("{}{}", tag.original_handle(), tag.suffix()))
        );
        let at = place.tag_span().map_or(node, |tag| span(&tag));
        self.findings.add(Finding::error(at, message).help("remove it"));
    }
}

/// Whether the tag says that a scalar is text, whatever it looks like.
fn is_text_tag(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.core_suffix() == Some("str") || is_unspecific(tag))
}

/// The tag `!`, which only says that nothing is to be guessed.
fn is_unspecific(tag: &Tag) -> bool {
    tag.handle().is_empty() && tag.suffix() == "!"
}

fn span(place: &granit_parser::Span) -> Span {
    let start = offset(&place.start);
    Span::new(start, offset(&place.end).saturating_sub(start))
}

/// Input that is a string has byte offsets; characters are counted for other inputs only.
fn offset(marker: &granit_parser::Marker) -> usize {
    marker.byte_offset().unwrap_or(marker.index())
}

fn syntax_error(text: &str, error: &ScanError, open: Option<Span>) -> Finding {
    let at = offset(error.marker()).min(text.len());
    let (message, help) = explain(error);
    let finding = Finding::error(Span::new(at, 1), message);
    let line = line_at(text, at);
    if line.contains("${{") && !line.trim_start().starts_with('#') {
        return finding.help("put quotes round an expression inside `{}` or `[]`: \"${{ params.NAME }}\"");
    }
    let is_unclosed = matches!(
        error.kind(),
        ErrorKind::UnexpectedEofFlowSequence
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::UnexpectedEofImplicitFlowMapping
            | ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator
            | ErrorKind::InvalidColonPlacement
            | ErrorKind::UnclosedFlowCollection { .. }
    );
    let finding = finding.maybe_help(help.map(str::to_string));
    match open {
        Some(open) if is_unclosed => finding.note(open, "it was opened here"),
        _ => finding,
    }
}

/// Most bytes of a line that are looked at for a better explanation.
const MAX_LINE: usize = 4_096;

/// The line around `at`, or the part of it that is near.
fn line_at(text: &str, at: usize) -> &str {
    let mut from = at.saturating_sub(MAX_LINE);
    let mut to = (at + MAX_LINE).min(text.len());
    while !text.is_char_boundary(from) {
        from += 1;
    }
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    let at = at.clamp(from, to);
    let at = (from..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(from);
    let start = text[from..at].rfind('\n').map_or(from, |index| from + index + 1);
    let end = text[at..to].find('\n').map_or(to, |index| at + index);
    &text[start..end]
}

/// What is wrong in the words of a plan, and what to write instead.
fn explain(error: &ScanError) -> (String, Option<&'static str>) {
    let (message, help) = match error.kind() {
        ErrorKind::UnknownAnchor => (
            "this alias has no anchor before it",
            Some("define it with `&NAME`, or put quotes round a text that starts with `*`"),
        ),
        ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation | ErrorKind::TabNotAllowed => {
            ("a tab is used for indentation", Some("indent with spaces"))
        }
        ErrorKind::MappingValueNotAllowed => (
            "a `:` stands where no key can be",
            Some("put quotes round a text that contains `: `, and check the indentation of this line"),
        ),
        ErrorKind::ExpectedBlockMappingKey => {
            ("a `key: value` is expected here", Some("check the indentation of this line"))
        }
        ErrorKind::InvalidColonPlacement => {
            ("a `:` stands where no key can be", Some("close the list or mapping before, with `]` or `}`"))
        }
        ErrorKind::ExpectedFlowMappingSeparator => ("a `,` or `}` is expected here", None),
        ErrorKind::ExpectedFlowSequenceSeparator => ("a `,` or `]` is expected here", None),
        ErrorKind::UnexpectedEofFlowSequence => ("the text ends inside `[`", Some("close it with `]`")),
        ErrorKind::UnexpectedEofFlowMapping | ErrorKind::UnexpectedEofImplicitFlowMapping => {
            ("the text ends inside `{`", Some("close it with `}`"))
        }
        ErrorKind::UnclosedFlowCollection { open: '[' } => {
            ("this `[` is not closed", Some("close it with `]`"))
        }
        ErrorKind::UnclosedFlowCollection { .. } => ("this `{` is not closed", Some("close it with `}`")),
        ErrorKind::UnclosedQuotedScalar => {
            ("this quoted text is not closed", Some("close it with the same quote"))
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => (
            "a `:` is missing after this key",
            Some("write `key: value`, and check the indentation of this line"),
        ),
        ErrorKind::InvalidIndentation => (
            "this line is not indented like its neighbours",
            Some("items of one list, and keys of one mapping, start in the same column"),
        ),
        ErrorKind::BlockSequenceEntryNotAllowed => {
            ("a list item stands where none can be", Some("check the indentation of this line"))
        }
        ErrorKind::UnknownQuotedScalarEscape => {
            ("this escape is not known", Some("write `\\\\` for a backslash, or use 'single quotes'"))
        }
        _ => return (format!("this is not YAML: {}", error.info()), None),
    };
    (message.to_string(), help)
}
