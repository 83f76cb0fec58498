//! The master's end of one connection's session: [`AwaitHello`] → [`Offered`] → [`Established`]. Who the minion is
//! stands in its certificate and is the caller's to know; what it sends is judged here before anything acts on it.

mod established;

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{HELLO_DEADLINE, OUTBOX_WINDOW, REQUEST_WINDOW};
use crate::{
    codec::{self, DecodeError, MAX_FRAME},
    id::JobId,
    job::Job,
    message::{FromMaster, FromMinion, Hello, PROTOCOL, RetryAfter, Scope, Welcome},
};

pub use established::{Established, Event, Killed, Notice, Reply, Request, Unfinished};

/// How many jobs may be sent and not accepted; more wait in the session's queue.
pub const JOB_WINDOW: usize = 64;

/// How many jobs a session keeps beyond [`JOB_WINDOW`].
pub const JOB_QUEUE: usize = 1_024;

/// For how long a minion whose version does not fit stays away.
const INCOMPATIBLE_RETRY: Duration = Duration::from_secs(600);

/// Why the master closes a connection. All but the first two are the peer's doing.
#[derive(Debug, Error)]
pub enum Close {
    /// Connected, and no `Hello`.
    #[error("no hello within {} s", HELLO_DEADLINE.as_secs())]
    NoHello,
    /// No version of the protocol in common.
    #[error("the minion speaks protocols {spoken:?}, this master {PROTOCOL}")]
    Incompatible {
        /// What the minion speaks.
        spoken: Vec<u16>,
    },
    /// A frame that is no message.
    #[error("read a frame from the minion")]
    Malformed(#[source] DecodeError),
    /// A message that has no place here.
    #[error("the minion sent {0}")]
    OutOfTurn(&'static str),
    /// More entries than may be on their way.
    #[error("more than {OUTBOX_WINDOW} outbox entries without an acknowledgement")]
    OutboxWindow,
    /// More requests than may be open.
    #[error("more than {REQUEST_WINDOW} requests without an answer")]
    RequestWindow,
    /// It makes the master send what it does not read. Found by the master's shell, which sees its queue.
    #[error("it does not take what it is sent")]
    Backlog,
}

impl Close {
    /// What to send before closing, where the peer can make something of it.
    ///
    /// # Panics
    /// Never: the message has a MessagePack form.
    #[must_use]
    pub fn farewell(&self) -> Option<Bytes> {
        match self {
            Self::Incompatible { .. } => Some(retry_after(INCOMPATIBLE_RETRY, &self.to_string())),
            Self::NoHello
            | Self::Malformed(_)
            | Self::OutOfTurn(_)
            | Self::OutboxWindow
            | Self::RequestWindow
            | Self::Backlog => None,
        }
    }
}

/// A job as it goes to every minion that it is for: encoded once, cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFrame {
    jid: JobId,
    frame: Bytes,
}

/// A job that no minion could be sent.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum JobFrameError {
    /// Over the frame limit.
    #[error("the job's arguments make a message of {0} bytes, {MAX_FRAME} are the most")]
    TooLong(usize),
    /// Arguments within arguments.
    #[error("the job's arguments are nested deeper than {} levels", codec::MAX_VALUE_DEPTH)]
    TooDeep,
}

impl JobFrame {
    /// The job's frame.
    ///
    /// # Errors
    /// When no minion would take it.
    ///
    /// # Panics
    /// Never: a job has a MessagePack form.
    pub fn new(job: Job) -> Result<Self, JobFrameError> {
        if !job.arg.iter().chain(job.kwarg.values()).all(codec::is_shallow) {
            return Err(JobFrameError::TooDeep);
        }
        let jid = job.jid.clone();
        let frame = codec::encode(&FromMaster::Job(job)).expect("a job has a MessagePack form");
        if frame.len() > MAX_FRAME {
            return Err(JobFrameError::TooLong(frame.len()));
        }
        Ok(Self { jid, frame })
    }

    /// The job's id.
    #[must_use]
    pub const fn jid(&self) -> &JobId {
        &self.jid
    }
}

/// A connection that has not said anything yet.
#[derive(Debug)]
pub struct AwaitHello {
    deadline: Instant,
}

impl AwaitHello {
    /// A connection that the gateway has let through.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { deadline: now + HELLO_DEADLINE }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        Some(self.deadline)
    }

    /// Gives up on a peer that says nothing.
    ///
    /// # Errors
    /// [`Close::NoHello`] past the deadline.
    pub fn handle_timeout(self, now: Instant) -> Result<Self, Close> {
        if now < self.deadline { Ok(self) } else { Err(Close::NoHello) }
    }

    /// The first frame.
    ///
    /// # Errors
    /// When it is not a `Hello` that this master can answer.
    pub fn handle_frame(self, frame: &[u8]) -> Result<Offered, Close> {
        match codec::decode(frame).map_err(Close::Malformed)? {
            FromMinion::Hello(hello) if hello.protocols.contains(&PROTOCOL) => {
                Ok(Offered { hello })
            }
            FromMinion::Hello(hello) => Err(Close::Incompatible { spoken: hello.protocols }),
            FromMinion::Heartbeat(_)
            | FromMinion::JobAccepted(_)
            | FromMinion::Outbox(_)
            | FromMinion::Grains(_)
            | FromMinion::TreeRequest(_)
            | FromMinion::BlobRequest(_)
            | FromMinion::PillarRequest(_)
            | FromMinion::CertificateRequest(_)
            | FromMinion::Roots(_) => Err(Close::OutOfTurn("a message before its hello")),
        }
    }
}

/// What a minion is welcomed with.
#[derive(Debug, Default)]
pub struct Terms {
    /// The enrolled grains.
    pub grains: Map<String, Value>,
    /// The last number of the hello's boot that the store has.
    pub acknowledged: u64,
    /// What the session is for.
    pub scope: Scope,
    /// When the device ends, if its operator set a day.
    pub retires: Option<Timestamp>,
}

/// A minion said `Hello`. The caller looks up what the answer needs and gives one.
#[derive(Debug)]
pub struct Offered {
    hello: Hello,
}

impl Offered {
    /// What it said.
    #[must_use]
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Takes it in: the session, the frame to send, and the hello for the caller to keep.
    ///
    /// # Panics
    /// Never: a welcome has a MessagePack form.
    #[must_use]
    pub fn welcome(
        self,
        terms: Terms,
        wall: Timestamp,
        now: Instant,
    ) -> (Established, Bytes, Hello) {
        let heartbeat = Duration::from_millis(self.hello.heartbeat);
        let Terms { grains, acknowledged, scope, retires } = terms;
        let (protocol, time) = (PROTOCOL, wall);
        let welcome =
            FromMaster::Welcome(Welcome { protocol, time, grains, acknowledged, scope, retires });
        let frame = codec::encode(&welcome).expect("a welcome has a MessagePack form");
        (Established::new(heartbeat, acknowledged, scope, now), frame, self.hello)
    }

    /// Sends it away for a while: the frame to send before closing.
    ///
    /// # Panics
    /// Never: the message has a MessagePack form.
    #[must_use]
    pub fn retry_after(self, after: Duration, reason: &str) -> Bytes {
        retry_after(after, reason)
    }
}

fn retry_after(after: Duration, reason: &str) -> Bytes {
    let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    codec::encode(&FromMaster::RetryAfter(RetryAfter { after, reason: reason.to_owned() }))
        .expect("a retry-after has a MessagePack form")
}
