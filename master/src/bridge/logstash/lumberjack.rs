//! A Beats input at the other end of a connection. What it acknowledged is done; what it did not is sent again on the
//! next connection. While a connection stands, nothing is sent twice on it: a receiver that is alive and busy is waited
//! for, over as many calls as it takes.

use std::{
    collections::HashMap,
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::FutureExt;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
    time::timeout,
};

use super::frame::{AckError, Acks, encode};
use crate::bridge::{
    sink::{Failure, Verdict},
    tls::{Address, ConnectError, Stream, TlsConfig, connect},
};

/// A call ends after so long, with what is acknowledged until then.
pub(super) const AT_ONCE: Duration = Duration::from_secs(120);

/// Why events were not acknowledged. They are sent again.
#[derive(Debug, Error)]
pub enum LumberjackError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It broke.
    #[error("the connection to `{address}` broke before everything was acknowledged")]
    Broken {
        /// The receiver.
        address: Address,
        /// How.
        source: io::Error,
    },
    /// The receiver ended it.
    #[error("`{address}` ended the connection before it acknowledged everything")]
    Ended {
        /// The receiver.
        address: Address,
    },
    /// Neither an acknowledgement nor a sign of life.
    #[error("`{address}` is silent for {} s: neither an acknowledgement nor a sign of life", patience.as_secs())]
    Silent {
        /// The receiver.
        address: Address,
        /// For so long.
        patience: Duration,
    },
    /// It gives signs of life, and has no time.
    #[error("`{address}` is alive and has yet to acknowledge {left} events")]
    Busy {
        /// The receiver.
        address: Address,
        /// How many are on their way.
        left: usize,
    },
    /// It answers something else.
    #[error(
        "`{address}` does not speak the Beats protocol as it should: is the port a Beats input's?"
    )]
    Ack {
        /// The receiver.
        address: Address,
        /// What it answers.
        source: AckError,
    },
}

impl LumberjackError {
    /// What to do.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Connect(error) if error.wants_operator() => Failure::Denied,
            Self::Connect(_)
            | Self::Broken { .. }
            | Self::Ended { .. }
            | Self::Silent { .. }
            | Self::Busy { .. }
            | Self::Ack { .. } => Failure::Away,
        }
    }
}

/// A document on its way, by the event's number.
pub(super) type Document = (u64, Vec<u8>);

/// Receivers, of which one at a time gets everything.
#[derive(Debug)]
pub(super) struct Lumberjack {
    pub(super) hosts: Vec<Address>,
    pub(super) tls: Option<TlsConfig>,
    /// zlib's level, 0 for none.
    pub(super) compression: u32,
    /// How long a receiver may say nothing at all.
    pub(super) patience: Duration,
    pub(super) at_once: Duration,
    /// The host that is asked next.
    pub(super) at: AtomicUsize,
    pub(super) kept: Mutex<Option<Connection>>,
}

/// A connection, and the window that is on its way.
#[derive(Debug)]
pub(super) struct Connection {
    address: Address,
    stream: Stream,
    /// The events of the window, in its order.
    seqs: Vec<u64>,
    acks: Acks,
}

impl Lumberjack {
    /// The receiver that gets the next window.
    pub(super) fn host(&self) -> &Address {
        &self.hosts[self.at.load(Ordering::Relaxed) % self.hosts.len()]
    }

    /// Sends documents, and says of each event whether it is acknowledged.
    pub(super) async fn deliver(
        &self,
        documents: Vec<Document>,
    ) -> Result<HashMap<u64, Verdict>, LumberjackError> {
        // Taken out: a call that is given up in the middle takes its connection with it.
        let mut kept = self.kept.lock().await;
        let usable = kept.take().and_then(|connection| connection.goes_on_with(&documents));
        let mut connection = match usable {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let exchange = timeout(self.at_once, self.exchange(&mut connection, &documents)).await;
        let acked = connection.acks.acked();
        let failed = match exchange {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                self.at.fetch_add(1, Ordering::Relaxed);
                // What came before the error is acknowledged all the same.
                if acked == 0 {
                    return Err(error);
                }
                Some(reason(&error))
            }
            // Half a window is on its way.
            Err(_) if connection.seqs.is_empty() => {
                self.at.fetch_add(1, Ordering::Relaxed);
                return Err(connection.silent(self.at_once));
            }
            Err(_) => None,
        };
        let later = failed.clone().unwrap_or_else(|| connection.busy().to_string());
        let done = connection.seqs.iter().take(acked).map(|seq| (*seq, Verdict::Done));
        let mut verdicts: HashMap<u64, Verdict> = done.collect();
        let is_any_done = documents.iter().any(|(seq, _)| verdicts.contains_key(seq));
        if failed.is_none() && !is_any_done {
            let busy = connection.busy();
            *kept = Some(connection);
            return Err(busy);
        }
        for (seq, _) in &documents {
            verdicts.entry(*seq).or_insert_with(|| Verdict::Later(later.clone()));
        }
        if failed.is_none() {
            connection.settle();
            *kept = Some(connection);
        }
        Ok(verdicts)
    }

