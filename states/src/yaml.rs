//! YAML as Salt's loader reads it: YAML 1.1 scalars, `0644` is 644, a duplicate key is an error,
//! every node knows its line. The parser is granit-parser, on which serde-saphyr stands too: serde's
//! data model would lose the scalar's style and position, which these rules need.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::module::scalar_text;

mod scalar;

/// Nesting deeper than this is no configuration.
const MAX_DEPTH: usize = 64;
/// Nodes of one document, every expansion of an alias counted.
const MAX_NODES: usize = 200_000;

/// Where a node begins; both numbers from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub position: Position,
    /// What it is.
    pub data: Data,
    /// How many nodes it and all beneath it are.
    size: usize,
}

/// The three kinds of YAML nodes.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Anything but a list or a map.
    Scalar(Value),
    /// A list.
    Sequence(Vec<Node>),
    /// A map, in the order written.
    Mapping(Vec<Entry>),
}

/// One key of a map, as text, with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key; numbers and booleans as Python prints them.
    pub key: String,
    /// Where the key stands.
    pub position: Position,
    /// Its value.
    pub node: Node,
}

impl Node {
    /// The value without positions.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::Sequence(items) => items.iter().map(Self::to_value).collect(),
            Data::Mapping(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.node.to_value())).collect(),
            ),
        }
    }

    /// The value of a key, where this is a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.data {
            Data::Mapping(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
            }
            Data::Scalar(_) | Data::Sequence(_) => None,
        }
    }

    /// The text, where this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(value) => value.as_str(),
            Data::Sequence(_) | Data::Mapping(_) => None,
        }
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar(Value::Null))
    }

    fn new(position: Position, data: Data) -> Self {
        let below: usize = match &data {
            Data::Scalar(_) => 0,
            Data::Sequence(items) => items.iter().map(|node| node.size).sum(),
            Data::Mapping(entries) => entries.iter().map(|entry| entry.node.size + 1).sum(),
        };
        Self { position, data, size: below + 1 }
    }
}

/// Reads one document; `null` for an empty one.
///
/// # Errors
/// A [`Diagnostic`] with line and column.
pub fn load(text: &str) -> Result<Value, Diagnostic> {
    Ok(load_nodes(text)?.map_or(Value::Null, |node| node.to_value()))
}

/// Reads one document and keeps the positions; `None` for an empty one.
///
/// # Errors
/// A [`Diagnostic`] with line and column.
pub fn load_nodes(text: &str) -> Result<Option<Node>, Diagnostic> {
    Loader { text, open: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None }.load()
}

/// A collection that has begun and not ended.
struct Open {
    position: Position,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, merged: Vec<Entry>, key: Option<Key> },
}

/// A key that waits for its value.
enum Key {
    Merge,
    Text(String, Position),
}

