//! Drover's master: registry, jobs, pending updates, reactor, presence, bridges, and the operator's CLI.

pub mod store;
