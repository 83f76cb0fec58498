//! Why the authorities stay as they are, and what to do about it.

use drover_pki::{
    authority::AuthorityError,
    certificate::Unreadable,
    pem_text::PemError,
    root_list::RootListError,
    verify::{AnchorError, CertificateError},
};
use thiserror::Error;

use super::{FilesError, Need};
use crate::store::{ReadError, StoreError};

/// Why the authorities stay as they are.
#[derive(Debug, Error)]
pub enum AuthoritiesError {
    /// A file.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Neither a root list nor a certificate.
    #[error("the file is neither a root list nor a certificate")]
    Neither(#[source] PemError),
    /// A list that is not to be followed.
    #[error("the root list is refused")]
    List(#[from] RootListError),
    /// Its roots are none.
    #[error("the root list's roots cannot be used")]
    Anchors(#[from] AnchorError),
    /// What this master stands on does not lead to the list's roots.
    #[error("the fleet CA that issues here would not be trusted under root list {number}")]
    FleetCaLeftOut {
        /// The list's number.
        number: u64,
        /// Why not.
        source: CertificateError,
    },
    /// A certificate that cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A certificate that is no fleet CA's of this fleet.
    #[error("the certificate is no fleet CA's that is trusted here")]
    NoFleetCa(#[source] CertificateError),
    /// Another fleet's.
    #[error("the certificate is that of the fleet `{0}`")]
    OtherFleet(String),
    /// Of a key that is not here.
    #[error("the certificate is of a key that is not here")]
    OtherKey,
    /// A key and its certificate do not fit.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Nothing of that name.
    #[error("there is no root and no former fleet CA `{name}` here; there is {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The one that issues, or the only root.
    #[error("`{0}` is in use")]
    InUse(String),
    /// No list without it was brought.
    #[error("no root list without `{0}` was imported")]
    NoList(String),
    /// Devices need it.
    #[error("`{name}` is needed by {}", need.told())]
    Needed {
        /// Its name.
        name: String,
        /// By whom.
        need: Box<Need>,
    },
    /// There is no fleet CA that could be replaced.
    #[error("this master has no fleet CA that it could use")]
    NoneHere,
    /// The stations' lists cannot be read.
    #[error("read by which authorities the stations are known")]
    Read(#[from] ReadError),
    /// The store failed.
    #[error("store that the authorities changed")]
    Store(#[from] StoreError),
}

impl AuthoritiesError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::List(error) => error.hint().map(str::to_owned),
            Self::FleetCaLeftOut { .. } => Some(
                "import a fleet CA that the list's newest root certified first: `drover key authorities request`".into(),
            ),
            Self::OtherKey => Some(
                "certify the request that `drover key authorities request` gave on this master".into(),
            ),
            Self::Neither(_) => {
                Some("bring what `drover-enrol rotate-root` or `drover-enrol certify` wrote".into())
            }
            Self::Unknown { .. } => Some("`drover key authorities` shows what there is".into()),
            Self::InUse(name) if name.starts_with("root") => {
                Some("make another root first: `drover-enrol rotate-root`".into())
            }
            Self::InUse(_) => {
                Some("replace it first: `drover key authorities request`".into())
            }
            Self::NoList(name) => Some(format!(
                "make it where the root lies, and import it: `drover-enrol rotate-root --drop {name}`"
            )),
            Self::Needed { .. } => Some(
                "wait until `drover key authorities` shows that nobody needs it, or say --force".into(),
            ),
            Self::Files(FilesError::Token) => Some(
                "make the key and its request with the token's own tools, and put its URI into `fleet-ca.next.key`".into(),
            ),
            Self::NoneHere => Some(
                "bring `fleet-ca.crt` and `fleet-ca.key` into pki_dir; where they are, the log says what is wrong with them".into(),
            ),
            Self::Files(_)
            | Self::Anchors(_)
            | Self::Unreadable(_)
            | Self::NoFleetCa(_)
            | Self::OtherFleet(_)
            | Self::Authority(_)
            | Self::Read(_)
            | Self::Store(_) => None,
        }
    }
}