struct Loader<'a> {
    text: &'a str,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Loader<'_> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is foreign and may grow")]
    fn load(mut self) -> Result<Option<Node>, Diagnostic> {
        let mut documents = 0;
        for event in Parser::new_from_str(self.text) {
            let (event, span) = event.map_err(|error| {
                let marker = error.marker();
                let hint = syntax_hint(&error.info());
                Diagnostic::new(error.info())
                    .at(self.text, marker.line(), Some(marker.col() + 1))
                    .maybe_hint(hint)
            })?;
            let position = position(span);
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(self
                            .error(position, "expected a single document in the stream")
                            .hint("remove the second `---`"));
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let plain = style == ScalarStyle::Plain;
                    let is_merge = plain && tag.is_none() && text == "<<" && self.expects_key();
                    if is_merge {
                        self.set_key(Key::Merge);
                        continue;
                    }
                    let tag = tag.map(|tag| tag.to_string());
                    let value = scalar::resolve(&text, plain, tag.as_deref())
                        .map_err(|message| self.error(position, &message))?;
                    self.spend(1, position)?;
                    self.place(Node::new(position, Data::Scalar(value)), anchor)?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    self.accept_tag(position, tag.as_deref(), "seq")?;
                    self.begin(Open { position, anchor, kind: Kind::Sequence(Vec::new()) })?;
                }
                Event::MappingStart(_, anchor, tag) => {
                    self.accept_tag(position, tag.as_deref(), "map")?;
                    let kind = Kind::Mapping { entries: Vec::new(), merged: Vec::new(), key: None };
                    self.begin(Open { position, anchor, kind })?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end()?,
                Event::Alias(anchor) => {
                    // The budget is asked before the copy is made: nine lines of aliases to aliases
                    // would else be a billion nodes.
                    let size = self.anchors.get(&anchor).map_or(1, |node| node.size);
                    self.spend(size, position)?;
                    let node = self.anchors.get(&anchor).cloned().ok_or_else(|| {
                        self.error(position, "found an alias to the node that contains it")
                    })?;
                    self.place(node, 0)?;
                }
                // Stream and document marks, and whatever is only presentation.
                _ => {}
            }
        }
        Ok(self.root)
    }

    fn error(&self, position: Position, message: &str) -> Diagnostic {
        Diagnostic::new(message).at(self.text, position.line, Some(position.column))
    }

    fn accept_tag(
        &self,
        position: Position,
        tag: Option<&granit_parser::Tag>,
        allowed: &str,
    ) -> Result<(), Diagnostic> {
        match tag.map(ToString::to_string) {
            Some(tag) if scalar::core_tag(&tag) != Some(allowed) => {
                Err(self.error(position, &format!("the tag `{tag}` is not supported")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: Kind::Mapping { key: None, .. }, .. }))
    }

    fn set_key(&mut self, new: Key) {
        if let Some(Open { kind: Kind::Mapping { key, .. }, .. }) = self.open.last_mut() {
            *key = Some(new);
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), Diagnostic> {
        if self.open.len() >= MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(self.error(open.position, &message));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Diagnostic> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        self.spend(1, open.position)?;
        let data = match open.kind {
            Kind::Sequence(items) => Data::Sequence(items),
            Kind::Mapping { entries, merged, key: _ } => {
                // As in Salt: merged keys come first, and one's own win.
                let mut all: Vec<Entry> = Vec::with_capacity(entries.len() + merged.len());
                for entry in merged {
                    let known = |other: &Entry| other.key == entry.key;
                    if !entries.iter().any(known) && !all.iter().any(known) {
                        all.push(entry);
                    }
                }
                all.extend(entries);
                Data::Mapping(all)
            }
        };
        self.place(Node::new(open.position, data), open.anchor)
    }

    /// Counts nodes against the budget of the document.
    fn spend(&mut self, nodes: usize, position: Position) -> Result<(), Diagnostic> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values in one document");
            return Err(self
                .error(position, &message)
                .hint("aliases count as often as they are used"));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let text = self.text;
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.kind {
            Kind::Sequence(items) => items.push(node),
            Kind::Mapping { entries, merged, key } => match key.take() {
                None => {
                    let name = key_text(&node).ok_or_else(|| {
                        Diagnostic::new("a list or a map cannot be a key")
                            .at(text, node.position.line, Some(node.position.column))
                            .hint("quote a value that begins with `{` or `[`")
                    })?;
                    if let Some(earlier) = entries.iter().find(|entry| entry.key == name) {
                        let message = format!("found conflicting ID '{name}'");
                        return Err(Diagnostic::new(message)
                            .at(text, node.position.line, Some(node.position.column))
                            .hint(format!("it is already on line {}", earlier.position.line)));
                    }
                    *key = Some(Key::Text(name, node.position));
                }
                Some(Key::Merge) => merge(text, node, merged)?,
                Some(Key::Text(name, position)) => {
                    entries.push(Entry { key: name, position, node });
                }
            },
        }
        Ok(())
    }
}

fn key_text(node: &Node) -> Option<String> {
    match &node.data {
        Data::Scalar(Value::Null) => Some("None".to_owned()),
        Data::Scalar(value) => scalar_text(value),
        Data::Sequence(_) | Data::Mapping(_) => None,
    }
}

/// `<<: *defaults`, or a list of them.
fn merge(text: &str, node: Node, merged: &mut Vec<Entry>) -> Result<(), Diagnostic> {
    let position = node.position;
    let wrong = || {
        Diagnostic::new("expected a mapping or list of mappings for merging").at(
            text,
            position.line,
            Some(position.column),
        )
    };
    match node.data {
        Data::Mapping(entries) => merged.extend(entries),
        Data::Sequence(items) => {
            for item in items {
                match item.data {
                    Data::Mapping(entries) => merged.extend(entries),
                    Data::Scalar(_) | Data::Sequence(_) => return Err(wrong()),
                }
            }
        }
        Data::Scalar(_) => return Err(wrong()),
    }
    Ok(())
}

fn position(span: Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

/// Advice for the mistakes that are made most.
fn syntax_hint(message: &str) -> Option<String> {
    let hint = if message.contains("mapping values") {
        "quote a value that contains `: `, and put each `key: value` on a line of its own"
    } else if message.contains("tab") {
        "indent with blanks, not tabs"
    } else if message.contains("cannot start any token") || message.contains("unexpected character")
    {
        "quote a value that begins with `@`, `%` or a backtick"
    } else if message.contains("indent") || message.contains("block") {
        "items of one list or map must begin in the same column"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// Reads a document that must be a map; an empty one is an empty map.
///
/// # Errors
/// A [`Diagnostic`] with line and column.
pub fn load_map(text: &str) -> Result<Map<String, Value>, Diagnostic> {
    match load(text)? {
        Value::Null => Ok(Map::new()),
        Value::Object(map) => Ok(map),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Diagnostic::new("expected a map").at(text, 1, None))
        }
    }
}

#[cfg(test)]
mod tests;
