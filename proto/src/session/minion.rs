//! The minion's end of the session: [`Disconnected`] → [`Connecting`] → [`Greeting`] → [`Established`], and from each
//! of them back. The agent dials, moves frames and owns the [`Outbox`], which outlives every connection.

mod established;

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use thiserror::Error;

use super::{HELLO_DEADLINE, backoff::Backoff, jitter::Jitter};
use crate::{
    codec::{self, DecodeError},
    id::BootId,
    message::{FromMaster, FromMinion, GrainSets, Hello, PROTOCOL, Roots, Welcome},
    outbox::{NeverSent, Outbox},
};

pub use established::{Answer, Established, Event, Request};

/// What stays the same for one run of the agent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This run of the agent.
    pub boot: BootId,
    /// The agent's version, for people to read.
    pub version: String,
    /// How often to send a heartbeat at least.
    pub heartbeat: Duration,
    /// Seeds the jitter of heartbeats and reconnects; drawn at random by the agent.
    pub seed: u64,
}

/// Why there is no session any more, or none yet.
#[derive(Debug, Error)]
pub enum End {
    /// The connection ended.
    #[error("the connection to the master ended")]
    Lost,
    /// Connected, but no answer to `Hello`.
    #[error("the master did not answer within {} s", HELLO_DEADLINE.as_secs())]
    NoWelcome,
    /// Three heartbeats without an answer.
    #[error("the master has been silent for {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The master sent us away for a while.
    #[error("the master asks to come back in {} s: {reason}", after.as_secs_f32())]
    RetryAfter {
        /// For how long at least.
        after: Duration,
        /// Why.
        reason: String,
    },
    /// The master chose a protocol that was not offered.
    #[error("the master speaks protocol {0}, this minion {PROTOCOL}")]
    Incompatible(u16),
    /// A frame that is no message.
    #[error("read a frame from the master")]
    Malformed(#[source] DecodeError),
    /// A message that has no place here.
    #[error("the master sent {0}")]
    OutOfTurn(&'static str),
    /// An acknowledgement that cannot be true.
    #[error("take the master's acknowledgement")]
    Acknowledgement(#[source] NeverSent),
}

impl End {
    /// Whether the connection did its work until it ended. After the others, each attempt waits longer.
    const fn is_ordinary(&self) -> bool {
        match self {
            Self::Lost | Self::Silent(_) | Self::RetryAfter { .. } => true,
            Self::NoWelcome
            | Self::Incompatible(_)
            | Self::Malformed(_)
            | Self::OutOfTurn(_)
            | Self::Acknowledgement(_) => false,
        }
    }
}

/// Why a dial gave no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialFailure {
    /// No route, no answer, no handshake.
    Unreachable,
    /// The master closed after the handshake: it does not know this minion, or not yet. Tried again within 10 s.
    NotAccepted,
}

/// A phase that ended, and what follows it.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub cause: End,
    /// Where to go on from.
    pub next: Disconnected,
}

/// What goes from phase to phase.
#[derive(Debug)]
struct Agent {
    settings: Settings,
    jitter: Jitter,
    backoff: Backoff,
}

impl Agent {
    fn ended(mut self, cause: End, now: Instant) -> Ended {
        if let End::RetryAfter { after, reason: _ } = &cause {
            self.backoff.at_least(*after);
        }
        let retry_at = now + self.backoff.wait(&mut self.jitter);
        Ended { cause, next: Disconnected { agent: self, retry_at } }
    }
}

/// Waits for the moment to connect.
#[derive(Debug)]
pub struct Disconnected {
    agent: Agent,
    retry_at: Instant,
}

impl Disconnected {
    /// An agent that has just started: the first attempt is due at once.
    #[must_use]
    pub const fn new(settings: Settings, now: Instant) -> Self {
        let jitter = Jitter::new(settings.seed);
        let backoff = Backoff::new();
        Self { agent: Agent { settings, jitter, backoff }, retry_at: now }
    }

    /// When to dial. A network that came up is a good reason to dial before.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        Some(self.retry_at)
    }

