//! The transport with real TLS and real ZeroMQ on loopback: what works, and what must not happen.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod bus;
mod fixture;
mod hostile;
mod lobby;
mod round_trip;
mod trust;
