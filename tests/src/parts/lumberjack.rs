//! A receiver of the Lumberjack (Beats) protocol, version 2: Elastic's own server library, by `tests/parts/lumberjack`.

use std::{fs, path::PathBuf, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use super::{certificates::Certificate, free_port, script, text, wait_listening};
use crate::process::Daemon;

/// How it receives.
#[derive(Debug, Clone, Default)]
pub struct Reception {
    /// Speaks TLS with this certificate.
    pub tls: Option<Certificate>,
    /// Wants clients' certificates from the authority in this file.
    pub client_ca: Option<PathBuf>,
    /// Time from receiving a batch to acknowledging it; every 3 s the client hears that it is being worked on.
    pub pause: Duration,
}

/// A running receiver.
#[derive(Debug)]
pub struct LumberjackReceiver {
    dir: PathBuf,
    port: u16,
    reception: Reception,
    daemon: Option<Daemon>,
}

impl LumberjackReceiver {
    /// Starts it on a free port; what it gets goes to a file in `dir`.
    #[must_use]
    pub fn start(dir: PathBuf, reception: Reception) -> Self {
        fs::create_dir_all(&dir).expect("the test's directory is writable");
        let mut receiver = Self { dir, port: free_port(), reception, daemon: None };
        receiver.start_again();
        receiver
    }

    /// Starts it after [`LumberjackReceiver::kill`], on the same port and file.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        let program = PathBuf::from(script("lumberjack", &["build"]));
        let listen = format!("127.0.0.1:{}", self.port);
        let pause = format!("{}ms", self.reception.pause.as_millis());
        let out = self.dir.join("events.ndjson");
        let mut arguments = vec!["-listen", &listen, "-out", text(&out), "-pause", &pause];
        if let Some(tls) = &self.reception.tls {
            arguments.extend(["-cert", text(&tls.cert), "-key", text(&tls.key)]);
        }
        if let Some(ca) = &self.reception.client_ca {
            arguments.extend(["-ca", text(ca)]);
        }
        let log = self.dir.join("lumberjack.log");
        let mut daemon = Daemon::start(&program, arguments, log);
        wait_listening("the receiver", self.port, &mut daemon);
        self.daemon = Some(daemon);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// It acknowledges nothing any more, and its connections stay: SIGSTOP.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.daemon.as_ref().expect("the receiver runs").signal(signal);
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it got so far, in that order, acknowledged or about to be.
    ///
    /// # Panics
    /// When a whole line is not JSON.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let content = fs::read_to_string(self.dir.join("events.ndjson")).unwrap_or_default();
        // A line that is being written has no end yet.
        let whole = content.rfind('\n').map_or("", |end| &content[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// What it says of itself, e.g. a handshake that failed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("lumberjack.log")).unwrap_or_default()
    }
}
