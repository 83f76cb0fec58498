//! Cuts a return that no message could carry: its longest texts lose their ends, and say so. Maps, names and results
//! stay whole, so that the operator still sees which state failed.

use serde_json::Value;

/// The lengths to which texts are cut, one after the other, until it is enough.
const LENGTHS: [usize; 6] = [256 << 10, 64 << 10, 16 << 10, 4 << 10, 1 << 10, 256];

/// Cuts texts in `value` until it has about `limit` bytes as a message; what has more in maps and numbers stays over.
pub(super) fn to_fit(value: &mut Value, limit: usize) {
    for length in LENGTHS {
        if size(value) <= limit {
            return;
        }
        cut(value, length);
    }
}

/// As MessagePack, or a little more.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(_) => 9,
        Value::String(text) => 5 + text.len(),
        Value::Array(items) => 5 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 5 + map.iter().map(|(key, v)| 5 + key.len() + size(v)).sum::<usize>(),
    }
}

fn cut(value: &mut Value, length: usize) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => {
            if text.len() > length {
                let end = text.floor_char_boundary(length);
                let dropped = text.len() - end;
                text.truncate(end);
                text.push_str(&format!("\n[cut here, {dropped} more bytes were dropped]"));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| cut(item, length)),
        Value::Object(map) => map.values_mut().for_each(|value| cut(value, length)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_return_that_fits_is_left_alone() {
        let mut value = json!({"a": "x".repeat(1000)});
        let before = value.clone();
        to_fit(&mut value, 2000);
        assert_eq!(value, before);
    }

    #[test]
    fn the_longest_texts_are_cut_and_the_rest_stays() {
        let long = "x".repeat(1 << 20);
        let mut value = json!({"state": {"result": false, "comment": "short", "stdout": long}});
        to_fit(&mut value, 1 << 20);
        assert!(size(&value) <= 1 << 20);
        assert_eq!(value["state"]["comment"], "short");
        assert!(value["state"]["stdout"].as_str().unwrap().ends_with("more bytes were dropped]"));
    }
}
