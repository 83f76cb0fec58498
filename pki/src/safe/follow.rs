//! A station that follows its fleet's root list: the roots that it hands to new devices, and its own certificate under
//! the newest of them. Its key stays.

use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;

use crate::certificate::{Certificate, Unreadable};
use crate::file::{self, Access, FileError};
use crate::pem_text::encode_certificates;
use crate::root_list::{RootListError, SignedRootList};
use crate::rotation::name_of;
use crate::verify::{AnchorError, TrustAnchors};

/// Why a station keeps its roots.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The list is not to be trusted.
    #[error("the root list is refused")]
    List(#[from] RootListError),
    /// A certificate cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The list's roots cannot be used.
    #[error("the root list's roots cannot be used")]
    Anchors(#[from] AnchorError),
    /// The station's own authority is left out.
    #[error("none of the roots in the list certified this station's authority `{name}`")]
    NotCertified {
        /// The authority's name.
        name: String,
        /// The station's certificate.
        path: PathBuf,
    },
}

impl FollowError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotCertified { .. } => Some(
                "it was left out, or is not remembered where the root lies: make the station again",
            ),
            Self::List(error) => error.hint(),
            Self::File(FileError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Some("--station names the directory that `drover-enrol init-station` made")
            }
            Self::File(_) | Self::Unreadable(_) | Self::Anchors(_) => None,
        }
    }
}

/// What a station trusts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The list's number.
    pub number: u64,
    /// The roots' names.
    pub roots: Vec<String>,
    /// Whether the station's certificate changed.
    pub is_certified_again: bool,
}

/// Makes a station follow a list. Done twice it changes nothing more, so that a cut in between is made good.
pub fn follow(station: &Path, text: &[u8]) -> Result<Followed, FollowError> {
    let (root_path, own_path) = (station.join("root.crt"), station.join("ca.crt"));
    let known = file::read_anchors(&root_path)?;
    let signed = SignedRootList::read(text)?;
    // A station keeps no number: a list that it has followed already is followed again, an older one brings back no more
    // than the next list takes away.
    signed.check_follows(&known, 0)?;
    let list = &signed.list;
    let own = file::read_certificates(&own_path)?.swap_remove(0);
    let read = Certificate::read(&own)?;
    let anchors = TrustAnchors::new(list.roots.clone())?;
    let newest = list.roots.last().map_or_else(Vec::new, |root| vec![root.clone()]);
    let newest = TrustAnchors::new(newest)?;
    let is_own = |der: &&CertificateDer<'_>| {
        Certificate::read(der).is_ok_and(|other| other.key == read.key && other.uris == read.uris)
    };
    let again = list.cross.iter().filter(is_own);
    let best = again.clone().find(|der| newest.has_issued(der));
    let best = best.or_else(|| again.into_iter().find(|der| anchors.has_issued(der)));
    let certificate = match best {
        Some(certificate) => certificate.clone(),
        None if anchors.has_issued(&own) => own.clone(),
        None => return Err(FollowError::NotCertified { name: name_of(&read), path: own_path }),
    };

    // At every moment the station's certificate leads to one of its roots.
    let mut both = known.certificates().to_vec();
    both.extend(list.roots.iter().filter(|root| !known.certificates().contains(root)).cloned());
    write(&root_path, &both)?;
    let is_certified_again = certificate != own;
    if is_certified_again {
        write(&own_path, &[certificate])?;
    }
    write(&root_path, &list.roots)?;
    let mut roots = Vec::new();
    for root in &list.roots {
        roots.push(name_of(&Certificate::read(root)?));
    }
    Ok(Followed { number: list.number, roots, is_certified_again })
}

fn write(path: &Path, certificates: &[CertificateDer<'_>]) -> Result<(), FileError> {
    file::replace(path, encode_certificates(certificates).as_bytes(), Access::Public)
}
