//! A document as rows in one array: what YAML and JSON have in common, with places in the text.
//!
//! Values stand in the order of the document, a collection before what it holds, so that a child is found by
//! stepping over rows. Scalars are ranges of the text; only those that the text does not spell out (escapes,
//! folded lines) are copied. An alias is one row that points to another: nothing is expanded, but what it would
//! expand to is counted against [`Limits::nodes`] as soon as it is met.
//!
//! Not here: what the values mean (`reader`).

use super::diagnostic::{Finding, Span};
use super::limits::{Limits, exceeded, too_deep};
use super::source::small;

/// A row of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing was written.
    Empty,
    /// A scalar without quotes.
    Plain,
    /// A scalar in quotes; its text stands between them.
    Quoted,
    /// A block of text that is written as it is meant.
    Block,
    /// A scalar without quotes whose text is a copy.
    PlainCopy,
    /// A scalar in quotes, or a block, whose text is a copy.
    QuotedCopy,
    Sequence,
    Mapping,
    Alias,
}

/// Eight million of these are a plan of a million tasks.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Where it starts in the text.
    start: u32,
    /// How many bytes of the text it takes.
    len: u32,
    /// Of a collection, the row after its last; of a copy, its index in `copies`; of an alias, its target.
    link: u32,
    kind: Kind,
}

const _: () = assert!(size_of::<Node>() == 16, "a row per value: millions of them");

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes, so that it may be a number, a truth value or nothing.
    Plain,
    /// In quotes or as a block: text, whatever it looks like.
    Text,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'t> {
    /// Nothing, `null` or `~`.
    Null,
    /// Text, and how it was written.
    Scalar(&'t str, Style),
    /// A list.
    Sequence,
    /// A mapping.
    Mapping,
}

/// A document.
#[derive(Debug)]
pub(crate) struct Tree<'s> {
    text: &'s str,
    nodes: Vec<Node>,
    copied: String,
    copies: Vec<Span>,
}

impl<'s> Tree<'s> {
    /// The outermost value, if there is one.
    pub(crate) fn root(&self) -> Option<NodeId> {
        (!self.nodes.is_empty()).then_some(NodeId(0))
    }

    /// The text of which this is the tree.
    pub(crate) fn source(&self) -> &'s str {
        self.text
    }

    /// Where the value stands; of an alias, where the alias stands.
    pub(crate) fn span(&self, id: NodeId) -> Span {
        let node = self.node(id);
        Span { start: node.start, len: node.len }
    }

    /// What the value is; of an alias, what it stands for.
    pub(crate) fn value(&self, id: NodeId) -> Value<'_> {
        let node = self.node(self.target(id));
        let text = match node.kind {
            Kind::Sequence => return Value::Sequence,
            Kind::Mapping => return Value::Mapping,
            Kind::Empty | Kind::Alias => return Value::Null,
            Kind::Plain | Kind::Block => slice(self.text, node.start, node.len),
            Kind::Quoted => slice(self.text, node.start + 1, node.len.saturating_sub(2)),
            Kind::PlainCopy | Kind::QuotedCopy => {
                let Span { start, len } = self.copies[node.link as usize];
                slice(&self.copied, start, len)
            }
        };
        match node.kind {
            Kind::Plain | Kind::PlainCopy if matches!(text, "null" | "Null" | "NULL" | "~") => Value::Null,
            Kind::Plain | Kind::PlainCopy => Value::Scalar(text, Style::Plain),
            _ => Value::Scalar(text, Style::Text),
        }
    }

    /// The text of a scalar that is a name: whatever is written there, `null` too. Nothing if nothing is.
    pub(crate) fn name(&self, id: NodeId) -> Option<&str> {
        match self.value(id) {
            Value::Scalar(text, _) => Some(text),
            Value::Null => Some(self.raw(id)).filter(|text| !text.is_empty()),
            Value::Sequence | Value::Mapping => None,
        }
    }

    /// The text of a scalar as written, quotes and escapes included.
    pub(crate) fn raw(&self, id: NodeId) -> &'s str {
        let node = self.node(self.target(id));
        slice(self.text, node.start, node.len)
    }

    /// What a list, or a mapping, holds: of a mapping, keys and values in turn. Nothing for scalars.
    pub(crate) fn children(&self, id: NodeId) -> Children<'_> {
        let id = self.target(id);
        let node = self.node(id);
        let next = id.0 + 1;
        match node.kind {
            Kind::Sequence | Kind::Mapping => Children { nodes: &self.nodes, next, end: node.link },
            _ => Children { nodes: &self.nodes, next, end: next },
        }
    }

    /// Keys and values of a mapping.
    pub(crate) fn entries(&self, id: NodeId) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        let mut children = self.children(id);
        std::iter::from_fn(move || Some((children.next()?, children.next()?)))
    }

    /// What an alias stands for; anything else stands for itself. An anchor is never on an alias.
    pub(crate) fn target(&self, id: NodeId) -> NodeId {
        let node = self.node(id);
        if node.kind == Kind::Alias { NodeId(node.link) } else { id }
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }
}

fn slice(text: &str, start: u32, len: u32) -> &str {
    text.get(start as usize..(start + len) as usize).expect("the builder took the range from the text")
}

/// The values in a collection.
#[derive(Clone, Debug)]
pub(crate) struct Children<'t> {
    nodes: &'t [Node],
    next: u32,
    end: u32,
}

impl Iterator for Children<'_> {
    type Item = NodeId;

    fn next(&mut self) -> Option<NodeId> {
        if self.next >= self.end {
            return None;
        }
        let id = self.next;
        let node = &self.nodes[id as usize];
        self.next = match node.kind {
            Kind::Sequence | Kind::Mapping => node.link,
            _ => id + 1,
        };
        Some(NodeId(id))
    }
}

