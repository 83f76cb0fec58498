//! Identity for Drover: certificate profiles, authorities, enrolment and verification.

#[cfg(feature = "station")]
pub mod assembly;
pub mod authority;
pub mod certificate;
pub mod clock;
pub mod crl;
pub mod csr;
pub mod dsse;
#[cfg(feature = "est")]
pub mod est;
pub mod file;
pub mod fingerprint;
#[cfg(feature = "station")]
pub mod fleet;
pub mod host;
pub mod key;
#[cfg(feature = "token")]
pub mod key_file;
pub mod ledger;
pub mod manifest;
pub mod name;
#[cfg(feature = "token")]
pub mod new_key;
#[cfg(feature = "station")]
pub mod new_station;
pub mod pair;
#[cfg(feature = "token")]
pub mod passphrase;
pub mod pem_text;
pub mod profile;
pub mod root_list;
pub mod rotation;
#[cfg(feature = "station")]
pub mod safe;
#[cfg(feature = "station")]
pub mod station;
#[cfg(feature = "token")]
pub mod token;
pub mod urn;
pub mod verify;

pub use authority::{Authority, AuthorityKey};
pub use fingerprint::{Fingerprint, KeyDigest};
pub use key::{PrivateKey, PublicKey};
pub use name::{
    FleetName, HardwareSerial, MasterName, MinionId, NameError, OperatorName, ServiceName,
    StationName,
};
pub use profile::Profile;
