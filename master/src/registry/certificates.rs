//! The operational certificates of one minion, and which of them count: decisions without I/O. A certificate counts until
//! a newer one was seen in use. Before that the older one may be all that the device has: a power cut may have come
//! between the master's answer and the device's disk.

use std::time::Duration;

use drover_pki::{
    Fingerprint, KeyDigest, MinionId,
    certificate::{Certificate, SerialNumber},
    profile::BACKDATE,
    verify::{MinionCertificate, MinionCertificateKind},
};
use jiff::Timestamp;
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::entry::{Entry, Status};

/// Certificates that are kept beside the newest one, while they have not expired.
const MOST_PREVIOUS: usize = 7;

/// One operational certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCertificate {
    /// Its serial number.
    pub serial: SerialNumber,
    /// SHA-256 of it.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the public key of the fleet CA that issued it.
    pub issuer: KeyDigest,
    /// When it was issued.
    pub issued: Timestamp,
    /// The end of its validity.
    pub expires: Timestamp,
    /// Whether the device was welcomed with it.
    #[serde(default)]
    pub seen: bool,
}

impl IssuedCertificate {
    /// One that was just signed.
    #[must_use]
    pub fn signed(certificate: &Certificate, issuer: KeyDigest) -> Self {
        Self {
            serial: certificate.serial.clone(),
            fingerprint: certificate.fingerprint,
            issuer,
            issued: timestamp(certificate.not_before)
                .saturating_add(BACKDATE)
                .unwrap_or(Timestamp::MAX),
            expires: timestamp(certificate.not_after),
            seen: false,
        }
    }

    /// One that a device showed.
    #[must_use]
    pub fn shown(certificate: &MinionCertificate) -> Self {
        Self {
            serial: certificate.serial.clone(),
            fingerprint: certificate.fingerprint,
            issuer: certificate.issuer().key,
            issued: timestamp(certificate.issued()),
            expires: timestamp(certificate.not_after),
            seen: true,
        }
    }
}

/// What a device that asks for a certificate showed when it connected: no more than what says whether it is the registered
/// device still when its answer is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownCertificate {
    /// Its birth certificate.
    Birth {
        /// SHA-256 of its public key.
        key: KeyDigest,
    },
    /// An operational certificate.
    Operational {
        /// SHA-256 of it.
        fingerprint: Fingerprint,
        /// When it was issued.
        issued: Timestamp,
    },
}

impl ShownCertificate {
    /// Of a certificate whose key was proved.
    #[must_use]
    pub fn of(certificate: &MinionCertificate) -> Self {
        match certificate.kind {
            MinionCertificateKind::IDevId { .. } => Self::Birth { key: certificate.key },
            MinionCertificateKind::LDevId { .. } => Self::Operational {
                fingerprint: certificate.fingerprint,
                issued: timestamp(certificate.issued()),
            },
        }
    }
}

/// How a device asked for its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedBy {
    /// With its birth certificate.
    Birth,
    /// With the operational certificate that it renews.
    Operational,
    /// By EST (RFC 7030), with either.
    Est,
}

/// Why a device is issued no certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IssueRefused {
    /// Rejected, revoked or deleted in the meantime.
    #[error("`{0}` is not accepted here")]
    NotAccepted(MinionId),
    /// It was enrolled anew in the meantime, or has a newer certificate in use.
    #[error("what this device connected with is not that of `{0}` any more")]
    Replaced(MinionId),
    /// Its service ends, and nothing is renewed after its day.
    #[error("`{0}` retires, and is issued nothing any more")]
    Retired(MinionId),
    /// It asks on and on.
    #[error(
        "`{0}` has been issued {MOST_PREVIOUS} certificates in a short time, and has to wait for more"
    )]
    TooOften(MinionId),
    /// What is issued has to be on the books, and the master's disk is full.
    #[error("the master's disk is full, so nothing is issued until there is room")]
    Full,
    /// The master stops, or its store has failed.
    #[error("the master is stopping")]
    Stopping,
}

/// The newest certificate, and those before it that have not expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationalCertificates {
    current: IssuedCertificate,
    /// The newest first.
    #[serde(default)]
    previous: Box<[IssuedCertificate]>,
}

/// What a certificate that a device shows is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It counts, and the registry knows that it is in use.
    Known,
    /// It counts, and that it is in use is new.
    New,
    /// A newer one is in use: two machines have this identity, or one was put back to an earlier state.
    Superseded,
}

impl OperationalCertificates {
    /// The first one.
    #[must_use]
    pub fn new(first: IssuedCertificate) -> Self {
        Self { current: first, previous: Box::default() }
    }

    /// The newest one.
    #[must_use]
    pub const fn current(&self) -> &IssuedCertificate {
        &self.current
    }

