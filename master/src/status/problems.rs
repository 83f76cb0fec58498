//! What is wrong with a master, from what it says of itself.

use serde::Serialize;

use super::Status;
use crate::{bridge::BridgeState, expiry::Stage};

/// Events that a reader may be behind without its being told.
const BEHIND: u64 = 50_000;

/// How bad it is. Later ones are worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something will be, or is slow.
    Warning,
    /// Something is down.
    Down,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// With what: `store`, `reactor`, `bridge/NAME`, `certificate/NAME`.
    pub part: String,
    /// What is wrong, and since when.
    pub message: String,
}

/// The worst first.
pub(super) fn of(status: &Status) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |severity, part: String, message: String| {
        problems.push(Problem { severity, part, message });
    };
    match (status.store.state, status.store.since) {
        ("full", Some(since)) => add(
            Severity::Down,
            "store".to_owned(),
            format!(
                "the store is full since {}: what minions send is refused, and waits with them; \
                 {:.0} MiB of the disk are free, make room",
                since.strftime("%Y-%m-%d %H:%M:%SZ"),
                mebibytes(status.store.usage.disk_free),
            ),
        ),
        ("failed", _) => {
            add(Severity::Down, "store".to_owned(), "the store has failed; see the log".to_owned());
        }
        _ => {}
    }
    for (name, bridge) in &status.bridges {
        if let Some(message) = bridge.complaint() {
            let message = format!("bridge `{name}`: {message}");
            add(Severity::Down, format!("bridge/{name}"), message);
        } else if bridge.state == BridgeState::Paused && bridge.lag.events > 0 {
            // Whoever paused it may have forgotten; what the log cannot keep for ever is lost then.
            let message = format!(
                "bridge `{name}`: an operator paused it, {} events behind: \
                 `drover bridge resume {name}` goes on",
                bridge.lag.events
            );
            add(Severity::Warning, format!("bridge/{name}"), message);
        }
    }
    for certificate in &status.certificates {
        let part = format!("certificate/{}", certificate.name);
        let hint = certificate.kind.hint();
        match certificate.stage {
            Some(Stage::Expired) => {
                add(Severity::Down, part, format!("{} has expired: {hint}", certificate.name));
            }
            Some(Stage::Days7) => {
                let days = certificate.days.unwrap_or_default();
                let message = format!("{} ends in {days} days: {hint}", certificate.name);
                add(Severity::Warning, part, message);
            }
            Some(Stage::Days30 | Stage::Days90) | None => {}
        }
    }
    if let Some(reactor) = status.reactor.filter(|reactor| reactor.lag.events > BEHIND) {
        let message = format!("the reactor is {} events behind", reactor.lag.events);
        add(Severity::Warning, "reactor".to_owned(), message);
    }
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    problems
}

/// For people.
#[expect(clippy::cast_precision_loss, reason = "rounded to a mebibyte")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
