//! From lines to what is told of them: joined, cut, chosen, taken apart. Pure.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::super::Reading;

/// Lines that are joined at most.
const JOINED: u32 = 500;
/// How far into a line its level is looked for.
const LEVEL_WITHIN: usize = 160;

/// What was written at once: one line, or several that belong together.
#[derive(Debug)]
pub(super) struct Record {
    text: Vec<u8>,
    offset: u64,
    lines: u32,
    is_cut: bool,
}

impl Record {
    /// A record that begins with this line; of its bytes `most` are kept.
    pub(super) fn begin(line: &[u8], offset: u64, is_cut: bool, most: usize) -> Self {
        let mut record = Self { text: Vec::new(), offset, lines: 1, is_cut };
        record.append(line, most);
        record
    }

    /// Adds a line that belongs to it.
    pub(super) fn join(&mut self, line: &[u8], is_cut: bool, most: usize) {
        self.is_cut |= is_cut;
        if self.lines >= JOINED {
            self.is_cut = true;
            return;
        }
        self.lines += 1;
        self.append(b"\n", most);
        self.append(line, most);
    }

    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// How many lines it is.
    pub(super) fn lines(&self) -> u64 {
        self.lines.into()
    }

    fn append(&mut self, bytes: &[u8], most: usize) {
        let room = most.saturating_sub(self.text.len());
        self.is_cut |= bytes.len() > room;
        let mut end = bytes.len().min(room);
        // Not within a character; its first byte is three before the cut at most.
        while end < bytes.len() && end > 0 && end + 3 > room && bytes[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        self.text.extend_from_slice(&bytes[..end]);
    }
}

/// Which records are told, and as what.
#[derive(Debug)]
pub(super) enum Shape {
    /// The log shipper's.
    Document {
        /// Told only if one of these matches; all if there is none.
        include: Vec<Regex>,
        /// Not told if one of these matches.
        exclude: Vec<Regex>,
        /// Its named groups become fields.
        parse: Option<Regex>,
    },
    /// Of Salt's `log`: one event for each tag whose expression matches the line's beginning.
    Tags(Vec<(String, Regex)>),
}

impl Shape {
    /// What is told of a record of the file `path`.
    pub(super) fn readings(&self, record: &Record, path: &str) -> Vec<Reading> {
        let text = String::from_utf8_lossy(&record.text);
        match self {
            Self::Document { include, exclude, parse } => {
                let any = |patterns: &[Regex]| patterns.iter().any(|regex| regex.is_match(&text));
                if any(exclude) || !(include.is_empty() || any(include)) {
                    return Vec::new();
                }
                vec![Reading::of(document(record, &text, parse.as_ref(), path))]
            }
            Self::Tags(tags) => {
                let matching = tags.iter().filter(|(_, regex)| regex.is_match(&text));
                let reading = |(tag, _): &(String, Regex)| Reading {
                    data: json!({"match": "yes", "raw": text, "error": ""}),
                    ..Reading::tagged(tag)
                };
                matching.map(reading).collect()
            }
        }
    }
}

fn document(record: &Record, text: &str, parse: Option<&Regex>, path: &str) -> Value {
    let mut message = text;
    let mut level = None;
    let mut fields = Map::new();
    if let Some(regex) = parse
        && let Some(found) = regex.captures(text)
    {
        for name in regex.capture_names().flatten() {
            let Some(group) = found.name(name) else { continue };
            match name {
                "message" => message = group.as_str(),
                "level" => level = Some(group.as_str().to_lowercase()),
                _ => {
                    fields.insert(name.to_owned(), group.as_str().into());
                }
            }
        }
    }
    let mut log = Map::new();
    if let Some(level) = level.or_else(|| level_of(text).map(str::to_owned)) {
        log.insert("level".to_owned(), level.into());
    }
    log.insert("offset".to_owned(), record.offset.into());
    log.insert("file".to_owned(), json!({"path": path}));
    let flags: Vec<Value> = [
        (record.lines > 1, "multiline"),
        (record.is_cut, "truncated"),
        (text.as_bytes() != record.text, "not_utf8"),
    ]
    .into_iter()
    .filter(|(is_so, _)| *is_so)
    .map(|(_, flag)| flag.into())
    .collect();
    if !flags.is_empty() {
        log.insert("flags".to_owned(), flags.into());
    }
    let mut data = Map::new();
    data.insert("message".to_owned(), message.into());
    data.insert("log".to_owned(), log.into());
    if !fields.is_empty() {
        data.insert("fields".to_owned(), fields.into());
    }
    data.into()
}

/// The level that a line names: a word in capitals, in brackets, or after `level=` or `"level":`. Any other word may be
/// part of a sentence.
fn level_of(text: &str) -> Option<&'static str> {
    let first = text.split('\n').next().unwrap_or_default();
    let mut end = first.len().min(LEVEL_WITHIN);
    while !first.is_char_boundary(end) {
        end -= 1;
    }
    let mut before = "";
    let mut last_end = 0;
    for word in first[..end].split(|c: char| !c.is_ascii_alphanumeric()) {
        let start = word.as_ptr() as usize - first.as_ptr() as usize;
        let between = &first[last_end..start];
        let is_named = matches!(before, "level" | "lvl" | "severity" | "loglevel")
            && between.contains(['=', ':'])
            || between.ends_with(['[', '<'])
            || !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase());
        if is_named && let Some(level) = level_named(word) {
            return Some(level);
        }
        if !word.is_empty() {
            before = word;
            last_end = start + word.len();
        }
    }
    None
}

