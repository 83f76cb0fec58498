//! The body of a `_bulk` request, and what its answer says of each event. Pure.

use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::document::{IndexName, document};
use crate::bridge::sink::{Item, Verdict};

/// A reason is for people; a server may send a stack trace.
const LONGEST_REASON: usize = 500;

/// An answer that is none.
#[derive(Debug, Clone, Error)]
pub enum AnswerError {
    /// Not JSON of the known shape.
    #[error("the server's answer is no answer to a bulk request: {0}")]
    Malformed(String),
    /// Other documents than were sent.
    #[error("the server answered for {answered} documents, {sent} were sent")]
    Count {
        /// In the answer.
        answered: usize,
        /// In the request.
        sent: usize,
    },
}

/// Two lines for each event: where it goes, and what it is. `create` with the event's own id: one that is there already
/// is refused and not doubled.
pub(super) fn body(index: &IndexName, items: &[Item]) -> Vec<u8> {
    let mut body = Vec::new();
    for item in items {
        let event = &item.event;
        let action = json!({"create": {"_index": index.of(event), "_id": event.id}});
        for line in [action, document(event, item.form)] {
            serde_json::to_writer(&mut body, &line).expect("JSON is written to memory");
            body.push(b'\n');
        }
    }
    body
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<Answered>,
}

#[derive(Deserialize)]
struct Answered {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    status: u16,
    #[serde(default)]
    error: Value,
}

/// What a server with status 200 says of each event.
pub(super) fn verdicts(answer: &[u8], sent: usize) -> Result<Vec<Verdict>, AnswerError> {
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|error| AnswerError::Malformed(error.to_string()))?;
    if answer.items.len() != sent {
        return Err(AnswerError::Count { answered: answer.items.len(), sent });
    }
    Ok(answer.items.into_iter().map(|item| verdict(&item.create)).collect())
}

fn verdict(created: &Created) -> Verdict {
    match created.status {
        // 409: it was there already, from a try whose answer was lost.
        200..=299 | 409 => Verdict::Done,
        400 | 413 => Verdict::Refused(reason(&created.error)),
        // Overload, a missing shard, a disk that is full, an index that is blocked: the server's, and passing.
        status => Verdict::Later(format!("{status} {}", reason(&created.error))),
    }
}

/// The reasons of an error and of what caused it.
pub(super) fn reason(error: &Value) -> String {
    let mut reasons = Vec::new();
    let mut at = error;
    while let (Some(kind), true) = (at["type"].as_str(), reasons.len() < 4) {
        reasons.push(format!("{kind}: {}", at["reason"].as_str().unwrap_or_default()));
        at = &at["caused_by"];
    }
    let reason = if reasons.is_empty() { error.to_string() } else { reasons.join(", caused by ") };
    shorten(&reason)
}

/// The beginning of a text.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use drover_proto::event::Event;
    use insta::assert_snapshot;
    use uuid::Uuid;

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

    fn text(index: &str, items: &[Item]) -> String {
        String::from_utf8(body(&IndexName::new(index).unwrap(), items)).unwrap()
    }

    #[test]
    fn an_event_is_created_under_its_own_id() {
        assert_snapshot!(text("drover-events", &[item(json!({"open": true}), Form::Whole)]), @r#"
    {"create":{"_index":"drover-events","_id":"00000000-0000-0000-0000-000000000000"}}
    {"@timestamp":"2026-11-23T02:37:05.5Z","id":"00000000-0000-0000-0000-000000000000","seq":7,"ts":"2026-11-23T02:37:05.5Z","at":"1970-01-01T00:00:07Z","tag":"drover/app/a/door","minion":"a","data":{"open":true}}
    "#);
    }

    #[test]
    fn a_payload_that_is_no_map_is_put_into_one_and_a_plain_one_is_text() {
        let items = [item(json!([1, "x"]), Form::Whole), item(json!({"a": {"b": 1}}), Form::Text)];
        assert_snapshot!(text("e-%Y.%m", &items), @r#"
    {"create":{"_index":"e-2026.11","_id":"00000000-0000-0000-0000-000000000000"}}
    {"@timestamp":"2026-11-23T02:37:05.5Z","id":"00000000-0000-0000-0000-000000000000","seq":7,"ts":"2026-11-23T02:37:05.5Z","at":"1970-01-01T00:00:07Z","tag":"drover/app/a/door","minion":"a","data":{"value":[1,"x"]}}
    {"create":{"_index":"e-2026.11","_id":"00000000-0000-0000-0000-000000000000"}}
    {"@timestamp":"2026-11-23T02:37:05.5Z","id":"00000000-0000-0000-0000-000000000000","seq":7,"ts":"2026-11-23T02:37:05.5Z","at":"1970-01-01T00:00:07Z","tag":"drover/app/a/door","minion":"a","data_json":"{\"a\":{\"b\":1}}"}
    "#);
    }

    #[test]
    fn every_answer_is_judged_for_itself() {
        let answer = json!({"errors": true, "items": [
            {"create": {"status": 201}},
            {"create": {"status": 409, "error": {"type": "version_conflict_engine_exception"}}},
            {"create": {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "full"}}},
            {"create": {"status": 400, "error": {"type": "document_parsing_exception", "reason": "no",
                "caused_by": {"type": "illegal_argument_exception", "reason": "immense term"}}}},
        ]});
        let verdicts = verdicts(answer.to_string().as_bytes(), 4).unwrap();
        assert_eq!(verdicts, [
            Verdict::Done,
            Verdict::Done,
            Verdict::Later("429 es_rejected_execution_exception: full".into()),
            Verdict::Refused(
                "document_parsing_exception: no, caused by illegal_argument_exception: immense term".into()
            ),
        ]);
    }

    #[test]
    fn an_answer_for_other_documents_is_none() {
        assert!(matches!(verdicts(b"{\"items\": []}", 1), Err(AnswerError::Count { .. })));
        assert!(matches!(verdicts(b"<html>", 1), Err(AnswerError::Malformed(_))));
    }

    #[test]
    fn names_that_elasticsearch_refuses_are_refused_at_the_start() {
        for name in ["drover-events", "e", "e-%Y.%m.%d", "e-%G-w%V", "ünicode"] {
            assert!(IndexName::new(name).is_ok(), "{name}");
        }
        for name in ["", "Events", "_x", "-x", ".x", "a b", "a/b", "a*", "a,b", "e-%q", "e-%", "%Y"]
        {
            assert!(IndexName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_index_of_dates_goes_by_the_events_time() {
        let index = IndexName::new("e-%Y.%m").unwrap();
        assert_eq!(index.of(&item(Value::Null, Form::Whole).event), "e-2026.11");
        assert_eq!(index.pattern(), "e-*");
        assert_eq!(index.template(), "drover-bridge-e");
    }
}
