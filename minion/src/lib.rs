//! Drover's agent on the device: execution functions, outbox, local bus.
//!
//! [`agent`] is the loop that runs for years; [`call`] runs one function by hand. What either does is in [`functions`],
//! what they may reach in [`device`]. Files that end in decisions without I/O are [`jobs`] and [`fetch`].

pub mod agent;
mod allowance;
pub mod cache;
pub mod call;
pub mod clock_floor;
pub mod config;
pub mod device;
pub mod durable;
pub mod fetch;
pub mod functions;
pub mod grains;
pub mod identity;
pub mod jobs;
pub mod journal;
pub mod library;
pub mod local_bus;
mod progress;
pub mod renewal;
pub mod roots;
mod targets;

/// The agent's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An error and everything that caused it, in one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
