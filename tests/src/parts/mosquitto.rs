//! The MQTT broker mosquitto, and its own clients as the other side.

use std::{fs, path::PathBuf};

use rustix::process::Signal;

use super::{certificates::Certificate, free_port, text, wait_listening};
use crate::{
    fleet::{Outcome, run},
    process::Daemon,
};

/// TLS as the broker speaks it.
#[derive(Debug, Clone)]
pub struct BrokerTls {
    /// Its certificate.
    pub certificate: Certificate,
    /// The authority of the clients' certificates, which it then wants.
    pub client_ca: Option<PathBuf>,
}

/// A broker, with persistence in its directory.
#[derive(Debug)]
pub struct Mosquitto {
    dir: PathBuf,
    port: u16,
    daemon: Option<Daemon>,
}

impl Mosquitto {
    /// Starts it on a free port, for anybody on loopback; `more` are further lines of its configuration.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(dir: PathBuf, tls: Option<&BrokerTls>, more: &str) -> Self {
        fs::create_dir_all(&dir).expect("the test's directory is writable");
        let port = free_port();
        let user = if rustix::process::getuid().is_root() { "user root\n" } else { "" };
        let mut config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\n{user}persistence true\n\
             persistence_location {}/\nautosave_interval 1\nautosave_on_changes true\nlog_type all\n",
            text(&dir)
        );
        if let Some(tls) = tls {
            let Certificate { cert, key } = &tls.certificate;
            config.push_str(&format!("certfile {}\nkeyfile {}\n", text(cert), text(key)));
            if let Some(ca) = &tls.client_ca {
                config.push_str(&format!("cafile {}\nrequire_certificate true\n", text(ca)));
            }
        }
        fs::write(dir.join("mosquitto.conf"), config + more).expect("it is writable");
        let mut broker = Self { dir, port, daemon: None };
        broker.start_again();
        broker
    }

    /// Starts it after [`Mosquitto::kill`] or [`Mosquitto::stop`], on the same port and data.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        let config = self.dir.join("mosquitto.conf");
        let program = PathBuf::from("/usr/sbin/mosquitto");
        let log = self.dir.join("mosquitto.log");
        let mut daemon = Daemon::start(&program, ["-c", text(&config)], log);
        wait_listening("mosquitto", self.port, &mut daemon);
        self.daemon = Some(daemon);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// SIGTERM: it saves what it keeps.
    pub fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop();
        }
    }

    /// It answers nothing any more, and its connections stay: SIGSTOP.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.daemon.as_ref().expect("mosquitto runs").signal(signal);
    }

    /// Where it listens on loopback.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("mosquitto.log")).unwrap_or_default()
    }

    /// Starts `mosquitto_sub` with these options; each message it gets is a line in its log: `TOPIC PAYLOAD`.
    #[must_use]
    pub fn subscribe(&self, name: &str, options: &[&str]) -> Daemon {
        let port = self.port.to_string();
        let mut arguments = vec!["-h", "127.0.0.1", "-p", &port, "-F", "%t %p", "-i", name];
        arguments.extend(options);
        let program = PathBuf::from("/usr/bin/mosquitto_sub");
        Daemon::start(&program, arguments, self.dir.join(format!("{name}.log")))
    }

    /// Publishes with `mosquitto_pub`.
    #[must_use]
    pub fn publish(&self, options: &[&str]) -> Outcome {
        let port = self.port.to_string();
        let mut arguments = vec!["-h", "127.0.0.1", "-p", &port];
        arguments.extend(options);
        run(&PathBuf::from("/usr/bin/mosquitto_pub"), &arguments)
    }
}