    /// The agent dials.
    #[must_use]
    pub fn connect(self) -> Connecting {
        Connecting { agent: self.agent }
    }
}

/// The agent dials, with deadlines of its own.
#[derive(Debug)]
pub struct Connecting {
    agent: Agent,
}

impl Connecting {
    /// The dial failed.
    #[must_use]
    pub fn failed(mut self, failure: DialFailure, now: Instant) -> Disconnected {
        let Agent { backoff, jitter, .. } = &mut self.agent;
        let wait = match failure {
            DialFailure::Unreachable => backoff.wait(jitter),
            DialFailure::NotAccepted => backoff.wait_for_acceptance(jitter),
        };
        Disconnected { agent: self.agent, retry_at: now + wait }
    }

    /// The tunnel stands; the frame is the first to send.
    ///
    /// # Panics
    /// Never: a `Hello` has a MessagePack form.
    #[must_use]
    pub fn connected(
        self,
        grains: GrainSets,
        roots: Roots,
        wall: Timestamp,
        now: Instant,
    ) -> (Greeting, Bytes) {
        let settings = &self.agent.settings;
        let Roots { root_list, roots } = roots;
        let hello = FromMinion::Hello(Hello {
            protocols: vec![PROTOCOL],
            boot: settings.boot,
            version: settings.version.clone(),
            heartbeat: u64::try_from(settings.heartbeat.as_millis()).unwrap_or(u64::MAX),
            at: wall,
            grains,
            root_list,
            roots,
        });
        let frame = codec::encode(&hello).expect("a hello has a MessagePack form");
        (Greeting { agent: self.agent, deadline: now + HELLO_DEADLINE }, frame)
    }
}

/// `Hello` was sent; waits for the answer.
#[derive(Debug)]
pub struct Greeting {
    agent: Agent,
    deadline: Instant,
}

impl Greeting {
    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        Some(self.deadline)
    }

    /// Gives up when the master takes too long.
    ///
    /// # Errors
    /// [`End::NoWelcome`] past the deadline.
    pub fn handle_timeout(self, now: Instant) -> Result<Self, Box<Ended>> {
        if now < self.deadline {
            return Ok(self);
        }
        Err(Box::new(self.agent.ended(End::NoWelcome, now)))
    }

    /// The first frame from the master.
    ///
    /// # Errors
    /// When it is not a welcome, or one that cannot be taken.
    pub fn handle_frame(
        mut self,
        outbox: &mut Outbox,
        frame: &[u8],
        now: Instant,
    ) -> Result<(Established, Welcome), Box<Ended>> {
        match welcome(outbox, frame) {
            Ok(welcome) => {
                self.agent.backoff.reset();
                let established = Established::new(self.agent, &welcome, now);
                Ok((established, welcome))
            }
            Err(cause) => Err(Box::new(self.agent.ended(cause, now))),
        }
    }

    /// The connection ended before the answer came.
    #[must_use]
    pub fn disconnect(self, now: Instant) -> Disconnected {
        self.agent.ended(End::Lost, now).next
    }
}

fn welcome(outbox: &mut Outbox, frame: &[u8]) -> Result<Welcome, End> {
    let welcome = match codec::decode(frame).map_err(End::Malformed)? {
        FromMaster::Welcome(welcome) => welcome,
        FromMaster::RetryAfter(retry) => return Err(retry.into()),
        FromMaster::Heartbeat(_)
        | FromMaster::Job(_)
        | FromMaster::KillJob(_)
        | FromMaster::Acknowledged(_)
        | FromMaster::Tree(_)
        | FromMaster::BlobChunk(_)
        | FromMaster::Pillar(_)
        | FromMaster::Certificate(_)
        | FromMaster::RequestFailed(_)
        | FromMaster::RootList(_)
        | FromMaster::Renew(_)
        | FromMaster::Retirement(_) => {
            return Err(End::OutOfTurn("a message before its welcome"));
        }
    };
    if welcome.protocol != PROTOCOL {
        return Err(End::Incompatible(welcome.protocol));
    }
    outbox.acknowledge(welcome.acknowledged).map_err(End::Acknowledgement)?;
    Ok(welcome)
}
