//! What passes between a local program and the crate's socket, in either direction.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::{BusLimits, Direction};
use crate::zmtp::{FrameGuard, FrameLimits, Violation};

const CHUNK: usize = 8 * 1024;

/// Two streams on which ZMTP is open, and what was read from them beyond READY.
pub(super) struct Opened {
    pub(super) program: UnixStream,
    pub(super) inner: UnixStream,
    pub(super) from_program: Vec<u8>,
    pub(super) to_program: Vec<u8>,
}

/// Why a program's connection ended.
#[derive(Debug, Error)]
pub(super) enum LaneEnd {
    #[error("it closed the connection")]
    Closed,
    #[error("it broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error("it subscribed {0} times on one connection")]
    TooManySubscriptions(usize),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

pub(super) async fn carry(
    opened: Opened,
    direction: Direction,
    limits: BusLimits,
    refused: &watch::Sender<u64>,
) -> LaneEnd {
    let Opened { program, inner, from_program, to_program } = opened;
    let (from, to) = program.into_split();
    let (inner_from, inner_to) = inner.into_split();
    let ended = match direction {
        Direction::Publish => tokio::select! {
            end = take_subscriptions(from, inner_to, &from_program, limits.subscriptions) => end,
            end = publish(inner_from, to, &to_program, limits.backlog) => end,
        },
        Direction::Pull => tokio::select! {
            end = take_messages(from, inner_to, &from_program, limits, refused) => end,
            // PULL says nothing after READY.
            end = publish(inner_from, to, &to_program, 0) => end,
        },
    };
    match ended {
        Ok(()) => LaneEnd::Closed,
        Err(end) => end,
    }
}

async fn take_subscriptions(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    early: &[u8],
    most: usize,
) -> Result<(), LaneEnd> {
    let mut guard = FrameGuard::new(FrameLimits::subscription());
    let mut subscriptions = 0;
    let mut chunk = early.to_vec();
    loop {
        subscriptions += guard.check(&chunk)?;
        if subscriptions > most {
            return Err(LaneEnd::TooManySubscriptions(most));
        }
        to.write_all(&chunk).await?;
        chunk.clear();
        chunk.reserve(CHUNK);
        if from.read_buf(&mut chunk).await? == 0 {
            return Ok(());
        }
    }
}

async fn take_messages(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    early: &[u8],
    limits: BusLimits,
    refused: &watch::Sender<u64>,
) -> Result<(), LaneEnd> {
    let mut sieve = Sieve::new(FrameLimits::bus());
    let mut rate = limits.messages_per_second.map(Rate::new);
    let mut chunk = early.to_vec();
    let mut kept = BytesMut::new();
    loop {
        let now = Instant::now();
        let sifted = sieve.sift(&chunk, &mut kept, |_| match &mut rate {
            Some(rate) => rate.allows(now),
            None => true,
        });
        // The message that breaks the rules is refused too.
        let dropped = *sifted.as_ref().unwrap_or(&1);
        if dropped > 0 {
            refused.send_modify(|refused| *refused += dropped);
        }
        // Whole messages before one that breaks the rules still count.
        to.write_all(&kept).await?;
        sifted?;
        kept.clear();
        chunk.clear();
        chunk.reserve(CHUNK);
        if from.read_buf(&mut chunk).await? == 0 {
            return Ok(());
        }
    }
}

/// Always takes what the crate's socket sends, so that nothing piles up there, and drops whole
/// messages while the program has too much before it.
async fn publish(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    early: &[u8],
    most: usize,
) -> Result<(), LaneEnd> {
    let mut sieve = Sieve::new(FrameLimits::bus());
    let mut backlog = BytesMut::new();
    let mut chunk = early.to_vec();
    let mut dropped = 0;
    loop {
        let lost = sieve.sift(&chunk, &mut backlog, |waiting| waiting < most)?;
        if lost > 0 && dropped == 0 {
            warn!("a local subscriber is too slow, events are dropped for it");
        }
        dropped += lost;
        chunk.clear();
        while chunk.is_empty() {
            chunk.reserve(CHUNK);
            tokio::select! {
                read = from.read_buf(&mut chunk) => if read? == 0 { return Ok(()) },
                written = to.write(&backlog), if !backlog.is_empty() => {
                    let written = written?;
                    if written == 0 {
                        return Ok(());
                    }
                    backlog.advance(written);
                    if backlog.is_empty() {
                        // A burst's memory goes back once it has passed.
                        backlog = BytesMut::new();
                    }
                }
            }
        }
    }
}

/// Keeps or drops whole messages of a stream.
struct Sieve {
    guard: FrameGuard,
    keeping: bool,
}

impl Sieve {
    const fn new(limits: FrameLimits) -> Self {
        Self { guard: FrameGuard::new(limits), keeping: true }
    }

    /// Appends to `kept` what is kept of `bytes`; returns how many messages were dropped. `keep` is
    /// asked at the start of each message, and told how much `kept` holds.
    fn sift(
        &mut self,
        mut bytes: &[u8],
        kept: &mut BytesMut,
        mut keep: impl FnMut(usize) -> bool,
    ) -> Result<u64, Violation> {
        let mut dropped = 0;
        while !bytes.is_empty() {
            if self.guard.is_between_messages() {
                self.keeping = keep(kept.len());
                dropped += u64::from(!self.keeping);
            }
            let part = self.guard.check_part(bytes)?;
            let (passed, rest) = bytes.split_at(part.length);
            if self.keeping {
                kept.extend_from_slice(passed);
            }
            bytes = rest;
        }
        Ok(dropped)
    }
}

/// How many messages of one program are taken in each second.
struct Rate {
    most: u32,
    taken: u32,
    since: Option<Instant>,
}

impl Rate {
    const fn new(most: u32) -> Self {
        Self { most, taken: 0, since: None }
    }

    fn allows(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.taken) = (Some(now), 0);
        }
        let allowed = self.taken < self.most;
        self.taken += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_are_dropped_however_the_stream_is_cut() {
        let stream =
            [b"\x01\x01a\x00\x01b".as_slice(), b"\x00\x01c", b"\x01\x01d\x00\x01e"].concat();
        for cut in 1..stream.len() {
            let mut sieve = Sieve::new(FrameLimits::bus());
            let mut kept = BytesMut::new();
            let mut asked = 0;
            let mut dropped = 0;
            for chunk in stream.chunks(cut) {
                let keep = |_| {
                    asked += 1;
                    asked != 2
                };
                dropped += sieve.sift(chunk, &mut kept, keep).unwrap();
            }
            assert_eq!((asked, dropped), (3, 1));
            assert_eq!(&kept[..], b"\x01\x01a\x00\x01b\x01\x01d\x00\x01e");
        }
    }

    #[test]
    fn a_program_has_its_share_of_every_second() {
        let start = Instant::now();
        let mut rate = Rate::new(2);
        let allowed = |rate: &mut Rate, millis| rate.allows(start + Duration::from_millis(millis));
        assert!(allowed(&mut rate, 0) && allowed(&mut rate, 10));
        assert!(!allowed(&mut rate, 999));
        assert!(allowed(&mut rate, 1000));
    }
}
