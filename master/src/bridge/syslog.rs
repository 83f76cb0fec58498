//! `type: syslog`: each event a message of RFC 5424, over TLS (RFC 5425) or TCP (RFC 6587) with its length before it, or
//! alone in a datagram. Syslog has no acknowledgements; [`OneWay`] says what is made of that.

use std::{io, path::PathBuf, time::Duration};

use drover_states::{diagnostic::Diagnostic, settings::Settings};
use thiserror::Error;
use tokio::{
    net::{UdpSocket, UnixDatagram},
    time::timeout,
};

mod message;
mod priority;

use self::{
    message::{Format, frame},
    priority::Facility,
};
use super::{
    logstash::{hosts, tls},
    one_way::{OneWay, OneWayError},
    shape::Shape,
    sink::{Failure, Item, Verdict},
    tls::Address,
};

/// syslog over TLS has a port of its own (RFC 5425, section 4.1).
const TLS_PORT: u16 = 6514;
/// The port of the others.
const PORT: u16 = 514;
/// What every receiver over TLS should take (RFC 5425, section 4.3.1).
const LONGEST: usize = 8192;
/// What every receiver must take.
const LEAST: usize = 2048;
/// As long as a datagram over IPv4 can be.
const LONGEST_DATAGRAM: usize = 65_507;
/// The enterprise number that is set aside for examples (RFC 5612).
const ENTERPRISE: u32 = 32_473;
/// A local daemon that is stopped does not empty its socket.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a batch did not go, or is not known to have arrived.
#[derive(Debug, Error)]
pub enum SyslogError {
    /// As a stream.
    #[error(transparent)]
    Stream(#[from] OneWayError),
    /// As datagrams.
    #[error("cannot send to `{address}`")]
    Datagram {
        /// The receiver.
        address: String,
        /// Why not.
        source: io::Error,
    },
}

impl SyslogError {
    /// What to do.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Stream(error) => error.failure(),
            Self::Datagram { .. } => Failure::Away,
        }
    }
}

/// A syslog daemon.
pub struct SyslogSink {
    shape: Shape,
    format: Format,
    transport: Transport,
}

enum Transport {
    /// TCP, with TLS or without.
    Stream(Box<OneWay>, &'static str),
    Udp(Address),
    /// A daemon on this machine.
    Unix(PathBuf),
}

impl SyslogSink {
    /// Reads its own keys: `transport`, `hosts` or `socket`, TLS, `confirm`, `facility`, `app_name`, `enterprise`,
    /// `max_length`, `fields` and `template`.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let transport = settings.take("transport", |node| match node.as_str() {
            Some(known @ ("tls" | "tcp" | "udp" | "unix")) => Ok(known.to_owned()),
            Some(_) | None => Err("`tls`, `tcp`, `udp` or `unix`"),
        })?;
        let transport = match transport.as_deref().unwrap_or("tls") {
            "tls" => {
                let hosts = hosts(settings, Some(TLS_PORT))?;
                let tls = tls(settings)?.unwrap_or_default();
                let receiver = OneWay::read(settings, hosts, Some(tls))?;
                Transport::Stream(Box::new(receiver), "TLS")
            }
            "tcp" => {
                let hosts = hosts(settings, Some(PORT))?;
                let receiver = OneWay::read(settings, hosts, None)?;
                Transport::Stream(Box::new(receiver), "TCP")
            }
            "udp" => {
                let mut hosts = hosts(settings, Some(PORT))?;
                if hosts.len() > 1 {
                    return Err(settings
                        .wrong(
                            "over UDP there is one host: nobody can tell whether another is needed",
                        )
                        .hint("several `hosts` take turns over `transport: tls` or `tcp`"));
                }
                Transport::Udp(hosts.remove(0))
            }
            _ => Transport::Unix(settings.path("socket")?.unwrap_or_else(|| "/dev/log".into())),
        };
        Ok(Self { format: format(settings, &transport)?, shape: Shape::read(settings)?, transport })
    }

    /// Sends a batch; one call at a time keeps the order.
    ///
    /// # Errors
    /// When it is not known to have arrived. Some of it may have, and comes twice.
    pub async fn deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, SyslogError> {
        let mut messages = Vec::with_capacity(items.len());
        let mut verdicts = Vec::with_capacity(items.len());
        for item in items {
            verdicts.push(match self.shape.text(item) {
                Ok(text) => {
                    messages.push(self.format.message(item, &text));
                    Verdict::Done
                }
                Err(reason) => Verdict::Refused(reason),
            });
        }
        if messages.is_empty() {
            return Ok(verdicts);
        }
        let failed = |source| SyslogError::Datagram { address: self.server(), source };
        match &self.transport {
            Transport::Stream(receiver, _) => {
                let mut frames = Vec::new();
                for message in &messages {
                    frame(message, &mut frames);
                }
                receiver.deliver(&frames).await?;
            }
            Transport::Udp(address) => send_udp(address, &messages).await.map_err(failed)?,
            Transport::Unix(path) => {
                let sent = timeout(PATIENCE, send_unix(path, &messages)).await;
                sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)?;
            }
        }
        Ok(verdicts)
    }

    /// The receiver that is next, and how it is spoken to.
    #[must_use]
    pub fn server(&self) -> String {
        match &self.transport {
            Transport::Stream(receiver, how) => format!("{}, {how}", receiver.host()),
            Transport::Udp(address) => format!("{address}, UDP"),
            Transport::Unix(path) => path.display().to_string(),
        }
    }
}

fn format(settings: &mut Settings<'_>, transport: &Transport) -> Result<Format, Diagnostic> {
    let most = match transport {
        Transport::Stream(..) => 1 << 20,
        Transport::Udp(_) | Transport::Unix(_) => LONGEST_DATAGRAM,
    };
    let facility = settings.take("facility", |node| {
        let facility = node.as_str().and_then(Facility::named);
        facility.ok_or("one of syslog's facilities, such as `daemon` or `local0`")
    })?;
    let app_name = settings.take("app_name", |node| {
        let name = node.as_str().unwrap_or_default();
        let is_valid = (1..=48).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        if is_valid { Ok(name.to_owned()) } else { Err("1 to 48 letters, digits and signs") }
    })?;
    let longest = settings.take("max_length", |node| {
        let length = node.to_value().as_u64().and_then(|length| usize::try_from(length).ok());
        length
            .filter(|length| (LEAST..=most).contains(length))
            .ok_or("a number of bytes: 2048 or more, and in a datagram up to 65507")
    })?;
    let machine = rustix::system::uname();
    Ok(Format {
        facility,
        app_name: app_name.unwrap_or_else(|| "drover".into()),
        enterprise: settings.count("enterprise")?.unwrap_or(ENTERPRISE),
        host: machine.nodename().to_string_lossy().into_owned(),
        longest: longest.unwrap_or(LONGEST),
    })
}

async fn send_udp(address: &Address, messages: &[Vec<u8>]) -> io::Result<()> {
    let found = tokio::net::lookup_host((&*address.host, address.port)).await?.next();
    let found = found.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let any = if found.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(found).await?;
    for message in messages {
        socket.send(message).await?;
    }
    Ok(())
}

async fn send_unix(path: &PathBuf, messages: &[Vec<u8>]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    for message in messages {
        socket.send(message).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
