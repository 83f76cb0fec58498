//! A fleet's directory: `root/`, which goes to a safe, and `master/`, ready to be the master's
//! `pki_dir`. Made once; later it makes stations and operators.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::authority::{Authority, AuthorityError};
use crate::file::{self, Access, FileError};
use crate::host::Host;
use crate::key::{KeyError, PrivateKey};
use crate::key_file::{KeyFileError, read_authority};
use crate::name::{FleetName, MasterName, OperatorName, ServiceName};
use crate::new_key::{NewKey, NewKeyError};
use crate::passphrase::PassphraseSource;
use crate::pem_text::encode_certificates;
use crate::profile::Profile;
use crate::safe::{Safe, SafeError};

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
    /// A new authority has no key.
    #[error(transparent)]
    NewKey(#[from] NewKeyError),
    /// An authority could not be used, or refused to issue.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The authority could not be remembered, or a rotation waits to be finished.
    #[error(transparent)]
    Safe(#[from] Box<SafeError>),
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
            Self::File(FileError::Io { path, source, .. })
                if source.kind() == std::io::ErrorKind::NotFound
                    && path.parent().is_some_and(|parent| parent.ends_with("master")) =>
            {
                Some("--fleet names the directory that `drover-enrol init-fleet` made".into())
            }
            Self::KeyFile(error) => error.hint().map(str::to_owned),
            Self::NewKey(error) => error.hint().map(str::to_owned),
            Self::Safe(error) => error.hint(),
            Self::File(_) | Self::Authority(_) | Self::Key(_) => None,
        }
    }
}

impl From<SafeError> for FleetError {
    fn from(error: SafeError) -> Self {
        if let SafeError::File(error) = error {
            Self::File(error)
        } else {
            Self::Safe(Box::new(error))
        }
    }
}

impl From<KeyFileError> for FleetError {
    fn from(error: KeyFileError) -> Self {
        if let KeyFileError::File(error) = error { Self::File(error) } else { Self::KeyFile(error) }
    }
}

/// How the keys of a new fleet's authorities are to be kept.
#[derive(Debug)]
pub struct FleetKeys<'a> {
    /// The root's, `root/root.key`.
    pub root: NewKey<'a>,
    /// The fleet CA's, `master/fleet-ca.key`: the one that is online.
    pub fleet_ca: NewKey<'a>,
}

