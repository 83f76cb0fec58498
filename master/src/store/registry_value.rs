//! A registry entry's value: its revision, which the writer compares, then the registry's own bytes.

use super::Revision;

const LENGTH: usize = 8;

pub(super) fn join(revision: Revision, entry: &[u8]) -> Vec<u8> {
    [&revision.0.to_be_bytes(), entry].concat()
}

pub(super) fn split(value: &[u8]) -> (Revision, &[u8]) {
    let (number, entry) = value.split_at(value.len().min(LENGTH));
    (Revision(number.try_into().map_or(0, u64::from_be_bytes)), entry)
}

pub(super) fn revision(value: &[u8]) -> Option<Revision> {
    (value.len() >= LENGTH).then(|| split(value).0)
}
