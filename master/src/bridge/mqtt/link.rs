//! The connection's shell: connects when there is something to say or to hear, moves bytes between the broker and the
//! [`Session`], and gives each batch its answers.

use std::{
    future::Future,
    io,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::{mpsc, oneshot},
    time::{sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    MqttError, Trouble, chain,
    inject::Injector,
    packet::{Connect, Message},
    reason::{self, Meaning},
    session::{Answer, End, Event, LARGEST, Session},
    settings::Broker,
};
use crate::{
    bridge::{
        backoff::Backoff,
        tls::{Stream, connect},
    },
    clock::Now,
    store::Store,
};

/// How long a broker may leave a batch without any answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// A connection that lasted for so long was a good one.
const STEADY: Duration = Duration::from_secs(10);
/// What is read at once.
const CHUNK: usize = 16 << 10;
/// How long a broker keeps what is for us while we are away, in seconds: a week.
const SESSION_EXPIRY: u32 = 7 * 24 * 3600;
/// How many messages of subscriptions may wait until they are durable.
const RECEIVE_MAXIMUM: u16 = 100;

/// Messages, and who waits for the answers.
pub(super) struct Order {
    pub(super) messages: Vec<Message>,
    pub(super) reply: oneshot::Sender<Result<Vec<Answer>, MqttError>>,
}

/// An order that is being carried out.
struct Batch {
    order: Order,
    /// How many are published.
    begun: usize,
    answers: Vec<Option<Answer>>,
    open: usize,
    due: Instant,
}

/// Connects for as long as somebody gives orders.
pub(super) struct Link {
    broker: Arc<Broker>,
    orders: mpsc::Receiver<Order>,
    injector: Option<Injector>,
    /// Packet identifiers go on where the connection before ended.
    last_id: u16,
    /// Counts connections.
    connection: u64,
    last_failure: String,
    trouble: Trouble,
}

/// An open connection.
struct Wire {
    session: Session,
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    read: BytesMut,
    unsent: Bytes,
}

impl Link {
    pub(super) fn new(
        broker: Arc<Broker>,
        orders: mpsc::Receiver<Order>,
        store: Option<Store>,
        trouble: Trouble,
    ) -> Self {
        let injector = store
            .filter(|_| !broker.subscriptions.is_empty())
            .map(|store| Injector::start(Arc::clone(&broker), store));
        let last_failure = String::new();
        Self { broker, orders, injector, last_id: 0, connection: 0, last_failure, trouble }
    }

    /// Runs until the sink is gone.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(uuid::Uuid::new_v4().as_u64_pair().0);
        let mut retry_at = now();
        loop {
            // Whoever hears waits for nobody's order.
            let hears = self.injector.is_some();
            let order = tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => Some(order),
                    None => return,
                },
                () = sleep_until(retry_at.into()), if hears => None,
            };
            let failed = match self.open().await {
                Ok(wire) => {
                    self.last_failure.clear();
                    let opened = now();
                    let Some(why) = self.converse(wire, order.map(Batch::new)).await else {
                        return;
                    };
                    // One that takes us and ends it at once, again and again, is not asked more often for it.
                    if now() - opened >= STEADY {
                        backoff.reset();
                    }
                    why
                }
                Err(why) => {
                    let told = chain(&why);
                    if let Some(order) = order {
                        // Whoever gave it may have left.
                        let _ = order.reply.send(Err(why));
                    } else if self.last_failure != told {
                        warn!(bridge = self.broker.bridge, "no connection to the broker: {told}");
                        self.tell(told.clone());
                        self.last_failure = told;
                    }
                    retry_at = now() + backoff.pause();
                    continue;
                }
            };
            info!(bridge = self.broker.bridge, "the connection to the broker ended: {failed}");
            self.tell(failed);
            retry_at = now() + backoff.pause();
        }
    }

    /// Says what is wrong to whoever asks for the bridge's status.
    fn tell(&self, trouble: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    /// Connects, and waits until the broker takes the connection.
    async fn open(&mut self) -> Result<Wire, MqttError> {
        let broker = Arc::clone(&self.broker);
        let address = &broker.address;
        let stream = connect(&address.host, address.port, broker.tls.as_ref()).await?;
        let password = broker.password.as_ref().map(|secret| secret.text()).transpose()?;
        let will = broker
            .will
            .as_deref()
            .map(|topic| (topic, json!({"bridge": broker.bridge, "state": "offline"}).to_string()));
        let mut bytes = Vec::new();
        Connect {
            client: &broker.client,
            // Kept for what is heard; what is sent is kept here.
            is_clean: self.injector.is_none(),
            keep_alive: u16::try_from(broker.keep_alive.as_secs()).unwrap_or(u16::MAX),
            will: will.as_ref().map(|(topic, payload)| (*topic, payload.as_bytes())),
            username: broker.username.as_deref(),
            password: password.as_ref().map(|password| password.as_str()),
            session_expiry: if self.injector.is_some() { SESSION_EXPIRY } else { 0 },
            receive_maximum: RECEIVE_MAXIMUM,
            largest: u32::try_from(LARGEST).unwrap_or(u32::MAX),
        }
        .write(broker.version, &mut bytes);
        let Broker { version, keep_alive, largest, .. } = *broker;
        let session = Session::new(version, bytes, keep_alive, self.last_id, largest, now());
        let (reader, writer) = split(stream);
        let read = BytesMut::new();
        let mut wire = Wire { session, reader, writer, read, unsent: Bytes::new() };
        let opened = loop {
            if let Err(why) = wire.exchange(std::future::pending::<()>()).await {
                break Err(self.ended(why));
            }
            if let Some(Event::Open) = wire.session.poll_event() {
                break Ok(());
            }
        };
        if let (Err(MqttError::Ended { source: End::NotTaken { .. }, .. }), Some(secret)) =
            (&opened, &broker.password)
        {
            secret.handle_refused();
        }
        opened?;
        self.connection += 1;
        if self.injector.is_some() {
            let subscriptions = broker.subscriptions.iter();
            wire.session.subscribe(subscriptions.map(|one| (one.topic.as_str(), one.qos)));
        }
        Ok(wire)
    }

    /// Keeps the connection, and tells why it ended; nothing when nobody gives orders any more.
    async fn converse(&mut self, mut wire: Wire, mut batch: Option<Batch>) -> Option<String> {
        let left = loop {
            if let Some(running) = &mut batch {
                running.offer(&mut wire.session);
            }
            if let Err(why) = self.handle_events(&mut wire.session, batch.as_mut()) {
                break Some(why);
            }
            batch = batch.and_then(Batch::finish);
            let is_free = batch.is_none();
            let due = batch.as_ref().map(|batch| batch.due);
            let (orders, injector) = (&mut self.orders, &mut self.injector);
            let other = async {
                tokio::select! {
                    order = orders.recv(), if is_free => Other::Order(order),
                    acknowledged = acknowledged(injector) => Other::Acknowledged(acknowledged),
                    () = until(due) => Other::Due,
                }
            };
            match wire.exchange(other).await {
                Ok(None) => {}
                Ok(Some(Other::Order(Some(order)))) => batch = Some(Batch::new(order)),
                Ok(Some(Other::Order(None))) => break None,
                Ok(Some(Other::Acknowledged((connection, id)))) => {
                    // What an earlier connection received comes again on this one.
                    if connection == self.connection {
                        wire.session.acknowledge(id);
                    }
                }
                Ok(Some(Other::Due)) => break Some(self.slow()),
                Err(why) => break Some(self.ended(why)),
            }
        };
        self.last_id = wire.session.last_id();
        let Some(why) = left else {
            wire.session.disconnect();
            // If it does not get through, the broker sends the will.
            let _ = timeout(Duration::from_secs(1), wire.flush()).await;
            return None;
        };
        let told = chain(&why);
        if let Some(batch) = batch {
            // What was answered before the end counts.
            batch.end(why);
        }
        Some(told)
    }

    fn handle_events(
        &mut self,
        session: &mut Session,
        mut batch: Option<&mut Batch>,
    ) -> Result<(), MqttError> {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Open => {}
                Event::Answered { ticket, answer } => {
                    if answer.meaning == Meaning::Denied {
                        let topic = batch.as_ref().and_then(|batch| batch.topic(ticket));
                        let topic = topic.unwrap_or_default().to_owned();
                        return Err(MqttError::Denied { topic, reason: answer.reason });
                    }
                    if let Some(batch) = batch.as_mut() {
                        batch.answer(ticket, answer);
                    }
                }
                Event::Subscribed { codes } => {
                    for (subscription, code) in self.broker.subscriptions.iter().zip(codes) {
                        if code >= 0x80 {
                            let (bridge, topic) = (&self.broker.bridge, &subscription.topic);
                            warn!(bridge, topic, code, "the broker refuses a subscription");
                            let (_, words) = reason::of_suback(self.broker.version, code);
                            self.tell(format!(
                                "the broker refuses the subscription to `{topic}`: {words}"
                            ));
                        }
                    }
                }
                Event::Received(received) => {
                    if let Some(injector) = &mut self.injector {
                        injector.take(self.connection, received);
                    }
                }
            }
        }
        Ok(())
    }

    fn ended(&self, why: Broken) -> MqttError {
        let address = self.broker.address.clone();
        match why {
            Broken::Io(source) => MqttError::Broken { address, source },
            Broken::End(source) => MqttError::Ended { address, source },
        }
    }

    fn slow(&self) -> MqttError {
        MqttError::Slow { address: self.broker.address.clone() }
    }
}

