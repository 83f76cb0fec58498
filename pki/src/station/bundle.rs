//! A device's bundle: the directory that becomes its `/etc/drover`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;

use super::KeySource;
use crate::file::{self, Access, FileError};
use crate::key::PrivateKey;
use crate::ledger::IssuedLine;
use crate::name::{HardwareSerial, MinionId};
use crate::pem_text::encode_certificates;

/// Where a minion looks for its master when the station was not told.
pub(super) const DEFAULT_MASTER: &str = "127.0.0.1:4510";

pub(super) struct Bundle {
    configuration: PathBuf,
    pki: PathBuf,
}

impl Bundle {
    pub(super) fn new(out: &Path) -> Self {
        Self { configuration: out.join("minion.yml"), pki: out.join("pki") }
    }

    /// An identity that is there already.
    pub(super) fn occupied(&self) -> Option<PathBuf> {
        ["idevid.crt", "idevid.key", "ldevid.crt", "ldevid.key", "root.crt"]
            .map(|name| self.pki.join(name))
            .into_iter()
            .find(|path| path.exists())
    }

    /// Whether this is the unfinished bundle of a certificate that the ledger has: it is for the
    /// same device and the same key, and only the certificate is missing.
    pub(super) fn awaits(
        &self,
        line: &IssuedLine,
        id: &MinionId,
        serial: &HardwareSerial,
        key: &KeySource,
    ) -> bool {
        let entry = &line.entry;
        if entry.id != *id || entry.serial != *serial || self.certificate().exists() {
            return false;
        }
        match key {
            KeySource::Device(key) => entry.key == key.digest(),
            KeySource::Station => {
                file::read_key(&self.key()).is_ok_and(|key| key.public().digest() == entry.key)
            }
        }
    }

    /// Makes the directory, and puts the key into it that the station made.
    pub(super) fn create(&self, key: Option<&PrivateKey>) -> Result<(), FileError> {
        file::create_private_directory(&self.pki)?;
        match key {
            Some(key) => file::create(&self.key(), key.to_pem().as_bytes(), Access::Private),
            None => Ok(()),
        }
    }

    /// Writes the rest, the certificate last. Tells whether it wrote a configuration.
    pub(super) fn write(
        &self,
        chain: &[CertificateDer<'_>],
        roots: &[CertificateDer<'_>],
        masters: &[String],
    ) -> Result<bool, FileError> {
        file::create_private_directory(&self.pki)?;
        let roots = encode_certificates(roots);
        file::replace(&self.pki.join("root.crt"), roots.as_bytes(), Access::Public)?;
        let text = configuration(masters);
        let wrote = match file::create(&self.configuration, text.as_bytes(), Access::Public) {
            Ok(()) => true,
            Err(FileError::Exists { .. }) => false,
            Err(error) => return Err(error),
        };
        let chain = encode_certificates(chain);
        file::create(&self.certificate(), chain.as_bytes(), Access::Public)?;
        if self.key().exists() {
            // Read back: a card that forgets what was written shows it here, not up a pole.
            file::Identity::load(&self.certificate(), &self.key())?;
        }
        Ok(wrote)
    }

    fn key(&self) -> PathBuf {
        self.pki.join("idevid.key")
    }

    fn certificate(&self) -> PathBuf {
        self.pki.join("idevid.crt")
    }
}

/// A `minion.yml` that a minion starts with. The addresses were checked to need no escaping.
fn configuration(masters: &[String]) -> String {
    let mut text =
        String::from("# Written by drover-enrol. The minion's id is its certificate's.\n");
    let written = match masters {
        [] => writeln!(text, "master: '{DEFAULT_MASTER}'"),
        [one] => writeln!(text, "master: '{one}'"),
        several => writeln!(text, "master: ['{}']", several.join("', '")),
    };
    debug_assert!(written.is_ok(), "a String takes everything");
    text.push_str(
        "# Relative to this file's directory.\npki_dir: pki\ndata_dir: data\nrun_dir: run\n",
    );
    text
}
