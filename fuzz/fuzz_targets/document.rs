//! Any payload under any tag becomes one line of JSON, with nothing in it that a server's flattened field refuses.
#![no_main]

use std::sync::Arc;

use drover_master::bridge::{Documents, Form, Item};
use drover_proto::event::Event;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use uuid::Uuid;

/// What Lucene takes, and what `flat_object` adds to it.
const TERM: usize = 32_766 - "drover.data.".len();

fuzz_target!(|input: (&str, &str, bool)| {
    let (tag, data, is_text) = input;
    let (Ok(tag), Ok(data)) = (tag.parse(), serde_json::from_str::<Value>(data)) else { return };
    let ts = Timestamp::UNIX_EPOCH;
    let event = Event { id: Uuid::nil(), seq: 1, ts, at: None, tag, minion: None, data };
    let form = if is_text { Form::Text } else { Form::Whole };
    let item = Item { event: Arc::new(event), grains: Arc::default(), form, is_retry: false };
    let mut line = Vec::new();
    Documents::default().write(&item, &mut line);
    assert!(!line.contains(&b'\n'));
    let document: Value = serde_json::from_slice(&line).expect("a document is JSON");
    let data = &document["drover"]["data"];
    if !data.is_null() {
        assert!(data.is_object());
        check(data, 1, "drover.data");
    }
});

fn check(value: &Value, maps: usize, path: &str) {
    match value {
        Value::Object(map) => {
            assert!(maps <= 20, "too deep");
            for (key, value) in map {
                assert!(!key.contains('\0'), "a NUL in a key");
                check(value, maps + 1, &format!("{path}.{key}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check(item, maps, path)),
        Value::String(text) => assert!(path.len() + 1 + text.len() <= TERM, "a long term"),
        Value::Null | Value::Bool(_) | Value::Number(_) => assert!(path.len() + 25 <= TERM),
    }
}
