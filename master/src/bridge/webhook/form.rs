//! What a request's body is: the event's JSON, a template's text, or what Slack takes.

use serde_json::json;

use crate::bridge::{elasticsearch::sentence, shape::Shape, sink::Item};

/// How an event becomes a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The bridge's own shape: JSON, or the text of its template.
    Shaped,
    /// `{"text": …}`, as Slack, Mattermost and Rocket.Chat take it. A template makes the text, where there is one.
    Slack,
}

impl Form {
    /// The body of one event.
    pub(super) fn of(self, shape: &Shape, item: &Item) -> Result<String, String> {
        match self {
            Self::Shaped => shape.text(item),
            Self::Slack => {
                let text = match shape.template_text(item) {
                    Some(text) => text?,
                    None => slack(item),
                };
                Ok(json!({"text": text}).to_string())
            }
        }
    }
}

/// What happened, then where: `*rfid-1 is lost*` and the tag below.
fn slack(item: &Item) -> String {
    let event = &*item.event;
    let what = escaped(&sentence(event));
    let tag = escaped(event.tag.as_str());
    match &event.minion {
        Some(minion) => format!("*{what}*\n`{tag}` · {}", escaped(minion.as_str())),
        None => format!("*{what}*\n`{tag}`"),
    }
}

/// The three characters that mean something to Slack, so that no payload mentions `<!channel>`.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
