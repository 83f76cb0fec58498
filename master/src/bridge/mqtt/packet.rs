//! Packets of MQTT 3.1.1 and 5, as far as a client of QoS 0 and 1 needs them: written, and read from bytes of a broker
//! that may be broken. Sections are those of the OASIS standards.

use bytes::{Buf, BytesMut};
use thiserror::Error;

use super::properties::{Properties, read_text};

/// The version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1
    V3,
    /// 5
    V5,
}

/// Delivered at most once, or at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Qos {
    /// Nobody says that it arrived.
    AtMostOnce,
    /// The broker says that it has it.
    AtLeastOnce,
}

/// A packet from a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// The broker takes the connection, or not (3.2).
    Connack {
        /// 0, or why not.
        code: u8,
        /// What it can.
        properties: Properties,
    },
    /// A message of a subscription (3.3).
    Publish {
        /// With QoS 1: what it is acknowledged by.
        id: Option<u16>,
        /// Where it was published.
        topic: String,
        /// What.
        payload: Vec<u8>,
        /// Whether it was kept by the broker, and is no news.
        is_retained: bool,
    },
    /// A message of a subscription, larger than what we take: its beginning.
    TooLarge {
        /// With QoS 1: what it is acknowledged by.
        id: Option<u16>,
        /// Where it was published.
        topic: String,
        /// All bytes of it.
        size: usize,
        /// How many of them are still to come, and are of no use.
        rest: usize,
    },
    /// The broker has a message (3.4).
    Puback {
        /// Which.
        id: u16,
        /// 0, or why not; always 0 in 3.1.1.
        code: u8,
        /// In its words.
        reason: Option<String>,
    },
    /// Subscriptions were taken, or not (3.9).
    Suback {
        /// For each: the QoS, or 128 and more.
        codes: Vec<u8>,
    },
    /// The broker lives (3.13).
    Pingresp,
    /// The broker ends the connection; in 5 alone (3.14).
    Disconnect {
        /// Why.
        code: u8,
        /// In its words.
        reason: Option<String>,
    },
}

/// Bytes that are no packet that a broker may send us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MalformedError {
    /// A length of more than four bytes.
    #[error("a packet's length is malformed")]
    Length,
    /// Larger than we said that we take.
    #[error("a packet of {0} bytes is larger than what was agreed")]
    TooLarge(usize),
    /// A kind that a broker does not send, or not to us.
    #[error("a packet of type {0} is not expected")]
    Unexpected(u8),
    /// It ends too early, or goes on after its end.
    #[error("a packet of type {0} is malformed")]
    Content(u8),
}

/// The packet that begins `bytes`, once all of it is there; it is taken out. Of a message larger than `largest` the
/// beginning is enough, with what is there of the rest: a broker of 3.1.1 cannot be told what we take, and would send it
/// again on every connection.
///
/// # Errors
/// When it is none; the connection is of no more use.
pub fn read(
    bytes: &mut BytesMut,
    version: Version,
    largest: usize,
) -> Result<Option<Packet>, MalformedError> {
    let Some((length, width)) = remaining_length(bytes.get(1..).unwrap_or_default())? else {
        return Ok(None);
    };
    let whole = 1 + width + length;
    if whole > largest {
        return if bytes[0] >> 4 == 3 {
            beginning(bytes, 1 + width, whole)
        } else {
            Err(MalformedError::TooLarge(whole))
        };
    }
    if bytes.len() < whole {
        return Ok(None);
    }
    let packet = bytes.split_to(whole);
    let (first, content) = (packet[0], &packet[1 + width..]);
    let kind = first >> 4;
    let packet = content_of(kind, first & 0x0f, content, version);
    packet.map(Some)
}

fn content_of(
    kind: u8,
    flags: u8,
    mut content: &[u8],
    version: Version,
) -> Result<Packet, MalformedError> {
    let malformed = MalformedError::Content(kind);
    let content = &mut content;
    let packet = match kind {
        2 => {
            let _flags = byte(content).ok_or(malformed)?;
            let code = byte(content).ok_or(malformed)?;
            Packet::Connack { code, properties: properties(content, version).ok_or(malformed)? }
        }
        3 => publish(flags, content, version).ok_or(malformed)?,
        4 => {
            let id = number(content).ok_or(malformed)?;
            let code = byte(content).unwrap_or(0);
            let properties = properties(content, version).ok_or(malformed)?;
            Packet::Puback { id, code, reason: properties.reason }
        }
        9 => {
            let _id = number(content).ok_or(malformed)?;
            properties(content, version).ok_or(malformed)?;
            Packet::Suback { codes: std::mem::take(content).to_vec() }
        }
        13 => Packet::Pingresp,
        14 if version == Version::V5 => {
            let code = byte(content).unwrap_or(0);
            let properties = properties(content, version).ok_or(malformed)?;
            Packet::Disconnect { code, reason: properties.reason }
        }
        other => return Err(MalformedError::Unexpected(other)),
    };
    if content.is_empty() { Ok(packet) } else { Err(malformed) }
}

