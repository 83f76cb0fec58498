//! `type: file`: every event a line of JSON, once. The file itself tells what it has: after a crash or an error its last
//! line says where to go on, whatever the cursor says.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use drover_proto::event::Event;
use thiserror::Error;
use uuid::Uuid;

/// How every line begins; a torn one at the end is known by it.
const LINE_START: &[u8] = b"{\"id\":\"";
/// How far back from the end the last line is looked for at first.
const TAIL: u64 = 64 << 10;
/// A longer line than this is nobody's event.
const LONGEST_LINE: u64 = 8 << 20;

/// Why lines were not written. The batch is tried again.
#[derive(Debug, Error)]
pub enum FileSinkError {
    /// The directory cannot be made.
    #[error("cannot make the directory of `{path}`")]
    Directory {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file cannot be opened or read.
    #[error("cannot open `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The disk is full, or broken.
    #[error("cannot write to `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The last line of a file that has events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastLine {
    /// Its event's number.
    pub seq: u64,
    /// Its event's id: another log may have the same number.
    pub id: Uuid,
}

/// A file that lines are added to.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Which file it is, to notice that another one has its name now.
    inode: (u64, u64),
    last: Option<LastLine>,
}

impl FileSink {
    /// A sink for a path, whose directory is made when it is needed.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// The last line that the file has, if its name still leads to it; opens it where needed.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn last_line(&mut self) -> Result<Option<LastLine>, FileSinkError> {
        Ok(self.open()?.last)
    }

    /// Writes a line for each event, and returns when they are on the disk. After an error none, some or all of them
    /// may be there: [`Self::last_line`] tells.
    ///
    /// # Errors
    /// When it cannot be opened or written.
    pub fn append(&mut self, events: &[Arc<Event>]) -> Result<(), FileSinkError> {
        let Some(newest) = events.last() else { return Ok(()) };
        let last = LastLine { seq: newest.seq, id: newest.id };
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, &**event).expect("an event has a JSON form");
            lines.push(b'\n');
        }
        let path = self.path.clone();
        let open = self.open()?;
        // The cursor moves only after this: what it says is on the disk.
        let written = open.file.write_all(&lines).and_then(|()| open.file.sync_data());
        match written {
            Ok(()) => {
                open.last = Some(last);
                Ok(())
            }
            Err(source) => {
                // A part may be there; opening it again finds out which.
                self.open = None;
                Err(FileSinkError::Write { path, source })
            }
        }
    }

    /// The file that has the name now: a rotated or removed one is let go.
    fn open(&mut self) -> Result<&mut Open, FileSinkError> {
        let is_same = |open: &Open| {
            fs::metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == open.inode)
        };
        let kept = self.open.take().filter(is_same);
        let open = match kept {
            Some(open) => open,
            None => open(&self.path)?,
        };
        Ok(self.open.insert(open))
    }
}

fn open(path: &Path) -> Result<Open, FileSinkError> {
    let failed = |source| FileSinkError::Open { path: path.to_owned(), source };
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory {
        fs::create_dir_all(directory)
            .map_err(|source| FileSinkError::Directory { path: path.to_owned(), source })?;
    }
    let is_new = !path.exists();
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
    if is_new && let Some(directory) = directory {
        // The name of a new file is durable with its directory.
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    }
    let last = recover(&mut file).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    Ok(Open { file, inode: (metadata.dev(), metadata.ino()), last })
}

/// Cuts off a line of ours that is torn, ends any other last line, and reads the last event.
fn recover(file: &mut File) -> io::Result<Option<LastLine>> {
    let length = file.metadata()?.len();
    let mut span = TAIL.min(length);
    let tail = loop {
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(length - span))?;
        Read::take(&mut *file, span).read_to_end(&mut tail)?;
        let whole_lines = tail.iter().filter(|byte| **byte == b'\n').count();
        if whole_lines >= 2 || span == length || span >= LONGEST_LINE {
            break tail;
        }
        span = (span * 4).min(length);
    };
    let end = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let torn = &tail[end..];
    let is_ours = torn.starts_with(LINE_START) || LINE_START.starts_with(torn);
    if !torn.is_empty() && is_ours {
        file.set_len(length - torn.len() as u64)?;
        file.sync_data()?;
    } else if !torn.is_empty() {
        // Somebody else's line is not ours to remove.
        file.write_all(b"\n")?;
    }
    let last = tail[..end].trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
    let event = last.and_then(|line| serde_json::from_slice::<Event>(line).ok());
    Ok(event.map(|event| LastLine { seq: event.seq, id: event.id }))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn event(seq: u64) -> Arc<Event> {
        Arc::new(Event {
            id: Uuid::from_u128(seq.into()),
            seq,
            ts: Timestamp::UNIX_EPOCH,
            at: None,
            tag: "a/b".parse().unwrap(),
            minion: None,
            data: json!({"text": "x".repeat(200)}),
        })
    }

    fn seqs(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().seq).collect()
    }

    #[test]
    fn a_file_cut_anywhere_tells_its_last_whole_line() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("new/events.ndjson");
        FileSink::new(path.clone()).append(&[event(1), event(2), event(3)]).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut sink = FileSink::new(path.clone());
            let last = sink.last_line().unwrap().map_or(0, |last| last.seq);
            assert_eq!(seqs(&path), (1..=last).collect::<Vec<_>>(), "cut at {length}");
            sink.append(&[event(last + 1)]).unwrap();
            assert_eq!(seqs(&path).last(), Some(&(last + 1)));
        }
    }

    #[test]
    fn a_rotated_and_a_removed_file_begin_anew() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("events.ndjson");
        let mut sink = FileSink::new(path.clone());
        sink.append(&[event(1)]).unwrap();
        fs::rename(&path, directory.path().join("events.1")).unwrap();
        sink.append(&[event(2)]).unwrap();
        assert_eq!(seqs(&path), [2]);
        fs::remove_file(&path).unwrap();
        assert_eq!(sink.last_line().unwrap(), None);
        sink.append(&[event(3)]).unwrap();
        assert_eq!(seqs(&path), [3]);
    }

    #[test]
    fn lines_of_somebody_else_are_kept() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("events.ndjson");
        fs::write(&path, "# a header without an end").unwrap();
        let mut sink = FileSink::new(path.clone());
        assert_eq!(sink.last_line().unwrap(), None);
        sink.append(&[event(1)]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# a header without an end\n{\"id\":\""), "{text}");
    }

    #[test]
    fn a_full_disk_is_an_error_and_the_next_try_goes_on() {
        let mut sink = FileSink::new("/dev/full".into());
        let error = sink.append(&[event(1)]).unwrap_err();
        assert!(matches!(error, FileSinkError::Write { .. }), "{error}");
        let directory = TempDir::new().unwrap();
        sink.path = directory.path().join("events.ndjson");
        sink.append(&[event(1)]).unwrap();
        assert_eq!(seqs(&sink.path), [1]);
    }

    #[test]
    fn a_line_longer_than_the_first_look_back_is_found() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("events.ndjson");
        let mut long = Event::clone(&event(7));
        long.data = json!("y".repeat(300 << 10));
        let mut sink = FileSink::new(path.clone());
        sink.append(&[event(6), Arc::new(long)]).unwrap();
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"id\":\"0000").unwrap();
        assert_eq!(FileSink::new(path).last_line().unwrap().map(|last| last.seq), Some(7));
    }
}
