//! The configuration, and what an event becomes. Deliveries run against a real broker, in the scenario tests.

use std::path::Path;

use drover_states::yaml;
use insta::assert_snapshot;
use serde_json::Value;

use super::{packet::Qos, *};
use crate::bridge::sink;

fn read(text: &str) -> Result<MqttSink, Diagnostic> {
    let root = yaml::load_nodes(text).unwrap();
    let mut settings = Settings::new(Path::new("/x"), text, root.as_ref())?;
    let sink = MqttSink::read(&mut settings)?;
    settings.finish()?;
    Ok(sink)
}

fn wrong(text: &str) -> String {
    read(text).err().expect("it is refused").to_string()
}

fn messages(text: &str, tag: &str, data: Value) -> Result<Vec<(String, Value, bool)>, String> {
    let sink = read(text).unwrap();
    let mut item = sink::item(7, tag, data);
    Arc::get_mut(&mut item.event).unwrap().minion = Some("rfid-1".parse().unwrap());
    let messages = sink.messages(&item)?.into_iter();
    let shown = |message: Message| {
        let payload = serde_json::from_slice(&message.payload).unwrap();
        (message.topic, payload, message.is_retained)
    };
    Ok(messages.map(shown).collect())
}

#[test]
fn a_url_is_all_that_it_needs() {
    let sink = read("{name: m, url: 'mqtts://broker.example'}").unwrap();
    assert_eq!(sink.server(), "broker.example:8883, MQTT 5");
    assert!(sink.broker.tls.is_some(), "by whom the system trusts");
    assert_eq!(sink.broker.client, "drover-m");
    assert_eq!(sink.broker.will.as_deref(), Some("drover/bridge/m/offline"));
    assert_eq!(sink.publishing.qos, Qos::AtLeastOnce);
    let sink =
        read("{name: m, url: 'mqtt://[::1]:1884', version: 3.1.1, will_topic: false}").unwrap();
    assert_eq!(sink.server(), "[::1]:1884, MQTT 3.1.1");
    assert_eq!(sink.broker.will, None);
    assert_eq!(sink.broker.largest, Some(1 << 20), "3.1.1 cannot say what it takes");
    let sink = read("{name: m, url: 'mqtt://x', max_packet_size: 128KiB}").unwrap();
    assert_eq!(sink.broker.largest, Some(128 << 10));
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    assert_snapshot!(wrong("{name: m}"), @"
    line 1: the bridge has no `url`
        1 | {name: m}
    ");
    assert_snapshot!(wrong("{name: m, url: 'http://x'}"), @"
    line 1: `url` must be `mqtt://host:port` or `mqtts://host:port`
        1 | {name: m, url: 'http://x'}
    ");
    assert_snapshot!(wrong("{name: m, url: 'mqtt://x', ca: ca.pem}"), @"
    line 1: the bridge has certificates, and `url` is without TLS
        1 | {name: m, url: 'mqtt://x', ca: ca.pem}
    hint: write `mqtts://`
    ");
    assert_snapshot!(wrong("{name: m, url: 'mqtt://x', qos: 2}"), @"
    line 1: `qos` must be 0 or 1
        1 | {name: m, url: 'mqtt://x', qos: 2}
    ");
    assert_snapshot!(wrong("{name: m, url: 'mqtt://x', subscribe: [{topic: 'a/#/b'}]}"), @"
    line 1: `topic` must be a topic filter, such as `site/+/door` or `site/#`
        1 | {name: m, url: 'mqtt://x', subscribe: [{topic: 'a/#/b'}]}
    ");
    assert_snapshot!(wrong("{name: m, url: 'mqtt://x', subscribe: [{topic: a, tags: b}]}"), @"
    line 1: unknown key `tags`
        1 | {name: m, url: 'mqtt://x', subscribe: [{topic: a, tags: b}]}
    hint: did you mean `tag`?
    ");
}

#[test]
fn an_event_goes_to_its_tag_and_presence_is_retained_beside_it() {
    let text = "{name: m, url: 'mqtt://x', presence_topic: true, template: '{{ event.seq }}'}";
    let since = json!("2026-11-23T02:37:05.123456789Z");
    let made = messages(text, "drover/presence/rfid-1/lost", json!({})).unwrap();
    let presence = json!({"presence": "lost", "since": since});
    assert_eq!(
        made,
        [
            ("drover/presence/rfid-1/lost".to_owned(), json!(7), false),
            ("drover/presence/rfid-1".to_owned(), presence, true),
        ]
    );
    assert_eq!(messages(text, "drover/minion/rfid-1/app/start", json!({})).unwrap().len(), 1);
}

#[test]
fn a_topic_of_ones_own_sees_all_of_the_event() {
    let text = "{name: m, url: 'mqtt://x', retain: true, fields: [seq], \
                topic: 'fleet/{{ event.minion }}/{{ event.data.door }}'}";
    let made = messages(text, "shop/door", json!({"door": "b"})).unwrap();
    assert_eq!(made, [("fleet/rfid-1/b".to_owned(), json!({"seq": 7}), true)]);
    let refused = messages(text, "shop/door", json!({"door": "#"})).unwrap_err();
    assert_eq!(refused, "the topic `fleet/rfid-1/#` has '#', which no topic may have");
}

#[test]
fn an_event_is_there_when_all_its_messages_are() {
    let answer = |meaning| Answer { meaning, reason: "why".to_owned() };
    let of = |meanings: &[Meaning]| verdict(meanings.iter().map(|meaning| answer(*meaning)));
    assert_eq!(of(&[Meaning::Done, Meaning::Done]), Verdict::Done);
    assert_eq!(of(&[Meaning::Done, Meaning::Later]), Verdict::Later("why".to_owned()));
    assert_eq!(of(&[Meaning::Later, Meaning::Refused]), Verdict::Refused("why".to_owned()));
}

#[test]
fn each_event_gets_the_answers_to_its_own_messages() {
    let answer = |meaning| Answer { meaning, reason: "why".to_owned() };
    let answers = [Meaning::Refused, Meaning::Done, Meaning::Later].map(answer);
    let mut answers = answers.into_iter();
    // The second message of the first event must not answer for the second event.
    assert_eq!(verdict(answers.by_ref().take(2)), Verdict::Refused("why".to_owned()));
    assert_eq!(verdict(answers.by_ref().take(1)), Verdict::Later("why".to_owned()));
}
