use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::docker::spec::ContainerSpec;
use crate::module::Arguments;

fn parse(values: &Value) -> (ContainerSpec, Vec<String>) {
    let mut values = values.as_object().unwrap().clone();
    values.entry("image").or_insert_with(|| json!("busybox"));
    let mut arguments = Arguments::new("rfid", &values);
    let spec = ContainerSpec::parse(&mut arguments);
    let errors = arguments.finish("docker_container.running", &[]);
    let lines = errors.into_iter().map(|error| match &error.hint {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    });
    (spec, lines.collect())
}

fn body(values: &Value) -> Value {
    let (spec, errors) = parse(values);
    assert!(errors.is_empty(), "{errors:?}");
    serde_json::to_value(spec.body()).unwrap()
}

fn refused(values: &Value) -> String {
    parse(values).1.join("\n")
}

#[test]
fn each_option_finds_its_place_in_the_engines_api() {
    let body = body(&json!({
        "command": "sh -c 'sleep 9'", "environment": [{"B": 2}, {"A": "x=y"}], "user": "app",
        "binds": ["/dev/rfid:/dev/rfid", "/a:/b:rw", "/c:/d:ro"], "network_mode": "host",
        "ports": "53/udp,80", "port_bindings": ["127.0.0.1:8080:80"], "restart_policy": "on-failure:5",
        "labels": {"a": "1"}, "mem_limit": "64m", "cap_add": "cap_net_admin,SYS_TIME",
        "devices": ["/dev/ttyUSB0", "/dev/a:/dev/b:r"], "links": ["db", "mq:queue"],
        "ulimits": "nofile=1024:2048", "log_driver": "json-file", "log_opt": [{"max-size": "1m"}],
        "tmpfs": "/run:rw,size=64k", "extra_hosts": [{"power": "10.0.0.1"}], "stop_timeout": 3,
        "sysctls": {"net.core.somaxconn": 1024}, "dns": "1.1.1.1", "device_read_bps": ["/dev/sda:1mb"],
        "healthcheck": [{"test": "true"}, {"interval": "5s"}, {"retries": 2}],
    }));
    let host = &body["HostConfig"];
    assert_eq!(body["Image"], "busybox:latest");
    assert_eq!(body["Cmd"], json!(["sh", "-c", "sleep 9"]));
    assert_eq!(body["Env"], json!(["A=x=y", "B=2"]));
    assert_eq!(body["User"], "app");
    assert_eq!(body["ExposedPorts"], json!({"53/udp": {}, "80/tcp": {}}));
    assert_eq!(body["Labels"], json!({"a": "1"}));
    assert_eq!(body["StopTimeout"], 3);
    assert_eq!(
        body["Healthcheck"],
        json!({"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_i64, "Retries": 2})
    );
    assert_eq!(host["Binds"], json!(["/a:/b", "/c:/d:ro", "/dev/rfid:/dev/rfid"]));
    assert_eq!(host["NetworkMode"], "host");
    assert_eq!(
        host["PortBindings"],
        json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]})
    );
    assert_eq!(host["RestartPolicy"], json!({"Name": "on-failure", "MaximumRetryCount": 5}));
    assert_eq!(host["Memory"], 64 << 20);
    assert_eq!(host["CapAdd"], json!(["NET_ADMIN", "SYS_TIME"]));
    assert_eq!(host["Devices"][1]["CgroupPermissions"], "r");
    assert_eq!(host["Links"], json!(["db:db", "mq:queue"]));
    assert_eq!(host["Ulimits"], json!([{"Name": "nofile", "Soft": 1024, "Hard": 2048}]));
    assert_eq!(host["LogConfig"], json!({"Type": "json-file", "Config": {"max-size": "1m"}}));
    assert_eq!(host["Tmpfs"], json!({"/run": "rw,size=64k"}));
    assert_eq!(host["ExtraHosts"], json!(["power:10.0.0.1"]));
    assert_eq!(host["Sysctls"], json!({"net.core.somaxconn": "1024"}));
    assert_eq!(host["Dns"], json!(["1.1.1.1"]));
    assert_eq!(host["BlkioDeviceReadBps"], json!([{"Path": "/dev/sda", "Rate": 1 << 20}]));
}

