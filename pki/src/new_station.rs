//! A new station's directory: made at once where the root is, or in two halves, a request made at
//! the station and certified where the root is. Either is whole or not there, and may be done again.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls_pki_types::UnixTime;

use crate::authority::{Authority, AuthorityError};
use crate::csr::CsrError;
use crate::file::{self, Access, FileError};
use crate::fingerprint::{Fingerprint, KeyDigest};
use crate::fleet::{FleetDirectory, FleetError, write_authority, write_certificates};
use crate::key::PublicKey;
use crate::key_file::{self, KeyFileError};
use crate::ledger::{Actor, Ledger, LedgerError};
use crate::name::StationName;
use crate::new_key::{NewKey, NewKeyError};
use crate::passphrase::PassphraseSource;
use crate::pem_text::{PemError, decode_certificates, encode_certificates};
use crate::profile::Profile;
use crate::station::{History, ReplacementError};
use crate::verify::{AnchorError, CertificateError, TrustAnchors, verify_factory_authority};

/// The request, in the directory of a station that is half made.
pub const REQUEST: &str = "ca.csr";

/// Why a station could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NewStationError {
    /// There is one already.
    #[error("there is a station in `{}` already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The directory holds something else.
    #[error("the directory `{}` is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds no request that could be completed.
    #[error("`{}` holds no station that waits for its certificate", path.display())]
    NotRequested {
        /// The directory.
        path: PathBuf,
    },
    /// The fleet's root cannot be used.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The station's key could not be made.
    #[error(transparent)]
    NewKey(#[from] NewKeyError),
    /// The station's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The authority could not be made, or its request.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// What should be a request is none.
    #[error("the request cannot be certified")]
    Request(#[from] CsrError),
    /// What came back holds no certificates.
    #[error("the certificates cannot be read")]
    Certificates(#[from] PemError),
    /// What came back ends in no root.
    #[error("the certificates end in no usable root")]
    Root(#[from] AnchorError),
    /// What came back holds a factory CA and its root, or it is for something else.
    #[error("the file holds {0} certificates and not two, the station's and the root's")]
    Count(usize),
    /// The certificate does not verify under the root that came with it.
    #[error("the station's certificate does not verify")]
    Verify(#[from] CertificateError),
    /// The certificate is of another key.
    #[error("the certificate is of another station's key")]
    OtherKey {
        /// The station that it names.
        station: StationName,
    },
    /// The manifests of the station before it are not enough.
    #[error("the station cannot be made again from these manifests")]
    Replacement(#[from] ReplacementError),
    /// The ledger could not be begun.
    #[error("the station's ledger could not be begun")]
    Ledger(#[from] LedgerError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl NewStationError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("keep it, or name another directory".to_owned()),
            Self::NotEmpty { .. } => Some("name a directory of its own with --dir".to_owned()),
            Self::NotRequested { .. } => {
                Some("`drover-enrol init-station --request` begins one".to_owned())
            }
            Self::OtherKey { .. } => {
                Some(format!("certify this station's own {REQUEST} where the root is"))
            }
            Self::Count(_) | Self::Certificates(_) | Self::Root(_) => {
                Some("give the file that `drover-enrol certify-station` wrote".to_owned())
            }
            Self::Fleet(error) => error.hint(),
            Self::NewKey(error) => error.hint().map(str::to_owned),
            Self::Key(error) => error.hint().map(str::to_owned),
            Self::Verify(error) => Some(error.hint().to_owned()),
            Self::Replacement(error) => error.hint(),
            Self::Authority(_) | Self::Request(_) | Self::Ledger(_) | Self::File(_) => None,
        }
    }
}

/// What a new station's memory begins with.
#[derive(Debug)]
pub struct Founding<'a> {
    /// Who makes it, for its ledger.
    pub by: &'a Actor,
    /// The manifests of the station before it, whose place it takes; none for one that is new.
    pub manifests: &'a [Vec<u8>],
}

impl Founding<'_> {
    /// Makes the ledger, in the directory of a station that has not issued yet. Gives how many
    /// devices it begins with.
    fn begin(
        &self,
        directory: &Path,
        station: &StationName,
        authority: &Authority,
        anchors: &TrustAnchors,
        now: Timestamp,
    ) -> Result<usize, NewStationError> {
        let history = History::read(station, self.manifests, anchors, unix(now))?;
        history.keep(directory)?;
        Ledger::create(directory, authority, history.events(), self.by, now)?;
        Ok(history.devices())
    }
}

/// Makes a station where the root is: a factory CA, the fleet's root, and its ledger. Gives how many
/// devices of the station before it this one knows.
pub fn create(
    fleet: &FleetDirectory,
    root: &PassphraseSource,
    station: &StationName,
    key: &NewKey<'_>,
    founding: &Founding<'_>,
    path: &Path,
    now: Timestamp,
) -> Result<usize, NewStationError> {
    refuse_occupied(path)?;
    let safe = fleet.safe();
    let root = fleet.root(root)?;
    // Manifests of the station before may be under an older root.
    let anchors = safe.anchors().map_err(FleetError::from)?;
    // Read before a key is made, which may be in a token and stay there.
    History::read(station, founding.manifests, &anchors, unix(now))?;
    let made = key.make("ca.key")?;
    let profile = factory_ca(&root, station);
    let authority = root.create_authority_with(&profile, made.key, now)?;
    // Before it is used: a root that takes this one's place has to certify it too.
    safe.remember(authority.der()).map_err(FleetError::from)?;
    write_whole(path, |directory| {
        write_authority(directory, "ca", &authority, &made.text)?;
        write_certificates(&directory.join("root.crt"), std::slice::from_ref(root.der()))?;
        founding.begin(directory, station, &authority, &anchors, now)
    })
}

/// A station that waits for its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// What goes to where the root is.
    pub request: PathBuf,
    /// The key that it is for.
    pub key: KeyDigest,
    /// Whether an earlier run had made it.
    pub made_earlier: bool,
}

/// The first half, at the station: makes its key, and a request for a certificate of it. Asked again,
/// the request that is there stays.
pub fn request(
    station: &StationName,
    key: &NewKey<'_>,
    path: &Path,
) -> Result<Requested, NewStationError> {
    let request = path.join(REQUEST);
    if request.exists() && path.join("ca.key").exists() && !path.join("ca.crt").exists() {
        let key = PublicKey::from_csr(&file::read(&request)?)?.digest();
        return Ok(Requested { request, key, made_earlier: true });
    }
    refuse_occupied(path)?;
    let made = key.make("ca.key")?;
    let text = made.key.to_csr(station.as_str())?;
    write_whole(path, |directory| {
        file::create(&directory.join("ca.key"), made.text.as_bytes(), Access::Private)?;
        Ok(file::create(&directory.join(REQUEST), text.as_bytes(), Access::Public)?)
    })?;
    Ok(Requested { request, key: made.key.public().digest(), made_earlier: false })
}

/// A station's certificate on its way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The station's certificate, then the root's, in PEM.
    pub text: String,
    /// The key that it is for.
    pub key: KeyDigest,
    /// The root.
    pub root: Fingerprint,
}

