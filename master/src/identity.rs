//! The master's own certificate, renewed by itself at two thirds of its life: a new key, certified by the fleet CA that is
//! here. New connections are shown the new one; open ones go on.

use std::{path::Path, time::Duration};

use drover_pki::{
    Authority, MasterName, PrivateKey, Profile,
    authority::AuthorityError,
    certificate::{Certificate, Unreadable},
    file::{FileError, Identity as KeyPair},
    key::KeyError,
    pair::KeyPairFiles,
    profile::{BACKDATE, Validity},
    verify::{CertificateError, TrustAnchors, verify_master},
};
use drover_proto::{
    event::NewEvent,
    tunnel::{GatewayHandle, Identity, IdentityError},
};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::json;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    clock::Now,
    operational::Operational,
    registry::timestamp,
    store::{Store, StoreError},
};

/// How often the calendar is looked at: it may be put right while the master runs.
const LOOK: Duration = Duration::from_secs(3_600);
/// After a renewal that failed, and twice as long after each further one; of a short life, a twentieth at most.
const RETRY: Duration = Duration::from_secs(60);
/// Commands that wait.
const COMMANDS: usize = 4;

/// Why the master has no certificate, or no new one.
#[derive(Debug, Error)]
pub enum OwnError {
    /// There is none, and no fleet CA to make one.
    #[error("find the master's certificate `{0}`")]
    None(String),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in the file cannot be read.
    #[error("read the master's certificate")]
    Unreadable(#[from] Unreadable),
    /// No key could be made.
    #[error("make a key for the master")]
    Key(#[from] KeyError),
    /// The fleet CA's key did not sign.
    #[error("certify the master's key with the fleet CA")]
    Sign(#[from] AuthorityError),
    /// No minion would take what the fleet CA made.
    #[error("verify the master's new certificate against `root.crt`")]
    Refused(#[from] CertificateError),
    /// The fleet CA's certificate ends.
    #[error("the fleet CA expired at {0}")]
    Expired(Timestamp),
    /// rustls does not take it.
    #[error("use the master's certificate and key")]
    Unusable(#[from] IdentityError),
}

/// The master's certificate and key on the disk, and how new ones are made.
#[derive(Debug, Clone)]
pub struct OwnCertificate {
    files: KeyPairFiles,
    name: MasterName,
    validity: Duration,
    anchors: TrustAnchors,
}

/// The certificate that is shown.
#[derive(Debug)]
pub struct Own {
    pair: KeyPair,
    leaf: Certificate,
    /// Whether it was made just now.
    is_new: bool,
}

impl Own {
    fn new(pair: KeyPair, is_new: bool) -> Result<Self, OwnError> {
        let leaf = Certificate::read(&pair.chain[0])?;
        Ok(Self { pair, leaf, is_new })
    }

    /// As TLS shows it; `also` are certificates that help a device find the way to its root.
    ///
    /// # Errors
    /// When rustls does not take it.
    pub fn identity(&self, also: &[CertificateDer<'static>]) -> Result<Identity, OwnError> {
        let chain = [&self.pair.chain, also].concat();
        Ok(Identity::from_der(chain, self.pair.key.to_rustls())?)
    }

    fn issued(&self) -> Timestamp {
        timestamp(self.leaf.not_before).saturating_add(BACKDATE).unwrap_or(Timestamp::MAX)
    }

    fn expires(&self) -> Timestamp {
        timestamp(self.leaf.not_after)
    }

    fn life(&self) -> Duration {
        Duration::try_from(self.expires().duration_since(self.issued())).unwrap_or_default()
    }

    /// When it is to be renewed: at two thirds of its life, or of `validity` where that was made shorter; at once where
    /// another fleet CA issues now.
    fn due(&self, validity: Duration, authority: Option<&Authority>) -> Timestamp {
        let issuer = self.pair.chain.get(1).and_then(|der| Certificate::read(der).ok());
        let is_of = |authority: &Authority| {
            issuer.is_some_and(|issuer| issuer.key == authority.certificate().key)
        };
        if authority.is_some_and(|authority| !is_of(authority)) {
            return Timestamp::MIN;
        }
        self.issued().saturating_add(self.life().min(validity) * 2 / 3).unwrap_or(Timestamp::MAX)
    }
}

impl OwnCertificate {
    /// `master.crt` and `master.key` in that directory. Nothing is read yet.
    #[must_use]
    pub fn new(
        pki_dir: &Path,
        name: MasterName,
        validity: Duration,
        anchors: TrustAnchors,
    ) -> Self {
        Self { files: KeyPairFiles::new(pki_dir, "master"), name, validity, anchors }
    }

    /// What is on the disk. Where that is due, and the fleet CA is here, a new one is made first: a master that was off for
    /// longer than its certificate lived comes back all the same.
    ///
    /// # Errors
    /// When there is none that could be shown.
    pub fn take_up(&self, authority: Option<&Authority>, now: Timestamp) -> Result<Own, OwnError> {
        let present = self.files.load()?.map(|pair| Own::new(pair, false)).transpose()?;
        let is_due = present.as_ref().is_none_or(|own| own.due(self.validity, authority) <= now);
        match (present, authority) {
            (Some(own), Some(authority)) if is_due => self.renew(authority, now).or_else(|error| {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the master's certificate is not renewed");
                Ok(own)
            }),
            (None, Some(authority)) => self.renew(authority, now),
            (Some(own), _) => Ok(own),
            (None, None) => Err(OwnError::None(self.files.certificate().display().to_string())),
        }
    }

    /// Makes a new key and certificate, and puts them in the place of the old.
    fn renew(&self, authority: &Authority, now: Timestamp) -> Result<Own, OwnError> {
        let end = timestamp(authority.certificate().not_after);
        let left = u64::try_from(end.as_second() - now.as_second()).unwrap_or(0);
        if left == 0 {
            return Err(OwnError::Expired(end));
        }
        let validity = Validity::For(self.validity.min(Duration::from_secs(left)));
        let profile = Profile { validity, ..Profile::master(&self.name) };
        let key = PrivateKey::generate()?;
        let leaf = authority.issue(&profile, &key, now)?;
        let chain = vec![leaf, authority.der().clone()];
        // One that no minion would take must not push out one that works.
        let since = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
        let moment = UnixTime::since_unix_epoch(since);
        verify_master(&self.anchors, &chain[0], &chain[1..], moment)?;
        self.files.stage(&key)?;
        self.files.commit(&chain)?;
        Own::new(KeyPair { chain, key }, true)
    }
}

enum Command {
    Look,
    ShowAlso(Vec<CertificateDer<'static>>, Box<TrustAnchors>),
}

/// What the rest of the master holds of its own certificate.
#[derive(Debug, Clone)]
pub struct IdentityHandle(mpsc::Sender<Command>);

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Look => "Look",
            Self::ShowAlso(..) => "ShowAlso",
        })
    }
}

impl IdentityHandle {
    /// The fleet CA has changed: the certificate is made anew where another one issues now.
    pub async fn look(&self) {
        let _ = self.0.send(Command::Look).await;
    }

    /// From now on these are shown after the certificate and its issuer: they help a device find the way to its root. New
    /// certificates have to lead to these roots.
    pub async fn show_also(&self, also: Vec<CertificateDer<'static>>, anchors: TrustAnchors) {
        let _ = self.0.send(Command::ShowAlso(also, Box::new(anchors))).await;
    }
}

/// Keeps the master's certificate young.
pub struct IdentityTask {
    certificate: OwnCertificate,
    own: Own,
    also: Vec<CertificateDer<'static>>,
    operational: Operational,
    gateway: GatewayHandle,
    store: Store,
    commands: mpsc::Receiver<Command>,
    /// Renewals that failed since the last one that did not.
    failures: u32,
}

impl IdentityTask {
    /// `own` is what the gateway shows, with `also`.
    #[must_use]
    pub fn new(
        certificate: OwnCertificate,
        own: Own,
        also: Vec<CertificateDer<'static>>,
        operational: Operational,
        gateway: GatewayHandle,
        store: Store,
    ) -> (Self, IdentityHandle) {
        let (handle, commands) = mpsc::channel(COMMANDS);
        let task =
            Self { certificate, own, also, operational, gateway, store, commands, failures: 0 };
        (task, IdentityHandle(handle))
    }

    /// Until the last handle is dropped.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run(mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.own.is_new) {
            self.tell().await?;
        }
        loop {
            let wait = self.wait();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Look) => {}
                    Some(Command::ShowAlso(also, anchors)) => {
                        self.also = also;
                        self.certificate.anchors = *anchors;
                        self.show();
                    }
                    None => return Ok(()),
                },
                () = tokio::time::sleep(wait) => {}
            }
            self.look().await?;
        }
    }

    fn wait(&self) -> Duration {
        let authority = self.operational.authority();
        let due = self.own.due(self.certificate.validity, authority.as_deref());
        let left = due.duration_since(Now::read().wall);
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => left.min(LOOK),
            // It is due, and was not renewed.
            Ok(_) | Err(_) if authority.is_some() => {
                let retry = RETRY * 2_u32.pow(self.failures.clamp(1, 6) - 1);
                retry.min(self.own.life() / 20)
            }
            Ok(_) | Err(_) => LOOK,
        }
    }

    /// Renews what is due.
    async fn look(&mut self) -> Result<(), StoreError> {
        let now = Now::read().wall;
        let authority = self.operational.authority();
        if self.own.due(self.certificate.validity, authority.as_deref()) > now {
            return Ok(());
        }
        let Some(authority) = authority else {
            let expires = self.own.expires();
            tracing::error!(%expires, "the master's certificate is due, and no fleet CA is here to renew it");
            return Ok(());
        };
        // A token may take its time.
        let certificate = self.certificate.clone();
        let renewing = tokio::task::spawn_blocking(move || certificate.renew(&authority, now));
        match renewing.await.expect("renewing does not panic") {
            Ok(own) => {
                self.failures = 0;
                self.own = own;
                self.show();
                self.tell().await
            }
            Err(error) => {
                self.failures += 1;
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the master's certificate is not renewed");
                Ok(())
            }
        }
    }

    fn show(&self) {
        match self.own.identity(&self.also) {
            Ok(identity) => self.gateway.set_identity(identity),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the master's certificate cannot be shown");
            }
        }
    }

    async fn tell(&self) -> Result<(), StoreError> {
        let leaf = &self.own.leaf;
        let (issued, expires) = (self.own.issued(), self.own.expires());
        tracing::info!(fingerprint = %leaf.fingerprint, %expires, "the master's certificate is renewed");
        let data = json!({
            "name": self.certificate.name,
            "serial": leaf.serial,
            "fingerprint": leaf.fingerprint.with_colons(),
            "issued": issued,
            "expires": expires,
        });
        let tag = "drover/master/renewed".parse().expect("a tag of letters");
        self.store.append(NewEvent::new(tag, None, data)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
    const DAY: Duration = Duration::from_secs(86_400);

    struct Scene {
        _directory: TempDir,
        root: Authority,
        fleet_ca: Authority,
        certificate: OwnCertificate,
    }

    fn scene() -> Scene {
        let fleet = "acme".parse().unwrap();
        let root = Authority::create_root(&fleet, NOW).unwrap();
        let fleet_ca = root.create_fleet_ca(&fleet, NOW).unwrap();
        let anchors = TrustAnchors::new(vec![root.der().clone()]).unwrap();
        let directory = TempDir::new().unwrap();
        let name = "north".parse().unwrap();
        let certificate = OwnCertificate::new(directory.path(), name, 30 * DAY, anchors);
        Scene { _directory: directory, root, fleet_ca, certificate }
    }

    fn day(day: u32) -> Timestamp {
        NOW + DAY * day
    }

    #[test]
    fn it_is_renewed_with_a_new_key_at_two_thirds_of_its_life() {
        let Scene { _directory, fleet_ca, certificate, .. } = scene();
        let first = certificate.take_up(Some(&fleet_ca), day(0)).unwrap();
        assert_eq!(first.life(), 30 * DAY);
        let same = certificate.take_up(Some(&fleet_ca), day(19)).unwrap();
        assert_eq!((same.leaf.fingerprint, same.is_new), (first.leaf.fingerprint, false));
        let next = certificate.take_up(Some(&fleet_ca), day(20)).unwrap();
        assert!(next.is_new);
        assert_ne!(next.leaf.key, first.leaf.key);
        let loaded = certificate.take_up(None, day(21)).unwrap();
        assert_eq!(loaded.leaf.fingerprint, next.leaf.fingerprint);
        loaded.identity(&[]).unwrap();
        let shorter = OwnCertificate { validity: 3 * DAY, ..certificate };
        assert!(shorter.take_up(Some(&fleet_ca), day(22)).unwrap().is_new, "no waiting for a year");
    }

    #[test]
    fn a_master_that_was_off_for_years_renews_before_it_listens() {
        let Scene { _directory, fleet_ca, certificate, .. } = scene();
        certificate.take_up(Some(&fleet_ca), day(0)).unwrap();
        let back = certificate.take_up(Some(&fleet_ca), day(1_000)).unwrap();
        assert_eq!(back.issued(), day(1_000));
        assert!(certificate.take_up(None, day(2_000)).is_ok(), "expired is better than none");
    }

    #[test]
    fn what_no_minion_would_take_pushes_out_nothing() {
        let Scene { _directory, root, fleet_ca, certificate } = scene();
        let first = certificate.take_up(Some(&fleet_ca), day(0)).unwrap();
        let stranger = Authority::create_root(&"other".parse().unwrap(), NOW).unwrap();
        let other = stranger.create_fleet_ca(&"other".parse().unwrap(), NOW).unwrap();
        let own = certificate.take_up(Some(&other), day(20)).unwrap();
        assert_eq!(own.leaf.fingerprint, first.leaf.fingerprint);
        assert!(matches!(certificate.renew(&other, day(20)), Err(OwnError::Refused(_))));
        assert!(matches!(certificate.renew(&fleet_ca, day(5_000)), Err(OwnError::Expired(_))));
        let successor = root.create_fleet_ca(&"acme".parse().unwrap(), NOW).unwrap();
        let own = certificate.take_up(Some(&successor), day(1)).unwrap();
        assert!(own.is_new, "another fleet CA issues now");
    }

    #[test]
    fn without_a_certificate_and_a_fleet_ca_there_is_nothing_to_show() {
        let Scene { _directory, certificate, .. } = scene();
        assert!(matches!(certificate.take_up(None, day(0)), Err(OwnError::None(_))));
    }
}
