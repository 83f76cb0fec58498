//! Who this device is: its operational certificate (LDevID) where it has one, else its birth certificate (IDevID), and
//! the root that masters are known by. What the master thinks of it is the handshake's to find out.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use drover_pki::{
    MinionId,
    certificate::{Certificate, Unreadable},
    urn::DroverUrn,
    verify::{AnchorError, TrustAnchors},
};
use drover_proto::tunnel::{Identity, IdentityError};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;

/// A device's identity, as its files give it.
pub struct DeviceIdentity {
    /// The id in its certificates.
    pub id: MinionId,
    /// The hardware serial number, where the certificate has one.
    pub serial: Option<String>,
    /// The roots that masters' certificates lead to.
    pub anchors: Arc<TrustAnchors>,
    /// What to show, best first: there is always one.
    pub certificates: Vec<NamedIdentity>,
}

/// One certificate with its key.
pub struct NamedIdentity {
    /// `ldevid` or `idevid`.
    pub name: &'static str,
    /// What the tunnel shows.
    pub identity: Identity,
}

/// Why a device has no identity.
#[derive(Debug, Error)]
pub enum LoadIdentityError {
    /// Neither an LDevID nor an IDevID.
    #[error(
        "there is no `idevid.crt` in `{0}`: enrol the device with `drover-enrol issue`, or set `pki_dir`"
    )]
    NotEnrolled(PathBuf),
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The root is none.
    #[error("`{path}` is no root certificate")]
    Root {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: AnchorError,
    },
    /// A certificate and its key do not make an identity.
    #[error("cannot use `{path}`")]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        source: IdentityError,
    },
    /// A certificate cannot be read.
    #[error("cannot read the certificate in `{path}`")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Unreadable,
    },
    /// A certificate is not a device's.
    #[error("the certificate in `{0}` names no minion")]
    NoMinion(PathBuf),
    /// Two certificates for two minions.
    #[error("`ldevid.crt` names `{ldevid}`, but `idevid.crt` names `{idevid}`")]
    TwoMinions {
        /// In the operational one.
        ldevid: MinionId,
        /// In the birth certificate.
        idevid: MinionId,
    },
}

impl DeviceIdentity {
    /// Reads the identity in `directory`.
    ///
    /// # Errors
    /// When there is none that could be shown.
    pub fn load(directory: &Path) -> Result<Self, LoadIdentityError> {
        let root = directory.join("root.crt");
        let idevid = named(directory, "idevid")?;
        let ldevid = match named(directory, "ldevid") {
            Ok(found) => found,
            // A half-written renewal must not take the device away: its birth certificate is good for ever.
            Err(why) if idevid.is_some() => {
                tracing::warn!(
                    "the operational certificate is left out: {}",
                    crate::error_chain(&why)
                );
                None
            }
            Err(why) => return Err(why),
        };
        let mut certificates = Vec::new();
        let mut known: Option<(MinionId, Option<String>)> = None;
        for (id, serial, named) in [ldevid, idevid].into_iter().flatten() {
            match &known {
                Some((ldevid, _)) if *ldevid != id => {
                    return Err(LoadIdentityError::TwoMinions {
                        ldevid: ldevid.clone(),
                        idevid: id,
                    });
                }
                Some(_) => {}
                None => known = Some((id, serial)),
            }
            certificates.push(named);
        }
        let (id, serial) =
            known.ok_or_else(|| LoadIdentityError::NotEnrolled(directory.to_owned()))?;
        let anchors = TrustAnchors::from_pem(&read(&root)?)
            .map_err(|source| LoadIdentityError::Root { path: root, source })?;
        Ok(Self { id, serial, anchors: Arc::new(anchors), certificates })
    }
}

type Found = (MinionId, Option<String>, NamedIdentity);

fn named(directory: &Path, name: &'static str) -> Result<Option<Found>, LoadIdentityError> {
    let path = directory.join(format!("{name}.crt"));
    if !path.exists() {
        return Ok(None);
    }
    let pem = read(&path)?;
    let key = read(&directory.join(format!("{name}.key")))?;
    let identity = Identity::from_pem(&pem, &key)
        .map_err(|source| LoadIdentityError::Pair { path: path.clone(), source })?;
    let leaf = CertificateDer::pem_slice_iter(&pem).next().and_then(Result::ok);
    let leaf = leaf.ok_or_else(|| LoadIdentityError::NoMinion(path.clone()))?;
    let certificate = Certificate::read(&leaf)
        .map_err(|source| LoadIdentityError::Certificate { path: path.clone(), source })?;
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
    let id = minion.ok_or(LoadIdentityError::NoMinion(path))?;
    Ok(Some((id, certificate.subject_serial, NamedIdentity { name, identity })))
}

