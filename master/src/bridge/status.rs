//! How a bridge is doing, for `drover bridge status`.

use jiff::Timestamp;
use serde::Serialize;

/// What a bridge's task says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) state: BridgeState,
    /// Whether the other side turns it away.
    pub(super) is_denied: bool,
    pub(super) server: Option<String>,
    /// The cursor.
    pub(super) settled: u64,
    /// Events delivered since the master started.
    pub(super) sent: u64,
    /// Events sent again since the master started.
    pub(super) retries: u64,
    pub(super) dead_letters: usize,
    pub(super) last_error: Option<(Timestamp, String)>,
}

/// Where a bridge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BridgeState {
    /// The last try was a success.
    Up,
    /// There was nothing to send yet.
    Idle,
    /// The other side is away; it goes on trying.
    Down,
    /// Somebody has to do something: the other side turns it away, or an operator paused it.
    Paused,
    /// `enabled: false`.
    Stopped,
}

/// How a bridge is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BridgeStatus {
    /// As the configuration names it.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where it stands.
    pub state: BridgeState,
    /// What the other side is found to be.
    pub server: Option<String>,
    /// What it has not done with yet.
    pub lag: BridgeLag,
    /// Events a second over the last minute.
    pub rate: f64,
    /// Events sent again since the master started.
    pub retries: u64,
    /// Events delivered since the master started.
    pub sent: u64,
    /// Events that could not be delivered, and are kept.
    pub dead_letters: usize,
    /// Why a try failed last.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<Timestamp>,
    /// The last event that it is done with.
    pub seq: u64,
    /// Whether it is the other side that has it paused.
    #[serde(skip)]
    pub is_denied: bool,
}

impl BridgeStatus {
    /// Why somebody should look at it, if they should. One that an operator paused or turned off is as they want it.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let behind = format!("{} events behind", self.lag.events);
        let because = |what: &str| {
            let why = self.last_error.as_deref().unwrap_or("it does not say why");
            format!("{what}, {behind}: {why}")
        };
        match self.state {
            BridgeState::Down => Some(because("cannot deliver")),
            BridgeState::Paused if self.is_denied => Some(because("is turned away")),
            BridgeState::Up | BridgeState::Idle | BridgeState::Paused | BridgeState::Stopped => {
                None
            }
        }
    }
}

/// How far a bridge is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BridgeLag {
    /// Events after the cursor, also those that are not meant for it.
    pub events: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// How old the oldest of them is.
    pub seconds: u64,
}
