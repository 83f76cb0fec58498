//! The bus for the device's own programs: `events.ipc` in the run directory. What they push becomes application events
//! in the outbox; one that sends too much is cut off from the surplus, and the master learns how much that was.

use std::{path::PathBuf, time::Duration};

use drover_proto::{
    event::Tag,
    local_event,
    message::{OutboxEvent, OutboxItem},
    tunnel::bus::{BusError, BusLimits, Intake},
};
use serde_json::json;
use thiserror::Error;
use tokio::{sync::mpsc, time::timeout};

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
pub(crate) async fn open(config: &Config) -> Result<LocalBus, LocalBusError> {
    let path = config.run_dir.join("events.ipc");
    let limits =
        BusLimits { messages_per_second: Some(config.app_event_rate), ..BusLimits::default() };
    let intake =
        Intake::bind(&path, limits).await.map_err(|source| LocalBusError::Open { path, source })?;
    let (sender, events) = mpsc::channel(QUEUE);
    tokio::spawn(serve(intake, sender));
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

async fn serve(mut intake: Intake, events: mpsc::Sender<OutboxItem>) {
    let mut told = 0;
    // Nothing can have been refused before something came: no timer runs on a bus that nobody uses.
    let mut active = false;
    loop {
        let received = if active {
            timeout(QUIET, intake.recv()).await.ok()
        } else {
            Some(intake.recv().await)
        };
        active = received.is_some();
        if let Some((tag, data)) = received {
            match local_event::decode(&[tag, data]) {
                Ok(event) => {
                    let path = relative(&event.tag);
                    let item = OutboxItem::App(OutboxEvent { path, data: event.data });
                    if events.send(item).await.is_err() {
                        return;
                    }
                    continue;
                }
                Err(why) => tracing::warn!("a local program: {}", crate::error_chain(&why)),
            }
        }
        let refused = intake.refused();
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

/// `door/open` as it is; a leading slash means nothing.
fn relative(tag: &Tag) -> String {
    tag.as_str().trim_start_matches('/').to_owned()
}
