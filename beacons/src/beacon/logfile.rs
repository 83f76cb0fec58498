//! `logfile`: ships lines of files as events; and Salt's `log`, which tells the lines that match. Offsets are kept in
//! memory, so nothing is written. A line that may not go yet, since the rate is used up or the outbox is half full,
//! stays in its file.

mod dropped;
mod paths;
mod record;
mod tail;

use std::{
    collections::BTreeSet,
    fs::Metadata,
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use regex::Regex;
use serde_json::Value;

use self::{
    paths::FileId,
    record::Shape,
    tail::{Before, Pass, Start, Tail, read_head},
};
use super::{Look, Reading};
use crate::{
    config::{ConfigError, Options},
    log_rate::LogRate,
    system::SystemError,
};

/// Files that one beacon follows.
const MOST_FILES: usize = 100;
/// Files that it has open, with those that were rotated away or removed and are still read.
const MOST_OPEN: usize = 2 * MOST_FILES;
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
        let (mut found, is_full) = paths::find(&self.patterns, MOST_FILES);
        let mut failed = is_full.then_some(SystemError::TooManyFiles { most: MOST_FILES });
        // Whoever may write there must not use up what a process may open. New ones wait until older ones are read.
        let mut free = MOST_OPEN.saturating_sub(self.tails.len());
        found.retain(|(_, metadata)| {
            let is_known = self.tails.iter().any(|tail| tail.id() == FileId::of(metadata));
            let is_followed = is_known || free > 0;
            free = free.saturating_sub(usize::from(!is_known));
            is_followed
        });
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
        let names: BTreeSet<PathBuf> =
            self.tails.iter().map(|tail| tail.name().to_owned()).collect();
        let turn = self.turn % names.len().max(1);
        self.turn = turn + 1;
        for name in names.iter().cycle().skip(turn).take(names.len()) {
            // Of files in one another's place the older comes first, to its end.
            for tail in self.tails.iter_mut().filter(|tail| tail.name() == name) {
                let outcome = tail.read(&mut pass);
                note(tail.path(), outcome);
                pass.readings.extend(tail.take_dropped(now));
                if tail.is_held_back() {
                    break;
                }
            }
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
        let mut origins = Vec::new();
        for tail in &mut self.tails {
            let here = found.iter().find(|(_, metadata)| FileId::of(metadata) == tail.id());
            let here = here.map(|(path, metadata)| (path.as_path(), metadata));
            // Only a new file can be a copy.
            let mut origin = Origin { before: has_new.then(|| tail.before()), unread: None };
            match tail.observe(here, now) {
                Ok(None) => origin.before = has_new.then(|| tail.before()),
                Ok(unread) => origin.unread = unread,
                Err(why) => note(tail.path(), Err(why)),
            }
            origins.push(origin);
        }
        let mut opened = Vec::new();
        for (path, metadata) in found.iter().filter(|(_, metadata)| is_new(metadata)) {
            let beginning = if is_first && !self.from_start { Start::End } else { Start::At(0) };
            let mut place = (origins.len(), path.as_path(), beginning);
            if !is_first {
                match paths::open(path).and_then(|(file, _)| read_head(&file)) {
                    Ok(head) => {
                        if let Some((at, start)) = copied(&head, metadata.len(), &mut origins) {
                            place = (at, self.tails[at].name(), start);
                        }
                    }
                    Err(why) => note(path, Err(why)),
                }
            }
            let (at, name, start) = place;
            match Tail::open(path.clone(), name.to_owned(), start) {
                Ok(tail) => opened.push((at, tail)),
                Err(why) => note(path, Err(why)),
            }
        }
        for (tail, origin) in self.tails.iter_mut().zip(origins) {
            tail.lose(origin.unread.unwrap_or(0));
        }
        // A copy comes before what is written after it was made.
        for (at, tail) in opened.into_iter().rev() {
            self.tails.insert(at, tail);
        }
    }
}

/// What a new file may be the copy of.
#[derive(Debug)]
struct Origin {
    /// How the file began and how far it was read: if it was cut, before that.
    before: Option<Before>,
    /// How much of it had not been read when it was cut.
    unread: Option<u64>,
}

/// If a new file is the copy that a rotation made of one that is followed: of which, and where it is read from. What had
/// not been read of one that was cut is then not lost.
fn copied(head: &[u8], size: u64, origins: &mut [Origin]) -> Option<(usize, Start)> {
    let is_copy = |origin: &Origin| {
        let before = origin.before.as_ref();
        before.is_some_and(|of| of.head.len() >= TELLING_HEAD && head.starts_with(&of.head))
    };
    let at = origins.iter().position(is_copy)?;
    let offset = origins[at].before.as_ref().map_or(0, |before| before.offset);
    match origins[at].unread.take() {
        Some(_) if size >= offset => Some((at, Start::At(offset))),
        // Of one that was not cut, the rest is read where it is.
        Some(_) | None => Some((at, Start::End)),
    }
}

#[cfg(test)]
mod tests;