impl FleetKeys<'_> {
    /// In files that are not encrypted.
    pub fn unencrypted() -> FleetKeys<'static> {
        FleetKeys { root: NewKey::unencrypted(), fleet_ca: NewKey::unencrypted() }
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
        keys: &FleetKeys<'_>,
        now: Timestamp,
    ) -> Result<Self, FleetError> {
        let directory = Self { path: path.to_owned() };
        for part in [directory.root_dir(), directory.master_dir()] {
            if part.exists() {
                return Err(FleetError::Exists { what: "a fleet", path: path.to_owned() });
            }
        }
        let root_key = keys.root.make("root.key")?;
        let fleet_ca_key = keys.fleet_ca.make("fleet-ca.key")?;
        let root = Authority::create_root_with(fleet, root_key.key, now)?;
        let profile = Profile::fleet_ca(fleet);
        let fleet_ca = root.create_authority_with(&profile, fleet_ca_key.key, now)?;
        let master_key = PrivateKey::generate()?;
        let master = fleet_ca.issue_master(master, &master_key, now)?;

        // Both parts are written aside and take their names last, so a fleet is never half made.
        file::create_private_directory(path)?;
        let staged = tempfile::Builder::new().prefix(".drover-").tempdir_in(path);
        let staged = staged.map_err(file::failed("write in", path))?;
        let (root_dir, master_dir) = (staged.path().join("root"), staged.path().join("master"));
        file::create_private_directory(&root_dir)?;
        write_authority(&root_dir, "root", &root, &root_key.text)?;
        Safe::new(staged.path()).remember(fleet_ca.der())?;
        file::create_private_directory(&master_dir)?;
        write_authority(&master_dir, "fleet-ca", &fleet_ca, &fleet_ca_key.text)?;
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

    /// What is remembered where the root lies.
    pub fn safe(&self) -> Safe {
        Safe::new(&self.path)
    }

    /// The root, with its key.
    pub fn root(&self, passphrase: &PassphraseSource) -> Result<Authority, FleetError> {
        self.safe().check_finished()?;
        Ok(read_authority(&self.root_dir(), "root", passphrase)?)
    }

    /// The fleet CA, with its key.
    pub fn fleet_ca(&self, passphrase: &PassphraseSource) -> Result<Authority, FleetError> {
        Ok(read_authority(&self.master_dir(), "fleet-ca", passphrase)?)
    }

    /// Makes a certificate and a key for an operator: `operator.crt`, `operator.key` and `root.crt`.
    pub fn create_operator(
        &self,
        operator: &OperatorName,
        passphrase: &PassphraseSource,
        out: &Path,
        now: Timestamp,
    ) -> Result<(), FleetError> {
        let wanted = Wanted { what: "an operator", file: "operator", out };
        self.create_leaf(&wanted, &Profile::operator(operator), passphrase, now)
    }

    /// Makes a certificate and a key for a server that is not Drover's: `NAME.crt`, `NAME.key` and `root.crt`.
    pub fn create_server(
        &self,
        name: &ServiceName,
        hosts: Vec<Host>,
        passphrase: &PassphraseSource,
        out: &Path,
        now: Timestamp,
    ) -> Result<(), FleetError> {
        let wanted = Wanted { what: "a server of that name", file: name.as_str(), out };
        self.create_leaf(&wanted, &Profile::server(name, hosts), passphrase, now)
    }

    /// Makes a certificate and a key for a client of such a server: `NAME.crt`, `NAME.key` and `root.crt`.
    pub fn create_client(
        &self,
        name: &ServiceName,
        passphrase: &PassphraseSource,
        out: &Path,
        now: Timestamp,
    ) -> Result<(), FleetError> {
        let wanted = Wanted { what: "a client of that name", file: name.as_str(), out };
        self.create_leaf(&wanted, &Profile::client(name), passphrase, now)
    }

    fn create_leaf(
        &self,
        wanted: &Wanted<'_>,
        profile: &Profile,
        passphrase: &PassphraseSource,
        now: Timestamp,
    ) -> Result<(), FleetError> {
        let Wanted { what, file: name, out } = wanted;
        let certificate = out.join(format!("{name}.crt"));
        let key_path = out.join(format!("{name}.key"));
        if certificate.exists() || key_path.exists() {
            return Err(FleetError::Exists { what, path: out.to_path_buf() });
        }
        let fleet_ca = self.fleet_ca(passphrase)?;
        let root = file::read_certificates(&self.master_dir().join("root.crt"))?;
        let key = PrivateKey::generate()?;
        let leaf = fleet_ca.issue(profile, &key, now)?;
        file::create_private_directory(out)?;
        write_key(&key_path, &key)?;
        let text = encode_certificates(&root);
        file::replace(&out.join("root.crt"), text.as_bytes(), Access::Public)?;
        Ok(write_certificates(&certificate, &[leaf, fleet_ca.der().clone()])?)
    }
}

/// A certificate of the fleet CA's with its key, and where they go.
struct Wanted<'a> {
    /// For people.
    what: &'static str,
    /// The files' name.
    file: &'a str,
    out: &'a Path,
}

pub(crate) fn write_authority(
    directory: &Path,
    name: &str,
    authority: &Authority,
    key: &str,
) -> Result<(), FileError> {
    file::create(&directory.join(format!("{name}.key")), key.as_bytes(), Access::Private)?;
    let certificate = directory.join(format!("{name}.crt"));
    write_certificates(&certificate, std::slice::from_ref(authority.der()))
}

pub(crate) fn write_certificates(
    path: &Path,
    chain: &[rustls_pki_types::CertificateDer<'_>],
) -> Result<(), FileError> {
    file::create(path, encode_certificates(chain).as_bytes(), Access::Public)
}

fn write_key(path: &Path, key: &PrivateKey) -> Result<(), FileError> {
    file::create(path, key.to_pem().as_bytes(), Access::Private)
}
