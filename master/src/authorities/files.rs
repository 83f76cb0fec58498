//! The authorities in `pki_dir`: `root-list.json` decides which roots count, and `root.crt` says the same to others;
//! `root-lists/` has every list that was followed, `root-list.next.json` one that waits; `previous/` the fleet CAs before
//! the one that issues. Every change is decided by one rename, and whatever follows from it is made good at the next start.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use drover_pki::{
    Authority, AuthorityKey, KeyDigest,
    authority::AuthorityError,
    certificate::Certificate,
    file::{self, Access, FileError},
    key::KeyError,
    key_file::{self, KeyFileError, Protection},
    pair::KeyPairFiles,
    passphrase::{PassphraseError, PassphraseSource},
    pem_text::encode_certificates,
    root_list::{RootListError, SignedRootList},
    rotation,
    verify::TrustAnchors,
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const LIST: &str = "root-list.json";
const WAITING: &str = "root-list.next.json";
const LISTS: &str = "root-lists";
const ROOTS: &str = "root.crt";
const PREVIOUS: &str = "previous";
const DROPPED: &str = "dropped-authorities.json";
const FLEET_CA: &str = "fleet-ca";

/// Why the authorities in `pki_dir` could not be read or changed.
#[derive(Debug, Error)]
pub enum FilesError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// No passphrase for a new key.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// No new key.
    #[error("make the key of a fleet CA")]
    NewKey(#[from] KeyError),
    /// No authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A list that was good when it was stored.
    #[error("read `{path}`")]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RootListError,
    },
    /// Nobody to trust.
    #[error("`{}` is missing: copy it from the `master` directory that `drover-enrol init-fleet` made", path.display())]
    NoRoot {
        /// Where it should be.
        path: PathBuf,
    },
    /// The key of the fleet CA lies in a token, where this does not make another.
    #[error("the fleet CA's key is in a token")]
    Token,
}

