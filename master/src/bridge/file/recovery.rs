//! What a file has after a crash: its last line may be torn, and the last events that were written may be sent again.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
};

use flate2::read::GzDecoder;
use serde::Deserialize;
use uuid::Uuid;

use super::rotation::{Form, existing};

/// How every line of an event begins; a torn one at the end is known by it.
const LINE_START: &[u8] = b"{\"id\":\"";
/// How much is looked through at once, from the end backwards.
const BLOCK: u64 = 256 << 10;
/// A longer line than this is nobody's event.
const LONGEST_LINE: u64 = 8 << 20;

/// As much of a line as tells which event it is.
#[derive(Deserialize)]
struct Known {
    id: Uuid,
}

/// Cuts off a line of ours that is torn, and ends any other last line.
pub(super) fn end_last_line(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut span = BLOCK.min(length);
    let torn = loop {
        let tail = read(file, length - span, span)?;
        match tail.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => break tail[end + 1..].to_owned(),
            None if span == length || span >= LONGEST_LINE => break tail,
            None => span = (span * 4).min(length),
        }
    };
    if torn.is_empty() {
        return Ok(());
    }
    if torn.starts_with(LINE_START) || LINE_START.starts_with(&torn) {
        file.set_len(length - torn.len() as u64)?;
        file.sync_data()
    } else {
        // Somebody else's line is not ours to remove.
        file.write_all(b"\n")
    }
}

/// Which of these events have a line in the last part of the file, or of the one that was put aside before it: it is looked
/// through backwards, until a whole block has none of them.
pub(super) fn find(path: &Path, mut wanted: HashSet<Uuid>) -> io::Result<HashSet<Uuid>> {
    let mut found = HashSet::new();
    let is_all = look_back(&mut File::open(path)?, &mut wanted, &mut found)?;
    if is_all && !wanted.is_empty() {
        // From the file's beginning on they are there: those before them may stand in the file before it.
        match existing(path, 1).first() {
            Some(Form::Plain) => {
                let mut full = File::open(Form::Plain.place(path, 1))?;
                look_back(&mut full, &mut wanted, &mut found)?;
            }
            Some(Form::Packed) => {
                let packed = File::open(Form::Packed.place(path, 1))?;
                for line in BufReader::new(GzDecoder::new(packed)).split(b'\n') {
                    take(&line?, &mut wanted, &mut found);
                }
            }
            None => {}
        }
    }
    Ok(found)
}

/// Whether it came to the file's beginning.
fn look_back(
    file: &mut File,
    wanted: &mut HashSet<Uuid>,
    found: &mut HashSet<Uuid>,
) -> io::Result<bool> {
    let mut end = file.metadata()?.len();
    // The beginning of the block before the present one ends with the rest of a line.
    let mut rest: Vec<u8> = Vec::new();
    while end > 0 && !wanted.is_empty() {
        let span = BLOCK.min(end);
        let mut block = read(file, end - span, span)?;
        end -= span;
        block.append(&mut rest);
        let first = match (end, block.iter().position(|byte| *byte == b'\n')) {
            (0, _) => 0,
            (_, Some(first)) => first + 1,
            (_, None) if block.len() as u64 > LONGEST_LINE => return Ok(false),
            (_, None) => {
                rest = block;
                continue;
            }
        };
        let before = found.len();
        for line in block[first..].split(|byte| *byte == b'\n') {
            take(line, wanted, found);
        }
        if found.len() == before && end > 0 {
            return Ok(false);
        }
        // The line that is cut by the block's beginning, without its end.
        block.truncate(first.saturating_sub(1));
        rest = block;
    }
    Ok(true)
}

fn take(line: &[u8], wanted: &mut HashSet<Uuid>, found: &mut HashSet<Uuid>) {
    if let Ok(Known { id }) = serde_json::from_slice(line)
        && let Some(id) = wanted.take(&id)
    {
        found.insert(id);
    }
}

fn read(file: &mut File, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    Read::take(&mut *file, length).read_to_end(&mut bytes)?;
    Ok(bytes)
}