fn level_named(word: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 17] = [
        ("trace", "trace"),
        ("debug", "debug"),
        ("info", "info"),
        ("information", "info"),
        ("notice", "notice"),
        ("warn", "warning"),
        ("warning", "warning"),
        ("err", "error"),
        ("error", "error"),
        ("severe", "error"),
        ("crit", "critical"),
        ("critical", "critical"),
        ("fatal", "critical"),
        ("alert", "alert"),
        ("emerg", "emergency"),
        ("emergency", "emergency"),
        ("panic", "emergency"),
    ];
    let named = NAMES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name))?;
    Some(named.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(shape: &Shape, line: &[u8]) -> Option<Value> {
        let record = Record::begin(line, 7, false, 64);
        shape.readings(&record, "/log").pop().map(|reading| reading.data)
    }

    fn plain() -> Shape {
        Shape::Document { include: Vec::new(), exclude: Vec::new(), parse: None }
    }

    #[test]
    fn a_line_becomes_a_message_with_its_place() {
        let data = told(&plain(), b"10:02 ERROR no tag").unwrap();
        let log = json!({"level": "error", "offset": 7, "file": {"path": "/log"}});
        assert_eq!(data, json!({"message": "10:02 ERROR no tag", "log": log}));
    }

    #[test]
    fn named_groups_become_fields_message_and_level() {
        let parse = Regex::new(r"^(?<code>\d+) (?<level>\w+) (?<message>.*)$").unwrap();
        let shape = Shape::Document { include: vec![], exclude: vec![], parse: Some(parse) };
        let data = told(&shape, b"42 Warn door").unwrap();
        assert_eq!(data["message"], "door");
        assert_eq!(data["log"]["level"], "warn");
        assert_eq!(data["fields"], json!({"code": "42"}));
        assert_eq!(told(&shape, b"else").unwrap()["message"], "else");
    }

    #[test]
    fn what_is_cut_or_not_utf8_says_so() {
        let data = told(&plain(), &[b'x'; 65]).unwrap();
        assert_eq!(data["log"]["flags"], json!(["truncated"]));
        let data = told(&plain(), b"a\xffb").unwrap();
        assert_eq!(
            (&data["message"], &data["log"]["flags"]),
            (&"a\u{fffd}b".into(), &json!(["not_utf8"]))
        );
        let mut long = vec![b'x'; 63];
        long.extend("ü".as_bytes());
        let data = told(&plain(), &long).unwrap();
        assert_eq!(data["message"], "x".repeat(63), "no half of a character");
        assert_eq!(data["log"]["flags"], json!(["truncated"]));
    }

    #[test]
    fn lines_are_chosen_by_expressions() {
        let regex = |text| vec![Regex::new(text).unwrap()];
        let shape =
            Shape::Document { include: regex("door"), exclude: regex("^DEBUG"), parse: None };
        assert!(told(&shape, b"the door").is_some());
        assert!(told(&shape, b"DEBUG the door").is_none());
        assert!(told(&shape, b"the window").is_none());
    }

    #[test]
    fn levels_are_found_where_programs_write_them() {
        for (line, level) in [
            ("2026-11-23 10:00:00,123 ERROR [main] x", Some("error")),
            ("[warn] disk", Some("warning")),
            ("time=1 level=info msg=x", Some("info")),
            (r#"{"level":"debug","msg":"x"}"#, Some("debug")),
            (r#"{"level": "fatal"}"#, Some("critical")),
            ("no error was found", None),
            ("", None),
            ("ünïcode ERR", Some("error")),
        ] {
            assert_eq!(level_of(line), level, "{line}");
        }
    }
}
