//! Bytes to messages and back. Everything here reads bytes of an authenticated but possibly hostile peer: lengths are
//! bounded by the frame guard, nesting by [`MAX_DEPTH`], and nothing panics.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use thiserror::Error;

/// The deepest nesting of maps and lists that is read.
pub const MAX_DEPTH: usize = 64;

/// The deepest nesting of a value within a message: what is left of [`MAX_DEPTH`] for the message around it.
pub const MAX_VALUE_DEPTH: usize = MAX_DEPTH - 8;

/// The longest frame on the wire, in bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// A message that cannot be written: a value in it has no MessagePack form.
#[derive(Debug, Error)]
#[error("encode a message")]
pub struct EncodeError(#[source] rmp_serde::encode::Error);

/// Bytes that are no message. The peer is at fault, or speaks a version that we do not.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Not MessagePack, or not of a known shape.
    #[error("decode a message of {length} bytes")]
    Malformed {
        /// The frame's length.
        length: usize,
        /// What the decoder says.
        source: rmp_serde::decode::Error,
    },
    /// More bytes than one message.
    #[error("{0} bytes follow the message in its frame")]
    Trailing(usize),
}

/// The frame of a message, maps with named fields.
///
/// # Errors
/// When a value has no MessagePack form.
pub fn encode<M: Serialize>(message: &M) -> Result<Bytes, EncodeError> {
    let frame = rmp_serde::to_vec_named(message).map_err(EncodeError)?;
    // A frame may wait for long in a queue that counts its length; it keeps no spare room.
    Ok(Bytes::from(frame.into_boxed_slice()))
}

/// Whether a value's nesting leaves the message around it readable.
#[must_use]
pub fn is_shallow(value: &Value) -> bool {
    fn within(value: &Value, levels: usize) -> bool {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
            Value::Array(items) => levels > 0 && items.iter().all(|item| within(item, levels - 1)),
            Value::Object(fields) => {
                levels > 0 && fields.values().all(|field| within(field, levels - 1))
            }
        }
    }
    within(value, MAX_VALUE_DEPTH)
}

/// The message in a frame.
///
/// # Errors
/// When the bytes are not exactly one message of this kind.
pub fn decode<M: DeserializeOwned>(frame: &[u8]) -> Result<M, DecodeError> {
    let mut rest = frame;
    let mut decoder = rmp_serde::Deserializer::new(&mut rest);
    decoder.set_max_depth(MAX_DEPTH);
    let message = M::deserialize(&mut decoder)
        .map_err(|source| DecodeError::Malformed { length: frame.len(), source })?;
    drop(decoder);
    if rest.is_empty() { Ok(message) } else { Err(DecodeError::Trailing(rest.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{BlobChunk, FromMaster, FromMinion, Heartbeat};

    fn heartbeat() -> FromMinion {
        FromMinion::Heartbeat(Heartbeat { at: "2026-11-23T02:37:05Z".parse().unwrap() })
    }

    #[test]
    fn a_message_is_a_map_with_its_name_and_named_fields() {
        let frame = encode(&heartbeat()).unwrap();
        let shown: rmpv::Value = rmpv::decode::read_value(&mut &frame[..]).unwrap();
        assert_eq!(shown.to_string(), r#"{"heartbeat": {"at": "2026-11-23T02:37:05Z"}}"#);
        assert_eq!(decode::<FromMinion>(&frame).unwrap(), heartbeat());
    }

    #[test]
    fn file_data_travels_as_binary() {
        let data = Bytes::from_static(&[0xff; 300]);
        let chunk = FromMaster::BlobChunk(BlobChunk { request: 1, offset: 0, size: 300, data });
        let frame = encode(&chunk).unwrap();
        assert!(frame.len() < 360, "{} bytes", frame.len());
        assert_eq!(decode::<FromMaster>(&frame).unwrap(), chunk);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let mut later = Vec::new();
        rmpv::encode::write_value(
            &mut later,
            &rmpv::Value::Map(vec![(
                "heartbeat".into(),
                rmpv::Value::Map(vec![
                    ("at".into(), "2026-11-23T02:37:05Z".into()),
                    ("mood".into(), "good".into()),
                ]),
            )]),
        )
        .unwrap();
        assert_eq!(decode::<FromMinion>(&later).unwrap(), heartbeat());
    }

    #[test]
    fn trailing_bytes_and_deep_nesting_are_refused() {
        let mut frame = encode(&heartbeat()).unwrap().to_vec();
        frame.push(0xc0);
        assert!(matches!(decode::<FromMinion>(&frame), Err(DecodeError::Trailing(1))));
        assert!(decode::<serde_json::Value>(&[0x91; 100_000]).is_err());
    }
}
