//! The options that say how the host runs a container: mounts, network, limits, privileges.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    DeviceMapping, HostConfig, HostConfigLogConfig, PortBinding, PortMap,
    ResourcesBlkioWeightDevice, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
    ThrottleDevice,
};
use serde_json::{Value, json};

use super::{Options, set};
use crate::docker::forms;
use crate::module::scalar_text;

pub(super) fn host_config(read: &mut Options<'_, '_>) -> HostConfig {
    HostConfig {
        // What it mounts and reaches.
        binds: read.words(&["binds"]).map(|binds| set(binds.into_iter().map(bind).collect())),
        tmpfs: read.option(&["tmpfs"], "paths with their mount options", tmpfs),
        volumes_from: read.words(&["volumes_from"]).map(set),
        volume_driver: read.text(&["volume_driver"]),
        devices: read.option(&["devices"], "devices as `HOST[:CONTAINER[:rwm]]`", |value| {
            each(forms::words(value)?, device)
        }),
        storage_opt: read.pairs(&["storage_opt"]).map(HashMap::from_iter),
        readonly_rootfs: read.flag(&["read_only"]),
        shm_size: read.bytes(&["shm_size"]),

        // Its network.
        network_mode: read.text(&["network_mode"]).map(network_mode),
        port_bindings: read.option(
            &["port_bindings", "publish"],
            "ports as `[[IP:]HOST:]CONTAINER[/PROTOCOL]`",
            |value| port_map(&forms::words(value)?),
        ),
        publish_all_ports: read.flag(&["publish_all_ports"]),
        links: read.words(&["links"]).map(|links| set(links.into_iter().map(link).collect())),
        dns: read.words(&["dns"]),
        dns_options: read.words(&["dns_opt"]),
        dns_search: read.words(&["dns_search"]),
        extra_hosts: read.words(&["extra_hosts"]).map(set),

        // Its life.
        restart_policy: read.option(
            &["restart_policy", "restart"],
            "`no`, `always`, `unless-stopped` or `on-failure[:TIMES]`",
            restart_policy,
        ),
        log_config: log_config(read),

        // Limits.
        memory: read.bytes(&["mem_limit", "memory"]),
        memory_swap: read.bytes(&["memswap_limit"]),
        memory_swappiness: read.integer(&["mem_swappiness"]),
        cpu_shares: read.integer(&["cpu_shares"]),
        cpu_period: read.integer(&["cpu_period"]),
        cpu_quota: read.integer(&["cpu_quota"]),
        cpuset_cpus: read.text(&["cpuset_cpus", "cpuset"]),
        cpuset_mems: read.text(&["cpuset_mems"]),
        pids_limit: read.integer(&["pids_limit"]),
        oom_kill_disable: read.flag(&["oom_kill_disable"]),
        oom_score_adj: read.integer(&["oom_score_adj"]),
        ulimits: read.option(&["ulimits"], "limits as `NAME=SOFT[:HARD]`", |value| {
            each(forms::pairs(value)?.into_iter().collect::<BTreeMap<_, _>>(), ulimit)
        }),
        blkio_weight: read.option(&["blkio_weight"], "a number from 10 to 1000", |value| {
            u16::try_from(value.as_u64()?).ok()
        }),
        blkio_weight_device: read.option(
            &["blkio_weight_device"],
            "weights as `DEVICE:WEIGHT`",
            |value| each(forms::words(value)?, weight),
        ),
        blkio_device_read_bps: rates(read, "device_read_bps"),
        blkio_device_write_bps: rates(read, "device_write_bps"),
        blkio_device_read_iops: rates(read, "device_read_iops"),
        blkio_device_write_iops: rates(read, "device_write_iops"),

        // Privileges and namespaces.
        privileged: read.flag(&["privileged"]),
        cap_add: read.words(&["cap_add"]).map(capabilities),
        cap_drop: read.words(&["cap_drop"]).map(capabilities),
        security_opt: read.words(&["security_opt", "security_opts"]).map(set),
        group_add: read.words(&["group_add"]).map(set),
        sysctls: read.pairs(&["sysctls"]).map(HashMap::from_iter),
        ipc_mode: read.text(&["ipc_mode", "ipc"]),
        pid_mode: read.text(&["pid_mode", "pid"]),
        userns_mode: read.text(&["userns_mode"]),
        ..HostConfig::default()
    }
}

fn each<I, T>(items: impl IntoIterator<Item = I>, parse: fn(I) -> Option<T>) -> Option<Vec<T>> {
    items.into_iter().map(parse).collect()
}

/// A bind without the mode that is the default.
pub(in crate::docker) fn bind(bind: String) -> String {
    bind.strip_suffix(":rw").map_or(bind.clone(), str::to_owned)
}

