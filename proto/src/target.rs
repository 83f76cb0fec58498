//! Target expressions with Salt's semantics: parsed once, then matched against each minion that the registry knows.
//! Who calls it decides what a minion's grains and pillar are; this module only compares.

mod compound;
mod data;
mod network;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{glob, job::TargetType};
use data::{DataPattern, How};
use network::Network;

/// The memory that one compiled regular expression may take, in bytes.
const REGEX_SIZE: usize = 256 << 10;

/// Nodegroups within each other.
const DEEPEST_NODEGROUP: usize = 8;

/// What a minion shows to an expression.
pub trait Subject {
    /// Its id.
    fn id(&self) -> &str;
    /// Its grains, merged.
    fn grains(&self) -> &Map<String, Value>;
    /// Its pillar; `None` where the caller did not compile it, which matches no pillar expression.
    fn pillar(&self) -> Option<&Map<String, Value>>;
}

/// An expression that was understood.
#[derive(Debug, Clone)]
pub struct Expression(Node);

#[derive(Debug, Clone)]
enum Node {
    Glob(String),
    Pcre(Regex),
    /// Sorted.
    List(Vec<String>),
    Grain(DataPattern),
    Pillar(DataPattern),
    Network(Network),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

/// An expression that was not understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct TargetError {
    /// Where in the text, counted in characters from 0.
    pub position: usize,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub hint: String,
}

impl TargetError {
    fn new(position: usize, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { position, reason: reason.into(), hint: hint.into() }
    }

    /// The same, found in a part of a text that begins there.
    fn shifted(mut self, by: usize) -> Self {
        self.position += by;
        self
    }
}

/// Finds the expression that a nodegroup stands for, where the master's configuration names it.
pub type Nodegroups<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Expression {
    /// Reads an expression, for a master without nodegroups.
    ///
    /// # Errors
    /// With the position and a hint.
    pub fn parse(text: &str, kind: TargetType) -> Result<Self, TargetError> {
        Self::parse_with(text, kind, &|_| None)
    }

    /// Reads an expression. Nodegroups are resolved here, once.
    ///
    /// # Errors
    /// With the position and a hint.
    pub fn parse_with(
        text: &str,
        kind: TargetType,
        nodegroups: Nodegroups<'_>,
    ) -> Result<Self, TargetError> {
        parse(text, kind, nodegroups, &mut Vec::new()).map(Self)
    }

    /// Whether the minion is meant.
    #[must_use]
    pub fn matches(&self, minion: &dyn Subject) -> bool {
        self.0.matches(minion)
    }

    /// Whether the answer depends on pillar, so that the caller knows to compile it.
    #[must_use]
    pub fn needs_pillar(&self) -> bool {
        self.0.needs_pillar()
    }

    /// The ids of a plain list or a plain id, sorted: the caller can look these up instead of trying everyone, and
    /// name those that it does not know. `None` for everything else.
    #[must_use]
    pub fn literal_ids(&self) -> Option<&[String]> {
        match &self.0 {
            Node::List(ids) => Some(ids),
            Node::Glob(_)
            | Node::Pcre(_)
            | Node::Grain(_)
            | Node::Pillar(_)
            | Node::Network(_)
            | Node::Not(_)
            | Node::And(_)
            | Node::Or(_) => None,
        }
    }
}

impl Node {
    fn matches(&self, minion: &dyn Subject) -> bool {
        match self {
            Self::Glob(pattern) => glob::matches(pattern, minion.id()),
            Self::Pcre(regex) => matches_at_start(regex, minion.id()),
            Self::List(ids) => ids.binary_search_by(|id| id.as_str().cmp(minion.id())).is_ok(),
            Self::Grain(pattern) => pattern.matches(minion.grains()),
            Self::Pillar(pattern) => minion.pillar().is_some_and(|pillar| pattern.matches(pillar)),
            Self::Network(network) => network.matches(minion.grains()),
            Self::Not(inner) => !inner.matches(minion),
            Self::And(all) => all.iter().all(|node| node.matches(minion)),
            Self::Or(any) => any.iter().any(|node| node.matches(minion)),
        }
    }

    fn needs_pillar(&self) -> bool {
        match self {
            Self::Pillar(_) => true,
            Self::Glob(_) | Self::Pcre(_) | Self::List(_) | Self::Grain(_) | Self::Network(_) => {
                false
            }
            Self::Not(inner) => inner.needs_pillar(),
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().any(Self::needs_pillar),
        }
    }
}