/// The second half, where the root is: certifies the key of a request, which names nothing else.
pub fn certify(
    fleet: &FleetDirectory,
    root: &PassphraseSource,
    station: &StationName,
    request: &[u8],
    now: Timestamp,
) -> Result<Certified, NewStationError> {
    let key = PublicKey::from_csr(request)?;
    let root = fleet.root(root)?;
    let der = root.issue(&factory_ca(&root, station), &key, now)?;
    fleet.safe().remember(&der).map_err(FleetError::from)?;
    Ok(Certified {
        text: encode_certificates(&[der, root.der().clone()]),
        key: key.digest(),
        root: root.certificate().fingerprint,
    })
}

/// A station that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// Its name.
    pub station: StationName,
    /// The root that it trusts from now on: to be compared with what was shown beside the root.
    pub root: Fingerprint,
    /// Whether an earlier run had completed it.
    pub made_earlier: bool,
    /// How many devices of the station before it this one knows.
    pub devices: usize,
}

/// The end, back at the station: takes the certificate, if it is for this station's own key.
pub fn complete(
    path: &Path,
    certificates: &[u8],
    passphrase: &PassphraseSource,
    founding: &Founding<'_>,
    now: Timestamp,
) -> Result<Completed, NewStationError> {
    let (key_path, certificate) = (path.join("ca.key"), path.join("ca.crt"));
    if !key_path.exists() {
        return Err(NewStationError::NotRequested { path: path.to_owned() });
    }
    let chain = decode_certificates(certificates)?;
    let [der, root] = chain.as_slice() else {
        return Err(NewStationError::Count(chain.len()));
    };
    let anchors =
        TrustAnchors::from_pem(encode_certificates(std::slice::from_ref(root)).as_bytes())?;
    let verified = verify_factory_authority(&anchors, der, unix(now))?;
    let (station, root_print) = (verified.station, Fingerprint::of(root));

    if certificate.exists() {
        let same = file::read_certificates(&certificate)?.first() == Some(der);
        let there = NewStationError::Exists { path: path.to_owned() };
        let done = Completed { station, root: root_print, made_earlier: true, devices: 0 };
        return if same { Ok(done) } else { Err(there) };
    }
    let key = key_file::read_key(&key_path, passphrase)?;
    let authority = match Authority::new(der.clone(), key) {
        Err(AuthorityError::OtherKey { .. }) => return Err(NewStationError::OtherKey { station }),
        other => other?,
    };
    let text = encode_certificates(std::slice::from_ref(root));
    file::replace(&path.join("root.crt"), text.as_bytes(), Access::Public)?;
    let devices = founding.begin(path, &station, &authority, &anchors, now)?;
    // The certificate is last: with it the directory is a station.
    write_certificates(&certificate, std::slice::from_ref(der))?;
    Ok(Completed { station, root: root_print, made_earlier: false, devices })
}

fn factory_ca(root: &Authority, station: &StationName) -> Profile {
    Profile::factory_ca(root.certificate().organization.as_deref().unwrap_or_default(), station)
}

/// Refuses a directory that is no new station's, before anybody is asked for a passphrase.
fn refuse_occupied(path: &Path) -> Result<(), NewStationError> {
    if path.join("ca.crt").exists() || path.join("ca.key").exists() {
        return Err(NewStationError::Exists { path: path.to_owned() });
    }
    match std::fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(NewStationError::NotEmpty { path: path.to_owned() }),
            None => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file::failed("read", path)(error).into()),
    }
}

/// Written aside and renamed as one, so that a station is never half made.
fn write_whole<T>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<T, NewStationError>,
) -> Result<T, NewStationError> {
    file::create_private_directory(path)?;
    let parent = path.canonicalize().map_err(file::failed("find", path))?;
    let parent = parent.parent().unwrap_or(Path::new("/"));
    let staged = tempfile::Builder::new().prefix(".drover-").tempdir_in(parent);
    let staged = staged.map_err(file::failed("write in", parent))?;
    let directory = staged.path().join("station");
    file::create_private_directory(&directory)?;
    let written = write(&directory)?;
    std::fs::rename(&directory, path).map_err(file::failed("make", path))?;
    file::sync_directory(parent)?;
    Ok(written)
}

fn unix(time: Timestamp) -> UnixTime {
    let seconds = u64::try_from(time.as_second()).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}
