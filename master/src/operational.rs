//! Issues operational certificates (IEEE 802.1AR LDevID) with the fleet CA's key: over sessions, and by EST. What a
//! device asks for is a key; its names are those that it is registered by.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use drover_pki::{
    Authority, HardwareSerial, MinionId, Profile, PublicKey,
    authority::AuthorityError,
    certificate::Certificate,
    csr::CsrError,
    profile::Validity,
    verify::{MinionCertificate, MinionCertificateKind},
};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::{
    clock::Now,
    registry::{AskedBy, IssueRefused, IssuedCertificate, Registry, ShownCertificate, timestamp},
};

/// What a signing request may have in bytes. One for a P-256 key has some two hundred.
const LONGEST_REQUEST: usize = 4_096;
/// Certificates that are signed at a time: the rest of the master has the machine's other threads.
const AT_ONCE: usize = 4;
/// A device that works gets all the certificates it needs within so long; of a shorter validity, a hundredth.
const WINDOW: Duration = Duration::from_secs(600);

/// Issues; clones share it.
#[derive(Clone)]
pub struct Operational(Arc<Inner>);

struct Inner {
    registry: Registry,
    validity: Option<Duration>,
    authority: RwLock<Option<Arc<Authority>>>,
    turns: Semaphore,
}

/// A certificate that is on the books and may be sent.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, then its fleet CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// What the registry remembers of it.
    pub certificate: IssuedCertificate,
}

/// What is remembered of who asks, for as long as its session lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// With which certificate it came.
    pub by: AskedBy,
    /// That certificate.
    pub shown: ShownCertificate,
    /// Its hardware serial number, where the registry does not know it.
    pub serial: Option<Box<HardwareSerial>>,
}

impl Applicant {
    /// Who showed this certificate. `known` is the serial number that it is registered by.
    #[must_use]
    pub fn new(certificate: &MinionCertificate, known: Option<&HardwareSerial>) -> Self {
        let by = match certificate.kind {
            MinionCertificateKind::IDevId { .. } => AskedBy::Birth,
            MinionCertificateKind::LDevId { .. } => AskedBy::Operational,
        };
        let serial = certificate.hardware_serial.clone().map(Box::new);
        let shown = ShownCertificate::of(certificate);
        Self { by, shown, serial: serial.filter(|_| known.is_none()) }
    }
}