/// What may happen beside bytes.
enum Other {
    Order(Option<Order>),
    Acknowledged((u64, u16)),
    Due,
}

enum Broken {
    Io(io::Error),
    End(End),
}

impl From<End> for Broken {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Wire {
    /// Moves bytes once, either way, or waits for the session's time or for `other`.
    async fn exchange<T>(&mut self, other: impl Future<Output = T>) -> Result<Option<T>, Broken> {
        self.stage();
        tokio::select! {
            read = self.reader.read_buf(&mut self.read) => {
                if read? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                self.session.handle_bytes(&mut self.read, now())?;
                self.read.reserve(CHUNK);
            }
            written = write(&mut self.writer, &self.unsent), if self.unsent.has_remaining() => {
                self.unsent.advance(written?);
            }
            () = sleep_until(self.session.poll_timeout().into()) => {
                self.session.handle_timeout(now())?;
            }
            other = other => return Ok(Some(other)),
        }
        Ok(None)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stage();
        self.writer.write_all(&self.unsent).await?;
        self.writer.shutdown().await
    }

    fn stage(&mut self) {
        if !self.unsent.has_remaining()
            && let Some(bytes) = self.session.poll_transmit(now())
        {
            self.unsent = bytes.into();
        }
    }
}

/// TLS keeps what it is given until it is flushed.
async fn write(writer: &mut WriteHalf<Stream>, bytes: &[u8]) -> io::Result<usize> {
    let written = writer.write(bytes).await?;
    writer.flush().await?;
    Ok(written)
}

impl Batch {
    fn new(order: Order) -> Self {
        let open = order.messages.len();
        Self { begun: 0, answers: vec![None; open], open, due: now() + PATIENCE, order }
    }

