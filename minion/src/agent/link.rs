//! The tunnel with a small queue before it, so that a slow master holds up its own messages and nothing else.

use std::time::Duration;

use bytes::Bytes;
use drover_proto::tunnel::{Tunnel, TunnelReceiver, TunnelSender};
use tokio::{
    sync::mpsc::{self, Permit},
    task::JoinHandle,
    time::timeout,
};

/// Messages that wait for the tunnel.
const QUEUE: usize = 16;
/// How long what is queued may take when the agent ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) struct Link {
    queue: mpsc::Sender<Bytes>,
    receiver: TunnelReceiver,
    sending: JoinHandle<()>,
}

impl Link {
    pub(super) fn new(tunnel: Tunnel) -> Self {
        let (sender, receiver) = tunnel.split();
        let (queue, queued) = mpsc::channel(QUEUE);
        Self { queue, receiver, sending: tokio::spawn(send(sender, queued)) }
    }

    /// Sends the first message, for which there is always room.
    pub(super) fn send(&self, frame: Bytes) {
        // If the tunnel has ended already, receiving says so.
        let _ = self.queue.try_send(frame);
    }

    /// Room for one message.
    pub(super) fn room(&self) -> Option<Permit<'_, Bytes>> {
        self.queue.try_reserve().ok()
    }

    /// Waits until there is room. A tunnel that has ended never has any; receiving says that it ended.
    pub(super) fn has_room(&self) -> impl Future<Output = ()> + use<> {
        let queue = self.queue.clone();
        async move {
            if queue.reserve().await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// The next message; none when the tunnel has ended.
    pub(super) async fn receive(&mut self) -> Option<Bytes> {
        self.receiver.recv().await.inspect_err(|end| tracing::debug!("{end}")).ok()
    }

    /// Lets go of the tunnel once what is queued has left.
    pub(super) async fn close(self) {
        drop(self.queue);
        // A master that takes nothing any more has nothing to say to an agent that ends.
        let _ = timeout(LAST_WORDS, self.sending).await;
    }
}

async fn send(mut tunnel: TunnelSender, mut queued: mpsc::Receiver<Bytes>) {
    while let Some(frame) = queued.recv().await {
        if tunnel.send(frame).await.is_err() {
            return;
        }
    }
}
