//! The frames of Lumberjack, version 2, as Beats speak it: what goes out (`W` window size, `J` a document, `C` frames
//! compressed by zlib), and the one that comes back (`A` acknowledged up to and including). Pure.

use std::io::Write;

use flate2::{Compression, write::ZlibEncoder};
use thiserror::Error;

const VERSION: u8 = b'2';
/// Version, kind and number.
const ACK: usize = 6;

/// A window: its size, and its documents numbered from 1. `level` is zlib's, 0 for none.
pub(super) fn encode(documents: &[&[u8]], level: u32) -> Vec<u8> {
    let weight: usize = documents.iter().map(|document| document.len() + 10).sum();
    let mut frames = Vec::with_capacity(weight);
    for (number, document) in (1..).zip(documents) {
        header(&mut frames, b'J', number);
        frames.extend_from_slice(&length(document.len()).to_be_bytes());
        frames.extend_from_slice(document);
    }
    let mut window = Vec::with_capacity(if level == 0 { weight + ACK } else { weight / 4 });
    header(&mut window, b'W', length(documents.len()));
    if level == 0 {
        window.append(&mut frames);
        return window;
    }
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(weight / 4), Compression::new(level));
    let written = encoder.write_all(&frames).and_then(|()| encoder.finish());
    let compressed = written.expect("a vector takes what is written to it");
    header(&mut window, b'C', length(compressed.len()));
    window.extend_from_slice(&compressed);
    window
}

fn header(to: &mut Vec<u8>, kind: u8, number: u32) {
    to.extend_from_slice(&[VERSION, kind]);
    to.extend_from_slice(&number.to_be_bytes());
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("a batch is far below 4 GiB")
}

/// Why a receiver's answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AckError {
    /// It speaks something else, such as HTTP or version 1.
    #[error(
        "the receiver answers 0x{0:02x}{1:02x}, which is no acknowledgement of Lumberjack, version 2"
    )]
    Foreign(u8, u8),
    /// It has more than it was sent.
    #[error("the receiver acknowledges {acked} events of {sent}")]
    Beyond {
        /// What it says.
        acked: u32,
        /// What it was sent.
        sent: u32,
    },
}

/// The acknowledgements on one connection, put together from bytes as they come, one window after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acks {
    sent: u32,
    acked: u32,
    frame: [u8; ACK],
    filled: usize,
}

impl Acks {
    /// Begins a window of so many documents. The bytes go on where they were: a sign of life may be halfway here.
    pub fn begin(&mut self, documents: usize) {
        self.sent = length(documents);
        self.acked = 0;
    }

    /// Takes bytes of the receiver. A number that is none forward, such as 0, says only that it lives.
    ///
    /// # Errors
    /// When they are no acknowledgement, or one of what was never sent. The connection is of no more use.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), AckError> {
        for byte in bytes {
            self.frame[self.filled] = *byte;
            self.filled += 1;
            let [version, kind, number @ ..] = self.frame;
            // Told at once: a server of another protocol may never send six bytes.
            if self.filled == 2 && (version, kind) != (VERSION, b'A') {
                return Err(AckError::Foreign(version, kind));
            }
            if self.filled == ACK {
                self.filled = 0;
                self.handle_ack(u32::from_be_bytes(number))?;
            }
        }
        Ok(())
    }

    fn handle_ack(&mut self, acked: u32) -> Result<(), AckError> {
        if acked > self.sent {
            return Err(AckError::Beyond { acked, sent: self.sent });
        }
        self.acked = self.acked.max(acked);
        Ok(())
    }

    /// How many documents the receiver has, from the first.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.acked as usize
    }

    /// Whether it has all.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.acked == self.sent
    }
}

