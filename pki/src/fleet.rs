//! A fleet's directory: `root/`, which goes to a safe, and `master/`, ready to be the master's
//! `pki_dir`. Made once; later it makes stations and operators.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::authority::{Authority, AuthorityError, AuthorityKey};
use crate::file::{self, Access, FileError};
use crate::key::{KeyError, PrivateKey};
use crate::key_file::{self, KeyFileError};
use crate::name::{FleetName, MasterName, OperatorName, StationName};
use crate::passphrase::PassphraseSource;
use crate::pem_text::encode_certificates;

/// Why a fleet, a station or an operator could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// There is one already.
    #[error("there is {what} in `{}` already", path.display())]
    Exists {
        /// What is there.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A station's directory holds something else.
    #[error("the directory `{}` is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// An authority's key could not be read.
    #[error(transparent)]
    KeyFile(KeyFileError),
    /// An authority could not be used, or refused to issue.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl FleetError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { what: "a fleet", .. } => Some(
                "its devices trust that root: keep it, or name another directory with --dir".into(),
            ),
            Self::Exists { .. } => Some("keep it, or name another directory".into()),
            Self::NotEmpty { .. } => Some("name a directory of its own with --dir".into()),
            Self::File(FileError::Io { path, source, .. })
                if source.kind() == std::io::ErrorKind::NotFound
                    && (path.ends_with("root/root.crt") || path.ends_with("root/root.key")) =>
            {
                Some(
                    "bring the root from its safe, or make a fleet with `drover-enrol init-fleet`"
                        .into(),
                )
            }
            Self::KeyFile(error) => error.hint().map(str::to_owned),
            Self::File(_) | Self::Authority(_) | Self::Key(_) => None,
        }
    }
}

impl From<KeyFileError> for FleetError {
    fn from(error: KeyFileError) -> Self {
        match error {
            KeyFileError::File(error) => Self::File(error),
            other => Self::KeyFile(other),
        }
    }
}

/// A fleet's directory.
#[derive(Debug, Clone)]
pub struct FleetDirectory {
    path: PathBuf,
}

impl FleetDirectory {
    /// Makes a fleet: its root, its fleet CA, and a certificate for its first master.
    pub fn create(
        path: &Path,
        fleet: &FleetName,
        master: &MasterName,
        now: Timestamp,
    ) -> Result<Self, FleetError> {
        let directory = Self { path: path.to_owned() };
        for part in [directory.root_dir(), directory.master_dir()] {
            if part.exists() {
                return Err(FleetError::Exists { what: "a fleet", path: path.to_owned() });
            }
        }
        let root = Authority::create_root(fleet, now)?;
        let fleet_ca = root.create_fleet_ca(fleet, now)?;
        let master_key = PrivateKey::generate()?;
        let master = fleet_ca.issue_master(master, &master_key, now)?;

        // Both parts are written aside and take their names last, so a fleet is never half made.
        file::create_private_directory(path)?;
        let staged = tempfile::Builder::new().prefix(".drover-").tempdir_in(path);
        let staged = staged.map_err(file::failed("write in", path))?;
        let (root_dir, master_dir) = (staged.path().join("root"), staged.path().join("master"));
        file::create_private_directory(&root_dir)?;
        write_authority(&root_dir, "root", &root)?;
        file::create_private_directory(&master_dir)?;
        write_authority(&master_dir, "fleet-ca", &fleet_ca)?;
        write_certificates(&master_dir.join("root.crt"), &[root.der().clone()])?;
        write_key(&master_dir.join("master.key"), &master_key)?;
        write_certificates(&master_dir.join("master.crt"), &[master, fleet_ca.der().clone()])?;
        for (from, to) in [(master_dir, directory.master_dir()), (root_dir, directory.root_dir())] {
            std::fs::rename(from, &to).map_err(file::failed("make", &to))?;
        }
        file::sync_directory(path)?;
        Ok(directory)
    }

    /// A fleet that was made before.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// What goes to a safe.
    pub fn root_dir(&self) -> PathBuf {
        self.path.join("root")
    }

