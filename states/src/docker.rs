//! Container states: images and containers as they are to be on a device, by any engine that speaks
//! Docker's API. The files beneath divide into vocabulary (`reference`, `platform`, `forms`,
//! `options`, `spec`), decisions (`compare`, `settle`), the state modules, and the engine itself.

use std::time::Duration;

use crate::host::Host;
use crate::module::Arguments;

mod compare;
mod ended;
mod engine;
mod forms;
mod image;
mod options;
mod platform;
mod ps;
mod reference;
mod running;
mod settle;
mod spec;
mod swap;

pub use ended::{Absent as ContainerAbsent, Stopped as ContainerStopped};
pub use engine::{
    Answer, BollardEngine, ContainerEngine, Created, EngineError, Pull, PullProgress,
};
pub use image::{Absent as ImageAbsent, Present as ImagePresent};
pub use platform::Platform;
pub use ps::{ContainerRow, ps};
pub use reference::{ImageReference, ReferenceError};
pub use running::Running as ContainerRunning;
pub use spec::MARK_LABEL;

/// How long an engine may be silent during a pull (`client_timeout`).
const PATIENCE: Duration = Duration::from_secs(300);

fn engine_of(host: &Host) -> Result<&dyn ContainerEngine, EngineError> {
    host.engine().ok_or(EngineError::NotConfigured)
}

/// The state's name as the name of a container.
fn container_name(arguments: &mut Arguments<'_>) -> String {
    let name = arguments.name().to_owned();
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if !first || !rest || name.len() < 2 {
        let hint = "use two or more letters, digits, `_`, `.` and `-`".to_owned();
        arguments.error("name", format!("`{name}` is not the name of a container"), Some(hint));
    }
    name
}

/// The argument `image`, which must be there.
fn image_argument(arguments: &mut Arguments<'_>) -> ImageReference {
    let text = arguments.required_string("image");
    if text.is_empty() { placeholder() } else { reference(arguments, "image", text) }
}

/// An image's name that stands in the argument `key`.
fn reference(arguments: &mut Arguments<'_>, key: &str, text: String) -> ImageReference {
    text.parse().unwrap_or_else(|error: ReferenceError| {
        arguments.error(key, error.to_string(), None);
        placeholder()
    })
}

/// Stands where a refused image's name would; a state with a refused argument never runs.
fn placeholder() -> ImageReference {
    "none".parse().expect("the name of an image")
}

/// A number of seconds.
fn seconds(arguments: &mut Arguments<'_>, key: &'static str) -> Option<Duration> {
    let seconds = arguments.number(key)?;
    let duration = Duration::try_from_secs_f64(seconds).ok();
    if duration.is_none() {
        arguments.error(key, format!("`{key}` must be a number of seconds, not `{seconds}`"), None);
    }
    duration
}

/// `shutdown_timeout`: how long a container may take to stop.
fn grace(arguments: &mut Arguments<'_>) -> Option<Duration> {
    seconds(arguments, "shutdown_timeout")
}

/// `client_timeout`: how long the engine may be silent during a pull.
fn patience(arguments: &mut Arguments<'_>) -> Duration {
    seconds(arguments, "client_timeout").unwrap_or(PATIENCE)
}
