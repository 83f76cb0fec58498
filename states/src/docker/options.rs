//! Salt's creation options of a container, read into what the Docker API takes to create one, in one
//! canonical form whatever way they were written. What no state names is left to image and engine.

use std::collections::{BTreeMap, HashMap};

use bollard::models::ContainerCreateBody;
use serde_json::Value;

use super::forms;
use crate::module::Arguments;

mod health;
mod host;

pub(super) use host::{bind, capabilities, network_mode};

/// Reads every creation option. The image is not one of them.
pub(super) fn creation(arguments: &mut Arguments<'_>) -> ContainerCreateBody {
    let mut read = Options { arguments };
    let host_config = host::host_config(&mut read);
    let published = host_config.port_bindings.iter().flat_map(HashMap::keys).cloned();
    let exposed = read.option(&["ports", "expose"], "a list of ports", |value| {
        let words = forms::words(value)?;
        let ports = words.iter().map(|word| forms::container_ports(word));
        Some(ports.collect::<Option<Vec<_>>>()?.concat())
    });
    let exposed: Vec<String> = exposed.into_iter().flatten().chain(published).collect();

    let body = ContainerCreateBody {
        hostname: read.text(&["hostname"]),
        domainname: read.text(&["domainname"]),
        user: read.text(&["user"]),
        exposed_ports: non_empty(set(exposed)),
        tty: read.flag(&["tty"]),
        open_stdin: read.flag(&["interactive", "stdin_open"]),
        env: read.option(&["environment", "env"], "variables with their values", environment),
        cmd: read.option(&["command", "cmd"], "a command", forms::command).and_then(non_empty),
        healthcheck: health::check(&mut read),
        volumes: read.words(&["volumes"]).map(set),
        working_dir: read.text(&["working_dir", "workdir"]),
        entrypoint: read.option(&["entrypoint"], "a command", forms::command).map(entrypoint),
        network_disabled: read.flag(&["network_disabled"]),
        labels: read.pairs(&["labels", "label"]).map(HashMap::from_iter),
        stop_signal: read.text(&["stop_signal"]),
        stop_timeout: read.integer(&["stop_timeout"]),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    };
    refuse_the_rest(&mut read);
    body
}

/// Options of Salt's that cannot be had, each with the way to what it was for.
fn refuse_the_rest(read: &mut Options<'_, '_>) {
    if read.flag(&["detach"]) == Some(false) {
        let hint = "use `cmd.run` for a program that ends".to_owned();
        read.arguments.error("detach", "a container that runs is always detached", Some(hint));
    }
    if read.flag(&["auto_remove", "rm"]) == Some(true) {
        let hint = "leave it out: `docker_container.absent` removes the container".to_owned();
        let message =
            "a container that removes itself cannot be put back when its replacement fails";
        read.arguments.error("auto_remove", message, Some(hint));
    }
    let arguments = &mut *read.arguments;
    arguments.unsupported(&["networks"], "attach one network with `network_mode: NAME`");
    arguments.unsupported(&["mac_address"], "set it on the network");
    arguments.unsupported(&["cpu_group"], "use `cpu_period` and `cpu_quota`");
    arguments.unsupported(&["lxc_conf", "isolation"], "the engine no longer has it on Linux");
    arguments.unsupported(
        &["skip_translate", "validate_ip_addrs", "ignore_collisions"],
        "remove it: options are read in every form, and addresses are checked by the engine",
    );
    arguments.unsupported(&["send_signal"], "use `watch_action: SIGNAL`");
}

/// None at all is written `[""]` in the engine's API; an empty list there means the image's own.
fn entrypoint(command: Vec<String>) -> Vec<String> {
    if command.is_empty() { vec![String::new()] } else { command }
}

/// `NAME=VALUE` in the order of the names; of a name given twice the last counts.
fn environment(value: &Value) -> Option<Vec<String>> {
    let variables: BTreeMap<_, _> = forms::pairs(value)?.into_iter().collect();
    if variables.keys().any(String::is_empty) {
        return None;
    }
    Some(variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// Sorted, each once: for options whose order means nothing.
pub(super) fn set(mut words: Vec<String>) -> Vec<String> {
    words.sort();
    words.dedup();
    words
}

fn non_empty(words: Vec<String>) -> Option<Vec<String>> {
    Some(words).filter(|words| !words.is_empty())
}

/// Reads options that go by several names, of which one may be written.
pub(super) struct Options<'o, 'a> {
    arguments: &'o mut Arguments<'a>,
}

impl Options<'_, '_> {
    fn option<T>(
        &mut self,
        names: &[&'static str],
        wanted: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let mut written = None;
        for name in names {
            let Some(value) = self.arguments.value(name) else { continue };
            if let Some((first, _)) = written {
                let message = format!("`{name}` and `{first}` are the same option");
                self.arguments.error(name, message, Some(format!("keep `{first}`")));
                continue;
            }
            written = Some((*name, value));
        }
        let (name, value) = written?;
        let parsed = parse(value);
        if parsed.is_none() {
            self.arguments.refuse_value(name, value, wanted);
        }
        parsed
    }

    fn text(&mut self, names: &[&'static str]) -> Option<String> {
        self.option(names, "a string", crate::module::scalar_text)
    }

    fn flag(&mut self, names: &[&'static str]) -> Option<bool> {
        self.option(names, "`true` or `false`", Value::as_bool)
    }

    fn integer(&mut self, names: &[&'static str]) -> Option<i64> {
        self.option(names, "a whole number", |value| {
            value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
        })
    }

    fn bytes(&mut self, names: &[&'static str]) -> Option<i64> {
        self.option(names, "a number of bytes such as `64m`", forms::bytes)
    }

    fn words(&mut self, names: &[&'static str]) -> Option<Vec<String>> {
        self.option(names, "a list, or words with commas", forms::words)
    }

    fn pairs(&mut self, names: &[&'static str]) -> Option<Vec<(String, String)>> {
        self.option(names, "names with their values", forms::pairs)
    }
}

#[cfg(test)]
mod tests;