    /// What goes to the master.
    pub fn master_dir(&self) -> PathBuf {
        self.path.join("master")
    }

    /// The root, with its key.
    pub fn root(&self) -> Result<Authority, FleetError> {
        read_authority(&self.root_dir(), "root")
    }

    /// The fleet CA, with its key.
    pub fn fleet_ca(&self) -> Result<Authority, FleetError> {
        read_authority(&self.master_dir(), "fleet-ca")
    }

    /// Makes a station: a factory CA, the fleet's root, and an empty ledger to come, in a
    /// directory of their own.
    pub fn create_station(
        &self,
        station: &StationName,
        path: &Path,
        now: Timestamp,
    ) -> Result<(), FleetError> {
        if path.join("ca.crt").exists() || path.join("ca.key").exists() {
            return Err(FleetError::Exists { what: "a station", path: path.to_owned() });
        }
        let root = self.root()?;
        let factory_ca = root.create_factory_ca(station, now)?;
        file::create_private_directory(path)?;
        let mut entries = std::fs::read_dir(path).map_err(file::failed("read", path))?;
        if entries.next().is_some() {
            return Err(FleetError::NotEmpty { path: path.to_owned() });
        }
        // Written aside and renamed as one, so that a station is never half made.
        let parent = path.canonicalize().map_err(file::failed("find", path))?;
        let parent = parent.parent().unwrap_or(Path::new("/"));
        let staged = tempfile::Builder::new().prefix(".drover-").tempdir_in(parent);
        let staged = staged.map_err(file::failed("write in", parent))?;
        let directory = staged.path().join("station");
        file::create_private_directory(&directory)?;
        write_authority(&directory, "ca", &factory_ca)?;
        write_certificates(&directory.join("root.crt"), &[root.der().clone()])?;
        std::fs::rename(&directory, path).map_err(file::failed("make", path))?;
        Ok(file::sync_directory(parent)?)
    }

    /// Makes a certificate and a key for an operator: `operator.crt`, `operator.key` and `root.crt`.
    pub fn create_operator(
        &self,
        operator: &OperatorName,
        out: &Path,
        now: Timestamp,
    ) -> Result<(), FleetError> {
        let (certificate, key_path) = (out.join("operator.crt"), out.join("operator.key"));
        if certificate.exists() || key_path.exists() {
            return Err(FleetError::Exists { what: "an operator", path: out.to_owned() });
        }
        let fleet_ca = self.fleet_ca()?;
        let root = file::read_certificates(&self.master_dir().join("root.crt"))?;
        let key = PrivateKey::generate()?;
        let leaf = fleet_ca.issue_operator(operator, &key, now)?;
        file::create_private_directory(out)?;
        write_key(&key_path, &key)?;
        let text = encode_certificates(&root);
        file::replace(&out.join("root.crt"), text.as_bytes(), Access::Public)?;
        Ok(write_certificates(&certificate, &[leaf, fleet_ca.der().clone()])?)
    }
}

/// Reads `<name>.crt` and `<name>.key`.
pub(crate) fn read_authority(directory: &Path, name: &str) -> Result<Authority, FleetError> {
    Ok(key_file::read_authority(directory, name, &PassphraseSource::nowhere())?)
}

fn write_authority(directory: &Path, name: &str, authority: &Authority) -> Result<(), FileError> {
    let AuthorityKey::File(key) = authority.key();
    write_key(&directory.join(format!("{name}.key")), key)?;
    let certificate = directory.join(format!("{name}.crt"));
    write_certificates(&certificate, std::slice::from_ref(authority.der()))
}

fn write_certificates(
    path: &Path,
    chain: &[rustls_pki_types::CertificateDer<'_>],
) -> Result<(), FileError> {
    file::create(path, encode_certificates(chain).as_bytes(), Access::Public)
}

fn write_key(path: &Path, key: &PrivateKey) -> Result<(), FileError> {
    file::create(path, key.to_pem().as_bytes(), Access::Private)
}
