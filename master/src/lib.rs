//! Drover's master: registry, jobs, pending updates, reactor, presence, bridges, and the operator's CLI.

pub mod api;
pub mod authorities;
pub mod bridge;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod clones;
pub mod config;
pub mod crl;
pub mod daemon;
pub mod est;
pub mod expiry;
pub mod files;
pub mod hub;
pub mod identity;
pub mod jobs;
pub mod manifests;
pub mod master;
pub mod operational;
pub mod pillar;
pub mod presence;
pub mod reactor;
pub mod registry;
pub mod requests;
pub mod runners;
pub mod store;
