use bollard::models::ContainerInspectResponse;
use serde_json::{Map, Value, json};

use super::{as_changes, differences};
use crate::docker::spec::{ContainerSpec, MARK_LABEL};
use crate::module::Arguments;

const IMAGE: &str = "sha256:1111111111111111";

fn spec(values: Value) -> ContainerSpec {
    let mut values = values.as_object().unwrap().clone();
    values.insert("image".to_owned(), json!("busybox"));
    let mut arguments = Arguments::new("rfid", &values);
    let spec = ContainerSpec::parse(&mut arguments);
    let errors = arguments.finish("docker_container.running", &[]);
    assert!(errors.is_empty(), "{errors:?}");
    spec
}

/// What an engine reports of a container made from `spec`: with what the image brings, and in the
/// engine's own way of writing.
fn made(spec: &ContainerSpec) -> Value {
    let mut config = serde_json::to_value(spec.marked_body()).unwrap();
    let mut host = config.as_object_mut().unwrap().remove("HostConfig").unwrap();
    let add = |list: &mut Value, word: &str| match list.as_array_mut() {
        Some(words) => words.push(json!(word)),
        None => *list = json!([word]),
    };
    add(&mut config["Env"], "PATH=/bin");
    config["Labels"]["from.image"] = json!("x");
    if config["Cmd"].is_null() {
        config["Cmd"] = json!(["image-default"]);
    }
    config["Hostname"] = json!("0123456789ab");
    if host["RestartPolicy"].is_null() {
        host["RestartPolicy"] = json!({"Name": "", "MaximumRetryCount": 0});
    }
    if host["NetworkMode"].is_null() || host["NetworkMode"] == "bridge" {
        host["NetworkMode"] = json!("default");
    }
    host["LogConfig"] = json!({"Type": "json-file", "Config": {}});
    host["ShmSize"] = json!(67_108_864);
    json!({"Id": "c1", "Image": IMAGE, "Config": config, "HostConfig": host})
}

fn said(spec: &ContainerSpec, container: Value) -> Vec<String> {
    let container: ContainerInspectResponse = serde_json::from_value(container).unwrap();
    differences(spec, Some(IMAGE), &container).iter().map(ToString::to_string).collect()
}

/// The container made from `old`, changed by `edit`, held against `new`.
fn changed(old: Value, new: Value, edit: fn(&mut Value)) -> Vec<String> {
    let mut container = made(&spec(old));
    edit(&mut container);
    said(&spec(new), container)
}

fn full() -> Value {
    json!({"command": "sleep 9", "environment": {"A": "1", "SECRET": "x"}, "binds": "/a:/b:rw,/c:/d",
        "network_mode": "bridge", "ports": "80", "port_bindings": "8080:80", "labels": {"a": "1"},
        "restart_policy": "unless-stopped", "mem_limit": "64m", "cap_add": "net_admin",
        "privileged": false, "ulimits": "nofile=10"})
}

const NOTHING: [&str; 0] = [];

#[test]
fn container_as_it_was_made_does_not_differ() {
    assert_eq!(changed(json!({}), json!({}), |_| {}), NOTHING);
    assert_eq!(changed(full(), full(), |_| {}), NOTHING);
}

#[test]
fn what_image_and_engine_add_is_no_difference() {
    let edit = |container: &mut Value| {
        container["Config"]["WorkingDir"] = json!("/srv");
        container["Config"]["User"] = json!("app");
        container["Config"]["ExposedPorts"] = json!({"9/tcp": {}, "80/tcp": {}});
        container["HostConfig"]["IpcMode"] = json!("private");
        container["HostConfig"]["MaskedPaths"] = json!(["/proc/kcore"]);
        container["HostConfig"]["MemorySwap"] = json!(134_217_728);
        container["HostConfig"]["PidsLimit"] = json!(2048);
    };
    assert_eq!(changed(full(), full(), edit), NOTHING);
}

#[test]
fn what_the_engine_rewrites_or_leaves_out_is_no_difference() {
    let edit = |container: &mut Value| {
        // No memory cgroup, as on many small boards: the engine warns and leaves the limit out.
        container["HostConfig"]["Memory"] = json!(0);
        container["HostConfig"]["CapAdd"] = json!(["CAP_NET_ADMIN"]);
        container["HostConfig"]["Ulimits"] = Value::Null;
    };
    assert_eq!(changed(full(), full(), edit), NOTHING);
}

