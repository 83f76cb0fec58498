//! A device's bundle: the directory that becomes its `/etc/drover`.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, UnixTime};

use super::{KeySource, StationError};
use crate::certificate::Certificate;
use crate::file::{self, Access, FileError};
use crate::fingerprint::KeyDigest;
use crate::key::PrivateKey;
use crate::manifest::ManifestEntry;
use crate::pem_text::encode_certificates;
use crate::verify::verify_minion;

/// Where a minion looks for its master when the station was not told.
pub(super) const DEFAULT_MASTER: &str = "127.0.0.1:4510";

pub(super) struct Bundle {
    configuration: PathBuf,
    pki: PathBuf,
}

/// What reading a bundle back showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadBack {
    /// Others than its owner may read the key: the file system keeps no modes.
    pub(super) key_is_exposed: bool,
}

impl Bundle {
    pub(super) fn new(out: &Path) -> Self {
        Self { configuration: out.join("minion.yml"), pki: out.join("pki") }
    }

    /// An identity that is there already, and is not the one with the key that is given up.
    pub(super) fn occupied(&self, replaces: Option<&KeyDigest>) -> Option<PathBuf> {
        let files: &[&str] = match replaces {
            Some(key) if self.certified_key().as_ref() == Some(key) => {
                &["ldevid.crt", "ldevid.key"]
            }
            Some(_) | None => &["idevid.crt", "idevid.key", "ldevid.crt", "ldevid.key", "root.crt"],
        };
        files.iter().map(|name| self.pki.join(name)).find(|path| path.exists())
    }

    /// The certificate of another device, where the rest of this one's bundle would go.
    pub(super) fn anothers(&self, entry: &ManifestEntry) -> Option<PathBuf> {
        let replaced = entry.reissue.as_ref().map(|reissue| reissue.replaces);
        let is_ours = |key| key == entry.key || replaced == Some(key);
        let path = self.certificate();
        (path.exists() && !self.certified_key().is_some_and(is_ours)).then_some(path)
    }

    /// Whether this is the unfinished bundle of a certificate that the ledger has: its key is here,
    /// or on the device, and it is only the certificate that is missing.
    pub(super) fn awaits(&self, entry: &ManifestEntry, key: &KeySource) -> bool {
        let replaced = entry.reissue.as_ref().map(|reissue| reissue.replaces);
        let free = |path: PathBuf, found: Option<KeyDigest>, ours: &[Option<KeyDigest>]| match found
        {
            None => !path.exists(),
            Some(_) => ours.contains(&found),
        };
        free(self.certificate(), self.certified_key(), &[replaced])
            && free(self.key(), key_in(&self.key()), &[replaced, Some(entry.key)])
            && match key {
                KeySource::Device(key) => entry.key == key.digest(),
                KeySource::Station => self.has_key(&entry.key),
            }
    }

    /// Whether the certificate is here.
    pub(super) fn holds(&self, key: &KeyDigest) -> bool {
        self.certified_key().as_ref() == Some(key)
    }

    /// Whether the private key is here.
    pub(super) fn has_key(&self, key: &KeyDigest) -> bool {
        [self.key(), self.next_key()].iter().any(|path| key_in(path).as_ref() == Some(key))
    }

    /// Makes the directory, and puts the key into it that the station made; under a name of its own
    /// until the ledger has its certificate, so that no device's key is ever written over.
    pub(super) fn create(&self, key: Option<&PrivateKey>) -> Result<(), FileError> {
        file::create_private_directory(&self.pki)?;
        self.sweep();
        match key {
            Some(key) => file::replace(&self.next_key(), key.to_pem().as_bytes(), Access::Private),
            None => Ok(()),
        }
    }

    /// Writes the rest, the certificate last. Tells whether it wrote a configuration.
    pub(super) fn write(
        &self,
        entry: &ManifestEntry,
        chain: &[CertificateDer<'_>],
        roots: &[CertificateDer<'_>],
        masters: &[String],
    ) -> Result<bool, FileError> {
        file::create_private_directory(&self.pki)?;
        if !self.holds(&entry.key) && self.certificate().exists() {
            // invariant: it is the one that this certificate takes the place of, see `occupied` and `anothers`.
            remove(&self.certificate())?;
        }
        let roots = encode_certificates(roots);
        file::replace(&self.pki.join("root.crt"), roots.as_bytes(), Access::Public)?;
        let text = configuration(masters);
        let wrote = match file::create(&self.configuration, text.as_bytes(), Access::Public) {
            Ok(()) => true,
            Err(FileError::Exists { .. }) => false,
            Err(error) => return Err(error),
        };
        if key_in(&self.next_key()).as_ref() == Some(&entry.key) {
            let attempt = std::fs::rename(self.next_key(), self.key());
            attempt.map_err(file::failed("write", &self.key()))?;
        } else if let Some(reissue) = &entry.reissue
            && key_in(&self.key()) == Some(reissue.replaces)
        {
            // The new key stays on the device, and nobody needs the one that is given up.
            remove(&self.key())?;
        }
        let chain = encode_certificates(chain);
        file::replace(&self.certificate(), chain.as_bytes(), Access::Public)?;
        self.sweep();
        Ok(wrote)
    }

    /// Reads back what was written: a card that forgets it shows that here, not up a pole.
    pub(super) fn read_back(
        &self,
        entry: &ManifestEntry,
        key_is_here: bool,
        now: UnixTime,
    ) -> Result<ReadBack, StationError> {
        let differs = |path: PathBuf| StationError::ReadBack { path };
        let anchors = file::read_anchors(&self.pki.join("root.crt"))?;
        let chain = file::read_certificates(&self.certificate())?;
        let verified = verify_minion(&anchors, &chain[0], &chain[1..], now);
        let verified = verified.map_err(StationError::Issued)?;
        if verified.fingerprint != entry.certificate || verified.id != entry.id {
            return Err(differs(self.certificate()));
        }
        if !key_is_here {
            return Ok(ReadBack { key_is_exposed: false });
        }
        file::Identity::load(&self.certificate(), &self.key())?;
        let mode = std::fs::metadata(self.key()).map_err(file::failed("read", &self.key()))?;
        Ok(ReadBack { key_is_exposed: mode.permissions().mode() & 0o077 != 0 })
    }

    /// Takes away what a killed run was just writing. Nobody else writes here: this station has its
    /// ledger's lock, and a bundle has one station.
    fn sweep(&self) {
        let out = self.configuration.parent().unwrap_or(Path::new("."));
        file::sweep(&self.pki);
        file::sweep(out);
    }

    fn certified_key(&self) -> Option<KeyDigest> {
        let chain = file::read_certificates(&self.certificate()).ok()?;
        Certificate::read(&chain[0]).ok().map(|certificate| certificate.key)
    }

    fn key(&self) -> PathBuf {
        self.pki.join("idevid.key")
    }

    fn next_key(&self) -> PathBuf {
        self.pki.join("idevid.next.key")
    }

    fn certificate(&self) -> PathBuf {
        self.pki.join("idevid.crt")
    }
}

fn key_in(path: &Path) -> Option<KeyDigest> {
    file::read_key(path).ok().map(|key| key.public().digest())
}

fn remove(path: &Path) -> Result<(), FileError> {
    std::fs::remove_file(path).map_err(file::failed("replace", path))
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
    // No directories: the agent's defaults keep what it writes out of /etc/drover, and lie beside the file elsewhere.
    text
}
