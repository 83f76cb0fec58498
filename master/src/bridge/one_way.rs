//! Bytes to a receiver that never answers: lines for Logstash, syslog. The one thing that tells how far such a receiver
//! has come is the end of the connection: it closes when it has read everything, and not before.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use drover_states::{diagnostic::Diagnostic, settings::Settings};
use futures_util::FutureExt;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
    time::{sleep, timeout},
};

use super::{
    sink::Failure,
    tls::{Address, ConnectError, Stream, TlsConfig, connect},
};

/// Time for a batch from the connection to the receiver's end of it, where the configuration does not say.
const PATIENCE: Duration = Duration::from_secs(120);
/// The kernel sees the end a moment after the receiver's last word.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// What a receiver may say, though nobody listens.
const MOST_CHATTER: usize = 64 << 10;

/// When a batch counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirm {
    /// When the receiver has read it to its end and closed. A connection for each batch.
    Closed,
    /// When the kernel has taken it. One connection for all.
    Sent,
}

/// Why a batch did not go, or is not known to have arrived.
#[derive(Debug, Error)]
pub enum OneWayError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It broke.
    #[error("the connection to `{address}` broke before it had everything")]
    Broken {
        /// The receiver.
        address: Address,
        /// How.
        source: io::Error,
    },
    /// It takes nothing more.
    #[error("`{address}` did not take a batch within {} s (`ack_timeout`)", patience.as_secs_f64())]
    Slow {
        /// The receiver.
        address: Address,
        /// How long it was given.
        patience: Duration,
    },
    /// It has everything, and does not say so.
    #[error(
        "`{address}` did not close the connection within {} s after its end (`ack_timeout`): a receiver that never \
         does needs `confirm: sent`",
        patience.as_secs_f64()
    )]
    Unconfirmed {
        /// The receiver.
        address: Address,
        /// How long it was given.
        patience: Duration,
    },
    /// It is something else.
    #[error("`{address}` answers, and a receiver of lines does not: is the port right?")]
    Talks {
        /// The receiver.
        address: Address,
    },
}

impl OneWayError {
    /// What to do.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Connect(error) if error.wants_operator() => Failure::Denied,
            Self::Connect(_)
            | Self::Broken { .. }
            | Self::Slow { .. }
            | Self::Unconfirmed { .. }
            | Self::Talks { .. } => Failure::Away,
        }
    }
}

/// Receivers, of which one at a time gets everything.
#[derive(Debug)]
pub(super) struct OneWay {
    hosts: Vec<Address>,
    tls: Option<TlsConfig>,
    confirm: Confirm,
    patience: Duration,
    /// The host that is asked next.
    at: AtomicUsize,
    kept: Mutex<Option<Stream>>,
}

impl OneWay {
    /// Reads `confirm` and `ack_timeout`; the receivers are known already, and there is at least one.
    ///
    /// # Errors
    /// With the place, when it is something else.
    pub(super) fn read(
        settings: &mut Settings<'_>,
        hosts: Vec<Address>,
        tls: Option<TlsConfig>,
    ) -> Result<Self, Diagnostic> {
        debug_assert!(!hosts.is_empty(), "the configuration names a host");
        let confirm = settings.take("confirm", |node| match node.as_str() {
            Some("closed") => Ok(Confirm::Closed),
            Some("sent") => Ok(Confirm::Sent),
            Some(_) | None => Err("`closed` or `sent`"),
        })?;
        Ok(Self {
            hosts,
            tls,
            confirm: confirm.unwrap_or(Confirm::Closed),
            patience: settings.duration("ack_timeout")?.unwrap_or(PATIENCE),
            at: AtomicUsize::new(0),
            kept: Mutex::default(),
        })
    }

    /// The receiver that gets the next batch first.
    #[must_use]
    pub(super) fn host(&self) -> &Address {
        &self.hosts[self.at.load(Ordering::Relaxed) % self.hosts.len()]
    }

    /// Delivers a batch to the first receiver that takes it.
    ///
    /// # Errors
    /// When none does: the reason of the last one. Some of it may have arrived all the same.
    pub(super) async fn deliver(&self, bytes: &[u8]) -> Result<(), OneWayError> {
        let mut asked = 0;
        loop {
            asked += 1;
            match self.try_deliver(bytes).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.at.fetch_add(1, Ordering::Relaxed);
                    if asked >= self.hosts.len() {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn try_deliver(&self, bytes: &[u8]) -> Result<(), OneWayError> {
        let address = self.host();
        // Taken out: a batch that is given up in the middle takes its connection with it.
        let mut kept = self.kept.lock().await;
        let mut stream = match kept.take().and_then(still_open) {
            Some(stream) => stream,
            None => connect(&address.host, address.port, self.tls.as_ref()).await?,
        };
        let patience = self.patience;
        let broken = |source| OneWayError::Broken { address: address.clone(), source };
        let slow = |_| OneWayError::Slow { address: address.clone(), patience };
        let unconfirmed = |_| OneWayError::Unconfirmed { address: address.clone(), patience };
        let sent = timeout(patience, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        sent.await.map_err(slow)?.map_err(broken)?;
        match self.confirm {
            Confirm::Sent => {
                *kept = Some(stream);
                Ok(())
            }
            Confirm::Closed => {
                timeout(patience, closed(stream, address)).await.map_err(unconfirmed)?
            }
        }
    }
}

/// Ends our side, and waits until the receiver ended its own because it had read to the end.
async fn closed(mut stream: Stream, address: &Address) -> Result<(), OneWayError> {
    let broken = |source| OneWayError::Broken { address: address.clone(), source };
    stream.shutdown().await.map_err(broken)?;
    let mut chatter = [0; 1024];
    let mut heard = 0;
    loop {
        match stream.read(&mut chatter).await {
            Ok(0) => break,
            Ok(count) => heard += count,
            // Some TLS libraries close without a word; the kernel knows what arrived.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(broken(error)),
        }
        if heard > MOST_CHATTER {
            return Err(OneWayError::Talks { address: address.clone() });
        }
    }
    timeout(LAST_WORDS, ended(&stream))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(broken)
}

/// Waits for the end of the connection itself. A receiver that dies in the middle ends its side too, and the kernel
/// answers with a reset to what comes after; one that read everything leaves no error behind.
async fn ended(stream: &Stream) -> io::Result<()> {
    let tcp = stream.tcp();
    let mut pause = Duration::from_millis(1);
    // The kernel has no event for it: what is connected no more has no peer.
    while tcp.peer_addr().is_ok() {
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    tcp.take_error()?.map_or(Ok(()), Err)
}

/// A connection of an earlier batch, unless its receiver ended it meanwhile.
fn still_open(mut stream: Stream) -> Option<Stream> {
    let mut chatter = [0; 1024];
    match stream.read(&mut chatter).now_or_never() {
        None | Some(Ok(1..)) => Some(stream),
        Some(Ok(0) | Err(_)) => None,
    }
}

#[cfg(test)]
mod tests;