/// `default` is the engine's word for its bridge.
pub(in crate::docker) fn network_mode(mode: String) -> String {
    if mode == "default" { "bridge".to_owned() } else { mode }
}

fn link(link: String) -> String {
    if link.contains(':') { link } else { format!("{link}:{link}") }
}

/// Capabilities in capitals, without the kernel's prefix.
pub(in crate::docker) fn capabilities(names: Vec<String>) -> Vec<String> {
    let plain = |name: String| {
        let name = name.to_ascii_uppercase();
        name.strip_prefix("CAP_").map_or(name.clone(), str::to_owned)
    };
    set(names.into_iter().map(plain).collect())
}

fn tmpfs(value: &Value) -> Option<HashMap<String, String>> {
    let split = |text: String| match text.split_once(':') {
        Some((path, options)) => (path.to_owned(), options.to_owned()),
        None => (text, String::new()),
    };
    // Mount options have commas, so one string is one mount.
    let mounts = match value.as_str() {
        Some(mount) => vec![mount.to_owned()],
        None => forms::words(value)?,
    };
    Some(mounts.into_iter().map(split).collect())
}

fn device(text: String) -> Option<DeviceMapping> {
    let mut parts = text.split(':');
    let host = parts.next().filter(|path| path.starts_with('/'))?.to_owned();
    let (container, permissions) = match (parts.next(), parts.next(), parts.next()) {
        (None, None, None) => (host.clone(), "rwm"),
        (Some(path), None, None) if path.starts_with('/') => (path.to_owned(), "rwm"),
        (Some(permissions), None, None) => (host.clone(), permissions),
        (Some(path), Some(permissions), None) => (path.to_owned(), permissions),
        _ => return None,
    };
    let known = !permissions.is_empty() && permissions.chars().all(|c| "rwm".contains(c));
    known.then(|| DeviceMapping {
        path_on_host: Some(host),
        path_in_container: Some(container),
        cgroup_permissions: Some(permissions.to_owned()),
    })
}

fn port_map(words: &[String]) -> Option<PortMap> {
    let mut published = Vec::new();
    for word in words {
        published.extend(forms::published_ports(word)?);
    }
    published.sort();
    published.dedup();
    let mut map = PortMap::new();
    for port in published {
        let binding = PortBinding { host_ip: Some(port.address), host_port: Some(port.host) };
        map.entry(port.container).or_default().get_or_insert_default().push(binding);
    }
    Some(map)
}

fn restart_policy(value: &Value) -> Option<RestartPolicy> {
    // YAML 1.1 reads `no` as a boolean.
    let text = if *value == Value::Bool(false) { "no".to_owned() } else { scalar_text(value)? };
    let (name, times) = match text.split_once(':') {
        Some((name, times)) => (name, times.parse().ok()?),
        None => (text.as_str(), 0),
    };
    let name = match name {
        "no" => RestartPolicyNameEnum::NO,
        "always" => RestartPolicyNameEnum::ALWAYS,
        "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
        "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
        _ => return None,
    };
    if times != 0 && name != RestartPolicyNameEnum::ON_FAILURE {
        return None;
    }
    Some(RestartPolicy { name: Some(name), maximum_retry_count: Some(times) })
}

fn log_config(read: &mut Options<'_, '_>) -> Option<HostConfigLogConfig> {
    let typ = read.text(&["log_driver"]);
    let config = read.pairs(&["log_opt", "log_opts"]).map(HashMap::from_iter);
    (typ.is_some() || config.is_some()).then_some(HostConfigLogConfig { typ, config })
}

fn ulimit((name, limits): (String, String)) -> Option<ResourcesUlimits> {
    let (soft, hard) = limits.split_once(':').unwrap_or((&limits, &limits));
    Some(ResourcesUlimits {
        name: Some(name),
        soft: Some(soft.parse().ok()?),
        hard: Some(hard.parse().ok()?),
    })
}

fn weight(text: String) -> Option<ResourcesBlkioWeightDevice> {
    let (path, weight) = text.rsplit_once(':')?;
    Some(ResourcesBlkioWeightDevice {
        path: Some(path.to_owned()),
        weight: Some(weight.parse().ok()?),
    })
}

fn rates(read: &mut Options<'_, '_>, name: &'static str) -> Option<Vec<ThrottleDevice>> {
    read.option(&[name], "rates as `DEVICE:RATE`", |value| each(forms::words(value)?, rate))
}

fn rate(text: String) -> Option<ThrottleDevice> {
    let (path, rate) = text.rsplit_once(':')?;
    Some(ThrottleDevice { path: Some(path.to_owned()), rate: Some(forms::bytes(&json!(rate))?) })
}
