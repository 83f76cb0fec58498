//! What the answer to a bulk request says of each event. Pure.

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::bridge::sink::Verdict;

/// A reason is for people; a server may send a stack trace.
const LONGEST_REASON: usize = 500;
/// How many causes of an error are told.
const MOST_CAUSES: usize = 4;

/// An answer that is none.
#[derive(Debug, Clone, Error)]
pub enum AnswerError {
    /// Not JSON of the known shape.
    #[error("it is no answer to a bulk request: {0}")]
    Malformed(String),
    /// Other documents than were sent.
    #[error("it is for {answered} documents, and {sent} were sent")]
    Count {
        /// In the answer.
        answered: usize,
        /// In the request.
        sent: usize,
    },
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

/// What a server with status 200 says of each of `sent` events, in their order.
///
/// # Errors
/// When it is no answer to them: nothing is known of any then.
pub fn verdicts(answer: &[u8], sent: usize) -> Result<Vec<Verdict>, AnswerError> {
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|error| AnswerError::Malformed(error.to_string()))?;
    if answer.items.len() != sent {
        return Err(AnswerError::Count { answered: answer.items.len(), sent });
    }
    Ok(answer.items.into_iter().map(|item| verdict(&item.create)).collect())
}

fn verdict(Created { status, error }: &Created) -> Verdict {
    match status {
        200..=299 => Verdict::Done,
        // It was there already, from a try whose answer was lost.
        409 if matches!(kind(error), "" | "version_conflict_engine_exception") => Verdict::Done,
        // The document is at fault, now and for ever.
        400 | 413 if !is_of_index(error) => Verdict::Refused(reason(error)),
        // The server is: its load, its disk, a shard, a block, a setting. It passes, or somebody changes it.
        _ => Verdict::Later(format!("{status} {}{}", reason(error), advice(*status, error))),
    }
}

/// Whether an error that is said to be the document's would meet every other document too.
fn is_of_index(error: &Value) -> bool {
    let said = error["reason"].as_str().unwrap_or_default();
    match kind(error) {
        "index_closed_exception" => true,
        // The cluster has as many shards as it may have, so the index of a new day is not made.
        "validation_exception" => said.contains("shards open"),
        // The name is an alias of somebody's.
        "illegal_argument_exception" => {
            said.starts_with("no write index is defined for alias")
                || said.contains("only write ops with an op_type of create are allowed")
        }
        _ => false,
    }
}

/// What to do about an error that is not the document's.
fn advice(status: u16, error: &Value) -> &'static str {
    let said = error["reason"].as_str().unwrap_or_default();
    match (status, kind(error)) {
        (_, "cluster_block_exception") if said.contains("allow delete") => {
            "; the server blocks writes since its disk is full: make room, and it lifts the block itself"
        }
        (_, "cluster_block_exception") => "; take the block off: `index.blocks.*`",
        (404, "index_not_found_exception") => {
            "; let the server make the index: `action.auto_create_index`"
        }
        (_, "security_exception") => "; give the bridge's user `create_doc` and `auto_configure`",
        (_, "validation_exception") => "; raise `cluster.max_shards_per_node`, or remove indices",
        (_, "index_closed_exception") => "; open the index",
        (400, "illegal_argument_exception") => {
            "; the name belongs to somebody else's alias: choose another `index`"
        }
        _ => "",
    }
}

fn kind(error: &Value) -> &str {
    error["type"].as_str().unwrap_or_default()
}

/// The reasons of an error and of what caused it, for people.
pub(super) fn reason(error: &Value) -> String {
    let mut reasons = Vec::new();
    let mut at = error;
    while let (Some(kind), true) = (at["type"].as_str(), reasons.len() < MOST_CAUSES) {
        reasons.push(format!("{kind}: {}", at["reason"].as_str().unwrap_or_default()));
        at = &at["caused_by"];
    }
    let reason = if reasons.is_empty() { error.to_string() } else { reasons.join(", caused by ") };
    shorten(&reason)
}

/// The beginning of a text, on one line.
fn shorten(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    match text.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => text[..end].chars().map(plain).chain(['…']).collect(),
        None => text.chars().map(plain).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(status: u16, kind: &str, reason: &str) -> Verdict {
        let error = json!({"type": kind, "reason": reason});
        let answer = json!({"items": [{"create": {"status": status, "error": error}}]});
        verdicts(answer.to_string().as_bytes(), 1).unwrap().remove(0)
    }

    fn later(status: u16, kind: &str, reason: &str) -> String {
        match of(status, kind, reason) {
            Verdict::Later(text) => text,
            other @ (Verdict::Done | Verdict::Refused(_)) => panic!("{other:?}"),
        }
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
        assert_eq!(
            verdicts,
            [
                Verdict::Done,
                Verdict::Done,
                Verdict::Later("429 es_rejected_execution_exception: full".into()),
                Verdict::Refused(
                    "document_parsing_exception: no, caused by illegal_argument_exception: immense term".into()
                ),
            ]
        );
    }

    #[test]
    fn what_would_meet_every_document_kills_none() {
        let text = later(
            400,
            "validation_exception",
            "Validation Failed: 1: this action would add [2] shards, \
            but this cluster currently has [1000]/[1000] maximum normal shards open;",
        );
        assert!(text.ends_with("raise `cluster.max_shards_per_node`, or remove indices"), "{text}");
        assert!(later(400, "index_closed_exception", "closed").ends_with("; open the index"));
        let text = later(
            400,
            "illegal_argument_exception",
            "no write index is defined for alias [drover-events]",
        );
        assert!(text.ends_with("choose another `index`"), "{text}");
        assert!(matches!(
            of(400, "illegal_argument_exception", "immense term"),
            Verdict::Refused(_)
        ));
        assert!(matches!(of(400, "validation_exception", "id is too long"), Verdict::Refused(_)));
    }

    #[test]
    fn a_block_a_missing_index_and_a_missing_right_say_what_to_do() {
        let full = "index [e] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];";
        for status in [403, 429] {
            let text = later(status, "cluster_block_exception", full);
            assert!(text.contains("make room, and it lifts the block itself"), "{text}");
        }
        let write = "index [e] blocked by: [FORBIDDEN/8/index write (api)];";
        assert!(later(403, "cluster_block_exception", write).ends_with("`index.blocks.*`"));
        let text = later(404, "index_not_found_exception", "no such index [e]");
        assert!(text.ends_with("`action.auto_create_index`"), "{text}");
        let text =
            later(403, "security_exception", "action [indices:data/write/bulk[s]] is unauthorized");
        assert!(text.contains("`create_doc`"), "{text}");
        assert_eq!(
            later(503, "unavailable_shards_exception", "red"),
            "503 unavailable_shards_exception: red"
        );
        assert_eq!(later(409, "other_exception", "x"), "409 other_exception: x");
    }

    #[test]
    fn an_answer_for_other_documents_is_none() {
        assert!(matches!(verdicts(b"{\"items\": []}", 1), Err(AnswerError::Count { .. })));
        for wrong in ["<html>", "", "{}", "{\"items\": [{\"create\": {\"status\": 201}}", "[1]"] {
            assert!(
                matches!(verdicts(wrong.as_bytes(), 1), Err(AnswerError::Malformed(_))),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let text = reason(&json!({"type": "a\nb", "reason": "ü".repeat(5000)}));
        assert!(text.starts_with("a b: ü") && text.chars().count() == LONGEST_REASON + 1);
        assert_eq!(reason(&json!("plain")), "\"plain\"");
    }
}
