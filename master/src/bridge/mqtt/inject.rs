//! Messages of subscriptions become events of the master's own. A message is acknowledged to the broker when its event is
//! durable, and not before; one that can be no event is acknowledged too, since it would come again for ever.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use drover_proto::{
    codec,
    event::{NewEvent, Tag},
};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time,
};
use tracing::warn;

use super::{
    chain,
    session::Received,
    settings::{Broker, Payload, Subscription},
    topic,
};
use crate::{
    bus::{ReservedTag, check_own_tag},
    store::{Store, StoreError},
};

/// What a payload may be, as with events of local programs.
const LARGEST: usize = 256 << 10;
/// Messages that wait until their events are durable.
const QUEUE: usize = 1_000;
/// Bytes that wait with them.
const QUEUE_BYTES: usize = 16 << 20;
/// How long a full store is left alone.
const FULL: Duration = Duration::from_secs(1);

/// A message of one connection: packet identifiers count within it.
pub(super) type OfConnection<T> = (u64, T);

/// The connection's side of the injector.
pub(super) struct Injector {
    messages: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    acknowledged: mpsc::Receiver<OfConnection<u16>>,
    dropped: u64,
}

/// A message with the room that it takes.
type Waiting = (OfConnection<Received>, OwnedSemaphorePermit);

