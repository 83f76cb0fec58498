//! A list of devices to issue, as CSV (RFC 4180): a header `serial,id,<grain>…`, a row for each device.
//! The whole list is good, or every wrong line is told; nothing is issued from half a list.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::hash::Hash;
use std::path::PathBuf;

use csv::{ByteRecord, Position, ReaderBuilder, Trim};

use super::{GrainName, GrainValue, GrainValueError, Settings};
use crate::name::{HardwareSerial, MinionId};

mod fault;
mod header;
mod lines;

use header::Header;
use lines::{Line, Lines, unclosed_quote};

pub use fault::{Column, DeviceListError, Fault, WrongLine};

/// A list that is good in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceList {
    /// The devices, in the list's order.
    pub devices: Vec<Device>,
    header: Header,
}

/// A device in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it stands.
    pub row: Row,
    /// Its hardware serial number.
    pub serial: HardwareSerial,
    /// The minion that it will be.
    pub id: MinionId,
    /// Its enrolled grains that the list gives.
    pub grains: BTreeMap<GrainName, GrainValue>,
    /// The file of its signing request, beside the list, where it made its own key.
    pub csr: Option<PathBuf>,
}

/// Where a device stands in its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The line, from 1.
    pub line: u64,
    text: String,
}

/// What of a row is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The whole row.
    Row,
    /// The hardware serial number.
    Serial,
    /// The id, or the serial number that it is made from.
    Id,
    /// The signing request.
    Csr,
}

impl DeviceList {
    /// A row that cannot be issued, for a reason that is not in the list.
    pub fn conflict(&self, row: Row, part: Part, reason: String) -> WrongLine {
        let index = match part {
            Part::Row => None,
            Part::Serial => Some(self.header.serial),
            Part::Id => Some(self.header.id.unwrap_or(self.header.serial)),
            Part::Csr => self.header.csr,
        };
        let column = index.map(|index| self.header.column(index));
        WrongLine { line: row.line, column, fault: Fault::Conflict(reason), text: row.text }
    }
}

/// Reads a list of devices.
///
/// Text is UTF-8, with or without a byte order mark; lines end in LF or CRLF; blanks around a value and
/// rows without any value are left out. The column `id` may be absent or empty where the station has a
/// template; an empty cell gives no grain. `csr` names a file.
///
/// # Errors
/// Everything that is wrong, in the order of lines.
pub fn read_device_list(text: &[u8], settings: &Settings) -> Result<DeviceList, DeviceListError> {
    let mut rows = Rows::new(text);
    let mut record = ByteRecord::new();
    let line = match rows.read(&mut record) {
        Some(Ok(line)) => line,
        Some(Err(wrong)) => return Err(DeviceListError { wrong: vec![wrong] }),
        None => {
            let wrong = vec![Line::first(text).wrong(None, Fault::Empty)];
            return Err(DeviceListError { wrong });
        }
    };
    let header = Header::read(&line, &record, settings.id_template.is_some())
        .map_err(|wrong| DeviceListError { wrong })?;

    let serials = HashMap::new();
    let mut reading = Reading { settings, header: &header, serials, ids: HashMap::new() };
    let (mut devices, mut wrong) = (Vec::new(), Vec::new());
    while let Some(line) = rows.read(&mut record) {
        let line = match line {
            Ok(line) => line,
            Err(unclosed) => {
                wrong.push(unclosed);
                break;
            }
        };
        if record.iter().all(<[u8]>::is_empty) {
            continue;
        }
        match reading.device(&line, &record) {
            Ok(device) => devices.push(device),
            Err(faults) => wrong.extend(faults),
        }
    }
    if wrong.is_empty() {
        Ok(DeviceList { devices, header })
    } else {
        Err(DeviceListError { wrong })
    }
}

/// The rows of a text, each with the line that it begins on.
struct Rows<'a> {
    reader: csv::Reader<&'a [u8]>,
    lines: Lines<'a>,
    unclosed: Option<u64>,
}

impl<'a> Rows<'a> {
    fn new(text: &'a [u8]) -> Self {
        let mut builder = ReaderBuilder::new();
        let builder = builder.has_headers(false).flexible(true).trim(Trim::All);
        let unclosed = unclosed_quote(text).and_then(|at| at.try_into().ok());
        Self { reader: builder.from_reader(text), lines: Lines::new(text), unclosed }
    }

