//! A real mosquitto as the other side: every event arrives, though brokers and masters die; certificates are of the fleet's
//! own PKI; and what others publish becomes events.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use drover_tests::{
    fleet::{Fleet, PATIENCE, run},
    local_bus::Program,
    parts::{
        certificates::Certificate,
        mosquitto::{BrokerTls, Mosquitto},
    },
    process::{Daemon, program},
    wait,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const VERSIONS: [&str; 2] = ["3.1.1", "5"];

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("drover-").tempdir().expect("a directory")
}

/// A running master with one bridge, `mq`.
fn fleet(url: &str, keys: &str) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.configure_master(&bridge(url, keys));
    fleet.start_master();
    fleet
}

fn bridge(url: &str, keys: &str) -> String {
    format!("bridges:\n  - {{name: mq, type: mqtt, url: '{url}', {keys}}}\n")
}

fn url(broker: &Mosquitto) -> String {
    format!("mqtt://127.0.0.1:{}", broker.port())
}

/// Subscribes, and returns once the broker has taken it.
fn subscribed(broker: &Mosquitto, name: &str, options: &[&str]) -> Daemon {
    let mut all = vec!["-q", "1"];
    all.extend(options);
    let subscriber = broker.subscribe(name, &all);
    let taken = format!("Sending SUBACK to {name}");
    wait::until_some(
        "the subscription is taken",
        PATIENCE,
        || broker.log().contains(&taken).then_some(()),
        || format!("{}\n{}", subscriber.log(), broker.log()),
    );
    subscriber
}

/// The numbers in the topics `storm/NUMBER` of messages that the broker's log says it received.
fn received(broker: &Mosquitto) -> BTreeSet<usize> {
    let log = broker.log();
    let number = |line: &str| {
        let (_, rest) = line.split_once("Received PUBLISH from drover-mq")?;
        rest.split_once("'storm/")?.1.split_once('\'')?.0.parse().ok()
    };
    log.lines().filter_map(number).collect()
}

#[test]
fn every_event_arrives_though_brokers_and_masters_die() {
    for version in VERSIONS {
        let dir = directory();
        let mut broker = Mosquitto::start(dir.path().join("mosquitto"), None, "");
        let keys = format!(
            "version: '{version}', topic: 'storm/{{{{ event.data.n }}}}', filter: 'storm/*', \
             batch_events: 20"
        );
        let mut fleet = fleet(&url(&broker), &keys);
        let mut sent = 0;
        for round in 0..6 {
            let mut bus = Program::connect(&fleet.path("master/run/inject.ipc"));
            for _ in 0..100 {
                bus.send("storm/event", &json!({"n": sent}));
                sent += 1;
            }
            // Stored, and in the middle of being delivered.
            let _ = fleet.wait_events("storm/event", sent);
            if round % 3 != 0 {
                broker.kill();
            }
            if round % 3 != 1 {
                fleet.kill_master();
                fleet.start_master();
            }
            if round % 3 != 0 {
                broker.start_again();
            }
        }
        wait::until_some(
            &format!("all events are there, with MQTT {version}"),
            PATIENCE * 2,
            || (received(&broker).len() == sent).then_some(()),
            || format!("{} of {sent}\n{}", received(&broker).len(), fleet.logs()),
        );
        let status = fleet.json(&["bridge", "status"]);
        assert_eq!(status["mq"]["dead_letters"], 0, "{status}");
    }
}

