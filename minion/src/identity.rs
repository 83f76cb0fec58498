//! Who this device is: its operational certificate (LDevID) where it has one, its birth certificate (IDevID) as the way
//! back, and the roots that masters are known by. What the master thinks of it is the handshake's to find out.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use drover_pki::{
    MinionId, PrivateKey,
    certificate::{Certificate, Unreadable},
    clock::Floor,
    file::FileError,
    pair::KeyPairFiles,
    profile::BACKDATE,
    urn::DroverUrn,
    verify::{CertificateError, MinionCertificateKind, verify_minion},
};
use drover_proto::tunnel::{Identity, IdentityError};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error;

use crate::{error_chain, renewal::Term, roots::DeviceRoots};

/// In bytes of DER: a leaf and its issuer have 1,100.
const LARGEST_CHAIN: usize = 16 << 10;

/// A device's identity: what its files gave, and what was issued to it since.
pub struct DeviceIdentity {
    /// The id in its certificates.
    pub id: MinionId,
    /// The hardware serial number, where a certificate has one.
    pub serial: Option<String>,
    /// The roots that masters' certificates lead to.
    pub roots: DeviceRoots,
    birth: Option<Credential>,
    operational: Option<Credential>,
    // invariant: that one is there.
    shows: Kind,
    files: KeyPairFiles,
}

/// Which of a device's two certificates (IEEE 802.1AR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From the factory: the IDevID, which does not expire.
    Birth,
    /// From the master: the LDevID.
    Operational,
}

/// One certificate with its key, and for how long it is good.
struct Credential {
    identity: Identity,
    term: Term,
}

/// An operational certificate that was taken.
#[derive(Debug)]
pub struct Renewed {
    /// For how long it is good.
    pub term: Term,
    /// What it proves of the time: it verified.
    pub proved: Floor,
    /// Whether it outlives the agent.
    pub stored: Result<(), NotStored>,
}

/// Why a certificate that was taken is held in memory alone.
#[derive(Debug, Error)]
pub enum NotStored {
    /// The disk is read-only, or full.
    #[error(transparent)]
    Disk(#[from] FileError),
    /// Flash wears.
    #[error("certificates come more often than they are stored, once in ten minutes")]
    TooOften,
}

/// Why a device has no identity.
#[derive(Debug, Error)]
pub enum LoadIdentityError {
    /// Neither an LDevID nor an IDevID.
    #[error(
        "there is no `idevid.crt` in `{0}`: enrol the device with `drover-enrol issue`, or set `pki_dir`"
    )]
    NotEnrolled(PathBuf),
    /// The root cannot be used.
    #[error("cannot tell this fleet's masters")]
    Root(#[source] FileError),
    /// No certificate of it can be used.
    #[error("cannot use `{path}`")]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        source: CredentialError,
    },
}

