//! Line numbers as an editor shows them: a CSV reader leaves blank lines out, and counts otherwise.

use super::fault::{Column, Fault, WrongLine};

/// As much of a wrong line as is shown.
const SHOWN: usize = 120;

/// A line of the text, and what follows it.
pub(super) struct Line<'a> {
    pub(super) number: u64,
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    pub(super) fn first(text: &'a [u8]) -> Self {
        Self { number: 1, rest: text }
    }

    pub(super) fn wrong(&self, column: Option<Column>, fault: Fault) -> WrongLine {
        WrongLine { line: self.number, column, fault, text: self.shown() }
    }

    pub(super) fn shown(&self) -> String {
        let end = self.rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let line = &self.rest[..end.unwrap_or(self.rest.len())];
        let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]);
        // Quotes are a list's own, and shown as they are.
        let mut text = String::with_capacity(shown.len());
        for c in shown.chars() {
            if matches!(c, '"' | '\'') { text.push(c) } else { text.extend(c.escape_debug()) }
        }
        if line.len() > SHOWN {
            text.push('…');
        }
        text
    }
}

/// Finds the lines that rows begin on, which come in their order.
pub(super) struct Lines<'a> {
    text: &'a [u8],
    number: u64,
    counted: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, number: 1, counted: 0 }
    }

    /// The line of the row whose reading began at this byte, which may lie before blank lines.
    pub(super) fn at(&mut self, byte: u64) -> Line<'a> {
        let begun = usize::try_from(byte).unwrap_or(usize::MAX).min(self.text.len());
        let blank = self.text[begun..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let start = begun + blank.count();
        self.number += breaks(&self.text[self.counted..start]);
        self.counted = start;
        Line { number: self.number, rest: &self.text[start..] }
    }
}

/// How many lines end in a text: in LF, in CRLF, or in CR alone, as some spreadsheets still write it.
fn breaks(text: &[u8]) -> u64 {
    let ends = text.iter().zip(text.iter().skip(1).map(Some).chain([None]));
    let ends = ends.filter(|(byte, next)| match byte {
        b'\n' => true,
        b'\r' => *next != Some(&b'\n'),
        _ => false,
    });
    ends.fold(0, |count, _| count + 1)
}