    /// The next row; it is wrong, and the last, where a quote in it is not closed.
    fn read(&mut self, record: &mut ByteRecord) -> Option<Result<Line<'a>, WrongLine>> {
        let more = self.reader.read_byte_record(record);
        let more = more.expect("invariant: rows of any length are taken, and memory does not fail");
        if !more {
            return None;
        }
        let line = self.lines.at(record.position().map_or(0, Position::byte));
        match self.unclosed.filter(|&at| at < self.reader.position().byte()) {
            Some(at) => Some(Err(self.lines.of(at).wrong(None, Fault::Quote))),
            None => Some(Ok(line)),
        }
    }
}

/// What has to be known of the lines before.
struct Reading<'a> {
    settings: &'a Settings,
    header: &'a Header,
    serials: HashMap<HardwareSerial, u64>,
    ids: HashMap<MinionId, u64>,
}

impl Reading<'_> {
    fn device(&mut self, line: &Line<'_>, record: &ByteRecord) -> Result<Device, Vec<WrongLine>> {
        let header = self.header;
        let (found, expected) = (record.len(), header.names.len());
        if found != expected {
            // A quote that another one closes lines later took commas along.
            let is_broken = |value: &[u8]| value.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
            let broken = record.iter().take(expected).position(is_broken);
            return Err(vec![match broken {
                Some(index) => line.wrong(Some(header.column(index)), Fault::Control),
                None => line.wrong(None, Fault::Values { found, expected }),
            }]);
        }
        let mut wrong = Vec::new();
        let mut keep = |index, fault| wrong.push(line.wrong(Some(header.column(index)), fault));

        let serial = self.serial(line, record).map_err(|fault| keep(header.serial, fault)).ok();
        let id = self.id(line, record, serial.as_ref()).unwrap_or_else(|fault| {
            keep(header.id.unwrap_or(header.serial), fault);
            None
        });
        let csr = match header.csr.map(|index| (index, cell(record, index))) {
            None | Some((_, Ok(""))) => None,
            Some((_, Ok(path))) => Some(PathBuf::from(path)),
            Some((index, Err(fault))) => {
                keep(index, fault);
                None
            }
        };
        let mut grains = BTreeMap::new();
        for (index, name) in &header.grains {
            match grain(record, *index) {
                Ok(None) => {}
                Ok(Some(value)) => drop(grains.insert(name.clone(), value)),
                Err(fault) => keep(*index, fault),
            }
        }
        match (serial, id) {
            (Some(serial), Some(id)) if wrong.is_empty() => {
                let row = Row { line: line.number, text: line.shown() };
                Ok(Device { row, serial, id, grains, csr })
            }
            _ => Err(wrong),
        }
    }

    fn serial(&mut self, line: &Line<'_>, record: &ByteRecord) -> Result<HardwareSerial, Fault> {
        let serial = cell(record, self.header.serial)?.parse()?;
        self.settings.check_serial(&serial)?;
        once(&mut self.serials, "serial number", serial, line)
    }

    /// The id given, else the template's; none where the serial number is to blame already.
    fn id(
        &mut self,
        line: &Line<'_>,
        record: &ByteRecord,
        serial: Option<&HardwareSerial>,
    ) -> Result<Option<MinionId>, Fault> {
        let given = self.header.id.map_or(Ok(""), |index| cell(record, index))?;
        let id = match (given, serial, &self.settings.id_template) {
            ("", _, None) => return Err(Fault::NoId),
            ("", None, Some(_)) => return Ok(None),
            ("", Some(serial), Some(template)) => template.id(serial)?,
            (given, _, _) => given.parse()?,
        };
        once(&mut self.ids, "id", id, line).map(Some)
    }
}

/// A value as text. Unseen characters in it are a quote that was not closed, or another encoding.
fn cell(record: &ByteRecord, index: usize) -> Result<&str, Fault> {
    let text = str::from_utf8(&record[index]).map_err(|_| Fault::Encoding)?;
    if text.chars().any(char::is_control) { Err(Fault::Control) } else { Ok(text) }
}

/// The value of a grain; none in an empty cell.
fn grain(record: &ByteRecord, index: usize) -> Result<Option<GrainValue>, Fault> {
    match cell(record, index)? {
        "" => Ok(None),
        value => value.parse().map(Some).map_err(|_: GrainValueError| Fault::Control),
    }
}

fn once<T: Clone + Eq + Hash + Display>(
    seen: &mut HashMap<T, u64>,
    what: &'static str,
    value: T,
    line: &Line<'_>,
) -> Result<T, Fault> {
    match seen.entry(value.clone()) {
        Entry::Occupied(earlier) => {
            Err(Fault::Repeated { what, value: value.to_string(), line: *earlier.get() })
        }
        Entry::Vacant(free) => {
            free.insert(line.number);
            Ok(value)
        }
    }
}

#[cfg(test)]
mod tests;