#[test]
fn events_and_presence_are_told_with_certificates_of_the_fleets_own() {
    let dir = directory();
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    let broker_dir = fleet.path("broker");
    let (factory, out) = (fleet.path("factory"), broker_dir.to_str().expect("text"));
    let enrol = |arguments: &[&str]| {
        let mut all = vec![arguments[0], "--fleet", factory.to_str().expect("text"), "--out", out];
        all.extend(&arguments[1..]);
        let _ = run(&program("drover-enrol"), &all).ok();
    };
    enrol(&["server", "--name", "broker", "--dns", "localhost", "--ip", "127.0.0.1"]);
    enrol(&["client", "--name", "drover-bridge"]);
    let pair = |name: &str| Certificate {
        cert: broker_dir.join(format!("{name}.crt")),
        key: broker_dir.join(format!("{name}.key")),
    };
    let root = broker_dir.join("root.crt");
    fleet.bring_up(&["rfid-1"]);

    // The fleet CA's list alone: whoever was certified by a station has no list to be checked by, and is refused.
    let crl = fleet.path("master/pki/crl.pem");
    wait::until("the fleet CA has signed its list", PATIENCE, || crl.exists());
    let tls = BrokerTls { certificate: pair("broker"), client_ca: Some(root.clone()) };
    let more = format!("use_identity_as_username true\ncrlfile {}\n", crl.display());
    let broker = Mosquitto::start(dir.path().join("mosquitto"), Some(&tls), &more);
    let shown = |directory: &Path, name: &str| -> Vec<String> {
        let file = |ending: &str| directory.join(format!("{name}.{ending}")).display().to_string();
        let root = root.display().to_string();
        ["--cafile", &root, "--cert", &file("crt"), "--key", &file("key")].map(str::to_owned).into()
    };
    let device: PathBuf = fleet.minion_dir("rfid-1").join("pki");
    let operational = shown(&device, "ldevid");
    let operational: Vec<&str> = operational.iter().map(String::as_str).collect();
    let subscriber = subscribed(&broker, "watcher", &[&operational[..], &["-t", "#"]].concat());

    let port = broker.port();
    let keys = format!(
        "ca: {}, cert: {}, key: {}, presence_topic: true, template: '{{{{ event.tag }}}}'",
        root.display(),
        pair("drover-bridge").cert.display(),
        pair("drover-bridge").key.display()
    );
    fleet.stop_minion("rfid-1");
    fleet.stop_master();
    fleet.configure_master(&bridge(&format!("mqtts://127.0.0.1:{port}"), &keys));
    fleet.start_master();
    let told = |what: &str| {
        wait::until(what, PATIENCE, || subscriber.log().contains(what));
    };
    told("drover/minion/rfid-1/start drover/minion/rfid-1/start");
    told(r#"drover/presence/rfid-1 {"presence":"connected","since":"#);
    told(r#"drover/presence/rfid-1 {"presence":"disconnected","since":"#);

    let mut late = vec!["-C", "1", "-W", "10", "-t", "drover/presence/+"];
    late.extend(&operational);
    let late = broker.subscribe("late", &late);
    // The master may have called the device stale since.
    let retained = r#"drover/presence/rfid-1 {"presence":""#;
    wait::until_some(
        "presence is retained",
        PATIENCE,
        || late.log().contains(retained).then_some(()),
        || format!("{}\n{}", late.log(), broker.log()),
    );

    let birth = shown(&device, "idevid");
    let mut birth: Vec<&str> = birth.iter().map(String::as_str).collect();
    birth.extend(["-t", "x", "-m", "x"]);
    assert_ne!(broker.publish(&birth).status, 0, "a birth certificate is no way in");
    let log = broker.log();
    assert!(log.contains("u'rfid-1'") && log.contains("u'drover-bridge'"), "{log}");
}

#[test]
fn what_others_publish_becomes_events_also_of_the_time_when_the_master_was_away() {
    for version in VERSIONS {
        let dir = directory();
        let broker = Mosquitto::start(dir.path().join("mosquitto"), None, "");
        let keys = format!(
            "version: '{version}', filter: 'none', \
             subscribe: [{{topic: 'site/+/door', tag: 'site/{{{{ topic[1] }}}}/door'}}, {{topic: 'drover/#'}}]"
        );
        let mut fleet = fleet(&url(&broker), &keys);
        let publish = |topic: &str, payload: &str| {
            let _ = broker.publish(&["-q", "1", "-t", topic, "-m", payload]).ok();
        };
        // The subscription takes effect some time after the master's start.
        wait::until("a message becomes an event", PATIENCE, || {
            publish("site/bne/door", "open");
            !fleet.events("site/bne/door").is_empty()
        });
        publish("drover/minion/rfid-1/start", "{}");
        publish("site/syd/door", r#"{"badge": 4711}"#);
        let events = fleet.wait_events("site/syd/door", 1);
        assert_eq!(events[0]["data"], json!({"badge": 4711}));
        assert!(
            fleet.events("drover/minion/rfid-1/start").is_empty(),
            "that is the master's to say"
        );

        fleet.kill_master();
        for number in 0..20 {
            publish("site/mel/door", &number.to_string());
        }
        fleet.start_master();
        wait::until("what was published meanwhile is there", PATIENCE, || {
            let events = fleet.events("site/mel/door");
            let numbers: BTreeSet<u64> =
                events.iter().filter_map(|event| event["data"].as_u64()).collect();
            numbers.into_iter().eq(0..20)
        });
    }
}

#[test]
fn a_wrong_password_pauses_the_bridge_until_its_file_has_the_right_one() {
    let dir = directory();
    let passwords = dir.path().join("passwords");
    let passwords = passwords.to_str().expect("text");
    let _ =
        run(Path::new("/usr/bin/mosquitto_passwd"), &["-b", "-c", passwords, "drover", "right"])
            .ok();
    let more = format!("allow_anonymous false\npassword_file {passwords}\n");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "wrong\n").expect("it is writable");
    let start = |version| {
        let broker = Mosquitto::start(dir.path().join(version), None, &more);
        let keys = format!(
            "version: '{version}', username: drover, password_file: {}, filter: 'shop/*'",
            secret.display()
        );
        let fleet = fleet(&url(&broker), &keys);
        let _ = fleet.drover(&["events", "send", "shop/open"]).ok();
        (broker, fleet)
    };
    // Both wait at once: a bridge that is refused tries again every half minute.
    let running = VERSIONS.map(start);
    let status = |fleet: &Fleet, state: &str| {
        wait::until_some(
            &format!("the bridge is {state}"),
            PATIENCE * 2,
            || {
                let status: Value = fleet.json(&["bridge", "status"]);
                (status["mq"]["state"] == state).then_some(status)
            },
            || fleet.logs(),
        )
    };
    for (_, fleet) in &running {
        let said = status(fleet, "paused").to_string();
        assert!(said.contains("not authorized") || said.contains("bad user name"), "{said}");
    }
    std::fs::write(&secret, "right\n").expect("it is writable");
    for (_, fleet) in &running {
        let _ = status(fleet, "up");
    }
}
