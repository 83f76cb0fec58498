//! The bus for the device's own programs: `events.ipc` in the run directory. What they push becomes application events
//! in the outbox; one that sends too much is cut off from the surplus, and the master learns how much that was.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use drover_proto::{
    MinionId,
    event::{ParseTagError, Tag},
    local_event::{self, LocalEventError},
    message::{OutboxEvent, OutboxItem},
    tunnel::bus::{BusError, BusLimits, Intake},
};
use serde_json::json;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::config::Config;

/// The path of the event that tells how many messages were refused.
const REFUSED: &str = "app/refused";
/// How long after the last message it is looked whether any were.
const QUIET: Duration = Duration::from_secs(2);
/// Events that wait for the agent's loop.
const QUEUE: usize = 64;

/// What programs send, ready for the outbox.
pub(crate) struct LocalBus {
    events: mpsc::Receiver<OutboxItem>,
}

/// The bus cannot be opened.
#[derive(Debug, Error)]
pub enum LocalBusError {
    /// Its socket.
    #[error("open the bus for local programs `{path}`")]
    Open {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: BusError,
    },
}

/// Opens the bus.
///
/// # Errors
/// When its socket cannot be made.
pub(crate) async fn open(config: &Config, id: MinionId) -> Result<LocalBus, LocalBusError> {
    let path = config.run_dir.join("events.ipc");
    let limits =
        BusLimits { messages_per_second: Some(config.app_event_rate), ..BusLimits::default() };
    let intake =
        Intake::bind(&path, limits).await.map_err(|source| LocalBusError::Open { path, source })?;
    let (sender, events) = mpsc::channel(QUEUE);
    tokio::spawn(serve(intake, id, sender));
    Ok(LocalBus { events })
}

impl LocalBus {
    /// The next event. Dropping the wait loses nothing.
    pub(crate) async fn recv(&mut self) -> OutboxItem {
        match self.events.recv().await {
            Some(event) => event,
            // The task that serves the bus has ended, which only a panic makes it: the agent goes on without it.
            None => std::future::pending().await,
        }
    }
}

async fn serve(mut intake: Intake, id: MinionId, events: mpsc::Sender<OutboxItem>) {
    let mut dropped = intake.watch_refused();
    // Messages that were taken, and were no event.
    let mut unread = 0;
    let mut told = 0;
    // No timer runs on a bus that nobody uses.
    let mut active = false;
    loop {
        let received = tokio::select! {
            received = intake.recv() => Some(received),
            () = tokio::time::sleep(QUIET), if active => None,
            // What else was refused is told with it, when it is quiet again.
            Ok(()) = dropped.changed(), if !active => {
                active = true;
                continue;
            }
        };
        active = received.is_some();
        if let Some((tag, data)) = received {
            match application_event(&id, &[tag, data]) {
                Ok(event) => {
                    if events.send(OutboxItem::App(event)).await.is_err() {
                        return;
                    }
                }
                Err(why) => {
                    unread += 1;
                    tracing::warn!("a local program: {}", crate::error_chain(&why));
                }
            }
        }
        let refused = unread + *dropped.borrow_and_update();
        if refused > told {
            let data = json!({ "count": refused - told });
            told = refused;
            let path = REFUSED.to_owned();
            if events.send(OutboxItem::Agent(OutboxEvent { path, data })).await.is_err() {
                return;
            }
        }
    }
}

/// Frames that are no application event.
#[derive(Debug, Error)]
enum RefusedEvent {
    #[error("read an event")]
    Event(#[from] LocalEventError),
    #[error("make the event's tag")]
    Tag(#[from] ParseTagError),
}

/// The event whose tag, once the master has put `drover/app/<id>/` before it, still is one.
fn application_event(id: &MinionId, frames: &[Bytes]) -> Result<OutboxEvent, RefusedEvent> {
    let event = local_event::decode(frames)?;
    let path = event.tag.as_str().trim_start_matches('/');
    Tag::app(id, path)?;
    Ok(OutboxEvent { path: path.to_owned(), data: event.data })
}

#[cfg(test)]
mod tests {
    use zeromq::{Socket, SocketSend, ZmqMessage};

    use super::*;

    fn event(tag: &str) -> Result<OutboxEvent, RefusedEvent> {
        let data = Bytes::from_static(&[0x81, 0xa1, b'n', 0x01]);
        let id = "rfid-1".parse().unwrap();
        application_event(&id, &[Bytes::copy_from_slice(tag.as_bytes()), data])
    }

    #[tokio::test]
    async fn what_is_too_large_is_told_though_nothing_follows_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.ipc");
        let intake = Intake::bind(&path, BusLimits::default()).await.unwrap();
        let (sender, mut events) = mpsc::channel(QUEUE);
        tokio::spawn(serve(intake, "rfid-1".parse().unwrap(), sender));
        let mut program = zeromq::PushSocket::new();
        program.connect(&format!("ipc://{}", path.display())).await.unwrap();
        let mut message = ZmqMessage::from("t");
        message.push_back(vec![0; 2 << 20].into());
        program.send(message).await.unwrap();
        let OutboxItem::Agent(told) = events.recv().await.unwrap() else { panic!("an event") };
        assert_eq!((told.path.as_str(), told.data), (REFUSED, json!({"count": 1})));
    }

    #[test]
    fn an_event_keeps_its_path_and_its_data() {
        let event = event("door/open").unwrap();
        assert_eq!((event.path.as_str(), event.data), ("door/open", json!({"n": 1})));
    }

    #[test]
    fn a_tag_that_the_master_could_not_make_is_refused_here() {
        assert!(matches!(event(&"x".repeat(Tag::MAX_LENGTH)), Err(RefusedEvent::Tag(_))));
        assert!(matches!(event("/"), Err(RefusedEvent::Tag(_))));
        assert!(matches!(event("a\nb"), Err(RefusedEvent::Event(_))));
    }
}