/// Why no certificate was issued.
#[derive(Debug, Error)]
pub enum IssueError {
    /// There is no usable fleet CA here, or the configuration says `ldevid_validity: never`.
    #[error("this master issues no operational certificates")]
    Off,
    /// The request is no proof that the device has the key, or no request.
    #[error("take the signing request")]
    Request(#[source] CsrError),
    /// The request is too long to be looked at.
    #[error("the signing request has {0} bytes, {LONGEST_REQUEST} are the most")]
    TooLong(usize),
    /// The device may not have one.
    #[error(transparent)]
    Refused(#[from] IssueRefused),
    /// The fleet CA's certificate ends.
    #[error("the fleet CA expired at {0}")]
    Expired(Timestamp),
    /// Its key did not sign.
    #[error("sign with the fleet CA")]
    Sign(#[source] AuthorityError),
}

impl IssueError {
    /// Itself and what it came of, for the device's log.
    #[must_use]
    pub fn reason(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// Whether it is the asking device's doing: such an answer may be held back, so that asking on and on is slow.
    #[must_use]
    pub const fn is_the_devices(&self) -> bool {
        match self {
            Self::Request(_) | Self::TooLong(_) => true,
            Self::Refused(
                IssueRefused::NotAccepted(_)
                | IssueRefused::Replaced(_)
                | IssueRefused::TooOften(_)
                | IssueRefused::Retired(_),
            ) => true,
            Self::Refused(IssueRefused::Full | IssueRefused::Stopping)
            | Self::Off
            | Self::Expired(_)
            | Self::Sign(_) => false,
        }
    }
}

impl Operational {
    /// Issues nothing before it has an authority. `validity` is `None` for a master that never does.
    #[must_use]
    pub fn new(registry: Registry, validity: Option<Duration>) -> Self {
        Self(Arc::new(Inner {
            registry,
            validity,
            authority: RwLock::default(),
            turns: Semaphore::new(AT_ONCE),
        }))
    }

    /// From now on this fleet CA issues. Devices that show a birth certificate then come for an operational one, for as
    /// long as it can.
    pub fn set_authority(&self, authority: Option<Arc<Authority>>) {
        let is_issuing =
            authority.as_deref().is_some_and(|authority| left(authority, Now::read().wall).is_ok());
        *self.0.authority.write().unwrap_or_else(PoisonError::into_inner) = authority;
        self.0.registry.set_issuing(is_issuing && self.0.validity.is_some());
    }

    /// The fleet CA that issues, where there is one.
    #[must_use]
    pub fn authority(&self) -> Option<Arc<Authority>> {
        self.0.authority.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For how long certificates are valid; `None` where none are issued.
    #[must_use]
    pub fn validity(&self) -> Option<Duration> {
        self.0.validity.filter(|_| self.authority().is_some())
    }

    /// Issues a certificate for the key of a request (RFC 2986, DER) to a device that proved who it is. Returns once the
    /// registry has it durably.
    ///
    /// # Errors
    /// See [`IssueError`].
    pub async fn issue(
        &self,
        certificate: &MinionCertificate,
        csr_der: &[u8],
        by: AskedBy,
    ) -> Result<Issued, IssueError> {
        let applicant = Applicant { by, ..Applicant::new(certificate, None) };
        self.issue_to(&certificate.id, applicant, csr_der).await
    }

    /// Likewise, to a device of which only what is needed was kept.
    ///
    /// # Errors
    /// See [`IssueError`].
    pub async fn issue_to(
        &self,
        id: &MinionId,
        applicant: Applicant,
        csr_der: &[u8],
    ) -> Result<Issued, IssueError> {
        let (Some(authority), Some(validity)) = (self.authority(), self.0.validity) else {
            return Err(IssueError::Off);
        };
        if csr_der.len() > LONGEST_REQUEST {
            return Err(IssueError::TooLong(csr_der.len()));
        }
        let window = WINDOW.min(validity / 100);
        // Before anything costly is done for a device that may not have it.
        let registered = self.0.registry.permit(id, applicant.shown, window, Now::read().wall)?;
        // What a device that retires is issued ends with its service.
        let ends = self.0.registry.ends(id);
        let serial = registered.or_else(|| applicant.serial.as_deref().cloned());
        let _turn = self.0.turns.acquire().await.expect("the semaphore is never closed");
        let now = Now::read().wall;
        let left = ends.and_then(|ends| Duration::try_from(ends.duration_since(now)).ok());
        let validity = left.map_or(validity, |left| validity.min(left));
        let csr = csr_der.to_vec();
        let device = id.clone();
        let signing = tokio::task::spawn_blocking(move || {
            sign(&authority, &device, serial.as_ref(), &csr, validity, now)
        });
        let issued = signing.await.expect("signing does not panic");
        // While the fleet CA does not sign, its token is away for instance, devices work with what they were born with.
        match &issued {
            Err(IssueError::Sign(_) | IssueError::Expired(_)) => self.0.registry.set_issuing(false),
            Ok(_) => self.0.registry.set_issuing(true),
            Err(_) => {}
        }
        let issued = issued?;
        let (certificate, Applicant { by, shown, .. }) = (issued.certificate.clone(), applicant);
        self.0.registry.issue(id, certificate, by, shown, window, now).await?;
        Ok(issued)
    }
}

/// What needs the CPU, or waits for a token.
fn sign(
    authority: &Authority,
    id: &MinionId,
    serial: Option<&HardwareSerial>,
    csr: &[u8],
    validity: Duration,
    now: Timestamp,
) -> Result<Issued, IssueError> {
    let key = PublicKey::from_csr(csr).map_err(IssueError::Request)?;
    let left = left(authority, now)?;
    let profile = Profile {
        validity: Validity::For(validity.min(left)),
        ..Profile::ldevid(id, serial, validity)
    };
    let leaf = authority.issue(&profile, &key, now).map_err(IssueError::Sign)?;
    let certificate = Certificate::read(&leaf)
        .map_err(|unreadable| IssueError::Sign(AuthorityError::Certificate(unreadable)))?;
    let certificate = IssuedCertificate::signed(&certificate, authority.certificate().key);
    Ok(Issued { chain: vec![leaf, authority.der().clone()], certificate })
}

/// For how long the fleet CA is valid still: no certificate is worth anything after its issuer's.
fn left(authority: &Authority, now: Timestamp) -> Result<Duration, IssueError> {
    let end = timestamp(authority.certificate().not_after);
    match u64::try_from(end.as_second() - now.as_second()) {
        Ok(left @ 1..) => Ok(Duration::from_secs(left)),
        Ok(0) | Err(_) => Err(IssueError::Expired(end)),
    }
}

#[cfg(test)]
mod tests;
