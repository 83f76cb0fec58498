//! How a verb ends that did not succeed: the error with its causes, a hint, and the exit status.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use drover_pki::file::FileError;
use drover_pki::fleet::FleetError;
use drover_pki::key_file::KeyFileError;
use drover_pki::ledger::LedgerError;
use drover_pki::new_station::NewStationError;
use drover_pki::passphrase::PassphraseError;
use drover_pki::safe::{FollowError, SafeError};
use drover_pki::station::StationError;
use drover_pki::token::TokenUriError;

const REFUSED: u8 = 1;
const WRONG: u8 = 2;

/// A verb that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<dyn Error>,
    hint: Option<String>,
    pub(crate) status: u8,
}

impl Failure {
    /// The command line is wrong.
    pub(crate) fn usage(message: String) -> Self {
        Self { error: message.into(), hint: None, status: WRONG }
    }

    /// A file that was named is wrong.
    pub(crate) fn file(path: &Path, error: impl Error + 'static) -> Self {
        let error = Box::new(InFile { path: path.display().to_string(), source: Box::new(error) });
        let hint = "see what it is with `drover-enrol show`".to_owned();
        Self { error, hint: Some(hint), status: WRONG }
    }

    /// The fleet's root is not where it was looked for.
    pub(crate) fn root(error: FileError) -> Self {
        let hint = "name the fleet's root.crt with --root".to_owned();
        Self { hint: Some(hint), ..error.into() }
    }

    /// A URI does not name a key. It is not repeated: it could hold a PIN.
    pub(crate) fn key_uri(option: &str, error: TokenUriError) -> Self {
        let hint = error.hint().map(str::to_owned);
        let error = Box::new(InOption { option: option.to_owned(), source: error });
        Self { error, hint, status: WRONG }
    }

    /// The key is not in its file.
    pub(crate) fn in_token(path: &Path) -> Self {
        let error = format!("the key that `{}` names is in a token", path.display()).into();
        let hint = "change the token's PIN with its own tools, such as `pkcs11-tool --change-pin`";
        Self { error, hint: Some(hint.to_owned()), status: REFUSED }
    }

    /// What was asked about is not so.
    pub(crate) fn refused(message: String) -> Self {
        Self { error: message.into(), hint: None, status: REFUSED }
    }

    /// Standard output is closed, or the disk behind it full.
    pub(crate) fn output(error: io::Error) -> Self {
        let error = format!("could not write the output: {error}").into();
        Self { error, hint: None, status: REFUSED }
    }
}

/// A file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` cannot be used")]
struct InFile {
    path: String,
    source: Box<dyn Error>,
}

/// An option, and what is wrong with its value.
#[derive(Debug, thiserror::Error)]
#[error("`{option}` names no key of a token")]
struct InOption {
    option: String,
    source: TokenUriError,
}

impl From<NewStationError> for Failure {
    fn from(error: NewStationError) -> Self {
        let wrong = matches!(
            error,
            NewStationError::File(_)
                | NewStationError::Fleet(FleetError::File(_))
                | NewStationError::NotRequested { .. }
                | NewStationError::Request(_)
                | NewStationError::Certificates(_)
                | NewStationError::Root(_)
                | NewStationError::Count(_)
        );
        let status = if wrong { WRONG } else { REFUSED };
        Self { hint: error.hint(), error: Box::new(error), status }
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        let status = if matches!(error, KeyFileError::File(_)) { WRONG } else { REFUSED };
        Self { hint: error.hint().map(str::to_owned), error: Box::new(error), status }
    }
}

impl From<PassphraseError> for Failure {
    fn from(error: PassphraseError) -> Self {
        let hint = error.hint().map(str::to_owned);
        Self { hint, error: Box::new(error), status: REFUSED }
    }
}

impl From<FleetError> for Failure {
    fn from(error: FleetError) -> Self {
        let status = if matches!(error, FleetError::File(_)) { WRONG } else { REFUSED };
        Self { hint: error.hint(), error: Box::new(error), status }
    }
}

impl From<SafeError> for Failure {
    fn from(error: SafeError) -> Self {
        let wrong = matches!(
            error,
            SafeError::File(_) | SafeError::NoSuchRoot { .. } | SafeError::NoSuchAuthority { .. }
        );
        Self {
            hint: error.hint(),
            error: Box::new(error),
            status: if wrong { WRONG } else { REFUSED },
        }
    }
}

impl From<FollowError> for Failure {
    fn from(error: FollowError) -> Self {
        let status = if matches!(error, FollowError::File(_)) { WRONG } else { REFUSED };
        Self { hint: error.hint().map(str::to_owned), error: Box::new(error), status }
    }
}

impl From<StationError> for Failure {
    fn from(error: StationError) -> Self {
        let wrong = matches!(
            error,
            StationError::Directory { .. }
                | StationError::Ledger(LedgerError::File(_) | LedgerError::Missing { .. })
        );
        let hint = error.hint();
        Self { hint, error: Box::new(error), status: if wrong { WRONG } else { REFUSED } }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self { error: Box::new(error), hint: None, status: WRONG }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.error)?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            writeln!(f, "  caused by: {error}")?;
            cause = error.source();
        }
        match &self.hint {
            Some(hint) => writeln!(f, "hint: {hint}"),
            None => Ok(()),
        }
    }
}
