//! Identity for Drover: certificate profiles, authorities, enrolment and verification.

pub mod certificate;
pub mod clock;
pub mod fingerprint;
pub mod name;
pub mod urn;
pub mod verify;

pub use fingerprint::{Fingerprint, KeyDigest};
pub use name::{
    FleetName, HardwareSerial, MasterName, MinionId, NameError, OperatorName, StationName,
};