fn read(path: &Path) -> Result<Vec<u8>, LoadIdentityError> {
    fs::read(path).map_err(|source| LoadIdentityError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use drover_pki::{Authority, HardwareSerial, PrivateKey, pem_text, profile::Profile};
    use jiff::Timestamp;

    use super::*;

    struct Factory {
        root: Authority,
        factory: Authority,
        fleet_ca: Authority,
        pki: tempfile::TempDir,
    }

    impl Factory {
        fn new() -> Self {
            let name = "acme".parse().unwrap();
            let now = Timestamp::now();
            let root = Authority::create_root(&name, now).unwrap();
            let factory = root.create_factory_ca(&"line-1".parse().unwrap(), now).unwrap();
            let fleet_ca = root.create_fleet_ca(&name, now).unwrap();
            let pki = tempfile::tempdir().unwrap();
            let pem = pem_text::encode_certificates(&[root.der().clone()]);
            fs::write(pki.path().join("root.crt"), pem).unwrap();
            Self { root, factory, fleet_ca, pki }
        }

        fn issue(&self, name: &str, authority: &Authority, profile: &Profile) {
            let key = PrivateKey::generate().unwrap();
            let leaf = authority.issue(profile, &key, Timestamp::now()).unwrap();
            let pem = pem_text::encode_certificates(&[leaf, authority.der().clone()]);
            fs::write(self.pki.path().join(format!("{name}.crt")), pem).unwrap();
            let key = key.to_pem();
            fs::write(self.pki.path().join(format!("{name}.key")), key.as_bytes()).unwrap();
        }

        fn idevid(&self, id: &str) {
            let serial: HardwareSerial = "SN-1".parse().unwrap();
            let profile = Profile::idevid(&id.parse().unwrap(), &serial);
            self.issue("idevid", &self.factory, &profile);
        }

        fn ldevid(&self, id: &str) {
            let month = Duration::from_secs(30 * 86_400);
            let profile = Profile::ldevid(&id.parse().unwrap(), None, month);
            self.issue("ldevid", &self.fleet_ca, &profile);
        }

        fn load(&self) -> Result<DeviceIdentity, LoadIdentityError> {
            DeviceIdentity::load(self.pki.path())
        }

        fn shown(&self) -> Vec<&'static str> {
            self.load().unwrap().certificates.iter().map(|shown| shown.name).collect()
        }
    }

    #[test]
    fn a_device_that_was_never_enrolled_says_what_to_do() {
        let why = Factory::new().load().err().unwrap().to_string();
        assert!(why.contains("enrol the device with `drover-enrol issue`"), "{why}");
    }

    #[test]
    fn the_operational_certificate_is_shown_before_the_birth_certificate() {
        let factory = Factory::new();
        factory.idevid("rfid-1");
        let identity = factory.load().unwrap();
        assert_eq!((identity.id.as_str(), identity.serial.as_deref()), ("rfid-1", Some("SN-1")));
        factory.ldevid("rfid-1");
        assert_eq!(factory.shown(), ["ldevid", "idevid"]);
    }

    #[test]
    fn a_half_written_renewal_does_not_take_the_device_away() {
        let factory = Factory::new();
        factory.idevid("rfid-1");
        factory.ldevid("rfid-1");
        fs::write(factory.pki.path().join("ldevid.key"), "").unwrap();
        assert_eq!(factory.shown(), ["idevid"]);
        fs::write(factory.pki.path().join("ldevid.crt"), "").unwrap();
        assert_eq!(factory.shown(), ["idevid"]);
    }

    #[test]
    fn certificates_for_two_minions_or_for_a_master_are_refused() {
        let factory = Factory::new();
        factory.idevid("rfid-1");
        factory.ldevid("rfid-2");
        assert!(matches!(factory.load(), Err(LoadIdentityError::TwoMinions { .. })));
        fs::remove_file(factory.pki.path().join("ldevid.crt")).unwrap();
        factory.issue("idevid", &factory.fleet_ca, &Profile::master(&"north".parse().unwrap()));
        assert!(matches!(factory.load(), Err(LoadIdentityError::NoMinion(_))));
        let _ = &factory.root;
    }
}
