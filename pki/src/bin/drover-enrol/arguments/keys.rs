//! The options that say how authorities' keys are opened and kept, alike in every verb.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use drover_pki::new_key::NewKey;
use drover_pki::passphrase::{PassphraseArguments, PassphraseSource};
use drover_pki::token::TokenUri;

use crate::failure::Failure;

/// How new keys are protected. Without an option a terminal is asked; without a terminal they are
/// not encrypted.
#[derive(Debug, Args)]
pub(crate) struct NewPassphrase {
    #[command(flatten)]
    given: PassphraseArguments,
    /// Do not encrypt new keys, and do not ask
    #[arg(long, conflicts_with_all = ["passphrase_fd", "passphrase_file"])]
    no_passphrase: bool,
}

impl NewPassphrase {
    /// What opens keys and tokens that are there, and what encrypts new ones.
    pub(crate) fn sources(&self) -> Passphrases {
        let new = self.no_passphrase.then(PassphraseSource::nowhere);
        Passphrases { existing: self.given.source(), new }
    }
}

/// The passphrases of one run: those of keys that are there, and those of new ones.
#[derive(Debug)]
pub(crate) struct Passphrases {
    pub(crate) existing: PassphraseSource,
    new: Option<PassphraseSource>,
}

impl Passphrases {
    /// One for both.
    pub(crate) fn of(source: PassphraseSource) -> Self {
        Self { existing: source, new: None }
    }

    /// Where a new key is to be kept: in the token that a URI names, else in a file.
    pub(crate) fn new_key<'a>(&'a self, uri: Option<&'a TokenUri>) -> NewKey<'a> {
        match uri {
            Some(uri) => NewKey::Token(uri, &self.existing),
            None => NewKey::File(self.new.as_ref().unwrap_or(&self.existing)),
        }
    }
}

/// The root's own passphrase.
#[derive(Debug, Args)]
pub(crate) struct RootPassphrase {
    /// Read the root's passphrase or PIN from file descriptor N, where it is another one
    #[arg(long, value_name = "N", conflicts_with = "root_passphrase_file")]
    root_passphrase_fd: Option<u32>,
    /// Read the root's passphrase or PIN from FILE, where it is another one
    #[arg(long, value_name = "FILE")]
    root_passphrase_file: Option<PathBuf>,
}

impl RootPassphrase {
    /// What the options say, if one was given.
    pub(crate) fn source(&self) -> Option<PassphraseSource> {
        let file = || self.root_passphrase_file.as_ref().map(PassphraseSource::file);
        self.root_passphrase_fd.map(PassphraseSource::descriptor).or_else(file)
    }

    /// Says so where the root's key did not open, and was given no passphrase of its own.
    pub(crate) fn told(&self, failure: Failure, awaits_passphrase: bool) -> Failure {
        let is_given = self.root_passphrase_fd.is_some() || self.root_passphrase_file.is_some();
        if awaits_passphrase && !is_given { failure.of_roots_passphrase() } else { failure }
    }
}

/// A `pkcs11:` URI as it was typed. Not parsed by clap, which repeats what it does not take: a PIN
/// should not be repeated.
#[derive(Debug, Clone)]
pub(crate) struct KeyUri(String);

impl FromStr for KeyUri {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl KeyUri {
    /// The key that it names.
    pub(crate) fn parse(&self, option: &str) -> Result<TokenUri, Failure> {
        self.0.parse().map_err(|error| Failure::key_uri(option, error))
    }
}
