//! One file that is followed: where it has been read to, and whether it is still the one it was.

use std::{
    cell::Cell,
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    super::Reading,
    Manner,
    dropped::Dropped,
    paths::{self, FileId},
    record::Record,
};
use crate::log_rate::LogRate;

/// How much of a file's beginning is kept, to know it again. Lines with a time in them differ within that.
const HEAD: usize = 256;
/// Read at once: more than two of the longest lines.
const CHUNK: usize = 64 << 10;
/// What is told of one record may be this long; what is longer would wait for ever for its room in the outbox.
const MOST_TOLD: usize = 512 << 10;
/// How long a file that was rotated away is followed: its program may not have opened the new one yet.
const AFTER_ROTATION: Duration = Duration::from_secs(60);

/// What all files share in one look.
pub(super) struct Pass<'a> {
    pub(super) manner: &'a Manner,
    pub(super) rate: &'a mut LogRate,
    pub(super) room: &'a Cell<usize>,
    pub(super) readings: &'a mut Vec<Reading>,
    /// How many bytes may still be read, so that no look holds the agent up.
    pub(super) left: u64,
    /// Has room only while a look has something to read.
    pub(super) buffer: Vec<u8>,
}

/// Where the reading of a file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    End,
    At(u64),
}

/// How a file began and how far it was read, before the present look.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) head: Vec<u8>,
    pub(super) offset: u64,
}

#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    /// What it was called first. A file that is made in its place has the same name, and is read after it.
    name: PathBuf,
    id: FileId,
    file: File,
    head: Vec<u8>,
    /// What was taken and may not go yet, or waits for the lines that belong to it.
    held: Option<Record>,
    /// The first byte that was not taken.
    offset: u64,
    size: u64,
    modified: (i64, i64),
    links: u64,
    /// Within a line whose rest is passed over.
    skips_line: bool,
    /// Since when there is nothing new in a file that is not at its path any more.
    over: Option<Instant>,
    /// There is more to read, which may not go yet.
    is_held_back: bool,
    dropped: Dropped,
}

impl Tail {
    pub(super) fn open(path: PathBuf, name: PathBuf, start: Start) -> io::Result<Self> {
        let (file, metadata) = paths::open(&path)?;
        let size = metadata.len();
        let offset = match start {
            Start::End => size,
            Start::At(offset) => offset.min(size),
        };
        let mut last = *b"\n";
        if let Some(before) = offset.checked_sub(1) {
            file.read_exact_at(&mut last, before)?;
        }
        Ok(Self {
            path,
            name,
            id: FileId::of(&metadata),
            head: read_head(&file)?,
            file,
            held: None,
            offset,
            size,
            modified: modified(&metadata),
            links: metadata.nlink(),
            skips_line: last != *b"\n",
            over: None,
            is_held_back: false,
            dropped: Dropped::default(),
        })
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(test)]
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// Whether there is more to read, which may not go yet.
    pub(super) fn is_held_back(&self) -> bool {
        self.is_held_back
    }

    pub(super) fn before(&self) -> Before {
        Before { head: self.head.clone(), offset: self.offset }
    }

    /// Counts bytes that were lost unread.
    pub(super) fn lose(&mut self, bytes: u64) {
        self.dropped.add(bytes, None);
    }

    /// What is to be told of dropped lines.
    pub(super) fn take_dropped(&mut self, now: Instant) -> Option<Reading> {
        self.dropped.take(&self.path, now)
    }

    /// Takes what has become of the file, which is `found` at a path of the beacon's or was rotated away. Where it was
    /// cut, it is read from its beginning; gives how many bytes had not been read.
    pub(super) fn observe(
        &mut self,
        found: Option<(&Path, &Metadata)>,
        now: Instant,
    ) -> io::Result<Option<u64>> {
        let own;
        let metadata = match found {
            Some((path, metadata)) => {
                if self.path != path {
                    self.path = path.to_owned();
                }
                metadata
            }
            None => {
                own = self.file.metadata()?;
                &own
            }
        };
        let (size, links) = (metadata.len(), metadata.nlink());
        // One that was cut may have its old length again.
        let has_changed = size != self.size || modified(metadata) != self.modified;
        let mut unread = None;
        if has_changed {
            let head = read_head(&self.file)?;
            // It may have been cut and written anew past where it was.
            if size < self.offset || !head.starts_with(&self.head) {
                unread = Some(self.size.saturating_sub(self.offset));
                self.offset = 0;
                self.skips_line = false;
            }
            self.head = head;
        }
        (self.size, self.modified, self.links) = (size, modified(metadata), links);
        if found.is_some() || has_changed {
            self.over = None;
        } else {
            self.over.get_or_insert(now);
        }
        Ok(unread)
    }

    /// Reads what is new, as far as it may go.
    pub(super) fn read(&mut self, pass: &mut Pass<'_>) -> io::Result<()> {
        self.is_held_back = false;
        // More of a record may be among what is new.
        let may_be_whole = pass.manner.multiline.is_none() || self.offset == self.size;
        if may_be_whole && !self.send(pass) {
            self.is_held_back = true;
            return Ok(());
        }
        if self.offset == self.size {
            return Ok(());
        }
        pass.buffer.resize(CHUNK, 0);
        let mut buffer = std::mem::take(&mut pass.buffer);
        let outcome = self.read_new(&mut buffer, pass);
        pass.buffer = buffer;
        outcome
    }

