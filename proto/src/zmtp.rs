//! What Drover reads of ZMTP 3.0 (RFC 23) itself: the greeting, READY, and the bounds of frames.
//!
//! Pure: the tunnel and the local buses feed bytes in. Messages are the `zeromq` crate's work; these
//! machines only decide which bytes may reach it (`docs/protocol.md` §1.4).

mod guard;
mod opening;

pub use guard::{FrameGuard, FrameLimits, Part};
pub use opening::Opening;

use thiserror::Error;

/// The length of a greeting in bytes.
pub const GREETING_LENGTH: usize = 64;

/// The longest READY body that is accepted in bytes: libzmq's is about 40 and an identity up to 255.
pub const READY_LIMIT: usize = 512;

/// The longest identity that ZMTP allows in bytes.
pub const IDENTITY_LIMIT: usize = 255;

/// Bit 0 of a frame's flags: another frame of the same message follows.
const MORE: u8 = 0b001;
/// Bit 1: the length is eight bytes, not one.
const LONG: u8 = 0b010;
/// Bit 2: a command, not a message.
const COMMAND: u8 = 0b100;

const READY_NAME: &[u8] = b"\x05READY";

/// The greeting that this side sends: version 3.0, mechanism NULL.
///
/// A peer that speaks 3.1 falls back to 3.0 on reading it, so it sends subscriptions as messages.
#[must_use]
pub const fn greeting() -> [u8; GREETING_LENGTH] {
    let mut greeting = [0; GREETING_LENGTH];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12] = b'N';
    greeting[13] = b'U';
    greeting[14] = b'L';
    greeting[15] = b'L';
    greeting
}

/// A socket type that can stand at an end of one of Drover's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketType {
    /// A minion's end of the tunnel.
    Dealer,
    /// The master's end of the tunnel.
    Router,
    /// The master's event socket.
    Pub,
    /// A consumer of events.
    Sub,
    /// A consumer of events that reads its own subscriptions.
    Xsub,
    /// A local program that hands in events.
    Push,
    /// The socket that takes events in.
    Pull,
}

impl SocketType {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dealer => "DEALER",
            Self::Router => "ROUTER",
            Self::Pub => "PUB",
            Self::Sub => "SUB",
            Self::Xsub => "XSUB",
            Self::Push => "PUSH",
            Self::Pull => "PULL",
        }
    }

    fn from_wire(name: &[u8]) -> Option<Self> {
        const ALL: [SocketType; 7] = [
            SocketType::Dealer,
            SocketType::Router,
            SocketType::Pub,
            SocketType::Sub,
            SocketType::Xsub,
            SocketType::Push,
            SocketType::Pull,
        ];
        ALL.into_iter().find(|socket_type| socket_type.name().as_bytes() == name)
    }
}

/// The command that opens a connection: which socket type speaks, and what it calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The sender's socket type.
    pub socket_type: SocketType,
    /// The sender's identity, empty if it gave none. The gateway never uses a peer's own.
    pub identity: Vec<u8>,
}

impl Ready {
    /// A READY without an identity.
    #[must_use]
    pub const fn new(socket_type: SocketType) -> Self {
        Self { socket_type, identity: Vec::new() }
    }

    /// The whole command frame, header and body.
    ///
    /// # Panics
    /// If the identity is longer than [`IDENTITY_LIMIT`].
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        assert!(self.identity.len() <= IDENTITY_LIMIT, "an identity has at most 255 bytes");
        let mut body = READY_NAME.to_vec();
        push_property(&mut body, "Socket-Type", self.socket_type.name().as_bytes());
        if !self.identity.is_empty() {
            push_property(&mut body, "Identity", &self.identity);
        }
        let mut frame = match u8::try_from(body.len()) {
            Ok(length) => vec![COMMAND, length],
            Err(_) => {
                let length = (body.len() as u64).to_be_bytes();
                [&[COMMAND | LONG], length.as_slice()].concat()
            }
        };
        frame.extend_from_slice(&body);
        frame
    }

    /// Reads a command frame's body.
    ///
    /// # Errors
    /// [`Violation::Ready`] for any other command, a property that does not fit, a repeated or
    /// missing `Socket-Type`; [`Violation::SocketType`] for a type no Drover socket talks to.
    pub fn from_body(body: &[u8]) -> Result<Self, Violation> {
        let mut rest = body.strip_prefix(READY_NAME).ok_or(Violation::Ready("not READY"))?;
        let mut socket_type = None;
        let mut identity = None;
        while !rest.is_empty() {
            let (name, value, after) = property(rest).ok_or(Violation::Ready("cut short"))?;
            rest = after;
            // Property names are case-insensitive (RFC 23).
            if name.eq_ignore_ascii_case(b"Socket-Type") {
                let read = SocketType::from_wire(value).ok_or(Violation::SocketType)?;
                if socket_type.replace(read).is_some() {
                    return Err(Violation::Ready("`Socket-Type` twice"));
                }
            } else if name.eq_ignore_ascii_case(b"Identity") {
                if value.len() > IDENTITY_LIMIT {
                    return Err(Violation::Ready("identity over 255 bytes"));
                }
                if identity.replace(value.to_vec()).is_some() {
                    return Err(Violation::Ready("`Identity` twice"));
                }
            }
        }
        Ok(Self {
            socket_type: socket_type.ok_or(Violation::Ready("no `Socket-Type`"))?,
            identity: identity.unwrap_or_default(),
        })
    }
}

/// How a peer broke the protocol. The connection ends; nothing of the offending frame is forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// The first bytes are no ZMTP greeting.
    #[error("the peer does not speak ZMTP")]
    Signature,
    /// A version below 3.0.
    #[error("the peer speaks ZMTP {0}, which is older than 3.0")]
    Version(u8),
    /// A security mechanism other than NULL: TLS is outside.
    #[error("the peer's ZMTP mechanism is not NULL")]
    Mechanism,
    /// A READY that cannot be read.
    #[error("the READY command is malformed: {0}")]
    Ready(&'static str),
    /// A socket type that this connection does not take.
    #[error("the peer's socket type does not belong here")]
    SocketType,
    /// Flag bits that RFC 23 reserves, or a command marked as one of several frames.
    #[error("frame flags {0:#04x} are reserved")]
    Flags(u8),
    /// A command after READY (heartbeats and SUBSCRIBE of ZMTP 3.1 among them).
    #[error("a ZMTP command after READY")]
    Command,
    /// One frame over the limit.
    #[error("a frame of {claimed} bytes is over the limit of {limit}")]
    FrameTooLong {
        /// The length that the header claims.
        claimed: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The frames of one message together over the limit.
    #[error("a message of {claimed} bytes or more is over the limit of {limit}")]
    MessageTooLong {
        /// The sum of the lengths so far.
        claimed: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Too many frames in one message: empty ones cost memory too.
    #[error("a message of more than {0} frames")]
    TooManyFrames(u32),
}

fn push_property(body: &mut Vec<u8>, name: &str, value: &[u8]) {
    debug_assert!(name.len() <= 255 && value.len() <= IDENTITY_LIMIT);
    body.push(name.len() as u8);
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&(value.len() as u32).to_be_bytes());
    body.extend_from_slice(value);
}

/// Splits the first property off: name, value, rest.
fn property(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&name_length, bytes) = bytes.split_first()?;
    let (name, bytes) = bytes.split_at_checked(usize::from(name_length))?;
    let (length, bytes) = bytes.split_first_chunk::<4>()?;
    let (value, rest) =
        bytes.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some((name, value, rest))
}

#[cfg(test)]
mod tests;