#[test]
fn options_have_the_other_names_that_salt_gives_them() {
    let one = parse(&json!({"command": "a", "environment": "A=1", "restart_policy": "always",
        "mem_limit": 1024, "port_bindings": "80", "labels": "a=1", "working_dir": "/"}));
    let other = parse(&json!({"cmd": "a", "env": "A=1", "restart": "always",
        "memory": "1k", "publish": "80", "label": "a=1", "workdir": "/"}));
    assert_eq!(one, other);
}

#[test]
fn what_cannot_be_had_is_refused_with_the_way_out() {
    insta::assert_snapshot!(refused(&json!({"enviroment": "A=1"})), @"`docker_container.running` has no argument `enviroment` (did you mean `environment`?)");
    insta::assert_snapshot!(refused(&json!({"env": "A=1", "environment": "A=1"})), @"`env` and `environment` are the same option (keep `environment`)");
    insta::assert_snapshot!(refused(&json!({"restart_policy": "sometimes"})), @"`restart_policy` must be `no`, `always`, `unless-stopped` or `on-failure[:TIMES]`, not `\"sometimes\"`");
    insta::assert_snapshot!(refused(&json!({"auto_remove": true})), @"a container that removes itself cannot be put back when its replacement fails (leave it out: `docker_container.absent` removes the container)");
    insta::assert_snapshot!(refused(&json!({"image": "a b"})), @"`a b` is not the name of an image");
    insta::assert_snapshot!(refused(&json!({"healthcheck": {"tset": "x"}})), @"`healthcheck` must be a map of `test`, `interval`, `timeout`, `retries`, `start_period`, `disable`, not `{\"tset\":\"x\"}`");
    insta::assert_snapshot!(refused(&json!({"labels": {"drover.spec": "1"}})), @"the label `drover.spec` is Drover's own");
}

#[test]
fn restart_policy_no_is_the_boolean_that_yaml_makes_of_it() {
    assert_eq!(
        body(&json!({"restart_policy": false}))["HostConfig"]["RestartPolicy"]["Name"],
        "no"
    );
}

/// Options in some of the forms in which they may be written, twice: as drawn and turned about.
fn turned_about() -> impl Strategy<Value = (Value, Value)> {
    let word = "[a-z]{1,6}";
    let variables = proptest::collection::btree_map("[A-Z]{1,4}", word, 0..5);
    let binds = proptest::collection::btree_set("/[a-z]{1,4}:/[a-z]{1,4}(:ro|:rw)?", 0..4);
    let ports = proptest::collection::btree_set(1_u16..9999, 0..4);
    (variables, binds, ports, any::<bool>()).prop_map(|(variables, binds, ports, host)| {
        let mode = if host { "host" } else { "bridge" };
        let map: Map<String, Value> =
            variables.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let list: Vec<String> =
            variables.iter().rev().map(|(name, value)| format!("{name}={value}")).collect();
        let comma = |words: Vec<String>| words.join(",");
        let one = json!({
            "environment": map, "binds": binds, "network_mode": mode,
            "ports": ports.iter().map(u16::to_string).collect::<Vec<_>>(),
        });
        let other = json!({
            "environment": list, "binds": comma(binds.iter().rev().cloned().collect()),
            "network_mode": if host { "host" } else { "default" },
            "expose": comma(ports.iter().rev().map(|port| format!("{port}/tcp")).collect()),
        });
        (one, other)
    })
}

proptest! {
    #[test]
    fn form_and_order_do_not_change_the_mark((one, other) in turned_about()) {
        prop_assert_eq!(parse(&one).0.mark(), parse(&other).0.mark());
    }

    /// What was normalised, written again as options, is what it was.
    #[test]
    fn normalisation_is_idempotent((one, _) in turned_about()) {
        let first = body(&one);
        let again = json!({
            "environment": first["Env"], "binds": first["HostConfig"]["Binds"],
            "network_mode": first["HostConfig"]["NetworkMode"],
            "ports": first["ExposedPorts"].as_object().map(|ports| ports.keys().collect::<Vec<_>>())
                .unwrap_or_default(),
        });
        prop_assert_eq!(body(&again), first);
    }
}