/// A collection that is not closed yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    node: u32,
    /// Rows in it so far, aliases counted as what they stand for.
    expanded: u64,
}

/// A value that aliases may stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor {
    node: u32,
    expanded: u64,
}

/// Builds a tree in the order of the document.
#[derive(Debug)]
pub(crate) struct TreeBuilder<'s, 'l> {
    tree: Tree<'s>,
    limits: &'l Limits,
    open: Vec<Open>,
}

impl<'s, 'l> TreeBuilder<'s, 'l> {
    /// An empty tree over `text`.
    pub(crate) fn new(text: &'s str, limits: &'l Limits) -> Self {
        let tree = Tree { text, nodes: Vec::new(), copied: String::new(), copies: Vec::new() };
        Self { tree, limits, open: Vec::new() }
    }

    /// Adds a scalar. `value` is what it means, `span` where it is written.
    pub(crate) fn scalar(&mut self, value: &str, style: Style, span: Span) -> Result<Anchor, Box<Finding>> {
        let written = slice(self.tree.text, span.start, span.len);
        let inner = written.get(1..written.len().saturating_sub(1));
        let (kind, link) = match style {
            Style::Plain if written.is_empty() => (Kind::Empty, 0),
            Style::Plain if written == value => (Kind::Plain, 0),
            Style::Text if written == value => (Kind::Block, 0),
            Style::Text if inner == Some(value) => (Kind::Quoted, 0),
            Style::Plain => (Kind::PlainCopy, self.copy(value)),
            Style::Text => (Kind::QuotedCopy, self.copy(value)),
        };
        self.push(Node { start: span.start, len: span.len, link, kind })
    }

    /// Adds a scalar whose text stands between quotes without any escapes.
    pub(crate) fn quoted(&mut self, span: Span) -> Result<Anchor, Box<Finding>> {
        self.push(Node { start: span.start, len: span.len, link: 0, kind: Kind::Quoted })
    }

    /// Opens a list.
    pub(crate) fn open_sequence(&mut self, span: Span) -> Result<(), Box<Finding>> {
        self.open(Kind::Sequence, span)
    }

    /// Opens a mapping.
    pub(crate) fn open_mapping(&mut self, span: Span) -> Result<(), Box<Finding>> {
        self.open(Kind::Mapping, span)
    }

    /// Closes the newest collection; `end` is the offset after it.
    pub(crate) fn close(&mut self, end: usize) -> Result<Anchor, Box<Finding>> {
        let open = self.open.pop().expect("a front end closes what it has opened");
        let after = small(self.tree.nodes.len());
        let node = &mut self.tree.nodes[open.node as usize];
        let written = self.tree.text.get(node.start as usize..end).unwrap_or_default();
        node.len = small(written.trim_end().len());
        node.link = after;
        let span = Span { start: node.start, len: node.len };
        self.count(open.expanded, span)?;
        Ok(Anchor { node: open.node, expanded: open.expanded })
    }

    /// Adds an alias.
    pub(crate) fn alias(&mut self, anchor: Anchor, span: Span) -> Result<(), Box<Finding>> {
        self.push(Node { start: span.start, len: span.len, link: anchor.node, kind: Kind::Alias })?;
        self.count(anchor.expanded, span)
    }

    /// Where the newest open collection starts.
    pub(crate) fn open_span(&self) -> Option<Span> {
        let node = self.tree.nodes[self.open.last()?.node as usize];
        Some(Span { start: node.start, len: 1 })
    }

    /// The tree.
    pub(crate) fn finish(mut self) -> Tree<'s> {
        debug_assert!(self.open.is_empty(), "a front end closes what it has opened");
        self.tree.nodes.shrink_to_fit();
        self.tree
    }

    fn open(&mut self, kind: Kind, span: Span) -> Result<(), Box<Finding>> {
        if self.open.len() >= self.limits.depth {
            return Err(Box::new(too_deep(span, self.limits)));
        }
        let node = small(self.tree.nodes.len());
        self.push(Node { start: span.start, len: span.len, link: 0, kind })?;
        self.open.push(Open { node, expanded: 1 });
        Ok(())
    }

    fn push(&mut self, node: Node) -> Result<Anchor, Box<Finding>> {
        let index = small(self.tree.nodes.len());
        let span = Span { start: node.start, len: node.len };
        if self.tree.nodes.len() >= self.limits.nodes {
            return Err(self.too_many(span));
        }
        self.tree.nodes.push(node);
        if !matches!(node.kind, Kind::Sequence | Kind::Mapping) {
            self.count(1, span)?;
        }
        Ok(Anchor { node: index, expanded: 1 })
    }

    /// Counts rows, aliases as what they stand for, in the newest open collection.
    fn count(&mut self, rows: u64, span: Span) -> Result<(), Box<Finding>> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        open.expanded = open.expanded.saturating_add(rows);
        if open.expanded > self.limits.nodes as u64 { Err(self.too_many(span)) } else { Ok(()) }
    }

    fn too_many(&self, span: Span) -> Box<Finding> {
        let what = "the document has too many values, each alias counted as what it stands for";
        Box::new(exceeded(span, what, "nodes", self.limits.nodes))
    }

    fn copy(&mut self, value: &str) -> u32 {
        let span = Span::new(self.tree.copied.len(), value.len());
        self.tree.copied.push_str(value);
        self.tree.copies.push(span);
        small(self.tree.copies.len() - 1)
    }
}