    /// All that are kept, the newest first.
    pub fn all(&self) -> impl Iterator<Item = &IssuedCertificate> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// Whether so many were issued after a moment that a device which works has enough. What was issued while the clock ran
    /// ahead does not count: it would for as long as that was ahead.
    fn is_asked_too_often(&self, since: Timestamp, now: Timestamp) -> bool {
        let lately = self.all().filter(|known| since < known.issued && known.issued <= now);
        lately.count() >= MOST_PREVIOUS
    }

    /// Adds a newer one. Gives those that are not kept for it, and have not expired.
    #[must_use = "what is not kept cannot be revoked later"]
    pub fn add(&mut self, newer: IssuedCertificate, now: Timestamp) -> Vec<IssuedCertificate> {
        let older = std::mem::replace(&mut self.current, newer);
        let mut previous = std::mem::take(&mut self.previous).into_vec();
        previous.insert(0, older);
        previous.retain(|certificate| certificate.expires > now);
        let mut forgotten = Vec::new();
        while previous.len() > MOST_PREVIOUS {
            // The one that the device uses is not among those that go: it may never have had the newer ones.
            let used = previous.iter().position(|certificate| certificate.seen);
            let last = previous.len() - 1;
            forgotten.push(previous.remove(if used == Some(last) { last - 1 } else { last }));
        }
        self.previous = previous.into();
        forgotten
    }

    /// Whether this very certificate is among those that are kept.
    fn knows(&self, fingerprint: Fingerprint) -> bool {
        self.all().any(|known| known.fingerprint == fingerprint)
    }

    /// What a shown one is worth.
    fn standing(&self, fingerprint: Fingerprint, issued: Timestamp) -> Standing {
        let mut known = self.all();
        let newest_used = known.position(|certificate| certificate.seen);
        let position = self.all().position(|known| known.fingerprint == fingerprint);
        match (position, newest_used) {
            (Some(at), Some(used)) if at == used => Standing::Known,
            (Some(at), Some(used)) if at > used => Standing::Superseded,
            (Some(_), _) => Standing::New,
            // From before the store was restored, or from another master of the fleet.
            (None, _) if issued > self.current.issued => Standing::New,
            (None, _) => Standing::Superseded,
        }
    }

    /// Notes that one is in use whose standing is [`Standing::New`]. Gives what [`Self::add`] does.
    fn use_new(&mut self, shown: IssuedCertificate, now: Timestamp) -> Vec<IssuedCertificate> {
        let is_shown = |known: &&mut IssuedCertificate| known.fingerprint == shown.fingerprint;
        let known = std::iter::once(&mut self.current).chain(&mut self.previous).find(is_shown);
        match known {
            Some(known) => {
                known.seen = true;
                Vec::new()
            }
            None => self.add(shown, now),
        }
    }
}

impl Entry {
    /// Operational certificates issued up to now do not count any more, nor those that are known and were issued while the
    /// clock ran ahead. Returns those that had been issued.
    pub fn renounce_operational(&mut self, now: Timestamp) -> Option<Box<OperationalCertificates>> {
        let known = self.operational.take();
        let issued = known.iter().flat_map(|known| known.all()).map(|known| known.issued);
        self.operational_after = issued.chain(self.operational_after).chain([now]).max();
        known
    }

    /// What an operational certificate is worth; `None` for one of another device that had this id.
    pub(super) fn standing(&self, fingerprint: Fingerprint, issued: Timestamp) -> Option<Standing> {
        match &self.operational {
            Some(known) if known.knows(fingerprint) => Some(known.standing(fingerprint, issued)),
            _ if self.operational_after.is_some_and(|moment| issued <= moment) => None,
            Some(known) => Some(known.standing(fingerprint, issued)),
            // The store is older than the certificate.
            None => Some(Standing::New),
        }
    }

    /// Whether who showed this is the registered device.
    fn is_shown_by_its_device(&self, shown: ShownCertificate) -> bool {
        match shown {
            ShownCertificate::Birth { key } => {
                self.birth.as_ref().is_some_and(|birth| birth.key == key)
            }
            ShownCertificate::Operational { fingerprint, issued } => {
                let standing = self.standing(fingerprint, issued);
                matches!(standing, Some(Standing::Known | Standing::New))
            }
        }
    }

    /// Notes that a certificate is in use. Gives what [`OperationalCertificates::add`] does where that is new.
    pub(super) fn use_certificate(
        &mut self,
        shown: IssuedCertificate,
        now: Timestamp,
    ) -> Option<Vec<IssuedCertificate>> {
        if self.standing(shown.fingerprint, shown.issued) != Some(Standing::New) {
            return None;
        }
        Some(match &mut self.operational {
            Some(known) => known.use_new(shown, now),
            None => {
                self.operational = Some(Box::new(OperationalCertificates::new(shown)));
                Vec::new()
            }
        })
    }

