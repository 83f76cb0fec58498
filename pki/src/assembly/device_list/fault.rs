//! What can be wrong with a list of devices, and where.

use std::fmt;

use crate::assembly::grain::GrainNameError;
use crate::assembly::id_template::NoId;
use crate::assembly::serial_pattern::UnfitSerial;
use crate::name::NameError;

/// Everything that is wrong with a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the list has {}", count(wrong))]
pub struct DeviceListError {
    /// The wrong lines, in order; a line may be wrong more than once.
    pub wrong: Vec<WrongLine>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongLine {
    /// Its number, from 1.
    pub line: u64,
    /// Where in the line; none if it is the whole.
    pub column: Option<Column>,
    /// What is wrong.
    pub fault: Fault,
    /// The line, as far as it is shown; empty where it says nothing more.
    pub text: String,
}

/// A column of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its number, from 1.
    pub number: usize,
    /// What the header calls it.
    pub name: String,
}

/// What is wrong with a value, a row or a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No line at all.
    #[error("the file is empty, its first line is a header such as `serial,id,site`")]
    Empty,
    /// Another encoding, such as Latin-1 or UTF-16.
    #[error("the text is not UTF-8: save the file as `CSV UTF-8`")]
    Encoding,
    /// A line break or another character that is not seen.
    #[error("the value has a line break or a control character: is a quote `\"` not closed?")]
    Control,
    /// What follows it is taken for one value.
    #[error("a quote `\"` is opened here and not closed")]
    Quote,
    /// Semicolons, as spreadsheets write them in some countries.
    #[error("columns are separated by a comma, not by `{}`", found.escape_debug())]
    Separator {
        /// What was found.
        found: char,
    },
    /// The column that everything hangs on.
    #[error("the header has no column `serial`")]
    NoSerials,
    /// No ids, and nothing that they could be made from.
    #[error("the header has no column `id`, and the station has no template for ids")]
    NoIds,
    /// Two columns of one name.
    #[error("the header has the column `{name}` twice")]
    Column {
        /// The name.
        name: String,
    },
    /// A column that is neither known nor a grain.
    #[error(transparent)]
    Grain(#[from] GrainNameError),
    /// A row that is too short or too long.
    #[error("the row has {found} values, the header has {expected}")]
    Values {
        /// How many it has.
        found: usize,
        /// How many columns there are.
        expected: usize,
    },
    /// Not a serial number, or not an id.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A serial number that no device of the station has.
    #[error(transparent)]
    Pattern(#[from] UnfitSerial),
    /// No id can be made from the serial number.
    #[error(transparent)]
    Template(#[from] NoId),
    /// No id was given, and there is nothing that it could be made from.
    #[error("the id is empty, and the station has no template for ids")]
    NoId,
    /// The list has it twice.
    #[error("the {what} `{value}` stands on line {line} already")]
    Repeated {
        /// `serial number` or `id`.
        what: &'static str,
        /// The value.
        value: String,
        /// Where it was first.
        line: u64,
    },
    /// The row is good in itself, and cannot be issued: what the ledger or a directory has against it.
    #[error("{0}")]
    Conflict(String),
}

impl fmt::Display for WrongLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = &self.column {
            write!(f, ", column {} (`{}`)", column.number, column.name.escape_debug())?;
        }
        write!(f, ": {}", self.fault)
    }
}

fn count(wrong: &[WrongLine]) -> String {
    let mut lines: Vec<_> = wrong.iter().map(|wrong| wrong.line).collect();
    lines.dedup();
    match lines.len() {
        1 => "a wrong line".to_owned(),
        several => format!("{several} wrong lines"),
    }
}
