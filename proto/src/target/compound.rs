//! Compound expressions: words with `and`, `or`, `not` and parentheses between them, in Python's precedence.

use super::{Node, Nodegroups, TargetError, data::DataPattern, data::How, network::Network};

/// Parentheses and `not`s within each other.
const DEEPEST: usize = 64;

const LETTERS: &str = "G@ grain, P@ grain regex, I@ pillar, J@ pillar regex, E@ regex on the id, L@ list, \
                       S@ subnet, N@ nodegroup; a word without a letter is a glob on the id";

pub(super) fn parse(
    text: &str,
    nodegroups: Nodegroups<'_>,
    within: &mut Vec<String>,
) -> Result<Node, TargetError> {
    let words = words(text);
    let end = text.chars().count();
    let mut parser = Parser { words: &words, end, nodegroups, within, depth: 0 };
    let node = parser.or()?;
    match parser.words {
        [] => Ok(node),
        [(at, ")"), ..] => Err(TargetError::new(
            *at,
            "this parenthesis was never opened",
            "take it away, or put a `(` before",
        )),
        [(at, word), ..] => Err(TargetError::new(
            *at,
            format!("expected `and` or `or` before `{word}`"),
            "join matchers with `and` or `or`; ids without -C and with commas: -L",
        )),
    }
}

/// The words and where each begins, in characters.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut begin = None;
    for (position, (offset, c)) in text.char_indices().enumerate() {
        match (c.is_whitespace(), begin) {
            (true, Some((at, from))) => {
                words.push((at, &text[from..offset]));
                begin = None;
            }
            (false, None) => begin = Some((position, offset)),
            (true, None) | (false, Some(_)) => {}
        }
    }
    if let Some((at, from)) = begin {
        words.push((at, &text[from..]));
    }
    words
}

struct Parser<'a, 'b> {
    words: &'b [(usize, &'a str)],
    end: usize,
    nodegroups: Nodegroups<'b>,
    within: &'b mut Vec<String>,
    depth: usize,
}

impl Parser<'_, '_> {
    fn or(&mut self) -> Result<Node, TargetError> {
        let mut nodes = vec![self.and()?];
        while self.take("or") {
            nodes.push(self.and()?);
        }
        Ok(one_or(nodes, Node::Or))
    }

    fn and(&mut self) -> Result<Node, TargetError> {
        let mut nodes = vec![self.not()?];
        while self.take("and") {
            nodes.push(self.not()?);
        }
        Ok(one_or(nodes, Node::And))
    }

    fn not(&mut self) -> Result<Node, TargetError> {
        let at = self.position();
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(TargetError::new(
                at,
                format!("more than {DEEPEST} levels within each other"),
                "name parts of it as nodegroups",
            ));
        }
        let node = if self.take("not") {
            Node::Not(Box::new(self.not()?))
        } else if self.take("(") {
            let inner = self.or()?;
            if !self.take(")") {
                return Err(self.unclosed(at));
            }
            inner
        } else {
            self.matcher()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn matcher(&mut self) -> Result<Node, TargetError> {
        let Some(((at, word), rest)) = self.words.split_first() else {
            return Err(TargetError::new(
                self.end,
                "expected a matcher, but here the target ends",
                "a matcher is a glob on the id, or as `G@role:rfid`",
            ));
        };
        if matches!(*word, "and" | "or" | ")") {
            return Err(TargetError::new(
                *at,
                format!("expected a matcher, not `{word}`"),
                "a matcher is a glob on the id, or as `G@role:rfid`",
            ));
        }
        self.words = rest;
        matcher(word, self.nodegroups, self.within).map_err(|error| error.shifted(*at))
    }

    fn unclosed(&self, opened: usize) -> TargetError {
        match self.words.first() {
            Some((at, word)) => TargetError::new(
                *at,
                format!("expected `and`, `or` or `)` before `{word}`"),
                "join matchers with `and` or `or`",
            ),
            None => TargetError::new(
                opened,
                "this parenthesis is never closed",
                "add a `)`, with a blank before it",
            ),
        }
    }

    fn take(&mut self, expected: &str) -> bool {
        match self.words.split_first() {
            Some(((_, word), rest)) if *word == expected => {
                self.words = rest;
                true
            }
            Some(_) | None => false,
        }
    }

    fn position(&self) -> usize {
        self.words.first().map_or(self.end, |(at, _)| *at)
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        Some(last) => {
            nodes.push(last);
            many(nodes)
        }
        None => many(nodes),
    }
}

/// One word: `letter@pattern`, `letter delimiter@pattern`, or a glob.
fn matcher(
    word: &str,
    nodegroups: Nodegroups<'_>,
    within: &mut Vec<String>,
) -> Result<Node, TargetError> {
    let Some((head, pattern)) = word.split_once('@') else {
        return glob(word);
    };
    let width = head.chars().count() + 1;
    let mut head_chars = head.chars();
    let (letter, delimiter) = (head_chars.next(), head_chars.next());
    if head_chars.next().is_some() || letter.is_none() {
        return Err(TargetError::new(0, format!("`{head}@` is no matcher"), LETTERS));
    }
    if pattern.is_empty() {
        return Err(TargetError::new(
            width,
            format!("nothing follows `{head}@`"),
            "write the pattern right after the `@`, without a blank",
        ));
    }
    let split = delimiter.unwrap_or(':');
    let node = match (letter, delimiter) {
        (Some('G'), _) => DataPattern::parse(pattern, split, How::Glob).map(Node::Grain),
        (Some('P'), _) => DataPattern::parse(pattern, split, How::Pcre).map(Node::Grain),
        (Some('I'), _) => DataPattern::parse(pattern, split, How::Glob).map(Node::Pillar),
        (Some('J'), _) => DataPattern::parse(pattern, split, How::Pcre).map(Node::Pillar),
        (Some('E'), None) => super::regex(pattern, false).map(Node::Pcre),
        (Some('L'), None) => super::list(pattern),
        (Some('S'), None) => Network::parse(pattern).map(Node::Network),
        (Some('N'), None) => super::nodegroup(pattern, nodegroups, within),
        (Some('R'), None) => {
            return Err(TargetError::new(
                0,
                "range expressions (R@) are not supported",
                "there is no range server; use a list (L@) or a nodegroup (N@)",
            ));
        }
        (Some(letter @ ('E' | 'L' | 'S' | 'N' | 'R')), Some(_)) => {
            return Err(TargetError::new(
                1,
                format!("`{letter}@` takes no delimiter"),
                "only G, P, I and J take one, as in `G|@key|value`",
            ));
        }
        _ => return Err(TargetError::new(0, format!("`{head}@` is no matcher"), LETTERS)),
    };
    node.map_err(|error| error.shifted(width))
}

fn glob(word: &str) -> Result<Node, TargetError> {
    if let Some(at) = word.chars().position(|c| matches!(c, '(' | ')')) {
        return Err(TargetError::new(
            at,
            format!("no minion id has a parenthesis, as in `{word}`"),
            "put blanks around parentheses",
        ));
    }
    super::glob(word)
}