/// What a receiver makes of a window, for tests: the numbers and documents.
#[cfg(test)]
pub(super) fn decode(window: &[u8]) -> (u32, Vec<(u32, Vec<u8>)>) {
    use std::io::Read;

    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        bytes.split_off(..count).expect("a whole frame")
    }
    fn number(bytes: &mut &[u8]) -> u32 {
        u32::from_be_bytes(take(bytes, 4).try_into().unwrap())
    }
    let mut plain = Vec::new();
    let mut bytes = window;
    assert_eq!(take(&mut bytes, 2), b"2W");
    let size = number(&mut bytes);
    if bytes.starts_with(b"2C") {
        take(&mut bytes, 2);
        let length = number(&mut bytes);
        assert_eq!(bytes.len(), length as usize);
        flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        bytes = &plain;
    }
    let mut documents = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(take(&mut bytes, 2), b"2J");
        let (seq, length) = (number(&mut bytes), number(&mut bytes));
        documents.push((seq, take(&mut bytes, length as usize).to_vec()));
    }
    (size, documents)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(documents: usize) -> Acks {
        let mut acks = Acks::default();
        acks.begin(documents);
        acks
    }

    fn ack(number: u32) -> Vec<u8> {
        let mut frame = Vec::new();
        header(&mut frame, b'A', number);
        frame
    }

    #[test]
    fn a_window_is_the_bytes_that_the_protocol_says() {
        let window = encode(&[b"{}", b"[1]"], 0);
        let expected = b"2W\0\0\0\x022J\0\0\0\x01\0\0\0\x02{}2J\0\0\0\x02\0\0\0\x03[1]";
        assert_eq!(window, expected);
        let compressed = encode(&[b"{}", b"[1]"], 3);
        assert_eq!(compressed[..8], *b"2W\0\0\0\x022C");
        assert_eq!(decode(&compressed), decode(expected));
    }

    #[test]
    fn acknowledgements_come_in_pieces_and_in_parts() {
        let mut acks = window(10);
        let mut bytes = ack(0);
        bytes.extend(ack(4));
        // An older number after a newer one is a sign of life.
        bytes.extend(ack(2));
        for byte in bytes {
            acks.handle_bytes(&[byte]).unwrap();
        }
        assert_eq!((acks.acked(), acks.is_complete()), (4, false));
        acks.handle_bytes(&ack(10)).unwrap();
        assert_eq!((acks.acked(), acks.is_complete()), (10, true));
    }

    #[test]
    fn a_sign_of_life_may_lie_across_two_windows() {
        let mut acks = window(2);
        acks.handle_bytes(&[ack(2).as_slice(), b"2A\0"].concat()).unwrap();
        assert!(acks.is_complete());
        acks.begin(3);
        acks.handle_bytes(&[b"\0\0\0".as_slice(), &ack(3)].concat()).unwrap();
        assert!(acks.is_complete());
    }

    #[test]
    fn what_was_never_sent_cannot_be_acknowledged() {
        let mut acks = window(10);
        let beyond = acks.handle_bytes(&ack(11)).unwrap_err();
        assert_eq!(beyond.to_string(), "the receiver acknowledges 11 events of 10");
    }

    #[test]
    fn a_server_of_another_protocol_is_known_by_its_first_bytes() {
        let http = window(1).handle_bytes(b"HTTP/1.1 400").unwrap_err();
        assert_eq!(http, AckError::Foreign(b'H', b'T'));
        let old = window(1).handle_bytes(b"1A\0\0\0\x01").unwrap_err();
        assert_eq!(old, AckError::Foreign(b'1', b'A'));
        let data = window(1).handle_bytes(b"2J").unwrap_err();
        assert_eq!(data, AckError::Foreign(b'2', b'J'));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            documents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20),
            level in 0u32..=9,
        ) {
            let bodies: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
            let (size, decoded) = decode(&encode(&bodies, level));
            prop_assert_eq!(size as usize, documents.len());
            let numbered: Vec<_> = (1..).zip(documents).collect();
            prop_assert_eq!(decoded, numbered);
        }

        #[test]
        fn no_answer_acknowledges_more_than_was_sent(bytes: Vec<u8>, sent in 1usize..1000) {
            let mut acks = window(sent);
            let _ = acks.handle_bytes(&bytes);
            prop_assert!(acks.acked() <= sent);
        }
    }
}
