use insta::assert_snapshot;
use rmpv::Value as Packed;
use serde_json::json;

use super::*;

fn pack(value: &Packed) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

fn data(value: &Packed) -> Result<Value, LocalEventError> {
    decode(&[b"door/open".to_vec(), pack(value)]).map(|event| event.data)
}

fn refusal(error: LocalEventError) -> String {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

#[test]
fn what_a_program_packs_arrives_as_json() {
    let packed = Packed::Map(vec![
        ("open".into(), true.into()),
        ("for".into(), 1.5.into()),
        (7.into(), Packed::Array(vec![Packed::Nil, (-3).into(), u64::MAX.into()])),
        ("uid".into(), Packed::Binary(vec![0xde, 0xad, 0xbe])),
    ]);
    assert_eq!(
        data(&packed).unwrap(),
        json!({ "open": true, "for": 1.5, "7": [null, -3, u64::MAX], "uid": "3q2+" })
    );
}

#[test]
fn data_may_be_left_out() {
    for frames in [vec![b"door/open".to_vec()], vec![b"door/open".to_vec(), Vec::new()]] {
        let event = decode(&frames).unwrap();
        assert_eq!((event.tag.as_str(), event.data), ("door/open", Value::Null));
    }
}

#[test]
fn a_timestamp_becomes_text() {
    // 2026-11-23T02:37:05Z in the three lengths of the MessagePack specification.
    let seconds = 1_795_401_425_u32;
    let mut twelve = 500_000_000_u32.to_be_bytes().to_vec();
    twelve.extend(i64::from(seconds).to_be_bytes());
    let eight = (500_000_000_u64 << 34 | u64::from(seconds)).to_be_bytes().to_vec();
    for (payload, text) in [
        (seconds.to_be_bytes().to_vec(), "2026-11-23T02:37:05Z"),
        (eight, "2026-11-23T02:37:05.5Z"),
        (twelve, "2026-11-23T02:37:05.5Z"),
    ] {
        assert_eq!(data(&Packed::Ext(-1, payload)).unwrap(), json!(text));
    }
}

#[test]
fn what_json_cannot_hold_is_refused_with_what_to_do() {
    let start = "read the data, which is MessagePack such as `msgpack.packb(…)` makes: ";
    let refused = |packed| refusal(data(&packed).unwrap_err()).replace(start, "");
    assert_snapshot!(refused(Packed::Ext(42, vec![1])), @"extension type 42 is unknown; send text, numbers, lists and maps");
    assert_snapshot!(refused(f64::NAN.into()), @"infinity and NaN have no form in JSON; send null or text");
    assert_snapshot!(refused(Packed::Map(vec![(Packed::Nil, 1.into())])), @"a map's key is text, a number or a boolean");
    assert_snapshot!(refused(Packed::Ext(-1, vec![1, 2, 3])), @"a timestamp of no known form or out of range");
}

#[test]
fn frames_that_are_no_event_are_refused() {
    assert!(matches!(decode::<&[u8]>(&[]), Err(LocalEventError::Frames(0))));
    assert!(matches!(decode(&[b"a"; 3]), Err(LocalEventError::Frames(3))));
    assert!(matches!(decode(&[b"a\nb"]), Err(LocalEventError::Tag(_))));
    assert!(matches!(decode(&[&[0xff]]), Err(LocalEventError::Text(_))));
    assert!(matches!(decode(&[&b"a"[..], &[0xc0, 0xc0]]), Err(LocalEventError::Trailing(1))));
    assert!(matches!(decode(&[&b"a"[..], &[0x91; 1_000]]), Err(LocalEventError::Data(_))));
    // A list that claims 2^32 - 1 members.
    assert!(matches!(
        decode(&[&b"a"[..], &[0xdd, 255, 255, 255, 255]]),
        Err(LocalEventError::Data(_))
    ));
    assert!(matches!(
        decode(&[b"a".to_vec(), vec![0; MAX_DATA + 1]]),
        Err(LocalEventError::TooLong(_))
    ));
}

#[test]
fn subscribers_get_a_map_with_string_keys() {
    let event = Event {
        id: uuid::Uuid::from_u128(0x0193_5abc_0000_7000_8000_0000_0000_0001),
        seq: 7,
        ts: "2026-11-23T02:37:05Z".parse().unwrap(),
        at: None,
        tag: "drover/minion/rfid-1/start".parse().unwrap(),
        minion: Some("rfid-1".parse().unwrap()),
        data: json!({ "n": 1 }),
    };
    let [tag, frame] = publication(&event).unwrap();
    assert_eq!(&tag[..], b"drover/minion/rfid-1/start");
    let shown = rmpv::decode::read_value(&mut &frame[..]).unwrap();
    assert_snapshot!(shown.to_string(), @r#"{"id": "01935abc-0000-7000-8000-000000000001", "seq": 7, "ts": "2026-11-23T02:37:05Z", "tag": "drover/minion/rfid-1/start", "minion": "rfid-1", "data": {"n": 1}}"#);
    assert_eq!(codec::decode::<Event>(&frame).unwrap(), event);
}
