//! What is done where the root lies when authorities change: a new root in the place of the old, a list without the old,
//! a new fleet CA. `root/` remembers every authority that the root certified, every list, and every root before it.
//!
//! A rotation is written aside as `root.next/` and takes its name last, so that it is done or can be finished, never half
//! done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use crate::authority::{Authority, AuthorityError};
use crate::certificate::{Certificate, Unreadable};
use crate::file::{self, Access, FileError};
use crate::key::PublicKey;
use crate::key_file::{self, KeyFileError};
use crate::name::StationName;
use crate::new_key::{MadeKey, NewKey, NewKeyError};
use crate::passphrase::PassphraseSource;
use crate::pem_text::encode_certificates;
use crate::profile::Profile;
use crate::root_list::{RootList, RootListError, SignedRootList};
use crate::rotation::{RotationError, fleet_of, generation, name_of};
use crate::urn::DroverUrn;
use crate::verify::{AnchorError, TrustAnchors};

mod directory;
mod follow;

pub use follow::{FollowError, Followed, follow};

/// Why the authorities stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum SafeError {
    /// Begun and interrupted: the new root may be known to somebody.
    #[error("a rotation was begun in `{}` and not finished", path.display())]
    Unfinished {
        /// Where it waits.
        path: PathBuf,
    },
    /// No root of that name is in the newest list.
    #[error("there is no root `{name}` in the newest list; it has {known}")]
    NoSuchRoot {
        /// What was asked for.
        name: String,
        /// The names in the list.
        known: String,
    },
    /// The root whose key is in use is the one that signs.
    #[error("`{name}` is the newest root, and signs the list: it cannot be left out of it")]
    Newest {
        /// Its name.
        name: String,
    },
    /// Nothing of that name was certified by the root.
    #[error("there is no authority `{name}`; the root certified {known}")]
    NoSuchAuthority {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Another root's.
    #[error("`{name}` was not certified by this root")]
    NotOurs {
        /// The authority's name.
        name: String,
    },
    /// Something else is in the way.
    #[error("`{}` exists already", path.display())]
    Occupied {
        /// The file in the way.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The root's key cannot be used.
    #[error(transparent)]
    KeyFile(KeyFileError),
    /// The new root's key could not be made.
    #[error(transparent)]
    NewKey(#[from] NewKeyError),
    /// An authority could not be certified.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// The root could not issue.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The list could not be made, or an earlier one not be read.
    #[error(transparent)]
    List(#[from] RootListError),
    /// A certificate cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The roots of a list cannot be used.
    #[error("the roots of the newest list cannot be used")]
    Anchors(#[from] AnchorError),
}

impl SafeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unfinished { .. } => {
                Some("finish it with `drover-enrol rotate-root --fleet DIR --out FILE`".into())
            }
            Self::Newest { .. } => {
                Some("make another root first, with `drover-enrol rotate-root`".into())
            }
            Self::File(FileError::Io { path, source, .. })
                if source.kind() == io::ErrorKind::NotFound
                    && path.parent().is_some_and(|parent| parent.ends_with("root")) =>
            {
                Some("bring the root from its safe; --fleet names the directory above it".into())
            }
            Self::KeyFile(error) => error.hint().map(str::to_owned),
            Self::NewKey(error) => error.hint().map(str::to_owned),
            Self::List(error) => error.hint().map(str::to_owned),
            Self::Occupied { .. } => Some("name another file with --out".into()),
            Self::NoSuchRoot { .. } => Some("name one of these with --drop".into()),
            Self::NoSuchAuthority { .. } => Some(
                "name one of these with --leave-out; one that an earlier version certified is made \
                 known with --authority"
                    .into(),
            ),
            Self::NotOurs { .. } => Some("name the directory of its own fleet with --fleet".into()),
            Self::File(_)
            | Self::Rotation(_)
            | Self::Authority(_)
            | Self::Unreadable(_)
            | Self::Anchors(_) => None,
        }
    }
}

impl From<KeyFileError> for SafeError {
    fn from(error: KeyFileError) -> Self {
        if let KeyFileError::File(error) = error { Self::File(error) } else { Self::KeyFile(error) }
    }
}

/// A fleet's directory, seen from where its root lies.
#[derive(Debug, Clone)]
pub struct Safe {
    fleet: PathBuf,
}

/// A list that was made, to be carried to the master and the stations.
#[derive(Debug)]
pub struct Rotated {
    /// The list.
    pub signed: SignedRootList,
    /// The roots in it, the newest last.
    pub roots: Vec<String>,
    /// The authorities that the newest root has certified again.
    pub certified: Vec<String>,
    /// Those that it has not, because that was asked for.
    pub left_out: Vec<String>,
    /// Whether this finished what an earlier run had begun.
    pub finished_earlier: bool,
}

/// A fleet CA that was certified.
#[derive(Debug)]
pub struct Certified {
    /// Its name.
    pub name: String,
    /// The root that certified it.
    pub root: String,
    /// Whether the same key was certified before.
    pub is_renewed: bool,
    /// When it ends.
    pub not_after: Timestamp,
    /// Where its certificate was written.
    pub path: PathBuf,
}

impl Safe {
    /// In the directory that `init-fleet` made.
    pub fn new(fleet: &Path) -> Self {
        Self { fleet: fleet.to_owned() }
    }

    /// Remembers an authority that the root certified, for the day when another root has to.
    pub fn remember(&self, authority: &CertificateDer<'_>) -> Result<(), SafeError> {
        directory::remember(&self.root_dir(), authority)
    }

    /// Remembers one that was certified before anything was remembered.
    pub fn adopt(&self, authority: &CertificateDer<'_>) -> Result<(), SafeError> {
        self.check_finished()?;
        if !TrustAnchors::new(vec![self.certificate()?])?.has_issued(authority) {
            let name = name_of(&Certificate::read(authority)?);
            return Err(SafeError::NotOurs { name });
        }
        self.remember(authority)
    }

    /// Whether the root certified a station of this name already.
    pub fn has_station(&self, station: &StationName) -> Result<bool, SafeError> {
        let urn = DroverUrn::FactoryCa(station.clone());
        let issued = directory::issued(&self.root_dir())?;
        let is_named = |certificate: &Certificate| {
            certificate.uris.iter().any(|uri| uri.parse() == Ok(urn.clone()))
        };
        Ok(issued.iter().any(|(_, certificate)| is_named(certificate)))
    }

    /// Whether the root may be used: not while a rotation waits to be finished, or what it certifies would be forgotten.
    pub fn check_finished(&self) -> Result<(), SafeError> {
        let next = self.next_dir();
        if next.exists() { Err(SafeError::Unfinished { path: next }) } else { Ok(()) }
    }

    /// Makes a new root and the list that brings it to the fleet, beside the old one. The authorities are certified by
    /// it too, but for those that are left out because their keys are in the wrong hands.
    pub fn rotate(
        &self,
        leave_out: &[String],
        out: &Path,
        passphrase: &PassphraseSource,
        new_key: &NewKey<'_>,
        now: Timestamp,
    ) -> Result<Rotated, SafeError> {
        if let Some(finished) = self.finish(out)? {
            return Ok(finished);
        }
        let old = self.root(passphrase)?;
        let fleet = fleet_of(old.certificate())?;
        let MadeKey { key, text: key_text } = new_key.make("the new root.key")?;
        let new = old.create_next_root(key, now)?;

        let (kept, left_out) = self.authorities_but(leave_out)?;
        let newest = self.newest_list()?;
        let (mut roots, mut cross) = match &newest {
            Some(newest) => (newest.list.roots.clone(), newest.list.cross.clone()),
            None => (vec![old.der().clone()], Vec::new()),
        };
        let is_left_out = |der: &CertificateDer<'_>| {
            let key = Certificate::read(der).map(|certificate| certificate.key);
            key.is_ok_and(|key| left_out.iter().any(|(_, left)| left.key == key))
        };
        cross.retain(|der| !is_left_out(der));
        cross.push(old.certify_again(new.der(), now)?);
        for (der, _) in &kept {
            cross.push(new.certify_again(der, now)?);
        }
        roots.push(new.der().clone());
        let number = newest.map_or(1, |newest| newest.list.number + 1);
        let signed = RootList::new(fleet, number, now, roots, cross).sign(&[&old, &new])?;

        // Aside and whole, then handed out, then in its place: whatever is cut off can be taken up from there.
        let staged = directory::stage(&self.fleet, &self.root_dir())?;
        directory::keep_previous(staged.path(), &name_of(old.certificate()))?;
        for (der, _) in &left_out {
            directory::leave_out(staged.path(), der)?;
        }
        directory::add_list(staged.path(), &signed)?;
        let certificate = encode_certificates(std::slice::from_ref(new.der()));
        file::replace(&staged.path().join("root.key"), key_text.as_bytes(), Access::Private)?;
        file::replace(&staged.path().join("root.crt"), certificate.as_bytes(), Access::Public)?;
        directory::take_name(staged, &self.next_dir())?;
        self.hand_out(&signed, out)?;
        directory::put_in_place(&self.next_dir(), &self.root_dir())?;
        let all: Vec<_> = kept.iter().chain(&left_out).map(|(_, known)| known).collect();
        let left_out = left_out.iter().map(|(_, left)| name_among(left, &all)).collect();
        self.rotated(signed, left_out, false)
    }

    /// Makes the list without a root that is to be trusted no more. Roots that it certified keep their certificates, so
    /// that a device which knows it alone still finds the way.
    pub fn drop_root(
        &self,
        name: &str,
        out: &Path,
        passphrase: &PassphraseSource,
        now: Timestamp,
    ) -> Result<Rotated, SafeError> {
        self.check_finished()?;
        let newest = self.newest_list()?;
        let current = self.certificate()?;
        let roots = match &newest {
            Some(newest) => newest.list.roots.clone(),
            None => vec![current.clone()],
        };
        let named =
            |der: &CertificateDer<'static>| Certificate::read(der).map(|read| name_of(&read));
        let names = roots.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        if !names.iter().any(|known| known == name) {
            let known = names.join(", ");
            return Err(SafeError::NoSuchRoot { name: name.to_owned(), known });
        }
        if named(&current)? == name {
            return Err(SafeError::Newest { name: name.to_owned() });
        }
        let root = self.root(passphrase)?;
        let remaining: Vec<_> = roots
            .into_iter()
            .zip(&names)
            .filter_map(|(der, known)| (known != name).then_some(der))
            .collect();
        let anchors = TrustAnchors::new(remaining.clone())?;
        let mut cross = newest.as_ref().map(|newest| newest.list.cross.clone()).unwrap_or_default();
        cross.retain(|der| {
            let is_bridge = Certificate::read(der).is_ok_and(|read| read.uris.is_empty());
            is_bridge || anchors.has_issued(der)
        });
        let number = newest.map_or(1, |newest| newest.list.number + 1);
        let fleet = fleet_of(root.certificate())?;
        let signed = RootList::new(fleet, number, now, remaining, cross).sign(&[&root])?;
        if out.exists() {
            return Err(SafeError::Occupied { path: out.to_owned() });
        }
        // Kept before it is handed out: a number is given once.
        directory::add_list(&self.root_dir(), &signed)?;
        self.hand_out(&signed, out)?;
        self.rotated(signed, Vec::new(), false)
    }

    /// Certifies a fleet CA whose key the master made, by its signing request: a new one, or the same key for longer.
    pub fn certify(
        &self,
        key: &PublicKey,
        out: &Path,
        passphrase: &PassphraseSource,
        now: Timestamp,
    ) -> Result<Certified, SafeError> {
        self.check_finished()?;
        let path = out.join("fleet-ca.crt");
        if path.exists() {
            return Err(SafeError::Occupied { path });
        }
        let root = self.root(passphrase)?;
        let fleet = fleet_of(root.certificate())?;
        let fleet_cas: Vec<_> = directory::issued(&self.root_dir())?
            .into_iter()
            .map(|(_, certificate)| certificate)
            .filter(|known| matches!(urn(known), Some(DroverUrn::FleetCa(_))))
            .collect();
        let same = fleet_cas.iter().find(|known| known.key == key.digest());
        let ordinal = match same {
            Some(known) => generation(known),
            // The first fleet CA of a fleet made by an earlier version is not remembered, but it was there.
            None => fleet_cas.iter().map(generation).max().unwrap_or(1).saturating_add(1),
        };
        let der = root.issue(&Profile::next_fleet_ca(&fleet, ordinal), key, now)?;
        let certificate = Certificate::read(&der)?;
        self.remember(&der)?;
        file::create_private_directory(out)?;
        file::create(&path, encode_certificates(&[der]).as_bytes(), Access::Public)?;
        Ok(Certified {
            name: name_of(&certificate),
            root: name_of(root.certificate()),
            is_renewed: same.is_some(),
            not_after: timestamp(certificate.not_after.as_secs()),
            path,
        })
    }

    /// The roots that the fleet trusts by the newest list, with the authorities that they vouch for.
    pub fn anchors(&self) -> Result<TrustAnchors, SafeError> {
        match self.newest_list()? {
            Some(newest) => Ok(newest.list.anchors()?),
            None => Ok(TrustAnchors::new(vec![self.certificate()?])?),
        }
    }

    /// The newest list that was made here.
    pub fn newest_list(&self) -> Result<Option<SignedRootList>, SafeError> {
        directory::newest_list(&self.root_dir())
    }

    fn root(&self, passphrase: &PassphraseSource) -> Result<Authority, SafeError> {
        Ok(key_file::read_authority(&self.root_dir(), "root", passphrase)?)
    }

    fn certificate(&self) -> Result<CertificateDer<'static>, SafeError> {
        Ok(file::read_certificates(&self.root_dir().join("root.crt"))?.swap_remove(0))
    }

    /// Finishes a rotation that was cut off.
    fn finish(&self, out: &Path) -> Result<Option<Rotated>, SafeError> {
        let next = self.next_dir();
        if !next.exists() {
            // Between the two renames the old directory has no name of its own, and the new one has its own already.
            directory::remove_replaced(&self.root_dir())?;
            return Ok(None);
        }
        let signed = directory::newest_list(&next)?
            .ok_or_else(|| SafeError::Unfinished { path: next.clone() })?;
        self.hand_out(&signed, out)?;
        directory::put_in_place(&next, &self.root_dir())?;
        self.rotated(signed, Vec::new(), true).map(Some)
    }

    /// Writes the list where it was asked for. One that lies there already may be this one, from before the cut.
    fn hand_out(&self, signed: &SignedRootList, out: &Path) -> Result<(), SafeError> {
        match file::create(out, &signed.text, Access::Public) {
            Err(FileError::Exists { .. })
                if fs::read(out).is_ok_and(|text| text == signed.text) =>
            {
                Ok(())
            }
            Err(FileError::Exists { path }) => Err(SafeError::Occupied { path }),
            other => Ok(other?),
        }
    }

    fn rotated(
        &self,
        signed: SignedRootList,
        left_out: Vec<String>,
        finished_earlier: bool,
    ) -> Result<Rotated, SafeError> {
        let newest = TrustAnchors::new(vec![self.certificate()?])?;
        let mut roots = Vec::new();
        for root in &signed.list.roots {
            roots.push(name_of(&Certificate::read(root)?));
        }
        let mut certified = Vec::new();
        for authority in signed.list.cross.iter().filter(|der| newest.has_issued(der)) {
            certified.push(Certificate::read(authority)?);
        }
        let all: Vec<_> = certified.iter().collect();
        let certified = all.iter().map(|authority| name_among(authority, &all)).collect();
        Ok(Rotated { signed, roots, certified, left_out, finished_earlier })
    }

    fn authorities_but(
        &self,
        leave_out: &[String],
    ) -> Result<(Vec<Remembered>, Vec<Remembered>), SafeError> {
        let issued = directory::issued(&self.root_dir())?;
        let all: Vec<_> = issued.iter().map(|(_, known)| known).collect();
        for name in leave_out {
            if !all.iter().any(|known| is_called(known, name)) {
                let names: Vec<_> = all.iter().map(|known| name_among(known, &all)).collect();
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(SafeError::NoSuchAuthority { name: name.clone(), known });
            }
        }
        let is_kept = |known: &Certificate| !leave_out.iter().any(|name| is_called(known, name));
        Ok(issued.into_iter().partition(|(_, known)| is_kept(known)))
    }

    fn root_dir(&self) -> PathBuf {
        self.fleet.join("root")
    }

    fn next_dir(&self) -> PathBuf {
        self.fleet.join("root.next")
    }
}

/// An authority's certificate, and what it says.
type Remembered = (CertificateDer<'static>, Certificate);

/// An authority's name, with its key where another one has that name too: a station that was made again has two.
fn name_among(authority: &Certificate, all: &[&Certificate]) -> String {
    let name = name_of(authority);
    let is_shared = all.iter().any(|other| other.key != authority.key && name_of(other) == name);
    if is_shared { directory::full_name(authority) } else { name }
}

/// Whether a name is an authority's, alone or with its key.
fn is_called(authority: &Certificate, name: &str) -> bool {
    name_of(authority) == name || directory::full_name(authority) == name
}

fn urn(certificate: &Certificate) -> Option<DroverUrn> {
    certificate.uris.first().and_then(|uri| uri.parse().ok())
}

fn timestamp(seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
