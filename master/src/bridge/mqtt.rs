//! `type: mqtt`: each event a message to a broker, of MQTT 3.1.1 or 5; and messages of subscriptions as events. An event
//! is delivered when the broker has acknowledged that very message (QoS 1).

mod inject;
mod link;
mod packet;
mod properties;
mod reason;
mod session;
mod settings;
mod topic;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use drover_states::{diagnostic::Diagnostic, settings::Settings};
use serde_json::json;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

pub use packet::{MalformedError, Packet, Version, read as read_packet};
pub use properties::Properties;
pub use reason::Meaning;
pub use session::End;

use self::{
    link::{Link, Order},
    packet::Message,
    session::Answer,
    settings::{Broker, Publishing},
};
use super::{
    credentials::SecretError,
    shape::Shape,
    sink::{Failure, Item, Verdict},
    tls::{Address, ConnectError},
};
use crate::store::Store;

/// Why a batch was not taken.
#[derive(Debug, Error)]
pub enum MqttError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no password.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The connection broke.
    #[error("the connection to `{address}` broke")]
    Broken {
        /// The broker.
        address: Address,
        /// How.
        source: io::Error,
    },
    /// The broker does not take it, or ended it, or sends what cannot be used.
    #[error("the connection to `{address}` ended")]
    Ended {
        /// The broker.
        address: Address,
        /// Why.
        source: End,
    },
    /// It acknowledges nothing.
    #[error("`{address}` acknowledged nothing for a minute")]
    Slow {
        /// The broker.
        address: Address,
    },
    /// We may not publish there.
    #[error("the broker refuses messages to `{topic}`: {reason}")]
    Denied {
        /// Where.
        topic: String,
        /// In the broker's words.
        reason: String,
    },
    /// The connection's task has ended, which only a bug makes it.
    #[error("the connection's task has ended")]
    Stopped,
}

impl MqttError {
    /// What to do.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Connect(error) if error.wants_operator() => Failure::Denied,
            Self::Ended { source, .. } if source.wants_operator() => Failure::Denied,
            Self::Secret(_) | Self::Denied { .. } => Failure::Denied,
            Self::Connect(_)
            | Self::Ended { .. }
            | Self::Broken { .. }
            | Self::Slow { .. }
            | Self::Stopped => Failure::Away,
        }
    }
}

/// A broker.
pub struct MqttSink {
    broker: Arc<Broker>,
    publishing: Publishing,
    shape: Shape,
    orders: mpsc::Sender<Order>,
    /// The other end, until the connection's task begins.
    given: Mutex<Option<mpsc::Receiver<Order>>>,
    trouble: Trouble,
}

/// What is wrong with what is heard, until somebody asks.
type Trouble = Arc<Mutex<Option<String>>>;

impl MqttSink {
    /// Reads its own keys: `url`, TLS, `version`, `client_id`, `username`, `password`, `keep_alive`, `will_topic`, `topic`,
    /// `qos`, `retain`, `presence_topic`, `subscribe`, `subscribe_rate`, `fields` and `template`.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let (orders, given) = mpsc::channel(1);
        Ok(Self {
            broker: Arc::new(Broker::read(settings)?),
            publishing: Publishing::read(settings)?,
            shape: Shape::read(settings)?,
            orders,
            given: Mutex::new(Some(given)),
            trouble: Trouble::default(),
        })
    }

    /// Begins to hear: what is subscribed to becomes events of the store. Within a runtime.
    pub fn start(&self, store: &Store) {
        self.begin(Some(store.clone()));
    }

    fn begin(&self, store: Option<Store>) {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(given) = given {
            let (broker, trouble) = (Arc::clone(&self.broker), Arc::clone(&self.trouble));
            tokio::spawn(Link::new(broker, given, store, trouble).run());
        }
    }

    /// Publishes a batch; one call at a time keeps the order.
    ///
    /// # Errors
    /// When the broker acknowledged none of it. It may have some, and gets it again.
    pub async fn deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, MqttError> {
        self.begin(None);
        let mut messages = Vec::with_capacity(items.len());
        // How many messages each item is, or why none.
        let mut made = Vec::with_capacity(items.len());
        for item in items {
            made.push(self.messages(item).map(|of_item| {
                let count = of_item.len();
                messages.extend(of_item);
                count
            }));
        }
        let answers = if messages.is_empty() { Vec::new() } else { self.publish(messages).await? };
        let mut answers = answers.into_iter();
        let verdict = |made| match made {
            Ok(count) => verdict(answers.by_ref().take(count)),
            Err(reason) => Verdict::Refused(reason),
        };
        Ok(made.into_iter().map(verdict).collect())
    }

    /// What is wrong with what it hears, once.
    #[must_use]
    pub fn poll_trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The broker, and what it is spoken to in.
    #[must_use]
    pub fn server(&self) -> String {
        let version = match self.broker.version {
            Version::V3 => "3.1.1",
            Version::V5 => "5",
        };
        format!("{}, MQTT {version}", self.broker.address)
    }

    async fn publish(&self, messages: Vec<Message>) -> Result<Vec<Answer>, MqttError> {
        let (reply, answer) = oneshot::channel();
        let order = Order { messages, reply };
        self.orders.send(order).await.map_err(|_| MqttError::Stopped)?;
        answer.await.map_err(|_| MqttError::Stopped)?
    }

    /// The messages of an event: itself, and its minion's presence where it tells that.
    fn messages(&self, item: &Item) -> Result<Vec<Message>, String> {
        let Publishing { qos, is_retained, topic: template, presence } = &self.publishing;
        // Topics are made of all of the event, whatever is sent of it.
        let event = Shape::default().json(item);
        let message = |topic, payload: String, is_retained| Message {
            topic,
            payload: payload.into_bytes(),
            qos: *qos,
            is_retained,
            is_again: item.is_retry,
        };
        let topic = topic::name(template.as_ref(), &event)?;
        let mut messages = vec![message(topic, self.shape.text(item)?, *is_retained)];
        if let (Some(template), Some(presence)) = (presence, presence_of(item)) {
            let payload = json!({"presence": presence, "since": item.event.ts});
            let topic = topic::name(Some(template), &event)?;
            messages.push(message(topic, payload.to_string(), true));
        }
        Ok(messages)
    }
}

/// What an event says of its minion's presence.
fn presence_of(item: &Item) -> Option<&'static str> {
    let mut parts = item.event.tag.as_str().split('/');
    let (root, kind, _id) = (parts.next()?, parts.next()?, parts.next()?);
    let what = parts.next()?;
    match (root, kind, what) {
        ("drover", "minion", "start") | ("drover", "presence", "back") => Some("connected"),
        ("drover", "minion", "stop") => Some("disconnected"),
        ("drover", "presence", "stale") => Some("stale"),
        ("drover", "presence", "lost") => Some("lost"),
        _ => None,
    }
    .filter(|_| parts.next().is_none())
}

/// An event is there when all its messages are. Takes all the answers: those after them are another event's.
fn verdict(answers: impl Iterator<Item = Answer>) -> Verdict {
    answers.fold(Verdict::Done, |verdict, Answer { meaning, reason }| match (verdict, meaning) {
        (refused @ Verdict::Refused(_), _) => refused,
        (_, Meaning::Refused) => Verdict::Refused(reason),
        (_, Meaning::Later | Meaning::Denied) => Verdict::Later(reason),
        (verdict, Meaning::Done) => verdict,
    })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |error| error.source())
        .fold(error.to_string(), |text, error| format!("{text}: {error}"))
}

#[cfg(test)]
mod tests;