/// Why a certificate is left out.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// Its files.
    #[error("the pair of certificate and key is not whole")]
    Files(#[source] FileError),
    /// It cannot be read.
    #[error("cannot read the certificate")]
    Unreadable(#[source] Unreadable),
    /// TLS does not take it.
    #[error("it cannot be shown")]
    Pair(#[source] IdentityError),
    /// It is not a device's.
    #[error("it names no minion")]
    NoMinion,
    /// It is another device's: an image was copied, or the device was enrolled again under another id.
    #[error("it names `{named}`, but `idevid.crt` names `{born}`")]
    OtherMinion {
        /// In the operational certificate.
        named: MinionId,
        /// In the birth certificate.
        born: MinionId,
    },
}

/// Why a certificate that the master sent is not taken.
#[derive(Debug, Error)]
pub enum RenewError {
    /// Nothing was sent.
    #[error("the master sent no certificate")]
    Empty,
    /// It would be shown at every connection, and stored.
    #[error("the certificates have {0} bytes, {LARGEST_CHAIN} are the most")]
    TooLarge(usize),
    /// It does not verify.
    #[error("the certificate does not verify here")]
    Certificate(#[from] CertificateError),
    /// It is for another device.
    #[error("the certificate is for `{0}`")]
    OtherMinion(MinionId),
    /// It is for another key than the one that was made for it.
    #[error("the certificate has another key than the request")]
    OtherKey,
    /// A station issued it.
    #[error("the certificate is no operational one")]
    NotOperational,
    /// TLS does not take it.
    #[error("the certificate cannot be shown")]
    Pair(#[from] IdentityError),
}

impl DeviceIdentity {
    /// Reads the identity in `directory`. One certificate that cannot be used does not take the device away while it has
    /// the other.
    ///
    /// # Errors
    /// When there is none that could be shown.
    pub fn load(directory: &Path) -> Result<Self, LoadIdentityError> {
        let files = KeyPairFiles::new(directory, "ldevid");
        let birth = read(&KeyPairFiles::new(directory, "idevid"));
        let operational = read(&files).and_then(|found| match (found, &birth) {
            (Some(found), Ok(Some(birth))) if found.id != birth.id => Err(Unusable {
                path: files.certificate().to_owned(),
                why: CredentialError::OtherMinion { named: found.id, born: birth.id.clone() },
            }),
            (found, _) => Ok(found),
        });
        let (birth, operational) = match (birth, operational) {
            (Ok(None), Ok(None)) => {
                return Err(LoadIdentityError::NotEnrolled(directory.to_owned()));
            }
            (Err(why), Ok(None) | Err(_)) | (Ok(None), Err(why)) => return Err(why.into()),
            (birth, operational) => (left_out(birth), left_out(operational)),
        };
        let roots = DeviceRoots::load(directory).map_err(LoadIdentityError::Root)?;
        let shows = if operational.is_some() { Kind::Operational } else { Kind::Birth };
        let known = operational.as_ref().or(birth.as_ref());
        let known = known.ok_or_else(|| LoadIdentityError::NotEnrolled(directory.to_owned()))?;
        Ok(Self {
            id: known.id.clone(),
            serial: birth.as_ref().and_then(|found| found.serial.clone()).or(known.serial.clone()),
            roots,
            birth: birth.map(|found| found.credential),
            operational: operational.map(|found| found.credential),
            shows,
            files,
        })
    }

    /// What the next connection shows.
    #[must_use]
    pub fn shown(&self) -> &Identity {
        let shown = match self.shows {
            Kind::Birth => self.birth.as_ref().or(self.operational.as_ref()),
            Kind::Operational => self.operational.as_ref().or(self.birth.as_ref()),
        };
        &shown.expect("an identity has one certificate at least").identity
    }

    /// Which one that is.
    #[must_use]
    pub const fn shows(&self) -> Kind {
        self.shows
    }

    /// The one that was shown was refused: the next connection shows the other, if there is one.
    pub fn show_other(&mut self) {
        self.shows = match self.shows {
            Kind::Operational if self.birth.is_some() => Kind::Birth,
            Kind::Birth if self.operational.is_some() => Kind::Operational,
            only @ (Kind::Birth | Kind::Operational) => only,
        };
    }

    /// When it was issued the certificate that it has had the longest: the device is no older.
    #[must_use]
    pub fn born(&self) -> UnixTime {
        let first = self.birth.as_ref().or(self.operational.as_ref());
        let issued = first.map_or(Timestamp::UNIX_EPOCH, |first| first.term.issued);
        let seconds = u64::try_from(issued.as_second()).unwrap_or_default();
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    /// For how long its operational certificate is good, if it has one.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        self.operational.as_ref().map(|operational| operational.term)
    }

    /// Takes the operational certificate that was issued for `key`, once it has verified, and shows it from now on. It
    /// holds in memory where the disk does not take it, or it `may_store` nothing.
    ///
    /// # Errors
    /// When it is not one that this device could show; nothing changes then.
    pub fn renew(
        &mut self,
        key: &PrivateKey,
        chain: Vec<CertificateDer<'static>>,
        at: UnixTime,
        may_store: bool,
    ) -> Result<Renewed, RenewError> {
        let (leaf, issuers) = chain.split_first().ok_or(RenewError::Empty)?;
        let size = chain.iter().map(|der| der.len()).sum();
        if size > LARGEST_CHAIN {
            return Err(RenewError::TooLarge(size));
        }
        let certificate = verify_minion(self.roots.anchors(), leaf, issuers, at)?;
        if certificate.id != self.id {
            return Err(RenewError::OtherMinion(certificate.id));
        }
        if certificate.key != key.public().digest() {
            return Err(RenewError::OtherKey);
        }
        if !matches!(certificate.kind, MinionCertificateKind::LDevId { .. }) {
            return Err(RenewError::NotOperational);
        }
        let identity = Identity::from_der(chain.clone(), key.to_rustls())?;
        let stored = if may_store { self.store(key, &chain) } else { Err(NotStored::TooOften) };
        let term = Term {
            issued: timestamp(certificate.issued()),
            expires: timestamp(certificate.not_after),
        };
        self.operational = Some(Credential { identity, term });
        self.shows = Kind::Operational;
        Ok(Renewed { term, proved: Floor::of_minion(&certificate), stored })
    }

    fn store(&self, key: &PrivateKey, chain: &[CertificateDer<'_>]) -> Result<(), NotStored> {
        self.files.stage(key).and_then(|()| self.files.commit(chain)).map_err(|why| {
            // What a full disk took of it is of no use.
            let _ = self.files.discard();
            NotStored::Disk(why)
        })
    }
}

/// What one pair of files holds.
struct Found {
    id: MinionId,
    serial: Option<String>,
    credential: Credential,
}

struct Unusable {
    path: PathBuf,
    why: CredentialError,
}

impl From<Unusable> for LoadIdentityError {
    fn from(unusable: Unusable) -> Self {
        Self::Certificate { path: unusable.path, source: unusable.why }
    }
}

fn left_out(found: Result<Option<Found>, Unusable>) -> Option<Found> {
    found.unwrap_or_else(|Unusable { path, why }| {
        tracing::warn!("`{}` is left out: {}", path.display(), error_chain(&why));
        None
    })
}

fn read(files: &KeyPairFiles) -> Result<Option<Found>, Unusable> {
    try_read(files).map_err(|why| Unusable { path: files.certificate().to_owned(), why })
}

fn try_read(files: &KeyPairFiles) -> Result<Option<Found>, CredentialError> {
    let Some(pair) = files.load().map_err(CredentialError::Files)? else { return Ok(None) };
    let certificate = Certificate::read(&pair.chain[0]).map_err(CredentialError::Unreadable)?;
    let minion = certificate.uris.iter().find_map(|uri| match uri.parse() {
        Ok(DroverUrn::Minion(id)) => Some(id),
        Ok(
            DroverUrn::Master(_)
            | DroverUrn::Operator(_)
            | DroverUrn::FactoryCa(_)
            | DroverUrn::FleetCa(_),
        )
        | Err(_) => None,
    });
    let id = minion.ok_or(CredentialError::NoMinion)?;
    let identity = Identity::from_der(pair.chain, pair.key.to_rustls());
    let identity = identity.map_err(CredentialError::Pair)?;
    let term = Term {
        issued: timestamp(issued(certificate.not_before)),
        expires: timestamp(certificate.not_after),
    };
    let credential = Credential { identity, term };
    Ok(Some(Found { id, serial: certificate.subject_serial, credential }))
}

/// The time of issue of what is valid from here on.
fn issued(not_before: UnixTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(not_before.as_secs()) + BACKDATE)
}

/// The end of a certificate that has none lies beyond what a timestamp can say.
fn timestamp(time: UnixTime) -> Timestamp {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
