//! What a broker's reason codes mean to us: of 3.1.1 those of CONNACK (3.2.2.3), of 5 all (2.4).

use super::packet::Version;

/// What an answer asks of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It is done.
    Done,
    /// Try again.
    Later,
    /// Not in this form.
    Refused,
    /// Somebody must change something.
    Denied,
}

/// Why a connection is not taken.
pub(super) fn of_connack(version: Version, code: u8) -> (Meaning, &'static str) {
    if version == Version::V5 {
        return match meaning(code) {
            // Whatever it finds wrong with us stays wrong.
            (Meaning::Refused, words) => (Meaning::Denied, words),
            known => known,
        };
    }
    match code {
        0 => (Meaning::Done, "accepted"),
        1 => (Meaning::Denied, "it does not speak MQTT 3.1.1"),
        2 => (Meaning::Denied, "it does not take the client id"),
        3 => (Meaning::Later, "it is not available"),
        4 => (Meaning::Denied, "bad user name or password"),
        5 => (Meaning::Denied, "not authorized"),
        _ => (Meaning::Later, "an unknown reason"),
    }
}

/// Why a subscription is not taken. 3.1.1 has one code for it (3.9.3).
pub(super) const fn of_suback(version: Version, code: u8) -> (Meaning, &'static str) {
    match version {
        Version::V3 => (Meaning::Denied, "it gives no reason; may this user read there?"),
        Version::V5 => match code {
            0x8f => (Meaning::Denied, "the topic filter is not taken"),
            0x9e | 0xa1 | 0xa2 => (Meaning::Denied, "it does not support such subscriptions"),
            _ => meaning(code),
        },
    }
}

/// What a broker of version 5 says.
pub(super) const fn meaning(code: u8) -> (Meaning, &'static str) {
    match code {
        0..0x80 => (Meaning::Done, "success"),
        0x80 => (Meaning::Later, "an error that it does not name"),
        0x81 => (Meaning::Refused, "malformed packet"),
        0x82 => (Meaning::Later, "protocol error"),
        0x83 => (Meaning::Later, "a reason of its own"),
        0x84 => (Meaning::Denied, "it does not speak MQTT 5"),
        0x85 => (Meaning::Denied, "it does not take the client id"),
        0x86 => (Meaning::Denied, "bad user name or password"),
        0x87 => (Meaning::Denied, "not authorized"),
        0x88 => (Meaning::Later, "the server is not available"),
        0x89 => (Meaning::Later, "the server is busy"),
        0x8a => (Meaning::Denied, "banned"),
        0x8b => (Meaning::Later, "the server shuts down"),
        0x8c => (Meaning::Denied, "bad authentication method"),
        0x8d => (Meaning::Later, "keep alive timeout"),
        0x8e => (Meaning::Denied, "another client took over with the same `client_id`"),
        0x90 => (Meaning::Refused, "the topic's name is not taken"),
        0x91 => (Meaning::Later, "packet identifier in use"),
        0x95 => (Meaning::Refused, "the packet is too large"),
        0x96 => (Meaning::Later, "too many messages a second"),
        0x97 => (Meaning::Later, "quota exceeded"),
        0x99 => (Meaning::Refused, "payload format invalid"),
        0x9a => (Meaning::Denied, "it keeps no messages (`retain`)"),
        0x9b => (Meaning::Denied, "it does not take this QoS"),
        0x9c | 0x9d => (Meaning::Denied, "use another server"),
        0x9f => (Meaning::Later, "too many connections a second"),
        _ => (Meaning::Later, "an unknown reason"),
    }
}
