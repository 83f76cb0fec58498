//! A list's first line, which names its columns.

use csv::ByteRecord;

use super::fault::{Column, Fault, WrongLine};
use super::lines::Line;
use super::{GrainName, cell};

/// Which column has what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) names: Vec<String>,
    pub(super) serial: usize,
    pub(super) id: Option<usize>,
    pub(super) csr: Option<usize>,
    pub(super) grains: Vec<(usize, GrainName)>,
}

impl Header {
    /// Reads it; a column `id` is needed where ids have no template.
    pub(super) fn read(
        line: &Line<'_>,
        record: &ByteRecord,
        has_template: bool,
    ) -> Result<Self, Vec<WrongLine>> {
        let (mut names, mut grains, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..record.len() {
            let text = cell(record, index);
            let name = text.as_ref().map_or("", |text| *text).to_owned();
            let fault = match text {
                Err(fault) => Some(fault),
                Ok(_) if names.contains(&name) => Some(Fault::Column { name: name.clone() }),
                Ok("serial" | "id" | "csr") => None,
                Ok(text) => match text.parse() {
                    Ok(grain) => {
                        grains.push((index, grain));
                        None
                    }
                    Err(error) => Some(Fault::Grain(error)),
                },
            };
            let column = Column { number: index + 1, name: name.clone() };
            wrong.extend(fault.map(|fault| line.wrong(Some(column), fault)));
            names.push(name);
        }
        if let [only] = names.as_slice()
            && let Some(separator) = only.chars().find(|c| matches!(c, ';' | '\t' | '|'))
        {
            return Err(vec![line.wrong(None, Fault::Separator { found: separator })]);
        }
        let find = |name: &str| names.iter().position(|column| column == name);
        let (serial, id, csr) = (find("serial"), find("id"), find("csr"));
        if id.is_none() && !has_template {
            wrong.insert(0, line.wrong(None, Fault::NoIds));
        }
        match serial {
            Some(serial) if wrong.is_empty() => Ok(Self { names, serial, id, csr, grains }),
            Some(_) => Err(wrong),
            None => {
                wrong.insert(0, line.wrong(None, Fault::NoSerials));
                Err(wrong)
            }
        }
    }

    pub(super) fn column(&self, index: usize) -> Column {
        Column { number: index + 1, name: self.names[index].clone() }
    }
}
