//! An event as a document: the fixed fields of the Elastic Common Schema and our own, which [`super::template`] maps. Pure,
//! and written straight to the request's body. `docs/bridges/elasticsearch.md` lists the fields.

use drover_proto::event::Event;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

mod facts;
mod message;
mod payload;
mod shape;

pub(super) use shape::label_name;

use self::{
    facts::Parts,
    payload::{Marks, Payload},
    shape::{Agent, Data, Document, Drover, Ecs, EventFields, Host, Labels, User},
};
use super::fields::{Typed, TypedFields};
use crate::bridge::sink::{Form, Item};

/// Of the schema whose fields these are.
const ECS: &str = "8.17.0";
/// The tags of every document.
const TAGS: [&str; 1] = ["drover"];
/// A device's clock may be this far ahead of the master's.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// An event may wait this long on its device; what claims to be older comes from a clock that is wrong.
const WAITED: SignedDuration = SignedDuration::from_hours(24 * 366);
/// Clocks that show an earlier time were never set.
const NEVER_SET: Timestamp = Timestamp::constant(1_577_836_800, 0);

/// What happened, as a sentence for people: the document's `message`.
pub(in crate::bridge) fn sentence(event: &Event) -> String {
    let nothing = Map::new();
    let data = event.data.as_object().unwrap_or(&nothing);
    let parts = Parts::of(event.tag.as_str());
    let facts = facts::facts(event, &parts, data);
    message::message(event, &parts, &facts, data).into_owned()
}

/// Makes documents of events.
#[derive(Debug, Default)]
pub struct Documents {
    fields: TypedFields,
}

impl Documents {
    /// With these values of applications typed.
    #[must_use]
    pub const fn new(fields: TypedFields) -> Self {
        Self { fields }
    }

    /// Appends the document of an event: one line of JSON, without its end.
    ///
    /// # Panics
    /// Never: texts and numbers are written to memory.
    pub fn write(&self, item: &Item, body: &mut Vec<u8>) {
        let event = &*item.event;
        let nothing = Map::new();
        let mut marks = Marks::default();
        let data = match (&event.data, item.form) {
            (Value::Object(data), Form::Whole) => data,
            _ => &nothing,
        };
        let parts = Parts::of(event.tag.as_str());
        let mut facts = facts::facts(event, &parts, data);
        let message = message::message(event, &parts, &facts, data);
        let mut typed = match item.form {
            Form::Whole => self.fields.of(event),
            Form::Text => Typed::default(),
        };
        let mut taken = std::mem::take(&mut facts.taken);
        taken.append(&mut typed.taken);
        if is_same(&message, data) {
            taken.push("message");
        }
        for unfit in &typed.unfit {
            marks.add(unfit);
        }
        let wrapped;
        let payload = match (&event.data, item.form) {
            (Value::Null, _) => Payload::Empty,
            (_, Form::Text) => {
                marks.add("drover.data");
                Payload::Text
            }
            (Value::Object(data), Form::Whole) => payload::payload(data, &taken, &mut marks),
            (value, Form::Whole) => {
                wrapped = Map::from_iter([("value".to_owned(), value.clone())]);
                payload::payload(&wrapped, &[], &mut marks)
            }
        };
        let text = matches!(payload, Payload::Cut(_) | Payload::Text).then(|| {
            let text = event.data.to_string();
            if text.len() > payload::WHOLE {
                marks.add("drover.data_text");
            }
            payload::shorten(&text, payload::WHOLE)
        });
        let (timestamp, clock) = happened(event);
        let document = Document {
            timestamp,
            event: EventFields {
                id: event.id,
                ingested: event.ts,
                kind: facts.kind,
                category: facts.category.map(|category| [category]),
                action: parts.action(),
                dataset: parts.dataset(),
                module: "drover",
                outcome: facts.outcome,
                duration: facts.duration,
                reason: facts.reason,
            },
            host: event
                .minion
                .as_ref()
                .map(|minion| Host { name: minion.as_str(), id: minion.as_str() }),
            labels: (!item.grains.is_empty()).then_some(Labels(&item.grains)),
            message,
            log: facts.log.as_ref(),
            process: facts.process.as_ref(),
            user: facts.user.map(|name| User { name }),
            agent: facts.agent_version.map(|version| Agent { version }),
            tags: TAGS,
            ecs: Ecs { version: ECS },
            drover: Drover {
                tag: event.tag.as_str(),
                minion: event.minion.as_ref().map(|minion| minion.as_str()),
                seq: event.seq,
                at: event.at,
                clock,
                jid: facts.jid,
                fun: facts.fun,
                retcode: facts.retcode,
                success: facts.success,
                cause: facts.cause,
                rule: facts.rule,
                count: facts.count,
                beacon: (parts.space == "beacon").then(|| parts.beacon()),
                metrics: facts.metrics.as_ref(),
                fields: (!typed.values.is_empty()).then_some(&typed.values),
                data: Data::of(&payload),
                data_text: text.as_deref(),
                cut: marks.is_cut,
                cut_fields: &marks.paths,
            },
        };
        serde_json::to_writer(body, &document).expect("texts and numbers are written to memory");
    }
}

/// Whether the message is the payload's own, whole.
fn is_same(message: &str, data: &Map<String, Value>) -> bool {
    data.get("message").and_then(Value::as_str) == Some(message)
}

/// When it happened, as far as that is known.
pub(in crate::bridge) fn moment(event: &Event) -> Timestamp {
    happened(event).0
}

/// When it happened: by the device's clock, if that can be right, else when the master took it; and what is wrong with
/// the device's.
fn happened(event: &Event) -> (Timestamp, Option<&'static str>) {
    let Some(at) = event.at else { return (event.ts, None) };
    let waited = at.duration_until(event.ts);
    if at < NEVER_SET {
        (event.ts, Some("unset"))
    } else if waited < -AHEAD || waited > WAITED {
        (event.ts, Some("implausible"))
    } else {
        (at, None)
    }
}

#[cfg(test)]
mod tests;
