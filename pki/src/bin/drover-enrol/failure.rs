//! How a verb ends that did not succeed: the error with its causes, a hint, and the exit status.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use drover_pki::assembly::{NoId, SettingsError, UnfitSerial, WrongLine};
use drover_pki::file::FileError;
use drover_pki::fleet::FleetError;
use drover_pki::key_file::KeyFileError;
use drover_pki::ledger::LedgerError;
use drover_pki::new_station::NewStationError;
use drover_pki::passphrase::PassphraseError;
use drover_pki::safe::{FollowError, SafeError};
use drover_pki::station::StationError;
use drover_pki::token::TokenUriError;
use drover_pki::{HardwareSerial, MinionId};

use crate::line::NoPlace;
use crate::show;

const REFUSED: u8 = 1;
const WRONG: u8 = 2;
/// As `drover` ends where nothing matched.
const NOTHING: u8 = 3;

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

    /// A file of none of the kinds that are shown. Who asks what it is must not be sent to ask what it is.
    pub(crate) fn not_shown(self) -> Self {
        let kinds = "certificates, signing requests, manifests and root lists are shown".to_owned();
        Self { hint: Some(kinds), ..self }
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

    /// The root's key does not open with what opens or encrypts the other key.
    pub(crate) fn of_roots_passphrase(self) -> Self {
        let hint = "this is the root's key: where it has a passphrase or a PIN of its own, give that with \
                    --root-passphrase-file FILE or --root-passphrase-fd N";
        Self { hint: Some(hint.to_owned()), ..self }
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

    /// A list of devices has wrong lines, each of which is told.
    pub(crate) fn device_list(path: &Path, wrong: &[WrongLine]) -> Self {
        let mut lines: Vec<_> = wrong.iter().map(|wrong| wrong.line).collect();
        lines.dedup();
        let count = if lines.len() == 1 { "a wrong line" } else { "wrong lines" };
        let mut message = format!("`{}` has {count}, and nothing was issued", path.display());
        for wrong in wrong {
            message.push_str(&format!("\n  {wrong}"));
            if !wrong.text.is_empty() {
                message.push_str(&format!("\n      {}", wrong.text));
            }
        }
        let hint = "put the list right and run the command again".to_owned();
        Self { error: message.into(), hint: Some(hint), status: WRONG }
    }

    /// There is nowhere to write bundles to.
    pub(crate) fn no_place(error: NoPlace) -> Self {
        let hint = Some(error.hint().to_owned());
        Self { error: Box::new(error), hint, status: WRONG }
    }

    /// The station makes no ids, and was asked to.
    pub(crate) fn no_template(station: &Path) -> Self {
        let message = format!("the station in `{}` has no template for ids", station.display());
        let hint = "add `\"id_template\": \"rfid-{serial}\"` to its station.json, or give it with \
                    `init-station --id-template`";
        Self { error: message.into(), hint: Some(hint.to_owned()), status: WRONG }
    }

    /// A device was given no id, and the station makes none.
    pub(crate) fn no_id(station: &Path) -> Self {
        let station = station.display();
        let message = format!("no --id was given, and the station in `{station}` has no template");
        let hint = "give --id, or add `\"id_template\": \"rfid-{serial}\"` to its station.json";
        Self { error: message.into(), hint: Some(hint.to_owned()), status: WRONG }
    }

    /// A serial number that no device of the station has.
    pub(crate) fn not_of_pattern(error: UnfitSerial) -> Self {
        let hint = "is it the right barcode? if it is, change `serial_pattern` in the station's station.json";
        Self { error: Box::new(error), hint: Some(hint.to_owned()), status: WRONG }
    }

    /// The station's template makes no id from a serial number.
    pub(crate) fn unfit_serial(error: NoId) -> Self {
        let hint = "is it the right serial number? if it is, give --id".to_owned();
        Self { error: Box::new(error), hint: Some(hint), status: WRONG }
    }

    /// The system does not tell of Ctrl-C.
    pub(crate) fn signals(error: io::Error) -> Self {
        let error = format!("could not wait for signals: {error}").into();
        Self { error, hint: None, status: REFUSED }
    }

    /// Standard input cannot be read.
    pub(crate) fn input(error: io::Error) -> Self {
        let error = format!("could not read the input: {error}").into();
        Self { error, hint: None, status: REFUSED }
    }

    /// A list was stopped before its end.
    pub(crate) fn stopped(remaining: usize) -> Self {
        let message = format!("stopped: {} of the list remain", show::devices(remaining));
        let hint = "run the same command again: what is done is skipped".to_owned();
        Self { error: message.into(), hint: Some(hint), status: REFUSED }
    }

    /// What it was about: a row of a list, where a list is worked through.
    pub(crate) fn at(self, what: &str) -> Self {
        let error = Box::new(At { what: what.to_owned(), source: self.error });
        Self { error, ..self }
    }

    /// With how much of the list is left, and how to go on.
    pub(crate) fn during_batch(self, remaining: usize) -> Self {
        let again = format!(
            "{} of the list remain; when that is put right, run the same command again: what is done \
             is skipped",
            show::devices(remaining)
        );
        let hint = self.hint.map_or(again.clone(), |hint| format!("{hint}\nhint: {again}"));
        Self { hint: Some(hint), ..self }
    }

    /// The ledger has no line about a device.
    pub(crate) fn not_in_ledger(
        station: &Path,
        id: Option<&MinionId>,
        serial: Option<&HardwareSerial>,
    ) -> Self {
        let id = id.map(|id| format!("the id `{id}`"));
        let serial = serial.map(|serial| format!("the serial number `{serial}`"));
        let asked: Vec<_> = id.into_iter().chain(serial).collect();
        let (station, asked) = (station.display(), asked.join(" with "));
        let error = format!("the ledger in `{station}` has no line about {asked}").into();
        let hint = "check the label; without --id and --serial all lines are shown".to_owned();
        Self { error, hint: Some(hint), status: NOTHING }
    }

    /// Somebody or something was at the station's ledger.
    pub(crate) fn broken_ledger(path: &Path) -> Self {
        let error = LedgerError::Broken { path: path.to_owned(), findings: Vec::new() };
        let hint = error.hint().map(str::to_owned);
        Self { hint, ..Self::refused(format!("`{}` does not verify", path.display())) }
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

/// Where in a list, and what happened.
#[derive(Debug, thiserror::Error)]
#[error("{what} was not issued")]
struct At {
    what: String,
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
            StationError::Directory { .. } | StationError::Ledger(LedgerError::File(_))
        );
        let hint = error.hint();
        Self { hint, error: Box::new(error), status: if wrong { WRONG } else { REFUSED } }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let hint = "docs/enrolment.md says what it may hold".to_owned();
        Self { error: Box::new(error), hint: Some(hint), status: WRONG }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self { hint: error.hint().map(str::to_owned), error: Box::new(error), status: WRONG }
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

/// An error and its causes on one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
