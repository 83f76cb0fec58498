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

    /// The line that a byte of the last row stands on.
    pub(super) fn of(&self, byte: u64) -> Line<'a> {
        let at = usize::try_from(byte).unwrap_or(usize::MAX).clamp(self.counted, self.text.len());
        let between = &self.text[self.counted..at];
        let start = between.iter().rposition(|byte| matches!(byte, b'\r' | b'\n'));
        let start = start.map_or(self.counted, |end| self.counted + end + 1);
        Line { number: self.number + breaks(between), rest: &self.text[start..] }
    }
}

/// Where a quote stands that is open when the text ends (RFC 4180 §2.5 to 2.7). Two within quotes are
/// one of the value's own.
pub(super) fn unclosed_quote(text: &[u8]) -> Option<usize> {
    let (mut open, mut closed) = (None, None);
    let mut is_start = true;
    // A byte order mark is not a part of the first value.
    let mark = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    for (at, &byte) in text.iter().enumerate().skip(mark) {
        match (byte, open, closed.take()) {
            (b'"', Some(start), _) => (open, closed) = (None, Some(start)),
            (_, Some(_), _) => {}
            (b'"', None, Some(start)) => open = Some(start),
            (b'"', None, None) if is_start => open = Some(at),
            (_, None, _) => is_start = matches!(byte, b',' | b'\r' | b'\n'),
        }
    }
    open
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
