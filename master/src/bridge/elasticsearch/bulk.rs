//! The body of a `_bulk` request. Pure.

use std::io::{self, Write};

use uuid::Uuid;

use super::{
    document::Documents,
    indices::{IndexName, Layout},
};
use crate::bridge::sink::Item;

/// A body is handed on in pieces of about this size, so that it is never there unpacked as a whole.
const PIECE: usize = 64 << 10;

/// Two lines for each event: where it goes, and what it is. `create` with the event's own id: one that is there already
/// is refused and not doubled.
pub(super) fn write(
    documents: &Documents,
    index: &IndexName,
    layout: Layout,
    items: &[Item],
    to: &mut dyn Write,
) -> io::Result<()> {
    let mut lines = Vec::with_capacity(2 * PIECE);
    for item in items {
        // Neither name nor id has anything that JSON escapes.
        lines.extend_from_slice(br#"{"create":{"_index":""#);
        index.write(layout, &item.event, &mut lines);
        lines.extend_from_slice(br#"","_id":""#);
        let id = item.event.id.hyphenated();
        lines.extend_from_slice(id.encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        lines.extend_from_slice(b"\"}}\n");
        documents.write(item, &mut lines);
        lines.push(b'\n');
        if lines.len() >= PIECE {
            to.write_all(&lines)?;
            lines.clear();
        }
    }
    to.write_all(&lines)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use drover_proto::event::Event;
    use serde_json::{Value, json};

    use super::*;
    use crate::bridge::sink::Form;

    fn item(data: Value, form: Form) -> Item {
        let event = Event {
            id: Uuid::nil(),
            seq: 7,
            ts: "2026-11-23T02:37:05.5Z".parse().unwrap(),
            at: Some("1970-01-01T00:00:07Z".parse().unwrap()),
            tag: "drover/app/a/door".parse().unwrap(),
            minion: Some("a".parse().unwrap()),
            data,
        };
        Item { event: Arc::new(event), grains: Arc::default(), form, is_retry: false }
    }

    fn text(layout: Layout, items: &[Item]) -> String {
        let index = IndexName::new("drover-events").unwrap();
        let documents = Documents::default();
        let mut body = Vec::new();
        write(&documents, &index, layout, items, &mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn an_event_is_created_under_its_own_id() {
        let items = [item(json!({"open": true}), Form::Whole), item(Value::Null, Form::Text)];
        let stream = text(Layout::Stream, &items);
        let lines: Vec<_> = stream.lines().collect();
        let action =
            r#"{"create":{"_index":"drover-events","_id":"00000000-0000-0000-0000-000000000000"}}"#;
        assert_eq!((lines.len(), lines[0], lines[2]), (4, action, action));
        assert!(lines[1].starts_with(r#"{"@timestamp":"2026-11-23T02:37:05.5Z","#), "{}", lines[1]);
        let daily = text(Layout::Daily, &items);
        assert!(
            daily.starts_with(r#"{"create":{"_index":"drover-events-2026.11.23","_id""#),
            "{daily}"
        );
    }
}
