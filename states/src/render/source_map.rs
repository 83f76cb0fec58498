//! Rendered text with the way back: a YAML error is in the rendered text, and the operator wants the
//! line of the template.

use std::ops::Range;

use minijinja::OutputSpan;

/// What a template became.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// The text.
    pub(crate) text: String,
    path: String,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    output: Range<usize>,
    file: Option<String>,
    line: usize,
    raw: bool,
}

impl Rendered {
    pub(super) fn new(path: &str, source: &str, text: String, spans: Vec<OutputSpan>) -> Self {
        // A template that renders to itself needs no map.
        if text == source {
            return Self::verbatim(path, &text);
        }
        let pieces = spans
            .into_iter()
            .map(|span| Piece {
                output: span.output_range(),
                file: Some(span.name()).filter(|name| *name != path).map(str::to_owned),
                line: span.line(),
                raw: span.kind() == minijinja::OutputSpanKind::Raw,
            })
            .collect();
        Self { text, path: path.to_owned(), pieces }
    }

    pub(super) fn verbatim(path: &str, text: &str) -> Self {
        let whole = Piece { output: 0..text.len(), file: None, line: 1, raw: true };
        Self { text: text.to_owned(), path: path.to_owned(), pieces: vec![whole] }
    }

    /// The file and line of the template that made a line of the rendered text, both from 1.
    pub(crate) fn source(&self, rendered_line: usize) -> (&str, usize) {
        let start = self.offset(rendered_line);
        let end = start + self.text[start..].find('\n').unwrap_or(self.text.len() - start);
        // The first thing on the line that is not blank says where the line came from.
        let blank = self.text[start..end].len() - self.text[start..end].trim_start().len();
        let at = (start + blank).min(end);
        let index = self.pieces.partition_point(|piece| piece.output.end <= at);
        let Some(piece) = self.pieces.get(index).or(self.pieces.last()) else {
            return (&self.path, rendered_line);
        };
        let before = &self.text[piece.output.start.min(at)..at];
        let lines = if piece.raw { before.matches('\n').count() } else { 0 };
        (piece.file.as_deref().unwrap_or(&self.path), piece.line + lines)
    }

    fn offset(&self, line: usize) -> usize {
        if line <= 1 {
            return 0;
        }
        self.text.match_indices('\n').nth(line - 2).map_or(self.text.len(), |(at, _)| at + 1)
    }
}