    fn read_new(&mut self, buffer: &mut [u8], pass: &mut Pass<'_>) -> io::Result<()> {
        self.skip_backlog(buffer, pass)?;
        while self.offset < self.size {
            if pass.left == 0 {
                self.is_held_back = true;
                break;
            }
            let wanted = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
            let most = buffer.len().min(wanted);
            let read = self.file.read_at(&mut buffer[..most], self.offset)?;
            pass.left = pass.left.saturating_sub(read as u64);
            let begin = self.offset;
            if !self.take_lines(&buffer[..read], pass) {
                self.is_held_back = true;
                break;
            }
            if self.offset == begin {
                // A line without its end.
                break;
            }
        }
        self.is_held_back |= self.held.is_some() && pass.manner.multiline.is_none();
        Ok(())
    }

    /// Whether it was rotated away and nothing more is to be expected of it. The last line may lack its end.
    pub(super) fn is_over(&mut self, now: Instant, pass: &mut Pass<'_>) -> bool {
        let Some(since) = self.over else { return false };
        let patience = if self.links == 0 { Duration::ZERO } else { AFTER_ROTATION };
        if now.saturating_duration_since(since) < patience || self.size - self.offset > CHUNK as u64
        {
            return false;
        }
        if self.held.is_none() && self.offset < self.size && !self.skips_line {
            let mut line = vec![0; (self.size - self.offset) as usize];
            if self.file.read_exact_at(&mut line, self.offset).is_ok() && !line.contains(&b'\n') {
                let longest = pass.manner.longest;
                self.held = Some(Record::begin(&line, self.offset, false, longest));
                self.offset = self.size;
            }
        }
        self.send(pass) && (self.offset == self.size || self.skips_line)
    }

    /// Passes over what there is too much of; what is sent is then near to what happens now.
    fn skip_backlog(&mut self, buffer: &mut [u8], pass: &mut Pass<'_>) -> io::Result<()> {
        let unread = self.size.saturating_sub(self.offset);
        let Some(surplus) = unread.checked_sub(pass.manner.backlog).filter(|surplus| *surplus > 0)
        else {
            return Ok(());
        };
        let (begin, end) = (self.offset, self.offset + surplus);
        // As much as a look may read is looked through, whatever the file is like.
        let is_counted = surplus <= pass.left;
        let mut at = if is_counted { begin } else { end };
        let mut lines = 0;
        self.skips_line = true;
        // Up to the first line that begins past the surplus; one that has no end for so long is passed over as it is read.
        while self.skips_line && at < self.size.min(end + CHUNK as u64) {
            let read = self.file.read_at(buffer, at)?;
            let chunk = &buffer[..read];
            if chunk.is_empty() {
                break;
            }
            let last = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let stop = chunk.iter().skip(last).position(|byte| *byte == b'\n');
            let taken = stop.map_or(read, |stop| last + stop + 1);
            lines += chunk[..taken].iter().filter(|byte| **byte == b'\n').count() as u64;
            at += taken as u64;
            pass.left = pass.left.saturating_sub(taken as u64);
            self.skips_line = stop.is_none();
        }
        self.offset = at;
        self.dropped.add(at - begin, is_counted.then_some(lines));
        Ok(())
    }

    /// Takes the lines of a chunk; false if they may not go.
    fn take_lines(&mut self, chunk: &[u8], pass: &mut Pass<'_>) -> bool {
        let mut rest = chunk;
        while !rest.is_empty() {
            // A program that does not append leaves a hole where its file was cut.
            let hole = rest.iter().take_while(|byte| **byte == 0).count();
            rest = &rest[hole..];
            self.offset += hole as u64;
            let end = rest.iter().position(|byte| *byte == b'\n');
            let longest = pass.manner.longest;
            let (line, width) = match end {
                Some(end) => (&rest[..end], end + 1),
                None if self.skips_line => (rest, rest.len()),
                None if rest.len() > longest => (&rest[..longest], rest.len()),
                None => return true,
            };
            if !self.skips_line && !self.take_line(line, end.is_none(), pass) {
                return false;
            }
            self.skips_line = end.is_none();
            self.offset += width as u64;
            rest = &rest[width..];
        }
        true
    }

    /// Takes one line, unless another has to go first and may not yet.
    fn take_line(&mut self, line: &[u8], is_cut: bool, pass: &mut Pass<'_>) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let longest = pass.manner.longest;
        if let (Some(regex), Some(held)) = (&pass.manner.multiline, &mut self.held)
            && regex.is_match(&String::from_utf8_lossy(line))
        {
            held.join(line, is_cut, longest);
            return true;
        }
        if !self.send(pass) {
            return false;
        }
        self.held = Some(Record::begin(line, self.offset, is_cut, longest));
        if pass.manner.multiline.is_none() {
            // If it may not go yet, it waits here.
            self.send(pass);
        }
        true
    }

    /// Lets go of what is held; false if it may not go yet.
    fn send(&mut self, pass: &mut Pass<'_>) -> bool {
        let Some(record) = &self.held else { return true };
        let readings = pass.manner.shape.readings(record, &self.path.to_string_lossy());
        // Groups within groups, several tags and what was no text make more of a line than it was.
        let bytes = readings.iter().map(|reading| weigh(&reading.data)).sum();
        if bytes > MOST_TOLD {
            self.dropped.add(record.len() as u64, Some(record.lines()));
            self.held = None;
            return true;
        }
        if !readings.is_empty() && !pass.rate.admit(bytes, pass.room) {
            return false;
        }
        pass.readings.extend(readings);
        self.held = None;
        true
    }
}

/// The bytes of all texts in it.
fn weigh(data: &Value) -> usize {
    match data {
        Value::Null | Value::Bool(_) | Value::Number(_) => size_of::<u64>(),
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weigh).sum(),
        Value::Object(fields) => fields.iter().map(|(name, field)| name.len() + weigh(field)).sum(),
    }
}

fn modified(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// How the file begins.
pub(super) fn read_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let read = file.read_at(&mut head, 0)?;
    head.truncate(read);
    Ok(head)
}
