//! Asks the master's parts for their numbers. No label names a minion, a job or a tag: what there is of names comes from
//! the configuration and the authorities.

use drover_proto::tunnel::Beginning;
use serde_json::json;

use super::{
    exposition::{Exposition, Kind},
    kinds::EventKinds,
    process,
};
use crate::{
    bridge::{BridgeState, BridgeStatus},
    hub::Tally,
    jobs::events,
    status::{Status, StatusSource},
};

const GAUGE: Kind = Kind::Gauge;
const COUNTER: Kind = Kind::Counter;

/// Asks for numbers, as often as somebody comes.
pub struct Collector {
    source: StatusSource,
    kinds: EventKinds,
}

impl Collector {
    /// Of this master.
    #[must_use]
    pub const fn new(source: StatusSource, kinds: EventKinds) -> Self {
        Self { source, kinds }
    }

    /// All numbers. Blocks.
    #[must_use]
    pub fn collect(&self) -> String {
        let mut out = Exposition::default();
        process::write(&mut out);
        out.family("drover_build_info", GAUGE, "Always 1; the version is a label.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.connections(&mut out);
        self.events(&mut out);
        self.jobs(&mut out);
        match self.source.look() {
            Ok(status) => of_status(&mut out, &status),
            // What could be read stands above; that this was not is a number too.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "metrics are not whole");
                out.one("drover_status_ok", GAUGE, STATUS_OK, 0);
            }
        }
        out.finish()
    }

    fn connections(&self, out: &mut Exposition) {
        let hub = &self.source.master.hub;
        out.one("drover_sessions", GAUGE, "Minions that are connected.", hub.roster().len());
        let gateway = &self.source.gateway;
        let help = "Connections whose handshake proved a minion's key, also those for a certificate alone.";
        out.one("drover_connections", GAUGE, help, gateway.connections());
        let help = "TLS handshakes that are not finished.";
        out.one("drover_handshakes_unfinished", GAUGE, help, gateway.unfinished_handshakes());
        let help = "Connections that began, by how that ended.";
        let mut handshakes = out.family("drover_handshakes_total", COUNTER, help);
        for beginning in Beginning::ALL {
            handshakes.sample(&[("result", result(beginning))], gateway.beginnings(beginning));
        }
    }

    fn events(&self, out: &mut Exposition) {
        let help = "Events that were appended to the store, by what they are about.";
        let mut events = out.family("drover_events_total", COUNTER, help);
        for (kind, count) in self.kinds.counts() {
            events.sample(&[("kind", kind)], count);
        }
    }

    fn jobs(&self, out: &mut Exposition) {
        let tally = self.source.master.hub.tally();
        let help = "Jobs that ended on a minion, by how.";
        let mut ended = out.family("drover_jobs_ended_total", COUNTER, help);
        for state in Tally::ENDS {
            ended.sample(&[("state", events::word(state))], tally.ended(state));
        }
        let help = "Jobs that are not over on every minion.";
        out.one("drover_jobs_active", GAUGE, help, tally.active());
        let help = "Jobs that are kept for minions that are away, each minion's counted.";
        out.one("drover_jobs_pending", GAUGE, help, tally.pending());
    }
}

const STATUS_OK: &str = "Whether the store could be read for these numbers.";

