//! Salt's core grains, as far as they matter to a device: found in `/proc`, `/sys` and `/etc` at the start and before
//! each connection. What cannot be found is left out.

use std::{collections::BTreeSet, fs, path::Path};

use drover_proto::MinionId;
use serde_json::{Map, Value, json};

mod interfaces;
mod os;

/// What the machine is. `serial` is the hardware serial number in its certificate.
#[must_use]
pub fn detect(id: &MinionId, serial: Option<&str>, master: Option<&str>) -> Map<String, Value> {
    let mut grains = Map::new();
    let mut add = |name: &str, value: Value| {
        if !value.is_null() {
            grains.insert(name.to_owned(), value);
        }
    };
    add("id", json!(id));
    add("droverversion", json!(crate::VERSION));
    add("serialnumber", json!(serial));
    add("master", json!(master));

    let kernel = rustix::system::uname();
    let node = kernel.nodename().to_string_lossy();
    add("nodename", json!(node));
    add("host", json!(node.split('.').next()));
    add("fqdn", json!(node));
    add("localhost", json!(node));
    add("domain", json!(node.split_once('.').map_or("", |(_, domain)| domain)));
    add("kernel", json!(kernel.sysname().to_string_lossy()));
    add("kernelrelease", json!(kernel.release().to_string_lossy()));
    add("kernelversion", json!(kernel.version().to_string_lossy()));
    let machine = kernel.machine().to_string_lossy();
    add("cpuarch", json!(machine));
    add("machine_id", json!(line("/etc/machine-id")));

    let release = ["/etc/os-release", "/usr/lib/os-release"];
    let release = release.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    for (name, value) in os::grains(&release, &machine) {
        add(name, value);
    }
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    add("num_cpus", json!(fs::read_to_string("/proc/stat").map(|stat| cpus(&stat)).ok()));
    add("cpu_model", json!(field(&cpuinfo, "model name").or_else(|| field(&cpuinfo, "Model"))));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    add("mem_total", json!(mebibytes(&memory, "MemTotal")));
    add("swap_total", json!(mebibytes(&memory, "SwapTotal")));
    let product = line("/sys/class/dmi/id/product_name")
        .or_else(|| line("/proc/device-tree/model").map(|model| model.replace('\0', "")));
    add("virtual", json!(virtualisation(product.as_deref())));
    add("productname", json!(product));
    add("manufacturer", json!(line("/sys/class/dmi/id/sys_vendor")));
    for (name, value) in interfaces::grains() {
        add(name, value);
    }
    grains
}

fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// The CPUs that run, as the kernel counts them in `/proc/stat`.
fn cpus(stat: &str) -> usize {
    let numbered = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|l| l.starts_with(|c: char| c.is_ascii_digit()))
    };
    stat.lines().filter(numbered).count()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn mebibytes(memory: &str, name: &str) -> Option<u64> {
    let kibibytes: u64 = field(memory, name)?.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes / 1024)
}

fn virtualisation(product: Option<&str>) -> &'static str {
    if Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists() {
        return "container";
    }
    let known = [
        ("KVM", "kvm"),
        ("QEMU", "kvm"),
        ("Standard PC", "kvm"),
        ("Google Compute Engine", "gce"),
        ("VirtualBox", "VirtualBox"),
        ("VMware", "VMware"),
        ("Virtual Machine", "VirtualPC"),
    ];
    let product = product.unwrap_or_default();
    known.iter().find(|(sign, _)| product.contains(sign)).map_or("physical", |(_, name)| name)
}

/// Texts in order, each once.
fn sorted(texts: impl IntoIterator<Item = String>) -> Value {
    json!(texts.into_iter().collect::<BTreeSet<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_the_grains_that_targets_are_written_with() {
        let grains = detect(&"rfid-1".parse().unwrap(), Some("SN1"), None);
        for name in ["id", "os", "os_family", "kernel", "cpuarch", "num_cpus", "mem_total", "ipv4"]
        {
            assert!(grains.contains_key(name), "{name} in {grains:?}");
        }
        assert_eq!(grains["kernel"], json!("Linux"));
        assert!(grains["num_cpus"].as_u64().unwrap() > 0);
        assert!(grains["ipv4"].as_array().unwrap().contains(&json!("127.0.0.1")));
    }

    #[test]
    fn cpus_and_memory_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpus("cpu  1 2\ncpu0 1 2\ncpu1 1 2\nintr 5\n"), 2);
        assert_eq!(mebibytes("MemTotal:        2048 kB\n", "MemTotal"), Some(2));
    }
}
