//! The roots that this device trusts, and how it comes to trust others: by a list that a root signed which it trusts
//! already, that is newer than the one it follows, and under which the master that it is connected to is its master still.
//! `root-list.json` decides; `root.crt` says the same to others, and is all there is before the first list.

use std::{path::Path, sync::Arc};

use drover_pki::{
    Fingerprint,
    file::{self, Access, FileError},
    pem_text::encode_certificates,
    root_list::{RootListError, SignedRootList},
    verify::{AnchorError, CertificateError, TrustAnchors, verify_master},
};
use drover_proto::message::Roots;
use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error;

use crate::error_chain;

const LIST: &str = "root-list.json";
const ROOTS: &str = "root.crt";

/// The roots that are trusted.
#[derive(Debug)]
pub struct DeviceRoots {
    directory: std::path::PathBuf,
    anchors: Arc<TrustAnchors>,
    /// The number of the list that is followed; 0 for what it was born with.
    number: u64,
}

/// Why a list is not followed.
#[derive(Debug, Error)]
pub enum FollowError {
    /// It is not to be trusted.
    #[error("the root list is refused")]
    List(#[from] RootListError),
    /// Its roots are none.
    #[error("the root list's roots cannot be used")]
    Anchors(#[from] AnchorError),
    /// With it the device would never come back.
    #[error("the present master would not be this device's master under root list {number}")]
    Master {
        /// The list's number.
        number: u64,
        /// Why not.
        source: CertificateError,
    },
}

impl FollowError {
    /// Whether the list brings nothing new, which is nobody's fault.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        matches!(self, Self::List(RootListError::Older { .. }))
    }
}

impl DeviceRoots {
    /// Reads what is stored in `directory`. A list that cannot be read leaves `root.crt`.
    ///
    /// # Errors
    /// When there is no root.
    pub fn load(directory: &Path) -> Result<Self, FileError> {
        let (anchors, number) = match stored(directory) {
            Ok(Some((anchors, signed))) => {
                let roots = Self::finish(directory, &signed);
                if let Err(why) = roots {
                    tracing::debug!("`{ROOTS}` is not what the list says: {}", error_chain(&why));
                }
                (anchors, signed.list.number)
            }
            Ok(None) => (file::read_anchors(&directory.join(ROOTS))?, 0),
            Err(why) => {
                tracing::warn!("the root list is left out: {}", error_chain(&*why));
                (file::read_anchors(&directory.join(ROOTS))?, 0)
            }
        };
        Ok(Self { directory: directory.to_owned(), anchors: Arc::new(anchors), number })
    }

    /// The roots, with the authorities that they vouch for.
    #[must_use]
    pub const fn anchors(&self) -> &Arc<TrustAnchors> {
        &self.anchors
    }

    /// What the master is told of them.
    #[must_use]
    pub fn told(&self) -> Roots {
        let roots = self.anchors.certificates().iter().map(|root| Fingerprint::of(root)).collect();
        Roots { root_list: self.number, roots }
    }

