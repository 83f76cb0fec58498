//! Every event, once, in real Elasticsearch and OpenSearch, whatever is killed, slow, full or wrong meanwhile. Each
//! scenario runs on every server that `DROVER_SEARCH_KINDS` names, or on one of them where what lies before the server
//! decides; `make test-servers` names each by itself.

#![allow(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

mod access;
mod backlog;
mod dashboards;
mod documents;
mod failover;
mod kills;
mod payloads;
mod pipeline;
mod refusals;
mod retention;
mod rollover;
mod sink;
