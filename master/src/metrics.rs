//! `/metrics`, in the text format that Prometheus reads (docs/metrics.md). Nearly every number is asked of its owner when
//! somebody comes for it. The format is a few lines of text; the client libraries bring registries of numbers that are
//! kept twice, and OpenMetrics, whose counters `promtool check metrics` does not know.

mod collect;
mod exposition;
mod kinds;
mod process;
mod server;

pub use collect::Collector;
pub use kinds::{EventKinds, EventKindsTask};
pub use server::{MetricsTask, ServeLimits};
