//! How a command ends that could not be carried out: what is wrong, what to do, and the exit status.

use std::{fmt, process::ExitCode};

use drover_proto::target::TargetError;

/// A command that was not carried out.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line is wrong, and clap says how. Also `--help` and `--version`.
    Usage(Box<clap::Error>),
    /// Anything else.
    Told(Box<Told>),
    /// Nobody reads the output any more.
    OutputClosed,
}

/// A failure in our words.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) message: String,
    pub(super) causes: Vec<String>,
    pub(super) hint: Option<String>,
    pub(super) status: u8,
}

impl Failure {
    /// Status 1: it was asked rightly, and failed.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Told(Box::new(Told { message: message.into(), status: 1, ..Told::default() }))
    }

    /// Status 2: the command line, an expression or a file is wrong.
    pub(super) fn wrong(message: impl Into<String>) -> Self {
        Self::Told(Box::new(Told { message: message.into(), status: 2, ..Told::default() }))
    }

    /// Status 3: there is no such thing.
    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self::Told(Box::new(Told { message: message.into(), status: 3, ..Told::default() }))
    }

    /// Status 2, with the place in the expression.
    pub(super) fn target(text: &str, error: &TargetError) -> Self {
        let mark = " ".repeat(error.position);
        let message = format!("{error}\n  {text}\n  {mark}^");
        Self::wrong(message).hint(&error.hint)
    }

    /// With what to do.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.hint = Some(hint.into());
        }
        self
    }

    /// With what led to it.
    pub(super) fn because(mut self, cause: impl fmt::Display) -> Self {
        if let Self::Told(told) = &mut self {
            told.causes.push(cause.to_string());
        }
        self
    }

    /// Writes it to standard error and gives the exit status.
    pub(super) fn report(&self) -> ExitCode {
        match self {
            Self::Usage(error) => {
                // Help goes to standard output and is a success; nothing is left to be done where that is closed.
                drop(error.print());
                u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
            }
            Self::Told(told) => {
                eprintln!("{told}");
                ExitCode::from(told.status)
            }
            Self::OutputClosed => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            write!(f, "\n  caused by: {cause}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}
