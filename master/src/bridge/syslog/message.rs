//! An event as a message of RFC 5424: a header, what machines read as structured data, and a text for people. Pure.

use std::fmt::Write;

use drover_proto::event::Event;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::priority::{Facility, Severity};
use crate::bridge::{elasticsearch::moment, sink::Item};

/// The end of a text that was cut.
const CUT: &str = " …[cut]";
/// Grains are for finding events, not for carrying documents.
const LONGEST_GRAIN: usize = 128;
/// What grains leave for the text, in bytes.
const ROOM: usize = 256;
/// More than these would leave no room for the text.
const MOST_GRAINS: usize = 8;

/// What all messages of a bridge have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    /// Instead of the one that goes by the kind of event.
    pub(super) facility: Option<Facility>,
    /// APP-NAME.
    pub(super) app_name: String,
    /// The enterprise number in the names of structured data.
    pub(super) enterprise: u32,
    /// HOSTNAME of what is about no minion: the master's machine.
    pub(super) host: String,
    /// The longest message, in bytes.
    pub(super) longest: usize,
}

impl Format {
    /// An event as a message. `text` is what people read.
    #[must_use]
    pub(super) fn message(&self, item: &Item, text: &str) -> Vec<u8> {
        let event = &*item.event;
        let priority =
            self.facility.unwrap_or_else(|| Facility::of(event)).with(Severity::of(event));
        let host = event.minion.as_ref().map_or(self.host.as_str(), |minion| minion.as_str());
        // Six digits of a second are the most that the grammar takes.
        let time = moment(event).to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%6fZ");
        let mut message = format!(
            "<{priority}>1 {time} {host} {app} - {kind} ",
            host = name(host, 255),
            app = name(&self.app_name, 48),
            kind = name(&kind(event), 32),
        );
        self.structured_data(&mut message, item);
        message.push(' ');
        let text = printable(text);
        if !text.is_ascii() {
            // By it a receiver knows UTF-8 (section 6.4).
            message.push('\u{feff}');
        }
        let room = self.longest.saturating_sub(message.len());
        if text.len() <= room {
            message.push_str(&text);
        } else {
            let end = text.floor_char_boundary(room.saturating_sub(CUT.len()));
            message.push_str(&text[..end]);
            message.push_str(CUT);
        }
        message.into_bytes()
    }

    fn structured_data(&self, message: &mut String, item: &Item) {
        let event = &*item.event;
        let enterprise = self.enterprise;
        let _ = write!(message, "[drover@{enterprise} id=\"{}\" seq=\"{}\"", event.id, event.seq);
        parameter(message, "tag", event.tag.as_str());
        if let Some(at) = event.at {
            parameter(message, "at", &at.to_string());
        }
        if let Some(jid) = event.data["jid"].as_str() {
            parameter(message, "jid", jid.get(..64).unwrap_or(jid));
        }
        message.push(']');
        self.grains(message, &item.grains);
    }

    fn grains(&self, message: &mut String, grains: &Map<String, Value>) {
        let mut texts = grains.iter().filter_map(|(grain, value)| match value {
            Value::String(text) => Some((grain, text.clone())),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Some((grain, value.to_string()))
            }
            Value::Null => None,
        });
        let mut is_open = false;
        for (grain, text) in texts.by_ref().take(MOST_GRAINS) {
            let mut part = String::new();
            if !is_open {
                let _ = write!(part, "[grains@{}", self.enterprise);
            }
            let text = &text[..text.floor_char_boundary(LONGEST_GRAIN)];
            parameter(&mut part, &parameter_name(grain), text);
            // Escaped it may be four times as long.
            if message.len() + part.len() + ROOM > self.longest {
                break;
            }
            message.push_str(&part);
            is_open = true;
        }
        if is_open {
            message.push(']');
        }
    }
}

/// The tag without the ids in it, so that a receiver can select by it: `presence/lost`, `job/ret`, `beacon/load`.
fn kind(event: &Event) -> String {
    let parts: Vec<&str> = event.tag.as_str().split('/').filter(|part| !part.is_empty()).collect();
    match parts[..] {
        ["drover", "job", _, what, ..] => format!("job/{what}"),
        ["drover", "reactor", what, ..] => format!("reactor/{what}"),
        ["drover", about, _, ref what @ ..] => {
            let mut kind = String::from(about);
            for part in what {
                let _ = write!(kind, "/{part}");
            }
            kind
        }
        _ => parts.join("/"),
    }
}

/// As the header's names are: printable ASCII without spaces, not empty, and no longer than this.
fn name(text: &str, longest: usize) -> String {
    let is_plain = |c: char| c.is_ascii_graphic();
    let name: String =
        text.chars().map(|c| if is_plain(c) { c } else { '_' }).take(longest).collect();
    if name.is_empty() { "-".into() } else { name }
}

fn parameter_name(text: &str) -> String {
    name(text, 32).replace(['=', ']', '"'], "_")
}

/// Escaped as section 6.3.3 says.
fn parameter(message: &mut String, name: &str, value: &str) {
    let _ = write!(message, " {name}=\"");
    for c in printable(value).chars() {
        if matches!(c, '"' | '\\' | ']') {
            message.push('\\');
        }
        message.push(c);
    }
    message.push('"');
}

/// Without what moves a terminal's cursor or ends a line: `#012` for a line feed, as syslog daemons write it.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(printable, "#{:03o}", u32::from(c));
        } else {
            printable.push(c);
        }
    }
    printable
}