fn of_status(out: &mut Exposition, status: &Status) {
    out.one("drover_status_ok", GAUGE, STATUS_OK, 1);
    let help = "When the master started.";
    out.one("drover_start_time_seconds", GAUGE, help, status.started.as_second());
    let minions = &status.minions;
    let mut known = out.family("drover_minions", GAUGE, "Known minions, by the registry's word.");
    known.sample(&[("status", "accepted")], minions.accepted);
    known.sample(&[("status", "pending")], minions.pending);
    known.sample(&[("status", "rejected")], minions.rejected);
    known.sample(&[("status", "revoked")], minions.revoked);
    let help = "Accepted minions that are not connected, by their presence.";
    let mut away = out.family("drover_minions_away", GAUGE, help);
    away.sample(&[("presence", "stale")], minions.stale);
    away.sample(&[("presence", "lost")], minions.lost);

    let store = &status.store;
    let usage = store.usage;
    let help = "Whether the store refuses what minions send, because the disk is full.";
    out.one("drover_store_full", GAUGE, help, u8::from(store.state == "full"));
    out.one("drover_store_bytes", GAUGE, "Bytes of the store's files.", usage.bytes);
    let help = "Bytes of the events that are kept.";
    out.one("drover_store_event_bytes", GAUGE, help, usage.event_bytes);
    let help = "Bytes that the store's disk has left.";
    out.one("drover_store_free_bytes", GAUGE, help, usage.disk_free);
    out.one("drover_store_first_seq", GAUGE, "The oldest event that is kept.", usage.first_seq);
    out.one("drover_store_last_seq", GAUGE, "The newest event.", usage.last_seq);

    if let Some(reactor) = status.reactor {
        let lag = reactor.lag;
        let help = "Events that the reactor has not read.";
        out.one("drover_reactor_lag_events", GAUGE, help, lag.events);
        out.one("drover_reactor_lag_bytes", GAUGE, "Their bytes in the log.", lag.bytes);
        out.one("drover_reactor_lag_seconds", GAUGE, "The age of the oldest.", lag.seconds);
    }
    bridges(out, status);

    let help = "When a certificate or an authority ends, in seconds since 1970.";
    let mut ends = out.family("drover_certificate_expiry_timestamp_seconds", GAUGE, help);
    for certificate in &status.certificates {
        let Some(end) = certificate.not_after else { continue };
        let kind = json!(certificate.kind);
        let kind = kind.as_str().unwrap_or_default();
        ends.sample(&[("name", &certificate.name), ("kind", kind)], end.as_second());
    }
}

/// A bridge's states, of which it has one.
const STATES: [(BridgeState, &str); 5] = [
    (BridgeState::Up, "up"),
    (BridgeState::Idle, "idle"),
    (BridgeState::Down, "down"),
    (BridgeState::Paused, "paused"),
    (BridgeState::Stopped, "stopped"),
];

/// A family of a number of each bridge.
type OfBridge = (&'static str, Kind, &'static str, fn(&BridgeStatus) -> u64);

const OF_BRIDGES: [OfBridge; 6] = [
    ("drover_bridge_lag_events", GAUGE, "Events that a bridge has not dealt with.", |bridge| {
        bridge.lag.events
    }),
    ("drover_bridge_lag_bytes", GAUGE, "Their bytes in the log.", |bridge| bridge.lag.bytes),
    ("drover_bridge_lag_seconds", GAUGE, "The age of the oldest.", |bridge| bridge.lag.seconds),
    ("drover_bridge_sent_total", COUNTER, "Events that a bridge delivered.", |bridge| bridge.sent),
    ("drover_bridge_retries_total", COUNTER, "How often an event was tried once more.", |bridge| {
        bridge.retries
    }),
    (
        "drover_bridge_dead_letters",
        GAUGE,
        "Events that a bridge could not deliver, and keeps.",
        |bridge| bridge.dead_letters as u64,
    ),
];

fn bridges(out: &mut Exposition, status: &Status) {
    if status.bridges.is_empty() {
        return;
    }
    for (name, kind, help, number) in OF_BRIDGES {
        let mut family = out.family(name, kind, help);
        for (bridge, status) in &status.bridges {
            family.sample(&[("bridge", bridge)], number(status));
        }
    }
    let help = "Which state a bridge is in: 1 for that one.";
    let mut states = out.family("drover_bridge_state", GAUGE, help);
    for (bridge, status) in &status.bridges {
        for (state, word) in STATES {
            let is_in = u8::from(status.state == state);
            states.sample(&[("bridge", bridge), ("state", word)], is_in);
        }
    }
}

const fn result(beginning: Beginning) -> &'static str {
    match beginning {
        Beginning::Admitted => "admitted",
        Beginning::NotAccepted => "not_accepted",
        Beginning::Certificate => "certificate_refused",
        Beginning::Tls => "tls_failed",
        Beginning::TimedOut => "timed_out",
        Beginning::Displaced => "displaced",
    }
}
