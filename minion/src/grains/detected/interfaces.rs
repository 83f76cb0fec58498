//! The network's grains. Virtual pairs of containers come and go and are left out: a grain that changes with each
//! container would be told to the master each time.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use nix::ifaddrs::getifaddrs;
use serde_json::{Value, json};

use super::sorted;

pub(super) fn grains() -> Vec<(&'static str, Value)> {
    let Ok(addresses) = getifaddrs() else { return Vec::new() };
    let mut v4: BTreeMap<String, Vec<Ipv4Addr>> = BTreeMap::new();
    let mut v6: BTreeMap<String, Vec<Ipv6Addr>> = BTreeMap::new();
    let mut hardware: BTreeMap<String, String> = BTreeMap::new();
    for address in addresses {
        let name = address.interface_name;
        if name.starts_with("veth") {
            continue;
        }
        let (v4, v6) = (v4.entry(name.clone()).or_default(), v6.entry(name.clone()).or_default());
        let Some(address) = address.address else { continue };
        if let Some(found) = address.as_sockaddr_in() {
            v4.push(found.ip());
        } else if let Some(found) = address.as_sockaddr_in6() {
            v6.push(found.ip());
        } else if let Some(bytes) = address.as_link_addr().and_then(|link| link.addr()) {
            hardware.insert(name, bytes.map(|byte| format!("{byte:02x}")).join(":"));
        }
    }
    let texts4 = v4.values().flatten().map(ToString::to_string);
    let texts6 = v6.values().flatten().map(ToString::to_string);
    let both: BTreeMap<_, _> = v4
        .iter()
        .map(|(name, found)| {
            let six = v6.get(name).into_iter().flatten().map(ToString::to_string);
            (name, found.iter().map(ToString::to_string).chain(six).collect::<Vec<_>>())
        })
        .collect();
    vec![
        ("ipv4", sorted(texts4)),
        ("ipv6", sorted(texts6)),
        ("ip_interfaces", json!(both)),
        ("ip4_interfaces", json!(v4)),
        ("ip6_interfaces", json!(v6)),
        ("hwaddr_interfaces", json!(hardware)),
    ]
}
