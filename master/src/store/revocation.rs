//! What the store keeps of revoked certificates and of the lists that name them, for `crl`, and of
//! what was told of authorities that end, for `expiry`.

use drover_pki::{Fingerprint, KeyDigest, certificate::SerialNumber};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Batch, ReadError, Store,
    keys::{self, ledger},
};

impl Store {
    /// What is kept of an authority's revoked certificates.
    ///
    /// # Errors
    /// When the engine has failed or an entry is damaged.
    pub fn revocations<T: DeserializeOwned>(
        &self,
        issuer: &KeyDigest,
    ) -> Result<Vec<T>, ReadError> {
        let (from, until) = keys::revocations(issuer);
        self.values(&from, &until)
    }

    /// What is kept of one revoked certificate.
    ///
    /// # Errors
    /// When the engine has failed or the entry is damaged.
    pub fn revocation<T: DeserializeOwned>(
        &self,
        issuer: &KeyDigest,
        serial: &SerialNumber,
    ) -> Result<Option<T>, ReadError> {
        self.entry(&keys::revocation(issuer, serial))
    }

    /// Which list an authority signed last, as [`Batch::crl`] wrote it.
    ///
    /// # Errors
    /// When the engine has failed or the entry is damaged.
    pub fn crl<T: DeserializeOwned>(&self, issuer: &KeyDigest) -> Result<Option<T>, ReadError> {
        self.entry(&keys::crl(issuer))
    }

    /// The newest list of every station's authority that one came from, by station.
    ///
    /// # Errors
    /// When the engine has failed or an entry is damaged.
    pub fn factory_crls<T: DeserializeOwned>(&self) -> Result<Vec<T>, ReadError> {
        self.values(&[ledger::FACTORY_CRL], &keys::end_of(ledger::FACTORY_CRL))
    }

    /// The newest list of a station's authority.
    ///
    /// # Errors
    /// When the engine has failed or the entry is damaged.
    pub fn factory_crl<T: DeserializeOwned>(
        &self,
        station: &str,
        issuer: &KeyDigest,
    ) -> Result<Option<T>, ReadError> {
        self.entry(&keys::factory_crl(station, issuer))
    }
}

impl Store {
    /// What was told last of an authority's end.
    ///
    /// # Errors
    /// When the engine has failed or the entry is damaged.
    pub fn expiry<T: DeserializeOwned>(
        &self,
        authority: &Fingerprint,
    ) -> Result<Option<T>, ReadError> {
        self.entry(&keys::expiry(authority))
    }
}

impl Batch {
    /// What was told of an authority's end.
    pub fn expiry<T: Serialize>(&mut self, authority: &Fingerprint, told: &T) {
        self.put(keys::expiry(authority), told);
    }

    /// A certificate of an authority was revoked.
    pub fn revocation<T: Serialize>(
        &mut self,
        issuer: &KeyDigest,
        serial: &SerialNumber,
        revocation: &T,
    ) {
        self.put(keys::revocation(issuer, serial), revocation);
    }

    /// A revoked certificate that no list needs to name any more.
    pub fn revocation_over(&mut self, issuer: &KeyDigest, serial: &SerialNumber) {
        self.remove(keys::revocation(issuer, serial));
    }

    /// Which list an authority signed last.
    pub fn crl<T: Serialize>(&mut self, issuer: &KeyDigest, mark: &T) {
        self.put(keys::crl(issuer), mark);
    }

    /// The newest list of a station's authority.
    pub fn factory_crl<T: Serialize>(&mut self, station: &str, issuer: &KeyDigest, list: &T) {
        self.put(keys::factory_crl(station, issuer), list);
    }
}
