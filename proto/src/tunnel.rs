//! The connection between a minion and its master: TCP, TLS 1.3, inside it ZMTP (`docs/protocol.md` §1).
//!
//! The master runs a [`gateway`], the minion calls [`connect`]; both put the [`frame
//! guard`](crate::zmtp::FrameGuard) before the `zeromq` crate. [`bus`] does the same for local
//! programs. A shell: it moves bytes, and what it decides it asks of `lobby` and `zmtp`.

mod bridge;
pub mod bus;
pub mod descriptors;
pub mod gateway;
mod link;
mod lobby;
mod minion;
pub mod socket;
mod tcp;
mod tls;

pub use bridge::{End, Taken};
pub use gateway::{
    Admission, Beginning, CloseReason, ConnectionId, CutReason, Gateway, GatewayConfig,
    GatewayError, GatewayEvent, GatewayHandle, GatewayLimits, Refusal,
};
pub use link::OpeningError;
pub use minion::{
    DEFAULT_PORT, Tunnel, TunnelClosed, TunnelConfig, TunnelError, TunnelFailure, TunnelLimits,
    TunnelReceiver, TunnelSender, connect,
};
pub use tls::{Identity, IdentityError, refused};
