//! The frames of the local buses (docs/protocol.md §6): what programs on the device or the master push in, and what
//! subscribers get. Programs are not ours: whatever MessagePack they send becomes JSON's kinds of values or is refused.

mod plain;

use bytes::Bytes;
use serde_json::Value;
use thiserror::Error;

use crate::{
    codec::{self, EncodeError, MAX_VALUE_DEPTH},
    event::{Event, ParseTagError, Tag},
};
use plain::Plain;

/// The most data that one local event may carry, in bytes of MessagePack.
pub const MAX_DATA: usize = 256 << 10;

/// An event that a program sent: a tag and data.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalEvent {
    /// On a device it is relative: `door/open` becomes `drover/app/<id>/door/open`.
    pub tag: Tag,
    /// The payload; null where the second frame is missing or empty.
    pub data: Value,
}

/// Frames that are no local event. The program is at fault.
#[derive(Debug, Error)]
pub enum LocalEventError {
    /// Not a tag and its data.
    #[error("a local event is a tag and MessagePack data, two frames, not {0}")]
    Frames(usize),
    /// A first frame that is not UTF-8.
    #[error("the tag is not UTF-8")]
    Text(#[source] std::str::Utf8Error),
    /// A first frame that cannot be a tag.
    #[error("read the tag")]
    Tag(#[source] ParseTagError),
    /// Over [`MAX_DATA`].
    #[error("the data has {0} bytes, {MAX_DATA} are the most")]
    TooLong(usize),
    /// Not MessagePack, nested too deeply, or of a kind that JSON does not have.
    #[error("read the data, which is MessagePack such as `msgpack.packb(…)` makes")]
    Data(#[source] rmp_serde::decode::Error),
    /// More than one value.
    #[error("{0} bytes follow the data in its frame")]
    Trailing(usize),
}

/// Reads what a program sent.
///
/// Bytes become base64 text, as is the custom in JSON; a MessagePack timestamp becomes RFC 3339 text; keys that are
/// numbers or booleans become text. Other extension types, and floats that are no number, are refused.
///
/// # Errors
/// When it is not a local event.
pub fn decode<F: AsRef<[u8]>>(frames: &[F]) -> Result<LocalEvent, LocalEventError> {
    let (tag, data) = match frames {
        [tag] => (tag.as_ref(), &[][..]),
        [tag, data] => (tag.as_ref(), data.as_ref()),
        _ => return Err(LocalEventError::Frames(frames.len())),
    };
    let tag = std::str::from_utf8(tag).map_err(LocalEventError::Text)?;
    let tag = tag.parse().map_err(LocalEventError::Tag)?;
    Ok(LocalEvent { tag, data: decode_data(data)? })
}

fn decode_data(data: &[u8]) -> Result<Value, LocalEventError> {
    if data.is_empty() {
        return Ok(Value::Null);
    }
    if data.len() > MAX_DATA {
        return Err(LocalEventError::TooLong(data.len()));
    }
    let mut rest = data;
    let mut decoder = rmp_serde::Deserializer::new(&mut rest);
    decoder.set_max_depth(MAX_VALUE_DEPTH);
    let Plain(value) =
        serde::Deserialize::deserialize(&mut decoder).map_err(LocalEventError::Data)?;
    drop(decoder);
    if rest.is_empty() { Ok(value) } else { Err(LocalEventError::Trailing(rest.len())) }
}

/// The two frames that subscribers of the master's PUB socket get: the tag, and the event as a map with string keys.
///
/// # Errors
/// When a value has no MessagePack form.
pub fn publication(event: &Event) -> Result<[Bytes; 2], EncodeError> {
    Ok([Bytes::copy_from_slice(event.tag.as_str().as_bytes()), codec::encode(event)?])
}

#[cfg(test)]
mod tests;