/// `within` names the nodegroups that are being read, outermost first.
fn parse(
    text: &str,
    kind: TargetType,
    nodegroups: Nodegroups<'_>,
    within: &mut Vec<String>,
) -> Result<Node, TargetError> {
    if text.trim().is_empty() {
        return Err(TargetError::new(0, "the target is empty", "`*` means every minion"));
    }
    match kind {
        TargetType::Glob => glob(text),
        TargetType::Pcre => regex(text, false).map(Node::Pcre),
        TargetType::List => list(text),
        TargetType::Grain => DataPattern::parse(text, ':', How::Glob).map(Node::Grain),
        TargetType::GrainPcre => DataPattern::parse(text, ':', How::Pcre).map(Node::Grain),
        TargetType::Pillar => DataPattern::parse(text, ':', How::Glob).map(Node::Pillar),
        TargetType::PillarPcre => DataPattern::parse(text, ':', How::Pcre).map(Node::Pillar),
        TargetType::Ipcidr => Network::parse(text).map(Node::Network),
        TargetType::Nodegroup => nodegroup(text, nodegroups, within),
        TargetType::Compound => compound::parse(text, nodegroups, within),
    }
}

fn glob(text: &str) -> Result<Node, TargetError> {
    if let Some(at) = text.chars().position(|c| c == '@') {
        return Err(TargetError::new(
            at,
            format!("no minion id has an `@`, so `{text}` matches nothing"),
            "for `G@key:value`, `and`, `or`, `not` use -C (compound); for a single grain -G",
        ));
    }
    if glob::is_pattern(text) {
        Ok(Node::Glob(text.to_owned()))
    } else {
        Ok(Node::List(vec![text.to_owned()]))
    }
}

fn list(text: &str) -> Result<Node, TargetError> {
    let mut ids: Vec<String> =
        text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect();
    if ids.is_empty() {
        return Err(TargetError::new(
            0,
            "the list has no ids",
            "write ids with commas between: `a,b`",
        ));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(Node::List(ids))
}

fn nodegroup(
    name: &str,
    nodegroups: Nodegroups<'_>,
    within: &mut Vec<String>,
) -> Result<Node, TargetError> {
    if within.iter().any(|outer| outer == name) {
        let path = within.join("` → `");
        return Err(TargetError::new(
            0,
            format!("the nodegroup `{name}` contains itself: `{path}` → `{name}`"),
            "take one of them out of `nodegroups` in the master's configuration",
        ));
    }
    let Some(text) = nodegroups(name) else {
        return Err(TargetError::new(
            0,
            format!("there is no nodegroup `{name}`"),
            "name it under `nodegroups` in the master's configuration",
        ));
    };
    if within.len() >= DEEPEST_NODEGROUP {
        return Err(TargetError::new(
            0,
            format!("more than {DEEPEST_NODEGROUP} nodegroups within each other"),
            "write some of them out",
        ));
    }
    within.push(name.to_owned());
    let node = compound::parse(&text, nodegroups, within).map_err(|error| TargetError {
        position: 0,
        reason: format!("in the nodegroup `{name}`: {}", error.reason),
        hint: error.hint,
    });
    within.pop();
    node
}

/// A regular expression as Python's `re.match` takes it. Linear time, bounded memory.
fn regex(text: &str, ignores_case: bool) -> Result<Regex, TargetError> {
    RegexBuilder::new(text)
        .case_insensitive(ignores_case)
        .size_limit(REGEX_SIZE)
        .dfa_size_limit(REGEX_SIZE)
        .nest_limit(64)
        .build()
        .map_err(|error| {
            let (reason, hint) = refusal(text, &error);
            TargetError::new(0, format!("`{text}` is no regular expression: {reason}"), hint)
        })
}

fn refusal(text: &str, error: &regex::Error) -> (String, &'static str) {
    if let regex::Error::CompiledTooBig(most) = error {
        let reason = format!("it takes more than {most} bytes of memory");
        return (reason, "use smaller repetition counts");
    }
    if ["(?=", "(?!", "(?<"].iter().any(|group| text.contains(group)) {
        let reason = "look-around is not supported".to_owned();
        return (reason, "combine expressions with `and not` by -C instead");
    }
    // The parser shows the place over several lines and ends with the reason.
    let shown = error.to_string();
    let reason = shown.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    (reason, "globs such as `web-*` need no -E; in a regular expression write `web-.*`")
}

/// Whether a match begins where the text begins. The leftmost match is found, so if there is one there, it is this.
fn matches_at_start(regex: &Regex, text: &str) -> bool {
    regex.find(text).is_some_and(|found| found.start() == 0)
}

#[cfg(test)]
mod tests;
