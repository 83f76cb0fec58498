//! MessagePack as JSON's kinds of values, in one pass and without trusting any length that the bytes claim.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// A value whose kinds are JSON's.
pub(super) struct Plain(pub(super) Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Self)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("infinity and NaN have no form in JSON; send null or text"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Value, E> {
        Ok(BASE64_STANDARD.encode(value).into())
    }

    /// How the decoder shows an extension type.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, extension: D) -> Result<Value, D::Error> {
        let Extension(at) = Extension::deserialize(extension)?;
        Ok(at.to_string().into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Plain(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((Plain(key), Plain(value))) = entries.next_entry()? {
            let key = match key {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => key.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(A::Error::custom("a map's key is text, a number or a boolean"));
                }
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// The one extension type that MessagePack itself defines: a timestamp, type -1, in its three lengths.
struct Extension(Timestamp);

impl<'de> Deserialize<'de> for Extension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExtensionVisitor)
    }
}

struct ExtensionVisitor;

impl<'de> Visitor<'de> for ExtensionVisitor {
    type Value = Extension;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MessagePack timestamp")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Extension, A::Error> {
        let kind: Option<i8> = parts.next_element()?;
        if kind != Some(-1) {
            let kind = kind.unwrap_or_default();
            return Err(A::Error::custom(format_args!(
                "extension type {kind} is unknown; send text, numbers, lists and maps"
            )));
        }
        let Payload(payload) =
            parts.next_element()?.ok_or_else(|| A::Error::custom("an empty timestamp"))?;
        timestamp(&payload)
            .map(Extension)
            .ok_or_else(|| A::Error::custom("a timestamp of no known form or out of range"))
    }
}

fn timestamp(payload: &[u8]) -> Option<Timestamp> {
    if let Ok(seconds) = <[u8; 4]>::try_from(payload) {
        return Timestamp::from_second(u32::from_be_bytes(seconds).into()).ok();
    }
    if let Ok(both) = <[u8; 8]>::try_from(payload) {
        let both = u64::from_be_bytes(both);
        let (nanoseconds, seconds) = (both >> 34, both & ((1 << 34) - 1));
        return Timestamp::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?).ok();
    }
    let (nanoseconds, seconds) = payload.split_first_chunk::<4>()?;
    let seconds = i64::from_be_bytes(seconds.try_into().ok()?);
    Timestamp::new(seconds, u32::from_be_bytes(*nanoseconds).try_into().ok()?).ok()
}

struct Payload(Vec<u8>);

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(PayloadVisitor).map(Self)
    }
}

struct PayloadVisitor;

impl Visitor<'_> for PayloadVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Vec<u8>, E> {
        Ok(value.to_vec())
    }
}
