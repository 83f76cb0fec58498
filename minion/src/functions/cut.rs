//! Cuts a return that no message could carry: its longest texts lose their ends, and say so. Maps, names and results
//! stay whole, so that the operator still sees which state failed.

use serde_json::Value;

/// The lengths to which texts are cut: the first one that is enough.
const LENGTHS: [usize; 8] =
    [1000 << 10, 512 << 10, 256 << 10, 64 << 10, 16 << 10, 4 << 10, 1 << 10, 256];

/// What telling of a cut takes at most.
const MARK: usize = 64;

/// Cuts texts in `value` until it has about `limit` bytes as a message; what has more in maps and numbers stays over.
pub(super) fn to_fit(value: &mut Value, limit: usize) {
    if size(value, usize::MAX) <= limit {
        return;
    }
    // Found before anything is cut, so that each text tells all that it lost.
    let length = LENGTHS.into_iter().find(|length| size(value, *length) <= limit);
    cut(value, length.unwrap_or(LENGTHS[LENGTHS.len() - 1]));
}

/// As MessagePack, or a little more, were its texts cut to `length`.
fn size(value: &Value, length: usize) -> usize {
    let size = |value| size(value, length);
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(_) => 9,
        Value::String(text) => 5 + text.len().min(length.saturating_add(MARK)),
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
        assert!(size(&value, usize::MAX) <= 1 << 20);
        assert_eq!(value["state"]["comment"], "short");
        let kept = value["state"]["stdout"].as_str().unwrap();
        assert!(kept.ends_with("more bytes were dropped]"));
        assert!(kept.len() > 1000 << 10, "as much is kept as there is room for: {}", kept.len());
    }

    #[test]
    fn a_text_tells_all_that_it_lost() {
        let mut value = json!(["x".repeat(1 << 20), "y".repeat(1 << 20)]);
        to_fit(&mut value, 1 << 20);
        let lost = (1 << 20) - (256 << 10);
        assert!(value[0].as_str().unwrap().contains(&format!("{lost} more bytes")), "{lost}");
    }
}