/// A fleet CA whose certificates are accepted no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dropped {
    pub(super) name: String,
    pub(super) key: KeyDigest,
    pub(super) at: jiff::Timestamp,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The lists that were followed, oldest first: the last one is in force.
    pub(super) fn lists(&self) -> Result<Vec<SignedRootList>, FilesError> {
        let Some(newest) = self.list(&self.path(LIST))? else { return Ok(Vec::new()) };
        let mut lists = Vec::new();
        for path in self.files_in(LISTS)? {
            match self.list(&path) {
                // One that was about to be followed is none yet.
                Ok(Some(list)) if list.list.number < newest.list.number => lists.push(list),
                Ok(_) => {}
                // Only who slept for long misses it.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "a former root list cannot be read");
                }
            }
        }
        lists.push(newest);
        Ok(lists)
    }

    /// The roots that count where there is no list.
    pub(super) fn roots(&self) -> Result<TrustAnchors, FilesError> {
        let path = self.path(ROOTS);
        match file::read_anchors(&path) {
            Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(FilesError::NoRoot { path })
            }
            read => Ok(read?),
        }
    }

    /// The list that waits until a root is dropped.
    pub(super) fn waiting(&self) -> Result<Option<SignedRootList>, FilesError> {
        self.list(&self.path(WAITING))
    }

    /// Keeps a list until a root is dropped.
    pub(super) fn wait(&self, signed: &SignedRootList) -> Result<(), FilesError> {
        Ok(file::replace(&self.path(WAITING), &signed.text, Access::Public)?)
    }

    /// Follows a list. The rename to `root-list.json` decides.
    pub(super) fn follow(&self, signed: &SignedRootList) -> Result<(), FilesError> {
        let kept = self.path(LISTS);
        file::create_private_directory(&kept)?;
        let path = kept.join(format!("{:06}.json", signed.list.number));
        file::replace(&path, &signed.text, Access::Public)?;
        file::replace(&self.path(LIST), &signed.text, Access::Public)?;
        self.finish_following(signed)
    }

    /// What follows from a list that was decided upon.
    pub(super) fn finish_following(&self, signed: &SignedRootList) -> Result<(), FilesError> {
        let text = encode_certificates(&signed.list.roots);
        let path = self.path(ROOTS);
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            file::replace(&path, text.as_bytes(), Access::Public)?;
        }
        let is_over = |waiting: SignedRootList| waiting.list.number <= signed.list.number;
        if self.waiting()?.is_some_and(is_over) {
            remove(&self.path(WAITING))?;
        }
        Ok(())
    }

    /// The fleet CA that issues; none where its key is not here.
    pub(super) fn fleet_ca(
        &self,
        passphrase: &PassphraseSource,
    ) -> Result<Option<Authority>, FilesError> {
        if !self.path("fleet-ca.key").exists() && !self.pair().staged_key().exists() {
            return Ok(None);
        }
        match key_file::read_authority(&self.directory, FLEET_CA, passphrase) {
            // A change was cut off after it was decided: the staged key is the one.
            Err(KeyFileError::Authority { .. } | KeyFileError::File(_))
                if self.pair().staged_key().exists() =>
            {
                let read = |path: &Path| match key_file::read_key(path, passphrase) {
                    Ok(key) => Ok((key.public().digest(), key)),
                    Err(KeyFileError::File(error)) => Err(error),
                    Err(other) => Err(FileError::Io {
                        attempted: "use the key",
                        path: path.to_owned(),
                        source: io::Error::other(other),
                    }),
                };
                let loaded = self.pair().load_with(read)?;
                let loaded =
                    loaded.map(|(mut chain, key)| Authority::new(chain.swap_remove(0), key));
                Ok(loaded.transpose()?)
            }
            other => Ok(Some(other?)),
        }
    }

    /// Puts another certificate of the fleet CA's key in the place of the one that is there.
    pub(super) fn replace_certificate(&self, der: &CertificateDer<'_>) -> Result<(), FilesError> {
        let text = encode_certificates(std::slice::from_ref(der));
        Ok(file::replace(self.pair().certificate(), text.as_bytes(), Access::Public)?)
    }

    /// Keys of the master that others than their owner may read, with their modes.
    pub(super) fn exposed_keys(&self) -> Vec<(PathBuf, u32)> {
        let names = ["fleet-ca.key", "fleet-ca.next.key", "master.key"];
        let previous = self.files_in(PREVIOUS).unwrap_or_default();
        let previous = previous.into_iter().filter(|path| path.extension() == Some("key".as_ref()));
        let paths = names.iter().map(|name| self.path(name)).chain(previous);
        let modes = paths.filter_map(|path| {
            let mode = fs::metadata(&path).ok()?.permissions().mode() & 0o777;
            Some((path, mode))
        });
        modes.filter(|(_, mode)| mode & 0o077 != 0).collect()
    }

    /// The certificate of the fleet CA whose key is not here or cannot be used, if there is one.
    pub(super) fn fleet_ca_certificate(&self) -> Option<Certificate> {
        certificate(&self.path(&format!("{FLEET_CA}.crt")))
    }

    /// A new fleet CA's key, protected as the present one is: the request for it, in PEM. Asked again, the key that is
    /// waiting stays.
    pub(super) fn request(&self, passphrase: &PassphraseSource) -> Result<String, FilesError> {
        let pair = self.pair();
        if !pair.staged_key().exists() {
            let key = drover_pki::PrivateKey::generate()?;
            let secret = match key_file::protection(&self.path("fleet-ca.key"))? {
                Protection::None => None,
                Protection::Passphrase => Some(passphrase.existing("the fleet CA's new key")?),
                Protection::Token => return Err(FilesError::Token),
            };
            let text = key_file::encode(&key, secret.as_ref())?;
            pair.stage_text(text.as_bytes())?;
        }
        Ok(self.staged(passphrase)?.to_csr("Drover fleet CA")?)
    }

    /// The key that waits for its certificate.
    pub(super) fn staged(&self, passphrase: &PassphraseSource) -> Result<AuthorityKey, FilesError> {
        Ok(key_file::read_key(self.pair().staged_key(), passphrase)?)
    }

    /// Whether a key waits for its certificate.
    pub(super) fn has_request(&self) -> bool {
        self.pair().staged_key().exists()
    }

    /// Makes the waiting key and its certificate the fleet CA; the present one is kept among the previous.
    pub(super) fn change_fleet_ca(
        &self,
        present: Option<&Authority>,
        der: &CertificateDer<'_>,
    ) -> Result<(), FilesError> {
        if let Some(present) = present {
            let directory = self.path(PREVIOUS);
            file::create_private_directory(&directory)?;
            let name = previous_name(present);
            for (end, access) in [("key", Access::Private), ("crt", Access::Public)] {
                let from = self.path(&format!("{FLEET_CA}.{end}"));
                file::copy(&from, &directory.join(format!("{name}.{end}")), access)?;
            }
        }
        Ok(self.pair().commit(std::slice::from_ref(der))?)
    }

    /// The fleet CAs before the one that issues; then the certificates of those whose keys cannot be used, which sign no
    /// revocation list any more.
    pub(super) fn previous(
        &self,
        present: Option<&KeyDigest>,
        passphrase: &PassphraseSource,
    ) -> Result<(Vec<Authority>, Vec<Certificate>), FilesError> {
        let (mut previous, mut unusable) = (Vec::new(), Vec::new());
        for path in self.files_in(PREVIOUS)? {
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
            let (Some(name), true) = (name, path.extension().is_some_and(|end| end == "crt"))
            else {
                continue;
            };
            match key_file::read_authority(&self.path(PREVIOUS), &name, passphrase) {
                // A change that was cut off before it was decided.
                Ok(authority) if Some(&authority.certificate().key) == present => {}
                Ok(authority) => previous.push(authority),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "a previous fleet CA cannot be used");
                    let certificate = certificate(&path);
                    unusable.extend(certificate.filter(|found| Some(&found.key) != present));
                }
            }
        }
        Ok((previous, unusable))
    }

    /// Forgets a previous fleet CA. That it was dropped is durable first.
    pub(super) fn drop_fleet_ca(
        &self,
        dropped: &[Dropped],
        authority: &Authority,
    ) -> Result<(), FilesError> {
        let text = serde_json::to_vec_pretty(dropped).expect("names have a JSON form");
        file::replace(&self.path(DROPPED), &text, Access::Public)?;
        let name = previous_name(authority);
        for end in ["key", "crt"] {
            remove(&self.path(PREVIOUS).join(format!("{name}.{end}")))?;
        }
        Ok(())
    }

    /// The fleet CAs that were dropped.
    pub(super) fn dropped(&self) -> Result<Vec<Dropped>, FilesError> {
        let path = self.path(DROPPED);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let damaged = |error: serde_json::Error| FileError::Io {
            attempted: "read",
            path: path.clone(),
            source: error.into(),
        };
        Ok(serde_json::from_slice(&file::read(&path)?).map_err(damaged)?)
    }

    fn pair(&self) -> KeyPairFiles {
        KeyPairFiles::new(&self.directory, FLEET_CA)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn list(&self, path: &Path) -> Result<Option<SignedRootList>, FilesError> {
        if !path.exists() {
            return Ok(None);
        }
        let read = SignedRootList::read(&file::read(path)?);
        read.map(Some).map_err(|source| FilesError::List { path: path.to_owned(), source })
    }

    /// By name; none where there is no directory.
    fn files_in(&self, name: &str) -> Result<Vec<PathBuf>, FilesError> {
        let directory = self.path(name);
        let failed = |source| FileError::Io { attempted: "read", path: directory.clone(), source };
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            // What a cut left of a file that was being written begins with a dot.
            if path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

fn certificate(path: &Path) -> Option<Certificate> {
    let chain = file::read_certificates(path).ok()?;
    Certificate::read(chain.first()?).ok()
}

/// One name for each key.
fn previous_name(authority: &Authority) -> String {
    let key = authority.certificate().key.to_string();
    format!("{}-{}", rotation::name_of(authority.certificate()), &key[..16])
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::Io { attempted: "remove", path: path.to_owned(), source: error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
