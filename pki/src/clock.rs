//! Which time a device validates at while its clock is not known to be right: it has no battery,
//! and may wake in 1970 or in 2099. The master, whose clock is right, uses its clock alone.

use std::cmp::Ordering;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::profile::FLEET_CA_VALIDITY;
use crate::verify::{
    CertificateError, MasterCertificate, MinionCertificate, TrustAnchors, verify_master,
};

/// A clock that is so far beyond the floor is taken for none: nothing that a device was shown last
/// would be valid then. Whoever can set a clock there can set it to 1970 just as well.
const CREDIBLE: Duration = FLEET_CA_VALIDITY;

/// The latest time that certificates have proved to a device, and how new the authority is on whose
/// word that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// When that authority was issued, in seconds since 1970.
    authority: u64,
    /// The latest notBefore, likewise.
    latest: u64,
}

impl Floor {
    /// For a device that has met no master: when it was born. It binds no authority.
    pub fn of_birth(not_before: UnixTime) -> Self {
        Self { authority: 0, latest: not_before.as_secs() }
    }

    /// What a master's certificate that verified proves.
    pub fn of_master(master: &MasterCertificate) -> Self {
        let latest = master.latest_not_before.as_secs();
        Self { authority: master.authority.as_secs(), latest }
    }

    /// What a device's own certificate that verified proves.
    pub fn of_minion(minion: &MinionCertificate) -> Self {
        let (authority, latest) = (minion.issuer().issued, minion.not_before);
        Self { authority: authority.as_secs(), latest: latest.as_secs() }
    }

    /// The floor once certificates have proved another. It falls for a newer authority alone, which
    /// only a root can make: what the one before it dated wrongly, or a thief of its key, is over
    /// with it. An older authority moves nothing any more.
    #[must_use]
    pub fn raised(self, proved: Self) -> Self {
        match proved.authority.cmp(&self.authority) {
            Ordering::Less => self,
            Ordering::Equal => Self { latest: self.latest.max(proved.latest), ..self },
            Ordering::Greater => proved,
        }
    }

    /// The time itself.
    pub fn time(self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(self.latest))
    }
}

/// All that a device knows of the time.
#[derive(Debug, Clone, Copy)]
pub struct DeviceClock {
    /// What the system says.
    pub system: UnixTime,
    /// What certificates have proved.
    pub floor: Option<Floor>,
}

impl DeviceClock {
    /// The latest of the system clock, the floor, and every notBefore in the chain that is shown.
    ///
    /// A forged notBefore helps nobody: the chain must still verify at the time that results, and the
    /// floor rises only by [`Floor::raised`]. A certificate that cannot be read counts for nothing
    /// here, and is refused by verification.
    pub fn validation_time(&self, chain: &[CertificateDer<'_>]) -> UnixTime {
        let floor = self.floor.map(Floor::time);
        floor.into_iter().fold(self.time_without_floor(chain), UnixTime::max)
    }

    /// Likewise, but no later than the chain is good: where whether it has expired is not what is asked.
    pub fn time_within(&self, chain: &[CertificateDer<'_>]) -> UnixTime {
        let shown = chain.iter().filter_map(|der| Certificate::read(der).ok());
        shown
            .map(|certificate| certificate.not_after)
            .fold(self.validation_time(chain), UnixTime::min)
    }

    /// Verifies what a master shows.
    ///
    /// Where the floor alone says that it has expired, a chain through a newer authority than the
    /// floor's is judged without it: the floor is that of an authority which its successor overrules.
    pub fn verify_master(
        &self,
        anchors: &TrustAnchors,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<MasterCertificate, CertificateError> {
        let mut chain = vec![leaf.clone()];
        chain.extend_from_slice(intermediates);
        let expired =
            match verify_master(anchors, leaf, intermediates, self.validation_time(&chain)) {
                Err(expired @ CertificateError::Expired { .. }) => expired,
                other => return other,
            };
        let without = self.time_without_floor(&chain);
        match (verify_master(anchors, leaf, intermediates, without), self.floor) {
            (Ok(master), Some(floor)) if master.authority.as_secs() > floor.authority => Ok(master),
            (Ok(_) | Err(_), _) => Err(expired),
        }
    }

    fn time_without_floor(&self, chain: &[CertificateDer<'_>]) -> UnixTime {
        let shown = chain.iter().filter_map(|der| Certificate::read(der).ok());
        shown.map(|certificate| certificate.not_before).fold(self.credible(), UnixTime::max)
    }

    /// The system's clock, or the dawn of time.
    fn credible(&self) -> UnixTime {
        let is_absurd = self.floor.is_some_and(|floor| {
            self.system.as_secs() > floor.latest.saturating_add(CREDIBLE.as_secs())
        });
        if is_absurd { UnixTime::since_unix_epoch(Duration::ZERO) } else { self.system }
    }
}

#[cfg(test)]
mod tests;
