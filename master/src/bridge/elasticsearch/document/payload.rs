//! An event's payload as `drover.data` takes it. `flattened` and `flat_object` refuse a whole document for one value that
//! is too deep or too long; here such values are cut before, and it is said which.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value};

/// Maps within each other, the outermost counted: the default `depth_limit` of `flattened`, which users of a server in
/// the cloud cannot raise.
const MAPS: usize = 20;
/// Maps and lists within each other. Servers' parsers take more; nobody can read more.
const NESTED: usize = 64;
/// Lucene takes no longer term, in bytes.
const TERM: usize = 32_766;
/// What stands before and between in a term: `flat_object` writes the path, after the field's name and its own, and the
/// value. `flattened` writes a byte between path and value.
const FRAME: usize = "drover.data.drover.data.=".len();
/// The longest path to a value, in bytes; what is longer is left out.
const PATH: usize = 4096;
/// Values in a document. Each becomes two terms of the index.
const VALUES: usize = 10_000;
/// The longest payload that goes in parts, and the longest text of one that does not, in bytes.
pub(super) const WHOLE: usize = 1 << 20;
/// Paths of what was cut that are told.
const TOLD: usize = 20;
/// The longest of them, in bytes.
const LONGEST_TOLD: usize = 256;

/// What `drover.data` holds.
#[derive(Debug)]
pub(super) enum Payload<'a> {
    /// Nothing.
    Empty,
    /// The payload as it is, without what has a field of its own.
    Whole(Remainder<'a>),
    /// A copy, with values that the server would refuse cut.
    Cut(Map<String, Value>),
    /// It goes as text alone.
    Text,
}

/// A map without the keys that stand elsewhere in the document.
#[derive(Debug)]
pub(super) struct Remainder<'a> {
    map: &'a Map<String, Value>,
    taken: &'a [&'a str],
}

impl<'a> Remainder<'a> {
    fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        let (map, taken) = (self.map, self.taken);
        map.iter().filter(move |(key, _)| !taken.contains(&key.as_str()))
    }
}

impl Serialize for Remainder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.entries() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// The paths of what was cut or left out.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) is_cut: bool,
    pub(super) paths: Vec<String>,
}

impl Marks {
    pub(super) fn add(&mut self, path: &str) {
        self.is_cut = true;
        let path = shorten(path, LONGEST_TOLD);
        if self.paths.len() < TOLD && !self.paths.contains(&path) {
            self.paths.push(path);
        }
    }
}

/// What becomes of a map, less the keys that are `taken`.
pub(super) fn payload<'a>(
    map: &'a Map<String, Value>,
    taken: &'a [&'a str],
    marks: &mut Marks,
) -> Payload<'a> {
    let rest = Remainder { map, taken };
    let mut measure = Measure::default();
    let mut is_empty = true;
    let mut fits = true;
    for (key, value) in rest.entries() {
        is_empty = false;
        fits = fits && measure.takes(key, value, Place { maps: 1, nested: 1, path: 0 });
    }
    if measure.bytes > WHOLE {
        // Its parts are not worth an index of a million terms.
        marks.add("drover.data");
        return Payload::Text;
    }
    if is_empty {
        return Payload::Empty;
    }
    if fits {
        return Payload::Whole(rest);
    }
    let mut cutter = Cutter { marks, values: 0, path: String::new() };
    Payload::Cut(cutter.map(rest.entries(), 1, 1))
}

/// The beginning of a text, of at most so many bytes; the last character says that there was more.
pub(super) fn shorten(text: &str, most: usize) -> String {
    const MORE: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}{MORE}", &text[..text.floor_char_boundary(most.saturating_sub(MORE.len()))])
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place {
    maps: usize,
    nested: usize,
    /// Bytes of the path to it.
    path: usize,
}

/// Whether a server takes a payload as it is: nearly always, so this allocates nothing.
#[derive(Default)]
struct Measure {
    values: usize,
    bytes: usize,
}

impl Measure {
    fn takes(&mut self, key: &str, value: &Value, at: Place) -> bool {
        let path = if at.path == 0 { key.len() } else { at.path + 1 + key.len() };
        self.bytes += key.len() + 4;
        path <= PATH && !key.contains('\0') && self.value(value, Place { path, ..at })
    }

