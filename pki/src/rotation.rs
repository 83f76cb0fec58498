//! One authority in the place of another: roots that vouch for one another, authorities that another root certifies
//! again, and the names by which operators tell them apart. The safe does it; the lists that tell a fleet are
//! `root_list`'s.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::authority::{Authority, AuthorityError, AuthorityKey};
use crate::certificate::{Certificate, Unreadable, unreadable};
use crate::key::{KeyError, PublicKey};
use crate::name::{FleetName, NameError};
use crate::profile::Profile;
use crate::urn::DroverUrn;

/// Why an authority could not be put in the place of another, or be certified again.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// A certificate cannot be read.
    #[error("an authority's certificate cannot be read")]
    Unreadable(#[from] Unreadable),
    /// The key in a certificate cannot be used.
    #[error("the key of the authority `{authority}` cannot be used")]
    Key {
        /// The authority's name.
        authority: String,
        /// What is wrong.
        source: KeyError,
    },
    /// A root whose `O` is no fleet's name.
    #[error("the root `{subject}` does not name a fleet")]
    Fleet {
        /// The root's subject.
        subject: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// The certificate is not that of a root or of a fleet's authority.
    #[error("`{subject}` is no authority that a root certifies")]
    NoAuthority {
        /// The certificate's subject.
        subject: String,
    },
    /// The copy does not have the name of the original, so no path would lead through it.
    #[error("`{subject}` cannot be certified again: its name is written in another way than ours")]
    Name {
        /// The certificate's subject.
        subject: String,
    },
    /// The root could not issue.
    #[error(transparent)]
    Issue(#[from] AuthorityError),
}

impl Authority {
    /// Makes the root that takes the place of this one, of a key that was made for it.
    pub fn create_next_root(
        &self,
        key: impl Into<AuthorityKey>,
        now: Timestamp,
    ) -> Result<Self, RotationError> {
        let fleet = fleet_of(self.certificate())?;
        let generation = generation(self.certificate()).saturating_add(1);
        Ok(Self::create_root_as(&Profile::next_root(&fleet, generation), key, now)?)
    }

    /// Certifies an authority, or another root, which keeps its key, its name and its validity: whatever it issued leads
    /// to this root too. A root does not vouch for the one before it, or a stolen one would live on through its heir.
    pub fn certify_again(
        &self,
        authority: &CertificateDer<'_>,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, RotationError> {
        let certificate = Certificate::read(authority)?;
        let is_ours = match certificate.uris.as_slice() {
            [] => certificate.purposes.is_none(),
            [uri] => matches!(uri.parse(), Ok(DroverUrn::FactoryCa(_) | DroverUrn::FleetCa(_))),
            _ => false,
        };
        if !certificate.is_ca || !certificate.may_certify || !is_ours {
            return Err(RotationError::NoAuthority { subject: certificate.subject });
        }
        let (_, original) = X509Certificate::from_der(authority).map_err(unreadable)?;
        let key = PublicKey::from_spki(original.public_key().raw)
            .map_err(|source| RotationError::Key { authority: name_of(&certificate), source })?;
        let issued = self.issue(&Profile::of_authority(&certificate), &key, now)?;
        let (_, copy) = X509Certificate::from_der(&issued).map_err(unreadable)?;
        if copy.subject().as_raw() != original.subject().as_raw() {
            return Err(RotationError::Name { subject: certificate.subject });
        }
        Ok(issued)
    }
}

/// By what operators know an authority: `root`, `root-2`, `fleet-ca`, `fleet-ca-3`, `factory-line-1`. Names of stations
/// and fleets cannot make two of them alike; two authorities that one station had are told apart by their keys.
pub fn name_of(authority: &Certificate) -> String {
    let urn = authority.uris.first().and_then(|uri| uri.parse().ok());
    let kind = match urn {
        Some(DroverUrn::FactoryCa(station)) => return format!("factory-{station}"),
        Some(DroverUrn::FleetCa(_)) => "fleet-ca",
        Some(DroverUrn::Minion(_) | DroverUrn::Master(_) | DroverUrn::Operator(_)) => "leaf",
        None => "root",
    };
    match generation(authority) {
        0 | 1 => kind.to_owned(),
        generation => format!("{kind}-{generation}"),
    }
}

/// Which root or fleet CA of its fleet it is, from 1: the number at the end of its common name.
pub fn generation(authority: &Certificate) -> u32 {
    let name = authority.common_name.as_deref().unwrap_or_default();
    name.rsplit_once(' ').and_then(|(_, number)| number.parse().ok()).unwrap_or(1)
}

/// The fleet whose root it is.
pub fn fleet_of(root: &Certificate) -> Result<FleetName, RotationError> {
    let name = root.organization.as_deref().unwrap_or_default();
    name.parse().map_err(|source| RotationError::Fleet { subject: root.subject.clone(), source })
}

#[cfg(test)]
mod tests;
