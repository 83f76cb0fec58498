//! Carries bytes between the TLS stream and the `zeromq` socket's unix stream, through a guard each way.
//!
//! A connection that is silent holds no buffer of ours: bytes go from rustls's own plaintext to the
//! unix socket, and the other way over the stack.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsStream;

use crate::zmtp::{FrameGuard, FrameLimits, Violation};

/// What is taken from the unix socket at once: half a TLS record, far below what rustls buffers.
const CHUNK: usize = 8 * 1024;

/// How long a farewell may take.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);

/// How long each side may keep the other waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until the peer's first message is complete; `None` where the peer may stay silent.
    pub(super) first_message: Option<Duration>,
    /// Until a message that has begun is complete.
    pub(super) message: Duration,
    /// Until the peer has taken what was written.
    pub(super) stall: Duration,
}

/// How many messages have left the queue of this side's `zeromq` socket for the peer: that queue holds a great many,
/// and cannot be asked how full it is.
#[derive(Debug, Clone, Default)]
pub struct Taken(Arc<AtomicU64>);

impl Taken {
    /// Messages so far.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// So many more.
    pub fn add(&self, messages: u64) {
        self.0.fetch_add(messages, Ordering::AcqRel);
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum End {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Peer,
    /// This side's `zeromq` socket closed it.
    #[error("this side closed the connection")]
    Local,
    /// The peer's bytes break the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(Violation),
    /// This side tried to send what the limits forbid.
    #[error("this side tried to send what it may not: {0}")]
    OwnViolation(Violation),
    /// The peer sent no message.
    #[error("the peer sent no message in {0:?}")]
    Silent(Duration),
    /// The peer began a message and did not end it.
    #[error("the peer did not complete a message in {0:?}")]
    HalfMessage(Duration),
    /// The peer does not read.
    #[error("the peer took nothing for {0:?}")]
    Stalled(Duration),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Failed(String),
}

/// A future that ends when either side does.
pub(super) struct Bridge {
    tls: TlsStream<TcpStream>,
    local: UnixStream,
    patience: Patience,
    inbound: FrameGuard,
    outbound: FrameGuard,
    taken: Taken,
    /// How many bytes at the front of rustls's plaintext the guard has passed already.
    passed: usize,
    heard_message: bool,
    inbound_deadline: Deadline,
    outbound_deadline: Deadline,
}

impl Bridge {
    pub(super) fn new(
        tls: TlsStream<TcpStream>,
        local: UnixStream,
        limits: FrameLimits,
        patience: Patience,
        taken: Taken,
    ) -> Self {
        Self {
            tls,
            local,
            patience,
            inbound: FrameGuard::new(limits),
            outbound: FrameGuard::new(limits),
            taken,
            passed: 0,
            heard_message: patience.first_message.is_none(),
            inbound_deadline: Deadline::default(),
            outbound_deadline: Deadline::default(),
        }
    }

    /// Sends bytes that came from the unix socket before the bridge stood.
    pub(super) async fn send_early(&mut self, bytes: &[u8]) -> Result<(), End> {
        let messages = self.outbound.check(bytes).map_err(End::OwnViolation)?;
        self.taken.add(messages as u64);
        self.tls.write_all(bytes).await.map_err(failed)
    }

    /// Tells the peer that nothing follows, if it listens, and closes.
    pub(super) async fn close(mut self) {
        // A peer that vanished cannot be told; the socket closes either way.
        let _ = timeout(FAREWELL, self.tls.shutdown()).await;
    }

    /// From the peer to the unix socket.
    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let chunk = match Pin::new(&mut self.tls).poll_fill_buf(cx) {
                Poll::Ready(Ok([])) => return Poll::Ready(End::Peer),
                Poll::Ready(Ok(chunk)) => chunk,
                Poll::Ready(Err(error)) => return Poll::Ready(read_failed(error)),
                Poll::Pending => return self.poll_silence(cx),
            };
            if self.passed == 0 {
                match self.inbound.check(chunk) {
                    Ok(messages) => {
                        self.passed = chunk.len();
                        // What comes before the first message does not put its deadline off.
                        if messages > 0
                            || (self.heard_message && self.inbound.is_between_messages())
                        {
                            self.heard_message = true;
                            self.inbound_deadline.clear();
                        }
                    }
                    Err(violation) => return Poll::Ready(End::Violation(violation)),
                }
            }
            // invariant: rustls keeps its first chunk in place until all of it is consumed, so the
            // front of `chunk` is what was checked.
            debug_assert!(self.passed <= chunk.len());
            let written = match Pin::new(&mut self.local).poll_write(cx, &chunk[..self.passed]) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(_)) => return Poll::Ready(End::Local),
                Poll::Pending => {
                    // It is this side that is slow.
                    self.inbound_deadline.clear();
                    return Poll::Pending;
                }
            };
            Pin::new(&mut self.tls).consume(written);
            self.passed -= written;
        }
    }

    /// The peer sends nothing: whether it owes something, and for how long already.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let (limit, end): (Duration, fn(Duration) -> End) =
            match self.patience.first_message.filter(|_| !self.heard_message) {
                Some(limit) => (limit, End::Silent),
                None if self.inbound.is_between_messages() => return Poll::Pending,
                None => (self.patience.message, End::HalfMessage),
            };
        self.inbound_deadline.poll_passed(cx, limit).map(|()| end(limit))
    }

    /// From the unix socket to the peer.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            // Nothing new is taken while the last is not on its way, so rustls never holds more
            // than one chunk, and the `zeromq` socket feels a slow peer.
            match Pin::new(&mut self.tls).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.outbound_deadline.clear(),
                Poll::Ready(Err(error)) => return Poll::Ready(failed(error)),
                Poll::Pending => {
                    let limit = self.patience.stall;
                    let passed = self.outbound_deadline.poll_passed(cx, limit);
                    return passed.map(|()| End::Stalled(limit));
                }
            }
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            match ready!(Pin::new(&mut self.local).poll_read(cx, &mut chunk)) {
                Ok(()) if chunk.filled().is_empty() => return Poll::Ready(End::Local),
                Ok(()) => {}
                Err(_) => return Poll::Ready(End::Local),
            }
            match self.outbound.check(chunk.filled()) {
                // Counted before the peer can have it, so that what it answers never comes too early.
                Ok(messages) => self.taken.add(messages as u64),
                Err(violation) => return Poll::Ready(End::OwnViolation(violation)),
            }
            let all = chunk.filled().len();
            match Pin::new(&mut self.tls).poll_write(cx, chunk.filled()) {
                Poll::Ready(Ok(written)) if written == all => {}
                Poll::Ready(Err(error)) => return Poll::Ready(failed(error)),
                // invariant: rustls was empty and has room for several chunks.
                Poll::Ready(Ok(_)) | Poll::Pending => {
                    debug_assert!(false, "an empty TLS buffer takes a whole chunk");
                    return Poll::Ready(End::Failed("TLS buffer full".to_owned()));
                }
            }
        }
    }
}

impl Future for Bridge {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let bridge = self.get_mut();
        match bridge.poll_inbound(cx) {
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => bridge.poll_outbound(cx),
        }
    }
}

/// A timer that exists only while something is owed.
#[derive(Default)]
struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    fn clear(&mut self) {
        self.0 = None;
    }

    /// Starts the timer if it does not run; ready once it has run out.
    fn poll_passed(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        self.0.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx)
    }
}

/// A reset or a missing farewell is a peer that went away; only the rest is worth a word.
fn read_failed(error: io::Error) -> End {
    if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) {
        return End::Peer;
    }
    failed(error)
}

fn failed(error: io::Error) -> End {
    End::Failed(error.to_string())
}
