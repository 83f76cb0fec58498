//! What is wrong in a user's file: where it is, the line itself, and what to do about it. Every
//! problem found while rendering and compiling is one of these.

use std::fmt;

/// One problem in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in Salt's words where it has some.
    pub message: String,
    /// The file, relative to its root, when known.
    pub file: Option<String>,
    /// The line, from 1; in the rendered text where it differs from the file's.
    pub line: Option<usize>,
    /// The column, from 1.
    pub column: Option<usize>,
    /// The line's text.
    pub shown: Option<Box<str>>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A problem that has no place yet.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            file: None,
            line: None,
            column: None,
            shown: None,
            hint: None,
        }
    }

    /// In this file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file.get_or_insert_with(|| file.into());
        self
    }

    /// At this line and column of `text`, both from 1; the line is shown.
    #[must_use]
    pub fn at(mut self, text: &str, line: usize, column: Option<usize>) -> Self {
        self.line = Some(line);
        self.column = column;
        self.shown = line
            .checked_sub(1)
            .and_then(|index| text.lines().nth(index))
            .map(|line| shorten(line).into());
        self
    }

    /// With advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With advice, if there is any.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }
}

/// A template may make lines of any length; an error shows the beginning.
fn shorten(line: &str) -> String {
    const SHOWN: usize = 160;
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(formatter, "{file}")?;
            if let Some(line) = self.line {
                write!(formatter, ":{line}")?;
                if let Some(column) = self.column {
                    write!(formatter, ":{column}")?;
                }
            }
            write!(formatter, ": ")?;
        } else if let Some(line) = self.line {
            write!(formatter, "line {line}: ")?;
        }
        write!(formatter, "{}", self.message)?;
        if let (Some(line), Some(shown)) = (self.line, &self.shown) {
            write!(formatter, "\n{line:>5} | {shown}")?;
        }
        if let Some(hint) = &self.hint {
            write!(formatter, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// Everything that keeps an SLS, a top file or a pillar from compiling. Nothing is run then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct CompileErrors(Vec<Diagnostic>);

impl CompileErrors {
    /// `None` when there is no problem.
    pub(crate) fn from_diagnostics(mut diagnostics: Vec<Diagnostic>) -> Option<Self> {
        // Found in several passes; read from the top of each file down.
        let mut files: Vec<Option<String>> = Vec::new();
        for diagnostic in &diagnostics {
            if !files.contains(&diagnostic.file) {
                files.push(diagnostic.file.clone());
            }
        }
        diagnostics.sort_by_key(|diagnostic| {
            (files.iter().position(|file| *file == diagnostic.file), diagnostic.line)
        });
        (!diagnostics.is_empty()).then_some(Self(diagnostics))
    }

    /// The problems, file by file and line by line.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0
    }

    /// Salt's return of a run that failed to compile: a list of texts.
    #[must_use]
    pub fn to_return(&self) -> serde_json::Value {
        self.0.iter().map(|diagnostic| serde_json::Value::String(diagnostic.to_string())).collect()
    }
}

impl From<Diagnostic> for CompileErrors {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl fmt::Display for CompileErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{diagnostic}")?;
        }
        Ok(())
    }
}