/// With its length before it (RFC 5425, section 4.3; RFC 6587, section 3.4.1).
pub(super) fn frame(message: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(message.len().to_string().as_bytes());
    to.push(b' ');
    to.extend_from_slice(message);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::bridge::sink::Form;

    fn format() -> Format {
        Format {
            facility: None,
            app_name: "drover".into(),
            enterprise: 32_473,
            host: "master-1".into(),
            longest: 2048,
        }
    }

    fn item(tag: &str, minion: Option<&str>, grains: Value, data: Value) -> Item {
        let event = Event {
            id: Uuid::from_u128(7),
            seq: 42,
            ts: Timestamp::new(1_700_000_000, 123_456_789).unwrap(),
            at: None,
            tag: tag.parse().unwrap(),
            minion: minion.map(|minion| minion.parse().unwrap()),
            data,
        };
        let grains = Arc::new(grains.as_object().unwrap().clone());
        Item { event: Arc::new(event), grains, form: Form::Whole, is_retry: false }
    }

    fn text(item: &Item, text: &str) -> String {
        String::from_utf8(format().message(item, text)).unwrap()
    }

    #[test]
    fn an_event_is_a_message_as_the_standard_has_it() {
        let lost =
            item("drover/presence/rfid-1/lost", Some("rfid-1"), json!({"site": "bne"}), json!({}));
        assert_eq!(
            text(&lost, "rfid-1 is lost"),
            "<28>1 2023-11-14T22:13:20.123456Z rfid-1 drover - presence/lost \
             [drover@32473 id=\"00000000-0000-0000-0000-000000000007\" seq=\"42\" \
             tag=\"drover/presence/rfid-1/lost\"][grains@32473 site=\"bne\"] rfid-1 is lost"
        );
        let own = item("own/näme", None, json!({}), json!({"jid": "2026"}));
        assert!(
            text(&own, "ok")
                .starts_with("<30>1 2023-11-14T22:13:20.123456Z master-1 drover - own/n_me ")
        );
        assert!(text(&own, "ok").ends_with(" jid=\"2026\"] ok"));
    }

    #[test]
    fn nothing_in_a_payload_ends_the_message_or_its_structured_data() {
        let hostile = item("a/\"]\\x", None, json!({"k=\"]": "v\"]\n"}), json!({}));
        let message = text(&hostile, "one\n<0>1 - - - - - two\u{7}");
        assert!(message.contains("tag=\"a/\\\"\\]\\\\x\"]"), "{message}");
        assert!(message.contains("[grains@32473 k___=\"v\\\"\\]#012\"]"), "{message}");
        assert!(message.ends_with(" one#012<0>1 - - - - - two#007"), "{message}");
    }

    #[test]
    fn only_text_that_is_not_ascii_has_the_mark_of_utf_8() {
        let event = item("a/b", None, json!({}), json!({}));
        assert!(text(&event, "plain").ends_with("] plain"));
        assert!(text(&event, "Tür").ends_with("] \u{feff}Tür"));
    }

    #[test]
    fn ids_are_left_out_of_the_message_id() {
        let kind = |tag| kind(&item(tag, None, json!({}), json!({})).event);
        assert_eq!(kind("drover/job/2026/ret/rfid-1"), "job/ret");
        assert_eq!(kind("drover/beacon/rfid-1/load/"), "beacon/load");
        assert_eq!(kind("drover/app/rfid-1/door/open"), "app/door/open");
        assert_eq!(kind("drover/reactor/ran"), "reactor/ran");
        assert_eq!(kind("own/tag"), "own/tag");
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_the_limit_and_a_cut_is_marked(what in "\\PC{0,3000}") {
            let event = item("a/b", None, json!({}), json!({}));
            let message = text(&event, &what);
            prop_assert!(message.len() <= 2048);
            prop_assert!(message.ends_with(CUT) || message.ends_with(&*what));
        }

        #[test]
        fn the_header_holds_whatever_the_tag_is(tag in "[^\\p{C}]{1,100}") {
            let Ok(_) = tag.parse::<drover_proto::event::Tag>() else { return Ok(()) };
            let message = text(&item(&tag, None, json!({}), json!({})), "x");
            let fields: Vec<&str> = message.splitn(7, ' ').collect();
            prop_assert_eq!(fields[4], "-");
            prop_assert!(fields[5].len() <= 32 && fields[5].is_ascii() && !fields[5].is_empty());
            prop_assert!(fields[6].starts_with("[drover@32473 "));
        }
    }

    #[test]
    fn grains_leave_room_for_the_text_however_they_are_escaped() {
        let grains: Map<String, Value> = (0..8)
            .map(|grain| (format!("{grain}").repeat(32), json!("\u{1}".repeat(128))))
            .collect();
        let tag = "\\".repeat(512);
        let data = json!({"jid": "\u{1}".repeat(64)});
        let message = text(&item(&tag, Some("a"), Value::Object(grains), data), "what happened");
        assert!(message.len() <= 2048, "{} bytes", message.len());
        assert!(message.ends_with("] what happened"), "{message}");
    }

    #[test]
    fn a_frame_begins_with_its_length() {
        let mut frames = Vec::new();
        frame(b"<1>1 x", &mut frames);
        frame("ü".as_bytes(), &mut frames);
        assert_eq!(frames, "6 <1>1 x2 ü".as_bytes());
    }
}