/// Why a message becomes no event.
#[derive(Debug, Error)]
enum NotAnEvent {
    #[error("no subscription matches")]
    Unasked,
    #[error("make the tag: {0}")]
    Template(String),
    #[error("make the tag")]
    Tag(#[from] drover_proto::event::ParseTagError),
    #[error(transparent)]
    Reserved(#[from] ReservedTag),
    #[error("its payload of {0} bytes is more than {LARGEST}")]
    Large(usize),
    #[error("its payload is no JSON that an event can have")]
    Json,
    #[error("its payload is no text")]
    Text,
}

impl Injector {
    /// Starts the task, which ends with the connection's side.
    pub(super) fn start(broker: Arc<Broker>, store: Store) -> Self {
        let (messages, received) = mpsc::channel(QUEUE);
        let (acknowledge, acknowledged) = mpsc::channel(QUEUE);
        tokio::spawn(run(broker, store, received, acknowledge));
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        Self { messages, room, acknowledged, dropped: 0 }
    }

    /// Takes a message, unless too many wait already: then a broker that was promised less has sent more.
    pub(super) fn take(&mut self, connection: u64, mut received: Received) {
        if received.size > LARGEST {
            // It becomes no event, and says so by its size.
            received.payload = Vec::new();
        }
        let bytes = received.payload.len() + received.topic.len();
        let room = Arc::clone(&self.room);
        let room = room.try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
        if let Ok(room) = room
            && self.messages.try_send(((connection, received), room)).is_ok()
        {
            return;
        }
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            warn!(
                count = self.dropped,
                "messages of a broker are dropped, it sends more than `subscribe_rate`"
            );
        }
    }

    /// What may be acknowledged. Dropping the wait loses nothing.
    pub(super) async fn acknowledged(&mut self) -> OfConnection<u16> {
        match self.acknowledged.recv().await {
            Some(acknowledged) => acknowledged,
            // The store has failed; the master ends.
            None => std::future::pending().await,
        }
    }
}

async fn run(
    broker: Arc<Broker>,
    store: Store,
    mut received: mpsc::Receiver<Waiting>,
    acknowledge: mpsc::Sender<OfConnection<u16>>,
) {
    let mut pace = time::interval(Duration::from_secs(1) / broker.inject_rate.get());
    pace.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    while let Some(((connection, message), _room)) = received.recv().await {
        pace.tick().await;
        match event(&broker.subscriptions, &message) {
            Ok(None) => {}
            Ok(Some(event)) => {
                // Persisted before it is acknowledged.
                while let Err(why) = store.take_in(event.clone()).await {
                    match why {
                        StoreError::Full => time::sleep(FULL).await,
                        StoreError::Failed => return,
                    }
                }
            }
            Err(why) => {
                let (bridge, topic) = (&broker.bridge, &message.topic);
                warn!(bridge, topic, "a message becomes no event: {}", chain(&why));
            }
        }
        if let Some(id) = message.id
            && acknowledge.send((connection, id)).await.is_err()
        {
            return;
        }
    }
}

/// The event of a message; none for one that was kept and is no news.
fn event(
    subscriptions: &[Subscription],
    message: &Received,
) -> Result<Option<NewEvent>, NotAnEvent> {
    let subscription = subscriptions
        .iter()
        .find(|subscription| topic::matches(&subscription.topic, &message.topic))
        .ok_or(NotAnEvent::Unasked)?;
    if message.is_retained && !subscription.retained {
        return Ok(None);
    }
    if message.size > LARGEST {
        return Err(NotAnEvent::Large(message.size));
    }
    let data = data(subscription.payload, &message.payload)?;
    let tag = match &subscription.tag {
        None => message.topic.clone(),
        Some(template) => {
            let levels: Vec<&str> = message.topic.split('/').collect();
            let context = json!({"topic": levels, "payload": data});
            template.render_in(&context).map_err(NotAnEvent::Template)?
        }
    };
    let tag: Tag = tag.trim().parse()?;
    check_own_tag(&tag)?;
    Ok(Some(NewEvent::new(tag, None, data)))
}

fn data(payload: Payload, bytes: &[u8]) -> Result<Value, NotAnEvent> {
    let json = || serde_json::from_slice(bytes).ok().filter(codec::is_shallow);
    let text = || std::str::from_utf8(bytes).ok().map(Value::from);
    let base64 = || json!({"base64": STANDARD.encode(bytes)});
    match payload {
        Payload::Auto => Ok(json().or_else(text).unwrap_or_else(base64)),
        Payload::Json => json().ok_or(NotAnEvent::Json),
        Payload::Text => text().ok_or(NotAnEvent::Text),
        Payload::Base64 => Ok(base64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{mqtt::packet::Qos, template::Template};

    fn made(tag: Option<&str>, topic: &str, payload: &[u8]) -> Result<(String, Value), String> {
        let subscription = Subscription {
            topic: "#".to_owned(),
            qos: Qos::AtLeastOnce,
            tag: tag.map(|tag| Template::compile(tag).unwrap()),
            payload: Payload::Auto,
            retained: false,
        };
        let (topic, payload) = (topic.to_owned(), payload.to_vec());
        let size = payload.len();
        let received = Received { id: Some(1), topic, payload, size, is_retained: false };
        let event = event(&[subscription], &received).map_err(|why| chain(&why))?;
        let event = event.expect("it is news");
        Ok((event.tag.to_string(), event.data))
    }

    #[test]
    fn a_message_becomes_an_event_by_its_topic_and_payload() {
        assert_eq!(made(None, "a/b", b"{\"n\": 1}").unwrap(), ("a/b".into(), json!({"n": 1})));
        assert_eq!(made(None, "a", b"on").unwrap().1, json!("on"));
        assert_eq!(made(None, "a", b"\xff").unwrap().1, json!({"base64": "/w=="}));
        let tag = "site/{{ topic[1] }}/door/{{ payload.badge }}";
        let made = made(Some(tag), "x/bne/door", br#"{"badge": 7}"#).unwrap();
        assert_eq!(made.0, "site/bne/door/7");
    }

    #[test]
    fn what_would_be_an_event_of_the_masters_is_refused() {
        assert!(
            made(None, "drover/minion/x/start", b"1")
                .unwrap_err()
                .contains("drover/minion/x/start")
        );
        assert!(made(Some("{{ topic[0] }}/x"), "salt", b"1").is_err());
        assert_eq!(
            made(None, "a", &vec![b'x'; LARGEST + 1]).unwrap_err(),
            "its payload of 262145 bytes is more than 262144"
        );
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        assert_eq!(made(None, "a", deep.as_bytes()).unwrap().1, json!(deep), "as text");
    }

    #[test]
    fn what_the_broker_has_kept_is_no_news() {
        let subscription = |retained| Subscription {
            topic: "a".to_owned(),
            qos: Qos::AtLeastOnce,
            tag: None,
            payload: Payload::Text,
            retained,
        };
        let (topic, payload) = ("a".into(), b"x".to_vec());
        let received = Received { id: None, topic, payload, size: 1, is_retained: true };
        assert!(event(&[subscription(false)], &received).unwrap().is_none());
        assert!(event(&[subscription(true)], &received).unwrap().is_some());
    }
    #[tokio::test]
    async fn messages_that_wait_take_a_bounded_room() {
        let (messages, mut received) = mpsc::channel(QUEUE);
        let (_acknowledge, acknowledged) = mpsc::channel(1);
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        let mut injector = Injector { messages, room, acknowledged, dropped: 0 };
        for size in [LARGEST; 500].into_iter().chain([LARGEST * 4; 10]) {
            let (topic, payload) = ("a".to_owned(), vec![b'x'; size]);
            let received = Received { id: None, topic, payload, size, is_retained: false };
            injector.take(1, received);
        }
        let mut waiting = 0;
        while let Ok(((_, message), _)) = received.try_recv() {
            waiting += message.payload.len();
        }
        assert!(waiting <= QUEUE_BYTES, "{waiting} bytes wait");
        assert!(injector.dropped > 400);
    }
}