    async fn connect(&self) -> Result<Connection, LumberjackError> {
        let mut asked = 0;
        loop {
            asked += 1;
            let address = self.host();
            match connect(&address.host, address.port, self.tls.as_ref()).await {
                Ok(stream) => return Ok(Connection::new(address.clone(), stream)),
                Err(error) => {
                    self.at.fetch_add(1, Ordering::Relaxed);
                    if asked >= self.hosts.len() {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    /// Sends a window, unless one is on its way, and waits until all of it is acknowledged.
    async fn exchange(
        &self,
        connection: &mut Connection,
        documents: &[Document],
    ) -> Result<(), LumberjackError> {
        let Connection { address, stream, seqs, acks } = connection;
        let broken = |source| LumberjackError::Broken { address: address.clone(), source };
        if seqs.is_empty() {
            // The window is said to be on its way only once all of it is: a part of one is of no use to go on with.
            let bodies: Vec<&[u8]> = documents.iter().map(|(_, body)| body.as_slice()).collect();
            let window = encode(&bodies, self.compression);
            acks.begin(bodies.len());
            stream.write_all(&window).await.map_err(broken)?;
            stream.flush().await.map_err(broken)?;
            *seqs = documents.iter().map(|(seq, _)| *seq).collect();
        }
        let mut bytes = [0; 512];
        while !acks.is_complete() {
            let read = timeout(self.patience, stream.read(&mut bytes)).await;
            let patience = self.patience;
            let silent = |_| LumberjackError::Silent { address: address.clone(), patience };
            match read.map_err(silent)?.map_err(broken)? {
                0 => return Err(LumberjackError::Ended { address: address.clone() }),
                count => acks
                    .handle_bytes(&bytes[..count])
                    .map_err(|source| LumberjackError::Ack { address: address.clone(), source })?,
            }
        }
        Ok(())
    }
}

impl Connection {
    fn new(address: Address, stream: Stream) -> Self {
        Self { address, stream, seqs: Vec::new(), acks: Acks::default() }
    }

    fn silent(&self, patience: Duration) -> LumberjackError {
        LumberjackError::Silent { address: self.address.clone(), patience }
    }

    fn busy(&self) -> LumberjackError {
        let left = self.seqs.len() - self.acks.acked();
        LumberjackError::Busy { address: self.address.clone(), left }
    }

    /// Itself, if it stands, and if what is on its way on it is still wanted.
    fn goes_on_with(mut self, documents: &[Document]) -> Option<Self> {
        let is_wanted = |seq: &u64| documents.iter().any(|(wanted, _)| wanted == seq);
        if !self.seqs.is_empty() {
            return self.seqs[self.acks.acked()..].iter().all(is_wanted).then_some(self);
        }
        // A receiver ends connections on which nothing came for a minute or so.
        let mut bytes = [0; 512];
        loop {
            match self.stream.read(&mut bytes).now_or_never() {
                None => return Some(self),
                Some(Ok(0) | Err(_)) => return None,
                Some(Ok(count)) => self.acks.handle_bytes(&bytes[..count]).ok()?,
            }
        }
    }

    /// Forgets a window that is acknowledged.
    fn settle(&mut self) {
        if self.acks.is_complete() {
            self.seqs.clear();
        }
    }
}

/// An error with what caused it, in one line.
fn reason(error: &LumberjackError) -> String {
    let mut text = error.to_string();
    let mut at = std::error::Error::source(error);
    while let Some(cause) = at {
        text = format!("{text}: {cause}");
        at = cause.source();
    }
    text
}
