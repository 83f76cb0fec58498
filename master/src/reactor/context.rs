//! What a rule file sees of an event: `tag`, and `data` as Salt's rules expect it.

use drover_proto::event::Event;
use serde_json::{Map, Value};

/// The template's names for an event.
///
/// `data` is the event's data with `id`, the minion's, and `_stamp`. The data as it came is also `data['data']`, where
/// Salt's documentation puts what beacons and `event.send` bring, unless the data has a `data` of its own.
#[must_use]
pub fn context(event: &Event) -> Map<String, Value> {
    let mut data = match &event.data {
        Value::Object(fields) => fields.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    };
    if !data.contains_key("data") {
        data.insert("data".to_owned(), event.data.clone());
    }
    if let Some(minion) = &event.minion {
        // Who sent it is never what its payload says.
        data.insert("id".to_owned(), Value::from(minion.as_str()));
    }
    data.insert("_stamp".to_owned(), Value::from(event.ts.to_string()));
    Map::from_iter([
        ("tag".to_owned(), Value::from(event.tag.as_str())),
        ("data".to_owned(), Value::Object(data)),
    ])
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn event(data: Value) -> Event {
        Event {
            id: Uuid::nil(),
            seq: 1,
            ts: Timestamp::UNIX_EPOCH,
            at: None,
            tag: "drover/app/a/door/open".parse().unwrap(),
            minion: Some("a".parse().unwrap()),
            data,
        }
    }

    #[test]
    fn data_is_there_in_both_of_salts_places() {
        let seen = context(&event(json!({"badge": 7, "id": "another"})));
        assert_eq!(seen["tag"], "drover/app/a/door/open");
        assert_eq!(seen["data"]["badge"], 7);
        assert_eq!(seen["data"]["data"]["badge"], 7);
        assert_eq!(seen["data"]["id"], "a", "the payload cannot speak for another minion");
    }

    #[test]
    fn data_that_is_no_map_is_under_data() {
        assert_eq!(context(&event(json!([1, 2])))["data"]["data"], json!([1, 2]));
        assert_eq!(context(&event(json!({"data": {"x": 1}})))["data"]["data"]["x"], 1);
    }
}
