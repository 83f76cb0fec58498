//! What a broker is told of us, and what of it we want: the keys of `type: mqtt`.

use std::{num::NonZeroU32, time::Duration};

use drover_states::{
    diagnostic::Diagnostic,
    settings::Settings,
    yaml::{Data, Node},
};

use super::{
    packet::{Qos, Version},
    topic,
};
use crate::bridge::{
    config::wrong,
    credentials::Secret,
    template::Template,
    tls::{Address, TlsConfig},
};

const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// What a broker of 3.1.1 is sent, which cannot say what it takes, and ends the connection over what is larger.
const LARGEST_3: u64 = 1 << 20;
/// A packet that takes an event.
const LEAST: u64 = 1 << 10;
/// Where presence is retained where nothing else is said.
const PRESENCE: &str = "drover/presence/{{ event.minion }}";
/// Events a second that subscriptions may make.
const INJECTED: NonZeroU32 = NonZeroU32::new(100).expect("it is not 0");

/// A broker, and how it is spoken to.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) bridge: String,
    pub(super) address: Address,
    pub(super) tls: Option<TlsConfig>,
    pub(super) version: Version,
    pub(super) client: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) keep_alive: Duration,
    /// The largest packet that it is sent, if it does not say less.
    pub(super) largest: Option<usize>,
    /// Published by the broker when the connection breaks.
    pub(super) will: Option<String>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) inject_rate: NonZeroU32,
}

/// Messages that become events.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Topic filter.
    pub(super) topic: String,
    pub(super) qos: Qos,
    /// The event's tag; without it the topic.
    pub(super) tag: Option<Template>,
    pub(super) payload: Payload,
    /// Whether what the broker has kept becomes an event too, at every connection.
    pub(super) retained: bool,
}

/// What an event's data is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    /// JSON, else text, else base64.
    Auto,
    Json,
    Text,
    Base64,
}

/// How messages are made of events.
#[derive(Debug)]
pub(super) struct Publishing {
    pub(super) qos: Qos,
    pub(super) is_retained: bool,
    pub(super) topic: Option<Template>,
    pub(super) presence: Option<Template>,
}

impl Broker {
    pub(super) fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let bridge = settings.text("name")?.unwrap_or_default();
        let url = settings.take("url", |node| {
            node.as_str().and_then(url).ok_or("`mqtt://host:port` or `mqtts://host:port`")
        })?;
        let (is_tls, address) = url.ok_or_else(|| settings.missing("the bridge", "url"))?;
        let tls = match (TlsConfig::read(settings)?, is_tls) {
            (tls, true) => Some(tls.unwrap_or_default()),
            (None, false) => None,
            (Some(_), false) => {
                return Err(settings
                    .wrong("the bridge has certificates, and `url` is without TLS")
                    .hint("write `mqtts://`"));
            }
        };
        let version = settings.take("version", |node| match &*plain(node) {
            "3.1.1" => Ok(Version::V3),
            "5" | "5.0" => Ok(Version::V5),
            _ => Err("`3.1.1` or `5`"),
        })?;
        let client = settings.take("client_id", |node| {
            let is_id =
                |id: &&str| (1..=65_535).contains(&id.len()) && !id.contains(char::is_control);
            node.as_str().filter(is_id).map(str::to_owned).ok_or("a text")
        })?;
        let will = settings.take("will_topic", |node| match &node.data {
            Data::Scalar(serde_json::Value::Bool(false)) => Ok(None),
            Data::Scalar(_) | Data::Sequence(_) | Data::Mapping(_) => {
                let topic = node.as_str().filter(|topic| topic::is_name(topic));
                topic.map(|topic| Some(topic.to_owned())).ok_or("a topic, or `false`")
            }
        })?;
        let version = version.unwrap_or(Version::V5);
        let largest = settings.size("max_packet_size")?;
        if largest.is_some_and(|largest| largest < LEAST) {
            return Err(settings.wrong("`max_packet_size` must be 1KiB or more"));
        }
        let largest = largest.or((version == Version::V3).then_some(LARGEST_3));
        let keep_alive = settings.duration("keep_alive")?.unwrap_or(KEEP_ALIVE);
        Ok(Self {
            address,
            tls,
            version,
            largest: largest.map(|largest| usize::try_from(largest).unwrap_or(usize::MAX)),
            client: client.unwrap_or_else(|| format!("drover-{bridge}")),
            username: settings.text("username")?,
            password: Secret::read(settings, "password")?,
            keep_alive: keep_alive
                .clamp(Duration::from_secs(1), Duration::from_secs(u16::MAX.into())),
            will: will.unwrap_or_else(|| Some(format!("drover/bridge/{bridge}/offline"))),
            subscriptions: settings.parse("subscribe", subscriptions)?.unwrap_or_default(),
            inject_rate: settings
                .count::<u32>("subscribe_rate")?
                .and_then(NonZeroU32::new)
                .unwrap_or(INJECTED),
            bridge,
        })
    }
}

