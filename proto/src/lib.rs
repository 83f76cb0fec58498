//! The wire between Drover's master and minions: messages, codec, session, targeting, events and the tunnel.
//! Pure but for [`tunnel`]: no other module touches a socket, a file or a clock.

pub mod codec;
pub mod digest;
pub mod event;
pub mod glob;
pub mod grains;
pub mod id;
pub mod job;
pub mod local_event;
pub mod message;
pub mod nearest;
pub mod outbox;
pub mod session;
pub mod target;
pub mod tunnel;
pub mod zmtp;

pub use drover_pki::MinionId;
