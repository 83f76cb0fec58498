//! A record on the disk: its length, the beginning of its digest, then MessagePack. Whatever does not agree with its
//! digest was torn off.

use std::io::{self, Read};

use drover_proto::digest::Digest;
use serde::{Serialize, de::DeserializeOwned};

const HEADER: usize = 12;
/// Far above the largest return: a longer one is no record.
const LONGEST: usize = 64 << 20;

pub(super) fn bytes(record: &impl Serialize) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(record).expect("a record has a MessagePack form");
    let length = u32::try_from(body.len()).expect("a return is bounded by its output limit");
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&Digest::of(&body).as_bytes()[..8]);
    bytes.extend_from_slice(&body);
    bytes
}

/// The record at `at`, and where the next one begins; `None` where there is no whole one.
pub(super) fn read<R: DeserializeOwned>(content: &[u8], at: usize) -> Option<(R, usize)> {
    let rest = content.get(at..)?;
    let (header, rest) = rest.split_first_chunk::<HEADER>()?;
    let body = rest.get(..length(header)?)?;
    Some((open(header, body)?, at + HEADER + body.len()))
}

/// The record that a reader stands before.
pub(super) fn read_from<R: DeserializeOwned>(reader: &mut impl Read) -> io::Result<R> {
    let mut header = [0; HEADER];
    reader.read_exact(&mut header)?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut body = vec![0; length(&header).ok_or_else(invalid)?];
    reader.read_exact(&mut body)?;
    open(&header, &body).ok_or_else(invalid)
}

fn length(header: &[u8; HEADER]) -> Option<usize> {
    let (length, _) = header.split_first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length <= LONGEST)
}

fn open<R: DeserializeOwned>(header: &[u8; HEADER], body: &[u8]) -> Option<R> {
    if header[4..] != Digest::of(body).as_bytes()[..8] {
        return None;
    }
    rmp_serde::from_slice(body).ok()
}