    fn value(&mut self, value: &Value, at: Place) -> bool {
        let mut fits = self.bytes <= WHOLE;
        match value {
            Value::Object(map) => {
                let at = Place { maps: at.maps + 1, nested: at.nested + 1, ..at };
                fits = fits && at.maps <= MAPS && at.nested <= NESTED;
                fits && map.iter().all(|(key, value)| self.takes(key, value, at))
            }
            Value::Array(items) => {
                let at = Place { nested: at.nested + 1, ..at };
                fits = fits && at.nested <= NESTED;
                fits && items.iter().all(|item| self.value(item, at))
            }
            Value::String(text) => {
                self.values += 1;
                self.bytes += text.len() + 3;
                fits && self.values <= VALUES && at.path + FRAME + text.len() <= TERM
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                self.values += 1;
                self.bytes += 6;
                fits && self.values <= VALUES
            }
        }
    }
}

/// Makes the copy that a server takes.
struct Cutter<'m> {
    marks: &'m mut Marks,
    values: usize,
    path: String,
}

impl Cutter<'_> {
    fn map<'v>(
        &mut self,
        entries: impl Iterator<Item = (&'v String, &'v Value)>,
        maps: usize,
        nested: usize,
    ) -> Map<String, Value> {
        let mut kept = Map::new();
        let parent = self.path.len();
        for (key, value) in entries {
            if self.values >= VALUES {
                self.mark_parent(parent);
                break;
            }
            if parent > 0 {
                self.path.push('.');
            }
            // The byte stands between path and value in `flattened`'s terms.
            let written = key.replace('\0', "\u{fffd}");
            self.path.push_str(&written);
            if self.path.len() > PATH || kept.contains_key(&written) {
                self.marks.add(&self.path);
            } else {
                if written != *key {
                    self.marks.add(&self.path);
                }
                let value = self.value(value, maps, nested);
                kept.insert(written, value);
            }
            self.path.truncate(parent);
        }
        kept
    }

    fn value(&mut self, value: &Value, maps: usize, nested: usize) -> Value {
        match value {
            Value::Object(map) if maps < MAPS && nested < NESTED => {
                Value::Object(self.map(map.iter(), maps + 1, nested + 1))
            }
            Value::Array(items) if nested < NESTED => {
                let mut kept = Vec::new();
                for item in items {
                    if self.values >= VALUES {
                        self.marks.add(&self.path);
                        break;
                    }
                    kept.push(self.value(item, maps, nested + 1));
                }
                Value::Array(kept)
            }
            // Too deep: what is in there stays to be read, as text.
            Value::Object(_) | Value::Array(_) => {
                self.marks.add(&self.path);
                self.text(&value.to_string())
            }
            Value::String(text) => self.text(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                self.values += 1;
                value.clone()
            }
        }
    }

    fn text(&mut self, text: &str) -> Value {
        self.values += 1;
        let room = TERM - FRAME - self.path.len();
        if text.len() > room {
            self.marks.add(&self.path);
        }
        Value::String(shorten(text, room))
    }

    fn mark_parent(&mut self, parent: usize) {
        let path = if parent == 0 { "drover.data" } else { &self.path[..parent] };
        self.marks.add(path);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// What the servers were seen to refuse.
    fn is_taken(value: &Value, maps: usize, path: &str) -> Result<(), String> {
        match value {
            Value::Object(map) => {
                if maps > MAPS {
                    return Err(format!("depth at {path}"));
                }
                for (key, value) in map {
                    if key.contains('\0') {
                        return Err(format!("a key at {path}"));
                    }
                    let path = format!("{path}.{key}");
                    is_taken(value, maps + 1, &path)?;
                }
                Ok(())
            }
            Value::Array(items) => items.iter().try_for_each(|item| is_taken(item, maps, path)),
            leaf @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                let text = leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned);
                let term = format!("drover.data.{path}={text}");
                if term.len() <= TERM { Ok(()) } else { Err(format!("a term of {}", term.len())) }
            }
        }
    }

    fn cut(value: Value) -> (Value, Marks) {
        let Value::Object(map) = value else { panic!("a map") };
        let mut marks = Marks::default();
        let value = match payload(&map, &[], &mut marks) {
            Payload::Empty => json!({}),
            Payload::Whole(rest) => serde_json::to_value(rest).unwrap(),
            Payload::Cut(map) => Value::Object(map),
            Payload::Text => Value::Null,
        };
        if !value.is_null() {
            is_taken(&value, 1, "drover.data").unwrap();
        }
        (value, marks)
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!({"k": inner}))
    }

    #[test]
    fn what_servers_take_is_left_as_it_is() {
        for value in [
            json!({"a.b": 1, "a": {"b": 2}, "": {"": 3}, ".": 4, "_id": "x", "a=b": "c"}),
            json!({"list": [1, "x", [[2]], {"deep": [null]}], "max": u64::MAX, "tiny": 5e-324}),
            nested(MAPS),
            json!({"k": "x".repeat(TERM - FRAME - 1)}),
        ] {
            let (kept, marks) = cut(value.clone());
            assert_eq!(kept, value);
            assert!(!marks.is_cut);
        }
    }

    #[test]
    fn what_is_too_deep_becomes_text_where_it_stands() {
        let (kept, marks) = cut(nested(MAPS + 2));
        let path = ["k"; MAPS].join(".");
        assert_eq!(marks.paths, [path.as_str()]);
        let inner = kept.pointer(&"/k".repeat(MAPS)).unwrap();
        assert_eq!(inner, r#"{"k":{"k":1}}"#);
        let lists = (0..100).fold(json!("x"), |inner, _| json!([inner]));
        assert!(cut(json!({"lists": lists})).1.is_cut);
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let (kept, marks) = cut(json!({"other": 1, "long": "€".repeat(TERM)}));
        assert_eq!(marks.paths, ["long"]);
        let text = kept["long"].as_str().unwrap();
        assert!(text.ends_with("€…") && text.len() > TERM - 40, "{}", text.len());
        assert_eq!(kept["other"], 1);
    }

    #[test]
    fn keys_that_no_server_takes_are_changed_or_left_out() {
        let (kept, marks) = cut(json!({"a\0b": 1, "k".repeat(PATH + 1): 2, "c": 3}));
        assert_eq!(kept, json!({"a\u{fffd}b": 1, "c": 3}));
        assert_eq!(marks.paths.len(), 2);
        assert!(marks.paths.iter().all(|path| path.len() <= LONGEST_TOLD));
    }

    #[test]
    fn too_many_values_are_left_out_and_a_huge_payload_is_text() {
        let many: Map<_, _> = (0..VALUES + 7).map(|n| (format!("k{n}"), json!(n))).collect();
        let (kept, marks) = cut(Value::Object(many));
        assert_eq!(kept.as_object().unwrap().len(), VALUES);
        assert_eq!(marks.paths, ["drover.data"]);
        let (kept, marks) = cut(json!({"texts": vec!["x".repeat(30_000); 40]}));
        assert_eq!((kept, marks.paths), (Value::Null, vec!["drover.data".to_owned()]));
    }

    #[test]
    fn what_stands_elsewhere_is_not_repeated() {
        let map = json!({"jid": 1, "rest": 2});
        let taken = ["jid"];
        let mut marks = Marks::default();
        let rest = payload(map.as_object().unwrap(), &taken, &mut marks);
        let Payload::Whole(rest) = rest else { panic!("it fits") };
        assert_eq!(serde_json::to_string(&rest).unwrap(), r#"{"rest":2}"#);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            ".{0,12}",
            Just("\0".to_owned()),
            Just(String::new()),
            (32_000_usize..33_000).prop_map(|n| "ü".repeat(n / 2)),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(30, 64, 3, move |inner| {
            let map = proptest::collection::vec((text.clone(), inner.clone()), 0..4);
            prop_oneof![
                map.prop_map(|entries| Value::Object(entries.into_iter().collect())),
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_payload_becomes_one_that_servers_take(value in any_value()) {
            let whole = json!({"value": value});
            let (kept, marks) = cut(whole.clone());
            prop_assert!(marks.is_cut || kept == whole);
        }
    }
}
