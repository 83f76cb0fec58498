//! About how many bytes an event is as JSON, without writing it.

use drover_proto::event::Event;
use serde_json::{Map, Value};

/// What an event weighs beside its data, in bytes.
const ENVELOPE: usize = 320;

/// The bytes of an event with the grains that go with it. What a shape makes of them is not counted.
pub(super) fn weight(event: &Event, grains: &Map<String, Value>) -> usize {
    weigh(event) + fields(grains)
}

/// The bytes of an event alone.
pub(in crate::bridge) fn weigh(event: &Event) -> usize {
    ENVELOPE + event.tag.as_str().len() + of(&event.data)
}

fn of(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 10,
        Value::String(text) => text.len() + 3,
        Value::Array(items) => items.iter().map(of).sum::<usize>() + 2,
        Value::Object(map) => fields(map),
    }
}

fn fields(map: &Map<String, Value>) -> usize {
    map.iter().map(|(key, value)| key.len() + 4 + of(value)).sum::<usize>() + 2
}