impl Publishing {
    pub(super) fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        Ok(Self {
            qos: settings.take("qos", qos)?.unwrap_or(Qos::AtLeastOnce),
            is_retained: settings.flag("retain")?.unwrap_or(false),
            topic: settings.parse("topic", Template::read)?,
            presence: settings.parse("presence_topic", presence)?.flatten(),
        })
    }
}

fn url(text: &str) -> Option<(bool, Address)> {
    let (scheme, rest) = text.split_once("://")?;
    let (is_tls, port) = match scheme {
        "mqtt" | "tcp" => (false, PORT),
        "mqtts" | "ssl" => (true, TLS_PORT),
        _ => return None,
    };
    let address = Address::parse(rest.strip_suffix('/').unwrap_or(rest), Some(port))?;
    Some((is_tls, address))
}

fn qos(node: &Node) -> Result<Qos, &'static str> {
    match node.to_value().as_u64() {
        Some(0) => Ok(Qos::AtMostOnce),
        Some(1) => Ok(Qos::AtLeastOnce),
        Some(_) | None => Err("0 or 1"),
    }
}

fn presence(node: &Node, text: &str) -> Result<Option<Template>, Diagnostic> {
    match node.to_value() {
        serde_json::Value::Bool(false) => Ok(None),
        serde_json::Value::Bool(true) => {
            Ok(Some(Template::compile(PRESENCE).expect("our own template is one")))
        }
        serde_json::Value::String(_) => Template::read(node, text).map(Some),
        serde_json::Value::Null
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => {
            Err(wrong(node, text, "`presence_topic` must be `true`, or a topic of its own"))
        }
    }
}

fn subscriptions(node: &Node, text: &str) -> Result<Vec<Subscription>, Diagnostic> {
    let Data::Sequence(items) = &node.data else {
        let message = "`subscribe` must be a list like `[{topic: 'site/+/door'}]`";
        return Err(wrong(node, text, message));
    };
    items.iter().map(|item| subscription(item, text)).collect()
}

fn subscription(node: &Node, text: &str) -> Result<Subscription, Diagnostic> {
    let mut settings = Settings::new("/".as_ref(), text, Some(node))?;
    let topic = settings.take("topic", |node| {
        let filter = node.as_str().filter(|filter| topic::is_filter(filter));
        filter.map(str::to_owned).ok_or("a topic filter, such as `site/+/door` or `site/#`")
    })?;
    let payload = settings.take("payload", |node| match node.as_str() {
        Some("auto") => Ok(Payload::Auto),
        Some("json") => Ok(Payload::Json),
        Some("text") => Ok(Payload::Text),
        Some("base64") => Ok(Payload::Base64),
        Some(_) | None => Err("`auto`, `json`, `text` or `base64`"),
    })?;
    let subscription = Subscription {
        topic: topic.ok_or_else(|| wrong(node, text, "the subscription has no `topic`"))?,
        qos: settings.take("qos", qos)?.unwrap_or(Qos::AtLeastOnce),
        tag: settings.parse("tag", Template::read)?,
        payload: payload.unwrap_or(Payload::Auto),
        retained: settings.flag("retained")?.unwrap_or(false),
    };
    settings.finish()?;
    Ok(subscription)
}

/// A number as it was written, or a text.
fn plain(node: &Node) -> String {
    match node.as_str() {
        Some(text) => text.to_owned(),
        None => node.to_value().to_string(),
    }
}
