//! Properties of MQTT 5 packets (2.2.2): those that matter to us; the others are passed over by their types.

use bytes::Buf;

use super::packet::remaining_length;

/// What a broker says with a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// How many messages may wait for its acknowledgement.
    pub receive_maximum: Option<u16>,
    /// The largest packet that it takes.
    pub largest: Option<u32>,
    /// The highest QoS that it takes.
    pub maximum_qos: Option<u8>,
    /// Whether it keeps messages.
    pub retains: Option<bool>,
    /// The seconds that it wants between signs of life.
    pub keep_alive: Option<u16>,
    /// What it wants people to read.
    pub reason: Option<String>,
}

impl Properties {
    /// Reads all of them; none if they are malformed.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut properties = Self::default();
        let bytes = &mut bytes;
        while let Ok(property) = bytes.try_get_u8() {
            match property {
                33 => properties.receive_maximum = Some(bytes.try_get_u16().ok()?),
                39 => properties.largest = Some(bytes.try_get_u32().ok()?),
                36 => properties.maximum_qos = Some(bytes.try_get_u8().ok()?),
                37 => properties.retains = Some(bytes.try_get_u8().ok()? == 1),
                19 => properties.keep_alive = Some(bytes.try_get_u16().ok()?),
                31 => properties.reason = Some(read_text(bytes)?),
                1 | 23 | 25 | 40..=42 => drop(bytes.try_get_u8().ok()?),
                34 | 35 => drop(bytes.try_get_u16().ok()?),
                2 | 17 | 24 => drop(bytes.try_get_u32().ok()?),
                11 => {
                    let (_, width) = remaining_length(bytes).ok()??;
                    bytes.advance(width);
                }
                3 | 8 | 18 | 26 | 28 => drop(read_text(bytes)?),
                9 | 22 => {
                    let length = usize::from(bytes.try_get_u16().ok()?);
                    bytes.get(..length)?;
                    bytes.advance(length);
                }
                38 => {
                    read_text(bytes)?;
                    read_text(bytes)?;
                }
                _ => return None,
            }
        }
        Some(properties)
    }
}

/// A text with its length before it (1.5.4).
pub(super) fn read_text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::from(bytes.try_get_u16().ok()?);
    let text = std::str::from_utf8(bytes.get(..length)?).ok()?.to_owned();
    bytes.advance(length);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_of_every_type_are_passed_over() {
        let bytes = [
            1, 0, 2, 0, 0, 0, 1, 3, 0, 1, b'x', 9, 0, 2, 1, 2, 11, 0x80, 1, 34, 0, 1, 38, 0, 1,
            b'a', 0, 1, b'b', 36, 1, 37, 0, 19, 0, 30, 39, 0, 1, 0, 0,
        ];
        let read = Properties::read(&bytes).unwrap();
        assert_eq!((read.maximum_qos, read.retains), (Some(1), Some(false)));
        assert_eq!((read.keep_alive, read.largest), (Some(30), Some(65_536)));
        for cut in 1..bytes.len() {
            // No length makes it read past the end.
            let _ = Properties::read(&bytes[..cut]);
        }
        assert_eq!(Properties::read(&[99]), None);
        assert_eq!(Properties::read(&[9, 0, 5, 1]), None);
    }
}
