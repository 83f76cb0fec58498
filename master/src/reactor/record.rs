//! The events that the reactor writes about itself: which event caused what, what is held, what is wrong. No rule reacts
//! to them. After a crash the records tell what was done already.

use std::collections::HashMap;

use drover_pki::MinionId;
use drover_proto::{
    digest::Digest,
    event::{Event, NewEvent, Tag},
};
use drover_states::diagnostic::Diagnostic;
use serde_json::{Value, json};

use super::{
    guard::{Cause, Firing, Notice},
    rules::Rules,
};
use crate::store::Missing;

/// The tags of all these events begin so.
const NAMESPACE: &str = "drover/reactor/";
const RAN: &str = "drover/reactor/ran";

/// Whether an event is one of the reactor's own records.
pub(super) fn is_record(event: &Event) -> bool {
    event.tag.as_str().starts_with(NAMESPACE)
}

/// A firing ran: what came of each reaction.
pub(super) fn ran(rules: &Rules, firing: &Firing, results: &[Value]) -> NewEvent {
    let data = json!({
        "rule": rules.name(firing.rule),
        "event": cause(&firing.cause),
        "merged": firing.merged,
        "reactions": results,
        "through": firing.through,
        "key": key(rules, firing),
    });
    new("ran", firing.minion.clone(), data)
}

/// Something that an operator should know.
pub(super) fn notice(rules: &Rules, notice: Notice) -> NewEvent {
    let (what, rule, minion, at) = match notice {
        Notice::Held { rule, minion, cause } => ("held", rule, minion, cause),
        Notice::Dropped { rule, minion, cause } => ("dropped", rule, minion, cause),
    };
    new(what, minion, json!({"rule": rules.name(rule), "event": cause(&at)}))
}

/// A rule met an event that it had caused itself, and did nothing.
pub(super) fn went_in_circles(rules: &Rules, rule: usize, event: &Event) -> NewEvent {
    let data = json!({
        "rule": rules.name(rule),
        "event": cause(&Cause::of(event)),
        "hint": "a rule does not react to what it caused itself: narrow its glob",
    });
    new("loop", event.minion.clone(), data)
}

/// A rule file that could not be used for an event.
pub(super) fn error(rules: &Rules, rule: usize, event: &Event, wrong: &Diagnostic) -> NewEvent {
    let data = json!({
        "rule": rules.name(rule),
        "event": cause(&Cause::of(event)),
        "file": wrong.file,
        "line": wrong.line,
        "message": wrong.message,
        "shown": wrong.shown,
        "hint": wrong.hint,
    });
    new("error", event.minion.clone(), data)
}

/// Events that retention removed before the reactor met them.
pub(super) fn missed(Missing { from, to, count }: Missing) -> NewEvent {
    let hint = "the reactor is too slow: raise `events: {undelivered_max_bytes: …}`, or narrow its rules' globs";
    new("missed", None, json!({"from": from, "to": to, "count": count, "hint": hint}))
}

/// What ran before a crash: for each kind of firing the last event that it stood for.
#[derive(Debug, Default)]
pub(super) struct Done(HashMap<String, u64>);

impl Done {
    /// Takes note of a record.
    pub(super) fn handle_event(&mut self, event: &Event) {
        if event.tag.as_str() != RAN {
            return;
        }
        if let (Some(key), Some(through)) =
            (event.data["key"].as_str(), event.data["through"].as_u64())
        {
            let last = self.0.entry(key.to_owned()).or_default();
            *last = through.max(*last);
        }
    }

    /// Whether a firing of this event ran before. Equal firings run in the order of their events, so the last one says
    /// it of all before it.
    pub(super) fn has(&self, rules: &Rules, firing: &Firing) -> bool {
        !self.0.is_empty()
            && self.0.get(&key(rules, firing)).is_some_and(|through| firing.through <= *through)
    }
}

/// The same for firings that are equal: the rule, the minion and the reactions.
fn key(rules: &Rules, firing: &Firing) -> String {
    let kind = json!([rules.name(firing.rule), firing.minion, firing.reactions]);
    Digest::of(kind.to_string().as_bytes()).to_string()
}

fn cause(cause: &Cause) -> Value {
    json!({"id": cause.id, "seq": cause.seq, "tag": cause.tag})
}

fn new(what: &str, minion: Option<MinionId>, data: Value) -> NewEvent {
    let tag: Tag = format!("{NAMESPACE}{what}").parse().expect("a literal that is a tag");
    NewEvent::new(tag, minion, data)
}