#[test]
fn each_changed_option_is_named() {
    let with = |key: &str, value: Value| {
        let mut values = full();
        values[key] = value;
        values
    };
    let told = |key, value| changed(full(), with(key, value), |_| {}).join(" | ");
    insta::assert_snapshot!(told("command", json!("sleep 8")), @r#"Cmd ["sleep","9"] is to be ["sleep","8"]"#);
    insta::assert_snapshot!(told("environment", json!({"A": "2", "SECRET": "y"})), @"environment: A, SECRET");
    insta::assert_snapshot!(told("network_mode", json!("host")), @r#"NetworkMode "bridge" is to be "host""#);
    insta::assert_snapshot!(told("restart_policy", json!("always")), @r#"RestartPolicy {"Name":"unless-stopped","MaximumRetryCount":0} is to be {"Name":"always","MaximumRetryCount":0}"#);
    insta::assert_snapshot!(told("mem_limit", json!("32m")), @"Memory 67108864 is to be 33554432");
    insta::assert_snapshot!(told("port_bindings", json!("8081:80")), @r#"PortBindings {"80/tcp":[["","8080"]]} is to be {"80/tcp":[["","8081"]]}"#);
    insta::assert_snapshot!(told("privileged", json!(true)), @"Privileged false is to be true");
    insta::assert_snapshot!(told("labels", json!({"a": "2"})), @r#"Labels {"a":"1"} is to be {"a":"2"}"#);
    insta::assert_snapshot!(told("ulimits", json!("nofile=20")), @r#"Ulimits [{"Name":"nofile","Soft":10,"Hard":10}] is to be [{"Name":"nofile","Soft":20,"Hard":20}]"#);
}

#[test]
fn setting_that_is_no_longer_named_is_a_difference() {
    let mut fewer = full();
    fewer.as_object_mut().unwrap().remove("binds");
    assert_eq!(changed(full(), fewer, |_| {}), ["it has settings that are no longer named"]);
}

#[test]
fn moved_tag_is_a_difference() {
    let edit = |container: &mut Value| container["Image"] = json!("sha256:2222222222222222");
    assert_eq!(changed(full(), full(), edit), ["image 222222222222 is now 111111111111"]);
}

#[test]
fn limit_and_restart_policy_that_somebody_updated_are_differences() {
    let edit = |container: &mut Value| {
        container["HostConfig"]["Memory"] = json!(1024);
        container["HostConfig"]["RestartPolicy"]["Name"] = json!("always");
    };
    let unnamed = json!({});
    assert_eq!(changed(unnamed.clone(), unnamed, edit).len(), 2);
}

#[test]
fn container_that_something_else_made_is_a_difference() {
    let edit = |container: &mut Value| {
        container["Config"]["Labels"].as_object_mut().unwrap().remove(MARK_LABEL);
    };
    assert_eq!(changed(full(), full(), edit), ["it was not made by Drover"]);
}

#[test]
fn mark_copied_onto_another_container_does_not_hide_it() {
    let edit = |container: &mut Value| {
        container["Config"]["Cmd"] = json!(["other"]);
        container["HostConfig"]["Binds"] = json!(["/x:/y"]);
    };
    assert_eq!(changed(full(), full(), edit).len(), 2);
}

#[test]
fn mark_of_another_agents_format_is_not_a_difference() {
    let edit = |container: &mut Value| container["Config"]["Labels"][MARK_LABEL] = json!("0:abc");
    assert_eq!(changed(full(), full(), edit), NOTHING);
}

#[test]
fn changes_name_section_and_property_and_no_secret() {
    let mut container = made(&spec(json!({"environment": {"SECRET": "old"}, "command": "a"})));
    container["Image"] = json!("sha256:2");
    let container: ContainerInspectResponse = serde_json::from_value(container).unwrap();
    let wanted = spec(json!({"environment": {"SECRET": "new"}, "command": "b"}));
    let changes: Map<String, Value> = as_changes(&differences(&wanted, Some(IMAGE), &container));
    assert_eq!(
        Value::Object(changes),
        json!({
            "Config": {"Cmd": {"old": ["a"], "new": ["b"]}, "Env": ["SECRET"]},
            "Image": {"Id": {"old": "sha256:2", "new": IMAGE}},
        })
    );
}
