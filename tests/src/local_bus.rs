//! A program that pushes events into a local bus of ours, with MessagePack of its own making: a minion's `events.ipc`, a
//! master's `inject.ipc`.

use std::path::Path;

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use zeromq::{PushSocket, Socket as _, SocketSend as _, ZmqMessage};

/// The program's socket.
pub struct Program {
    runtime: Runtime,
    socket: PushSocket,
}

impl Program {
    /// Connects to a bus.
    ///
    /// # Panics
    /// When it does not listen.
    #[must_use]
    pub fn connect(path: &Path) -> Self {
        // A worker of its own, so that what is sent leaves also while the test does something else.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let mut socket = PushSocket::new();
        let endpoint = format!("ipc://{}", path.display());
        runtime.block_on(socket.connect(&endpoint)).expect("the bus listens");
        Self { runtime, socket }
    }

    /// Sends an event.
    pub fn send(&mut self, tag: &str, data: &Value) {
        let data = rmp_serde::to_vec_named(data).expect("JSON becomes MessagePack");
        self.send_raw(tag.as_bytes(), data);
    }

    /// Sends two frames as they are.
    ///
    /// # Panics
    /// When the bus is gone.
    pub fn send_raw(&mut self, tag: &[u8], data: Vec<u8>) {
        let mut message = ZmqMessage::from(tag.to_vec());
        message.push_back(data.into());
        self.runtime.block_on(self.socket.send(message)).expect("the bus takes it");
    }
}
