//! The master's local bus: `events.ipc`, where any ZeroMQ program subscribes to events, and `inject.ipc`, where it
//! pushes events of its own. The guard before both sockets is `drover_proto::tunnel::bus`.

use std::path::Path;

use drover_proto::{
    event::{NewEvent, Tag},
    local_event,
    tunnel::bus::{BusError, BusLimits, Intake, Publisher},
};
use thiserror::Error;
use tracing::{error, warn};

use crate::store::{Batch, ReadError, Store, StoreError};

/// The PUB socket's name in the run directory.
pub const EVENTS_SOCKET: &str = "events.ipc";
/// The PULL socket's name in the run directory.
pub const INJECT_SOCKET: &str = "inject.ipc";

/// Events that are read from the store at once.
const CHUNK: usize = 500;
/// Events that one program may push in a second.
const INJECTED_A_SECOND: u32 = 1_000;

/// A tag that only the master itself gives: what it says of minions and jobs is true because nobody else can say it.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the tag `{0}` is the master's own: tags under `drover/` and `salt/` are not for programs")]
pub struct ReservedTag(Tag);

/// Whether a program, a rule or an operator may send an event with this tag.
///
/// # Errors
/// When it is one of the master's own.
pub fn check_own_tag(tag: &Tag) -> Result<(), ReservedTag> {
    let first = tag.as_str().split('/').next();
    if matches!(first, Some("drover" | "salt")) { Err(ReservedTag(tag.clone())) } else { Ok(()) }
}

/// Why the bus stopped.
#[derive(Debug, Error)]
pub enum BusStopped {
    /// The store cannot be read.
    #[error("read events for the bus")]
    Read(#[from] ReadError),
    /// The store no longer takes writes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ZeroMQ socket failed.
    #[error("publish an event: {0}")]
    Publish(String),
}

/// Publishes every event from the moment it was bound.
pub struct PublisherTask {
    store: Store,
    publisher: Publisher,
    cursor: u64,
}

impl PublisherTask {
    /// Binds `events.ipc` in the run directory. To be called before minions can connect: it begins with the next event.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub async fn bind(store: Store, run_dir: &Path) -> Result<Self, BusError> {
        let publisher = Publisher::bind(&run_dir.join(EVENTS_SOCKET), BusLimits::default()).await?;
        // Subscriptions do not outlive the socket, so the cursor need not either: whoever missed something sees a gap
        // in `seq` and asks the API.
        let cursor = store.last_seq();
        Ok(Self { store, publisher, cursor })
    }

    /// Runs for as long as the master does. No subscriber holds it up: a slow one misses events.
    ///
    /// # Errors
    /// When the store or the socket has failed.
    pub async fn run(mut self) -> Result<(), BusStopped> {
        let mut newer = self.store.watch();
        loop {
            let events = self.store.events(self.cursor, CHUNK).await?;
            if events.is_empty() {
                newer.changed().await.map_err(|_| StoreError::Failed)?;
            }
            for event in events {
                self.cursor = event.seq;
                match local_event::publication(&event) {
                    Ok([_, frame]) => {
                        let sent = self.publisher.publish(event.tag.as_str(), frame).await;
                        sent.map_err(|error| BusStopped::Publish(error.to_string()))?;
                    }
                    Err(error) => {
                        error!(
                            seq = event.seq,
                            error = &error as &dyn std::error::Error,
                            "not published"
                        );
                    }
                }
            }
        }
    }
}

/// Appends what local programs push.
pub struct InjectTask {
    store: Store,
    intake: Intake,
}

impl InjectTask {
    /// Binds `inject.ipc` in the run directory.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub async fn bind(store: Store, run_dir: &Path) -> Result<Self, BusError> {
        let limits =
            BusLimits { messages_per_second: Some(INJECTED_A_SECOND), ..BusLimits::default() };
        let intake = Intake::bind(&run_dir.join(INJECT_SOCKET), limits).await?;
        Ok(Self { store, intake })
    }

    /// Runs for as long as the master does. What is no event is logged and left out.
    ///
    /// # Errors
    /// When the store no longer takes writes.
    pub async fn run(mut self) -> Result<(), BusStopped> {
        let mut refused = 0;
        loop {
            let (tag, data) = self.intake.recv().await;
            match local_event::decode(&[tag, data]) {
                Ok(event) => match check_own_tag(&event.tag) {
                    // PUSH has no answer, so there is nothing to wait for; a full store counts what it refuses.
                    Ok(()) => {
                        let event = NewEvent::new(event.tag, None, event.data);
                        self.store.submit(Batch::from(event).from_outside()).await?;
                    }
                    Err(error) => warn!(%error, "event of a local program refused"),
                },
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "event of a local program refused"
                    );
                }
            }
            let all = self.intake.refused();
            if all > refused {
                warn!(
                    count = all - refused,
                    "events of a local program dropped, it sends more than {INJECTED_A_SECOND} a second"
                );
                refused = all;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tempfile::TempDir;
    use zeromq::{PushSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

    use super::*;
    use crate::store::Retention;

    fn endpoint(directory: &Path, name: &str) -> String {
        format!("ipc://{}", directory.join(name).display())
    }

    #[tokio::test]
    async fn what_a_program_pushes_reaches_the_subscribers() {
        let directory = TempDir::new().unwrap();
        let store = Store::open(&directory.path().join("data"), Retention::default()).unwrap();
        let run = directory.path().join("run");
        let publisher = PublisherTask::bind(store.clone(), &run).await.unwrap();
        let inject = InjectTask::bind(store.clone(), &run).await.unwrap();
        tokio::spawn(publisher.run());
        tokio::spawn(inject.run());
        let mut subscriber = SubSocket::new();
        subscriber.connect(&endpoint(&run, EVENTS_SOCKET)).await.unwrap();
        subscriber.subscribe("shop/").await.unwrap();
        let mut program = PushSocket::new();
        program.connect(&endpoint(&run, INJECT_SOCKET)).await.unwrap();
        // A subscription takes effect some time after it was made, so the program sends until it is seen.
        let message = loop {
            for tag in ["drover/key/a/accepted", "other/x", "shop/open"] {
                let mut message = ZmqMessage::from(Bytes::copy_from_slice(tag.as_bytes()));
                message.push_back(Bytes::from(
                    rmp_serde::to_vec_named(&serde_json::json!({"n": 1})).unwrap(),
                ));
                program.send(message).await.unwrap();
            }
            let next =
                tokio::time::timeout(std::time::Duration::from_millis(50), subscriber.recv());
            if let Ok(message) = next.await {
                break message.unwrap();
            }
        };
        assert_eq!(message.get(0).unwrap().as_ref(), b"shop/open");
        let event: drover_proto::event::Event =
            rmp_serde::from_slice(message.get(1).unwrap()).unwrap();
        assert_eq!(event.data["n"], 1);
        let kept = store.events(0, 10_000).await.unwrap();
        assert!(kept.iter().any(|event| event.tag.as_str() == "other/x"));
        assert!(kept.iter().all(|event| event.tag.as_str() != "drover/key/a/accepted"));
    }
}
