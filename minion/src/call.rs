//! `drover-minion call`: one function by hand, on this device, without an agent. With `--local` states and pillar come
//! from this device's own directories, else from what the agent has kept of the master's.

use std::{path::PathBuf, time::Duration};

use drover_proto::MinionId;
use drover_states::yaml;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    config::Config,
    device::Device,
    durable::{self, FileError},
    functions::{Call, Reply},
    identity::{DeviceIdentity, LoadIdentityError},
    library::{Library, LibraryError},
};

mod output;

pub use output::{Output, UnknownOutput};

/// One call from the command line.
#[derive(Debug)]
pub struct Request {
    /// States and pillar come from this device's own directories.
    pub local: bool,
    /// `module.function`.
    pub function: String,
    /// Arguments as they were typed: values in YAML, `KEY=VALUE` for those by name.
    pub arguments: Vec<String>,
}

/// A call that cannot begin.
#[derive(Debug, Error)]
pub enum BeginError {
    /// Who this device is.
    #[error(transparent)]
    Identity(#[from] LoadIdentityError),
    /// The data directory.
    #[error("use the data directory")]
    Data(#[from] FileError),
    /// The file cache.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// `--local` without anything local.
    #[error("`--local` takes states from `file_roots:` in minion.yml, and there is none")]
    NoRoots,
}

/// Runs the function, and gives what it returned.
///
/// # Errors
/// When it cannot begin.
pub async fn run(config: Config, request: Request) -> Result<Reply, BeginError> {
    let (positional, keyword) = arguments(&request.arguments);
    let call = match Call::parse(&request.function, positional, keyword) {
        Ok(call) => call,
        // As the master is answered: it is the function's return.
        Err(why) => return Ok(why.reply()),
    };
    if request.local && request.function.starts_with("state.") && config.file_roots.is_empty() {
        return Err(BeginError::NoRoots);
    }
    durable::private_directory(&config.data_dir)?;
    let (id, serial) = identity(&config, request.local)?;
    let library = if request.local {
        let (files, pillar) = (config.file_roots.clone(), config.pillar_roots.clone());
        Library::of_roots(&config.data_dir, files, pillar)?
    } else {
        Library::of_cache(&config.data_dir, config.cache_limit)?
    };
    let limit = config.job_timeout;
    let device = Device::new(id, serial, config, library);
    let limit = call.time_limit(limit, &device);
    Ok(match tokio::time::timeout(limit, call.run(&device)).await {
        Ok(reply) => reply,
        Err(_) => Reply::failed(format!("timed out after {} s and was ended", seconds(limit))),
    })
}

/// Who this device is. Masterless it may be nobody yet: then it goes by its host name.
fn identity(config: &Config, local: bool) -> Result<(MinionId, Option<String>), LoadIdentityError> {
    match DeviceIdentity::load(&config.pki_dir) {
        Ok(identity) => Ok((identity.id, identity.serial)),
        Err(why @ LoadIdentityError::NotEnrolled(_)) if local => host_name().ok_or(why),
        Err(why) => Err(why),
    }
}

fn host_name() -> Option<(MinionId, Option<String>)> {
    let kernel = rustix::system::uname();
    kernel.nodename().to_str().ok()?.parse().ok().map(|id| (id, None))
}

/// Salt's reading of a command line: `KEY=VALUE` by name where the key is a name, everything else by position, values as
/// YAML where they are that.
#[must_use]
pub fn arguments(typed: &[String]) -> (Vec<Value>, Map<String, Value>) {
    let (mut positional, mut keyword) = (Vec::new(), Map::new());
    for text in typed {
        match text.split_once('=') {
            Some((key, value)) if is_name(key) => {
                keyword.insert(key.to_owned(), value_of(value));
            }
            Some(_) | None => positional.push(value_of(text)),
        }
    }
    (positional, keyword)
}

fn is_name(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn value_of(text: &str) -> Value {
    // `#` begins a comment, `a: b` a map: what was typed as one word is meant as a text then, unless it is in brackets.
    let bracketed = text.starts_with(['[', '{']);
    match yaml::load(text) {
        Ok(Value::Object(_) | Value::Array(_)) if !bracketed => text.into(),
        Ok(Value::Null) if !matches!(text, "null" | "~" | "Null" | "NULL") => text.into(),
        Ok(Value::String(_)) if !bracketed && !text.starts_with(['"', '\'']) => text.into(),
        Ok(value) => value,
        Err(_) => text.into(),
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Where a configuration is read from: named, or in the environment, or where systems have it.
#[must_use]
pub fn directory(named: Option<PathBuf>) -> PathBuf {
    named.unwrap_or_else(|| crate::config::DEFAULT_DIRECTORY.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_read_as_salt_reads_them() {
        let typed = ["1", "false", "a b", "x=[1, 2]", "ls -l a=b", "key: value", "#1", "", "null"];
        let typed: Vec<_> = typed.iter().map(|text| (*text).to_owned()).collect();
        let (positional, keyword) = arguments(&typed);
        assert_eq!(
            Value::Array(positional),
            json!([1, false, "a b", "ls -l a=b", "key: value", "#1", "", null])
        );
        assert_eq!(Value::Object(keyword), json!({"x": [1, 2]}));
    }
}