/// Topic and identifier of a message of `size` bytes, and what of it is there taken out.
fn beginning(
    bytes: &mut BytesMut,
    head: usize,
    size: usize,
) -> Result<Option<Packet>, MalformedError> {
    let id_width = match (bytes[0] >> 1) & 3 {
        0 => 0,
        1 => 2,
        _ => return Err(MalformedError::Content(3)),
    };
    let content = &mut &bytes[head..];
    let topic_width = match content.get(..2) {
        Some(length) => 2 + usize::from(u16::from_be_bytes([length[0], length[1]])),
        None => return Ok(None),
    };
    if head + topic_width + id_width > size {
        return Err(MalformedError::Content(3));
    }
    if content.len() < topic_width + id_width {
        return Ok(None);
    }
    let topic = read_text(content).ok_or(MalformedError::Content(3))?;
    let id = match id_width {
        0 => None,
        _ => Some(number(content).ok_or(MalformedError::Content(3))?),
    };
    let here = bytes.len().min(size);
    bytes.advance(here);
    Ok(Some(Packet::TooLarge { id, topic, size, rest: size - here }))
}

fn publish(flags: u8, content: &mut &[u8], version: Version) -> Option<Packet> {
    let topic = read_text(content)?;
    let id = match (flags >> 1) & 3 {
        0 => None,
        1 => Some(number(content)?),
        _ => return None,
    };
    properties(content, version)?;
    let payload = std::mem::take(content).to_vec();
    Some(Packet::Publish { id, topic, payload, is_retained: flags & 1 == 1 })
}

/// In 3.1.1 there are none; in 5 a packet may end before them (3.4.2.2.1).
fn properties(content: &mut &[u8], version: Version) -> Option<Properties> {
    if version == Version::V3 || content.is_empty() {
        return Some(Properties::default());
    }
    let (length, width) = remaining_length(content).ok()??;
    content.advance(width);
    let own = content.get(..length)?;
    content.advance(length);
    Properties::read(own)
}

/// A number of one to four bytes (1.5.5), and how many; none if it is not all there.
pub(super) fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, MalformedError> {
    let mut length = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((length, at + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(MalformedError::Length) }
}

fn byte(content: &mut &[u8]) -> Option<u8> {
    content.try_get_u8().ok()
}

fn number(content: &mut &[u8]) -> Option<u16> {
    content.try_get_u16().ok().filter(|number| *number != 0)
}

/// How a client presents itself (3.1).
#[derive(Debug)]
pub(super) struct Connect<'a> {
    /// Its id.
    pub(super) client: &'a str,
    /// Whether the broker forgets what it kept for the client.
    pub(super) is_clean: bool,
    /// In seconds; the connection is dead after half as much again.
    pub(super) keep_alive: u16,
    /// What the broker publishes when the connection breaks: topic and payload.
    pub(super) will: Option<(&'a str, &'a [u8])>,
    /// The user.
    pub(super) username: Option<&'a str>,
    /// The password.
    pub(super) password: Option<&'a str>,
    /// How long the broker keeps what is not acknowledged, in seconds; 5 alone.
    pub(super) session_expiry: u32,
    /// How many messages may wait for our acknowledgement; 5 alone.
    pub(super) receive_maximum: u16,
    /// The largest packet that we take; 5 alone.
    pub(super) largest: u32,
}

/// A message to publish (3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Where.
    pub(super) topic: String,
    /// What.
    pub(super) payload: Vec<u8>,
    /// How surely.
    pub(super) qos: Qos,
    /// Whether the broker keeps it for those who subscribe later.
    pub(super) is_retained: bool,
    /// Whether it may have been sent before.
    pub(super) is_again: bool,
}

