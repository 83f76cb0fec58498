//! `logfile`: ships lines of files as events; and Salt's `log`, which tells the lines that match. Offsets are kept in
//! memory, so nothing is written. A line that may not go yet, since the rate is used up or the outbox is half full,
//! stays in its file.

mod dropped;
mod paths;
mod record;
mod tail;

use std::{
    fs::{File, Metadata},
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use regex::Regex;
use serde_json::Value;

use self::{
    paths::FileId,
    record::Shape,
    tail::{Pass, Start, Tail, read_head},
};
use super::{Look, Reading};
use crate::{
    config::{ConfigError, Options},
    log_rate::LogRate,
    system::SystemError,
};

/// Files that one beacon follows.
const MOST_FILES: usize = 100;
/// Bytes that one look reads.
const MOST_READ: u64 = 4 << 20;
/// A file that begins like another is a copy of it if that is more than a few words.
const TELLING_HEAD: usize = 16;
const DEFAULT_LONGEST: u64 = 16 << 10;
/// Two of these fit a chunk.
const MAX_LONGEST: u64 = 32 << 10;
const DEFAULT_BACKLOG: u64 = 16 << 20;

#[derive(Debug)]
pub(crate) struct Logfile {
    patterns: Vec<PathBuf>,
    from_start: bool,
    manner: Manner,
    rate: LogRate,
    tails: Vec<Tail>,
    looked: bool,
    /// Which file is read first: each in turn, so that a loud one does not silence the others.
    turn: usize,
}

/// How lines are read and told.
#[derive(Debug)]
struct Manner {
    /// A line that matches belongs to the one before.
    multiline: Option<Regex>,
    shape: Shape,
    longest: usize,
    backlog: u64,
}

impl Logfile {
    pub(super) fn configure(options: &mut Options<'_>) -> Result<Self, ConfigError> {
        let patterns = options.take_texts("files")?;
        let shape = Shape::Document {
            include: options.take_regexes("include")?,
            exclude: options.take_regexes("exclude")?,
            parse: options.take_regex("parse")?,
        };
        Self::with(options, patterns, shape)
    }

    /// Salt's form: one file, and expressions by tag that match a line from its beginning.
    pub(super) fn configure_log(options: &mut Options<'_>) -> Result<Self, ConfigError> {
        const EXPECTED: &str = "a map like `{name: {regex: 'expression'}}`";
        let patterns = options.take_texts("file")?;
        let mut tags = Vec::new();
        if let Some(value) = options.take("tags")? {
            let wrong = || options.wrong("tags", EXPECTED, value);
            for (tag, form) in value.as_object().ok_or_else(wrong)? {
                let text = form.get("regex").and_then(Value::as_str).ok_or_else(wrong)?;
                tags.push((tag.clone(), options.regex(text, &format!("^(?:{text})"))?));
            }
        }
        Self::with(options, patterns, Shape::Tags(tags))
    }

    fn with(
        options: &mut Options<'_>,
        patterns: Vec<String>,
        shape: Shape,
    ) -> Result<Self, ConfigError> {
        let from_start = match options.take("from")? {
            None => false,
            Some(from) => match from.as_str() {
                Some("end") => false,
                Some("start") => true,
                Some(_) | None => return Err(options.wrong("from", "`end` or `start`", from)),
            },
        };
        let longest = options.take_size("max_line")?.unwrap_or(DEFAULT_LONGEST).min(MAX_LONGEST);
        let manner = Manner {
            multiline: options.take_regex("multiline")?,
            shape,
            longest: usize::try_from(longest).unwrap_or(usize::MAX),
            backlog: options.take_size("backlog")?.unwrap_or(DEFAULT_BACKLOG),
        };
        Ok(Self {
            patterns: patterns.into_iter().map(PathBuf::from).collect(),
            from_start,
            manner,
            rate: LogRate::take(options)?,
            tails: Vec::new(),
            looked: false,
            turn: 0,
        })
    }

    /// Whether it was told what to watch.
    pub(super) fn check(&self, beacon: &str) -> Result<(), ConfigError> {
        let hint = match &self.manner.shape {
            Shape::Document { .. } if self.patterns.is_empty() => "`files: [/run/log/app.log]`",
            Shape::Tags(_) if self.patterns.is_empty() => "`file: /run/log/app.log`",
            Shape::Tags(tags) if tags.is_empty() => "`tags: {name: {regex: 'expression'}}`",
            Shape::Document { .. } | Shape::Tags(_) => match self.relative() {
                Some(_) => "paths that begin with `/`",
                None => return Ok(()),
            },
        };
        Err(ConfigError::NothingToWatch { beacon: beacon.to_owned(), hint })
    }

    fn relative(&self) -> Option<&PathBuf> {
        self.patterns.iter().find(|pattern| pattern.is_relative())
    }

    pub(super) fn look(
        &mut self,
        Look { now, room, .. }: Look<'_>,
        readings: &mut Vec<Reading>,
    ) -> Result<(), SystemError> {
        let (found, is_full) = paths::find(&self.patterns, MOST_FILES);
        let mut failed = is_full.then_some(SystemError::TooManyFiles { most: MOST_FILES });
        let mut note = |path: &Path, outcome: io::Result<()>| {
            let gone = |why: &io::Error| why.kind() == io::ErrorKind::NotFound;
            if let Some(source) = outcome.err().filter(|why| !gone(why)) {
                failed = Some(SystemError::ReadLog { path: path.to_owned(), source });
            }
        };
        self.follow(&found, now, &mut note);

        self.rate.refill(now);
        let mut pass = Pass {
            manner: &self.manner,
            rate: &mut self.rate,
            room,
            readings,
            left: MOST_READ,
            buffer: Vec::new(),
        };
        let count = self.tails.len();
        self.turn = (self.turn + 1) % count.max(1);
        for nth in 0..count {
            let tail = &mut self.tails[(self.turn + nth) % count];
            let outcome = tail.read(&mut pass);
            note(tail.path(), outcome);
            pass.readings.extend(tail.take_dropped(now));
        }
        self.tails.retain_mut(|tail| !tail.is_over(now, &mut pass));
        failed.map_or(Ok(()), Err)
    }

    /// Sees what became of the files that are known, and begins with those that are new.
    fn follow(
        &mut self,
        found: &[(PathBuf, Metadata)],
        now: Instant,
        note: &mut impl FnMut(&Path, io::Result<()>),
    ) {
        let is_first = !std::mem::replace(&mut self.looked, true);
        let known: Vec<FileId> = self.tails.iter().map(Tail::id).collect();
        let is_new = |metadata: &Metadata| !known.contains(&FileId::of(metadata));
        let has_new = found.iter().any(|(_, metadata)| is_new(metadata));
        let mut cuts = Vec::new();
        for tail in &mut self.tails {
            let here = found.iter().find(|(_, metadata)| FileId::of(metadata) == tail.id());
            // Only a new file can be a copy.
            let before = has_new.then(|| tail.before());
            match tail.observe(here.map(|(path, metadata)| (path.as_path(), metadata)), now) {
                Ok(Some(unread)) => cuts.push((before, Some(unread))),
                Ok(None) => cuts.push((has_new.then(|| tail.before()), None)),
                Err(why) => {
                    cuts.push((None, None));
                    note(tail.path(), Err(why));
                }
            }
        }
        for (path, metadata) in found.iter().filter(|(_, metadata)| is_new(metadata)) {
            let start = match (is_first, self.from_start) {
                (true, false) => Ok(Start::End),
                (true, true) => Ok(Start::At(0)),
                (false, _) => File::open(path)
                    .and_then(|file| read_head(&file))
                    .map(|head| start_of_copy(&head, metadata.len(), &mut cuts)),
            };
            match start.and_then(|start| Tail::open(path.clone(), start)) {
                Ok(tail) => self.tails.push(tail),
                Err(why) => note(path, Err(why)),
            }
        }
        for (tail, (_, unread)) in self.tails.iter_mut().zip(cuts) {
            tail.lose(unread.unwrap_or(0));
        }
    }
}

/// Where a new file is read from: its beginning, unless it is the copy that a rotation made of a file that is followed.
/// What had not been read of one that was cut is then read from the copy, and not lost.
fn start_of_copy(
    head: &[u8],
    size: u64,
    cuts: &mut [(Option<tail::Before>, Option<u64>)],
) -> Start {
    for (before, unread) in cuts {
        let Some(before) = before else { continue };
        if before.head.len() < TELLING_HEAD || !head.starts_with(&before.head) {
            continue;
        }
        return match unread.take() {
            Some(_) if size >= before.offset => Start::At(before.offset),
            // Of one that was not cut, the rest is read where it is.
            Some(_) | None => Start::End,
        };
    }
    Start::At(0)
}

#[cfg(test)]
mod tests;