    /// Whether who showed this may be issued an operational certificate. It gets a few within `window`, for answers may be
    /// lost.
    pub(super) fn may_be_issued(
        &self,
        shown: ShownCertificate,
        window: Duration,
        now: Timestamp,
    ) -> Result<(), IssueRefused> {
        if self.status != Status::Accepted {
            return Err(IssueRefused::NotAccepted(self.id.clone()));
        }
        if !self.is_shown_by_its_device(shown) {
            return Err(IssueRefused::Replaced(self.id.clone()));
        }
        if self.retire.as_ref().is_some_and(|retire| retire.at <= now) {
            return Err(IssueRefused::Retired(self.id.clone()));
        }
        let since = now.saturating_sub(window).unwrap_or(Timestamp::MIN);
        match &self.operational {
            Some(known) if known.is_asked_too_often(since, now) => {
                Err(IssueRefused::TooOften(self.id.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// It is issued a certificate. Gives what [`OperationalCertificates::add`] does.
    #[must_use = "what is not kept cannot be revoked later"]
    pub(super) fn add_certificate(
        &mut self,
        certificate: IssuedCertificate,
        now: Timestamp,
    ) -> Vec<IssuedCertificate> {
        match &mut self.operational {
            Some(known) => known.add(certificate, now),
            None => {
                self.operational = Some(Box::new(OperationalCertificates::new(certificate)));
                Vec::new()
            }
        }
    }
}

/// A certificate's time for the store. Certificates end at 9999-12-31, which is the last day that fits.
pub(crate) fn timestamp(time: UnixTime) -> Timestamp {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * DAY).unwrap()
    }

    /// Issued on that day, for thirty.
    fn issued(day: i64) -> IssuedCertificate {
        let name = day.to_be_bytes();
        IssuedCertificate {
            serial: "0a".parse().unwrap(),
            fingerprint: Fingerprint::of(&name),
            issuer: KeyDigest::of(b"fleet"),
            issued: at(day),
            expires: at(day + 30),
            seen: false,
        }
    }

    fn standing(certificates: &OperationalCertificates, shown: IssuedCertificate) -> Standing {
        certificates.standing(shown.fingerprint, shown.issued)
    }

    #[test]
    fn the_old_certificate_counts_until_the_new_one_is_used() {
        let mut certificates = OperationalCertificates::new(issued(0));
        let _ = certificates.use_new(issued(0), at(0));
        let _ = certificates.add(issued(20), at(20));
        assert_eq!(standing(&certificates, issued(0)), Standing::Known);
        assert_eq!(standing(&certificates, issued(20)), Standing::New);
        let _ = certificates.use_new(issued(20), at(20));
        assert_eq!(standing(&certificates, issued(0)), Standing::Superseded);
        assert_eq!(standing(&certificates, issued(20)), Standing::Known);
    }

    #[test]
    fn any_of_several_answers_may_be_the_one_that_arrived() {
        let mut certificates = OperationalCertificates::new(issued(0));
        for day in 1..4 {
            let _ = certificates.add(issued(day), at(day));
        }
        assert_eq!(standing(&certificates, issued(2)), Standing::New);
        let _ = certificates.use_new(issued(2), at(4));
        assert_eq!(standing(&certificates, issued(1)), Standing::Superseded);
        assert_eq!(standing(&certificates, issued(3)), Standing::New, "it may still arrive");
    }

    #[test]
    fn what_a_restored_store_does_not_know_counts_if_it_is_newer() {
        let mut certificates = OperationalCertificates::new(issued(10));
        assert_eq!(standing(&certificates, issued(30)), Standing::New);
        assert_eq!(standing(&certificates, issued(5)), Standing::Superseded);
        let _ = certificates.use_new(IssuedCertificate { seen: true, ..issued(30) }, at(31));
        assert_eq!(standing(&certificates, issued(30)), Standing::Known);
        assert_eq!(standing(&certificates, issued(10)), Standing::Superseded);
    }

    #[test]
    fn what_is_remembered_of_a_device_is_small() {
        // A master has 40 kB for each device that is connected.
        assert!(size_of::<OperationalCertificates>() <= 144);
    }

    #[test]
    fn little_is_kept_and_the_one_in_use_is() {
        let mut certificates = OperationalCertificates::new(issued(0));
        let _ = certificates.use_new(issued(0), at(0));
        let mut forgotten = Vec::new();
        for day in 1..20 {
            forgotten.extend(certificates.add(issued(day), at(day)));
        }
        let known = forgotten.iter().chain(certificates.all()).map(|one| one.issued);
        let mut known: Vec<_> = known.collect();
        known.sort_unstable();
        assert_eq!(known, (0..20).map(at).collect::<Vec<_>>(), "each is kept or told of");
        assert_eq!(certificates.all().count(), 1 + MOST_PREVIOUS);
        assert_eq!(standing(&certificates, issued(0)), Standing::Known);
        assert!(certificates.is_asked_too_often(at(12), at(20)));
        assert!(!certificates.is_asked_too_often(at(13), at(20)));
        assert!(!certificates.is_asked_too_often(at(12), at(18)), "the clock ran ahead");
        let _ = certificates.add(issued(60), at(60));
        assert_eq!(certificates.all().count(), 1, "the others have expired");
    }
}