impl Message {
    /// The bytes of its packet.
    #[must_use]
    pub(super) fn size(&self, version: Version) -> usize {
        let id = usize::from(self.qos == Qos::AtLeastOnce) * 2;
        let properties = usize::from(version == Version::V5);
        let content = 2 + self.topic.len() + id + properties + self.payload.len();
        1 + width(content) + content
    }

    /// Writes its packet; the id counts with QoS 1 alone.
    pub(super) fn write(&self, version: Version, id: u16, out: &mut Vec<u8>) {
        let qos = u8::from(self.qos == Qos::AtLeastOnce);
        let flags = sum(&[(self.is_again && qos == 1, 8), (qos == 1, 2), (self.is_retained, 1)]);
        let mut head = Vec::with_capacity(self.topic.len() + 8);
        put_text(&mut head, &self.topic);
        if qos == 1 {
            head.extend(id.to_be_bytes());
        }
        if version == Version::V5 {
            head.push(0);
        }
        out.push((3 << 4) | flags);
        put_length(out, head.len() + self.payload.len());
        out.extend(head);
        out.extend_from_slice(&self.payload);
    }
}

impl Connect<'_> {
    /// Writes its packet.
    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) {
        let mut content = Vec::new();
        put_text(&mut content, "MQTT");
        content.push(if version == Version::V5 { 5 } else { 4 });
        let flags = [
            (self.username.is_some(), 0x80),
            (self.password.is_some(), 0x40),
            // It is sent with QoS 1.
            (self.will.is_some(), 0x0c),
            (self.is_clean, 0x02),
        ];
        content.push(sum(&flags));
        content.extend(self.keep_alive.to_be_bytes());
        if version == Version::V5 {
            let mut properties = Vec::new();
            properties.push(17);
            properties.extend(self.session_expiry.to_be_bytes());
            properties.push(33);
            properties.extend(self.receive_maximum.to_be_bytes());
            properties.push(39);
            properties.extend(self.largest.to_be_bytes());
            put_length(&mut content, properties.len());
            content.extend(properties);
        }
        put_text(&mut content, self.client);
        if let Some((topic, payload)) = self.will {
            if version == Version::V5 {
                content.push(0);
            }
            put_text(&mut content, topic);
            put_bytes(&mut content, payload);
        }
        for text in [self.username, self.password].into_iter().flatten() {
            put_text(&mut content, text);
        }
        put_packet(out, 1 << 4, &content);
    }
}

/// In the options of a subscription (3.8.3.1): nothing that this client published itself.
const NO_LOCAL: u8 = 1 << 2;

/// Writes a SUBSCRIBE (3.8) of topic filters.
pub(super) fn write_subscribe<'a>(
    version: Version,
    id: u16,
    filters: impl Iterator<Item = (&'a str, Qos)>,
    out: &mut Vec<u8>,
) {
    let mut content = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        content.push(0);
    }
    for (filter, qos) in filters {
        put_text(&mut content, filter);
        // What we publish must not come back as an event that is published again. A shared subscription cannot say so.
        let is_no_local = version == Version::V5 && !filter.starts_with("$share/");
        content.push(u8::from(qos == Qos::AtLeastOnce) | if is_no_local { NO_LOCAL } else { 0 });
    }
    put_packet(out, (8 << 4) | 2, &content);
}

/// Writes a PUBACK (3.4) that says that we have it.
pub(super) fn write_puback(id: u16, out: &mut Vec<u8>) {
    put_packet(out, 4 << 4, &id.to_be_bytes());
}

/// Writes a PINGREQ (3.12).
pub(super) fn write_pingreq(out: &mut Vec<u8>) {
    put_packet(out, 12 << 4, &[]);
}

/// Writes a DISCONNECT (3.14): the broker then sends no will.
pub(super) fn write_disconnect(out: &mut Vec<u8>) {
    put_packet(out, 14 << 4, &[]);
}

/// The flags that are set.
fn sum(flags: &[(bool, u8)]) -> u8 {
    flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum()
}

fn put_packet(out: &mut Vec<u8>, first: u8, content: &[u8]) {
    out.push(first);
    put_length(out, content.len());
    out.extend_from_slice(content);
}

fn put_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            return;
        }
    }
}

fn width(length: usize) -> usize {
    match length {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Whoever makes texts checks that they are no longer than a length can say.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

#[cfg(test)]
mod tests;