    /// Publishes what there is room for.
    fn offer(&mut self, session: &mut Session) {
        while let Some(message) = self.order.messages.get(self.begun)
            && session.has_room()
        {
            session.publish(self.begun, message);
            self.begun += 1;
        }
    }

    fn topic(&self, ticket: usize) -> Option<&str> {
        Some(&self.order.messages.get(ticket)?.topic)
    }

    fn answer(&mut self, ticket: usize, answer: Answer) {
        if let Some(place @ None) = self.answers.get_mut(ticket) {
            *place = Some(answer);
            self.open -= 1;
            self.due = now() + PATIENCE;
        }
    }

    /// Replies if all is answered.
    fn finish(self) -> Option<Self> {
        if self.open > 0 {
            return Some(self);
        }
        let answers = self.answers.into_iter().flatten().collect();
        // Whoever gave it may have left.
        let _ = self.order.reply.send(Ok(answers));
        None
    }

    /// Replies with what is answered, and the reason for the rest.
    fn end(self, why: MqttError) {
        let is_denied = matches!(why, MqttError::Denied { .. });
        let result = if is_denied || self.open == self.answers.len() {
            Err(why)
        } else {
            let later = Answer { meaning: Meaning::Later, reason: chain(&why) };
            let answers = self.answers.into_iter();
            Ok(answers.map(|answer| answer.unwrap_or_else(|| later.clone())).collect())
        };
        let _ = self.order.reply.send(result);
    }
}

async fn acknowledged(injector: &mut Option<Injector>) -> (u64, u16) {
    match injector {
        Some(injector) => injector.acknowledged().await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn now() -> Instant {
    Now::read().instant
}