    /// Follows a list, if that is safe. `shown` is what the present master showed, the leaf first. Says whether the disk
    /// took it: the list holds in memory all the same.
    ///
    /// # Errors
    /// When it is not to be followed; nothing changes then.
    pub fn follow(
        &mut self,
        text: &[u8],
        shown: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<Result<(), FileError>, FollowError> {
        let signed = SignedRootList::read(text)?;
        signed.check_follows(&self.anchors, self.number)?;
        let anchors = signed.list.anchors()?;
        let number = signed.list.number;
        let verified = match shown.split_first() {
            Some((leaf, issuers)) => verify_master(&anchors, leaf, issuers, at).map(drop),
            None => Err(CertificateError::UnknownIssuer),
        };
        verified.map_err(|source| FollowError::Master { number, source })?;
        // This one rename decides; `root.crt` follows, now or at the next start.
        let list = self.directory.join(LIST);
        let stored = file::replace(&list, &signed.text, Access::Public)
            .and_then(|()| Self::finish(&self.directory, &signed));
        (self.anchors, self.number) = (Arc::new(anchors), number);
        Ok(stored)
    }

    fn finish(directory: &Path, signed: &SignedRootList) -> Result<(), FileError> {
        let path = directory.join(ROOTS);
        let text = encode_certificates(&signed.list.roots);
        if std::fs::read(&path).is_ok_and(|known| known == text.as_bytes()) {
            return Ok(());
        }
        file::replace(&path, text.as_bytes(), Access::Public)
    }
}

type Stored = Option<(TrustAnchors, SignedRootList)>;

fn stored(directory: &Path) -> Result<Stored, Box<dyn std::error::Error>> {
    let path = directory.join(LIST);
    if !path.exists() {
        return Ok(None);
    }
    let signed = SignedRootList::read(&file::read(&path)?)?;
    Ok(Some((signed.list.anchors()?, signed)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use drover_pki::{Authority, PrivateKey, root_list::RootList};
    use jiff::Timestamp;
    use tempfile::TempDir;

    use super::*;

    struct Scene {
        pki: TempDir,
        old: Authority,
        new: Authority,
        /// What the master shows: by the old root, and by the bridge from it.
        shown: Vec<CertificateDer<'static>>,
    }

    fn now() -> UnixTime {
        UnixTime::now()
    }

    impl Scene {
        fn new() -> Self {
            let now = Timestamp::now();
            let old = Authority::create_root(&"acme".parse().unwrap(), now).unwrap();
            let new = old.create_next_root(PrivateKey::generate().unwrap(), now).unwrap();
            let bridge = old.certify_again(new.der(), now).unwrap();
            let fleet_ca = new.create_fleet_ca(&"acme".parse().unwrap(), now).unwrap();
            let key = PrivateKey::generate().unwrap();
            let leaf = fleet_ca.issue_master(&"north".parse().unwrap(), &key, now).unwrap();
            let pki = tempfile::tempdir().unwrap();
            let root = encode_certificates(std::slice::from_ref(old.der()));
            fs::write(pki.path().join(ROOTS), root).unwrap();
            Self { pki, old, new, shown: vec![leaf, fleet_ca.der().clone(), bridge] }
        }

        fn load(&self) -> DeviceRoots {
            DeviceRoots::load(self.pki.path()).unwrap()
        }

        fn list(&self, number: u64, roots: &[&Authority], signers: &[&Authority]) -> Vec<u8> {
            let roots = roots.iter().map(|root| root.der().clone()).collect();
            let fleet = "acme".parse().unwrap();
            let list = RootList::new(fleet, number, Timestamp::now(), roots, Vec::new());
            list.sign(signers).unwrap().text
        }
    }

    #[test]
    fn a_new_root_is_trusted_and_later_the_old_one_is_not_across_restarts() {
        let scene = Scene::new();
        let Scene { old, new, shown, .. } = &scene;
        let mut roots = scene.load();
        assert_eq!(roots.told().root_list, 0);
        let one = scene.list(1, &[old, new], &[old, new]);
        roots.follow(&one, shown, now()).unwrap().unwrap();
        assert_eq!(scene.load().told(), roots.told());
        assert_eq!(scene.load().told().roots.len(), 2);
        let two = scene.list(2, &[new], &[new]);
        roots.follow(&two, shown, now()).unwrap().unwrap();
        let told = Roots { root_list: 2, roots: vec![Fingerprint::of(new.der())] };
        assert_eq!((roots.told(), scene.load().told()), (told.clone(), told));
        let others = file::read_anchors(&scene.pki.path().join(ROOTS)).unwrap();
        assert_eq!(others.certificates(), [new.der().clone()]);
        let known = roots.follow(&one, shown, now()).unwrap_err();
        assert!(known.is_known(), "{known}");
    }

    #[test]
    fn a_list_that_would_lose_the_master_or_is_a_thiefs_is_refused() {
        let scene = Scene::new();
        let Scene { old, new, shown, .. } = &scene;
        let mut roots = scene.load();
        let before = roots.told();
        let thief = old.create_next_root(PrivateKey::generate().unwrap(), Timestamp::now());
        let thief = thief.unwrap();
        let refused = |roots: &mut DeviceRoots, text: &[u8], shown: &[CertificateDer<'_>]| {
            roots.follow(text, shown, now()).unwrap_err()
        };
        let text = scene.list(1, &[&thief], &[&thief]);
        let why = refused(&mut roots, &text, shown);
        assert!(matches!(why, FollowError::List(RootListError::Untrusted)), "{why}");
        // Whoever has the old root's key alone does not get a device away from its master.
        let text = scene.list(1, &[&thief], &[old, &thief]);
        let why = refused(&mut roots, &text, shown);
        assert!(matches!(why, FollowError::Master { number: 1, .. }), "{why}");
        let text = scene.list(1, &[old, new], &[old, new]);
        let why = refused(&mut roots, &text, &[]);
        assert!(matches!(why, FollowError::Master { .. }), "{why}");
        assert_eq!((roots.told(), scene.load().told()), (before.clone(), before));
        assert!(!scene.pki.path().join(LIST).exists());
    }

    #[test]
    fn a_cut_leaves_the_roots_before_or_the_roots_after() {
        let scene = Scene::new();
        let Scene { old, new, .. } = &scene;
        let text = scene.list(1, &[old, new], &[old, new]);
        let path = scene.pki.path().join(LIST);
        for length in [0, 1, text.len() / 2, text.len() - 2] {
            fs::write(&path, &text[..length]).unwrap();
            assert_eq!(scene.load().told().root_list, 0);
        }
        // The list is there, `root.crt` is not yet what it says.
        fs::write(&path, &text).unwrap();
        assert_eq!(scene.load().told().root_list, 1);
        let others = file::read_anchors(&scene.pki.path().join(ROOTS)).unwrap();
        assert_eq!(others.certificates().len(), 2);
    }

    #[test]
    fn a_disk_that_takes_nothing_does_not_keep_a_device_back() {
        let scene = Scene::new();
        let Scene { old, new, shown, .. } = &scene;
        let mut roots = scene.load();
        roots.directory = scene.pki.path().join("gone");
        let text = scene.list(1, &[old, new], &[old, new]);
        roots.follow(&text, shown, now()).unwrap().unwrap_err();
        assert_eq!(roots.told().root_list, 1);
    }
}
