//! The layout of the store's keys: one letter for the ledger, then what sorts as the ledger is read.
//! Minion ids have no NUL, so NUL ends one.

use drover_pki::{Fingerprint, KeyDigest, MinionId, certificate::SerialNumber};
use drover_proto::id::JobId;

pub(super) const FORMAT: &[u8] = b"!format";
/// Followed by the first seq of a gap in the log.
pub(super) const GAP: &[u8] = b"!gap";

/// A ledger's letter.
pub(super) mod ledger {
    pub(in crate::store) const ACTIVE_JOB: u8 = b'a';
    pub(in crate::store) const BRIDGE: u8 = b'b';
    pub(in crate::store) const CURSOR: u8 = b'c';
    pub(in crate::store) const DEAD_LETTER: u8 = b'd';
    pub(in crate::store) const EVENT: u8 = b'e';
    pub(in crate::store) const FACTORY_CRL: u8 = b'f';
    pub(in crate::store) const PRESENCE: u8 = b'h';
    pub(in crate::store) const JOB: u8 = b'j';
    pub(in crate::store) const CRL: u8 = b'l';
    pub(in crate::store) const MANIFEST: u8 = b'm';
    pub(in crate::store) const OUTBOX: u8 = b'o';
    pub(in crate::store) const PENDING: u8 = b'p';
    pub(in crate::store) const REGISTRY: u8 = b'r';
    pub(in crate::store) const JOB_ENTRY: u8 = b's';
    pub(in crate::store) const STATION: u8 = b't';
    pub(in crate::store) const SIGHTING: u8 = b'v';
    pub(in crate::store) const EXPIRY: u8 = b'w';
    pub(in crate::store) const REVOCATION: u8 = b'x';
}

/// The first key after a whole ledger.
pub(super) const fn end_of(ledger: u8) -> [u8; 1] {
    [ledger + 1]
}

pub(super) fn gap(first: u64) -> Vec<u8> {
    [GAP, &first.to_be_bytes()].concat()
}

pub(super) fn gap_first(key: &[u8]) -> u64 {
    key.get(GAP.len()..).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// The first key after all gaps.
pub(super) fn end_of_gaps() -> Vec<u8> {
    [GAP, &[0xff; 9]].concat()
}

pub(super) fn named(ledger: u8, name: &str) -> Vec<u8> {
    [&[ledger], name.as_bytes()].concat()
}

pub(super) fn event(seq: u64) -> Vec<u8> {
    [&[ledger::EVENT][..], &seq.to_be_bytes()].concat()
}

pub(super) fn event_seq(key: &[u8]) -> u64 {
    key.get(1..9).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

pub(super) fn job_entry(jid: &JobId, minion: &MinionId) -> Vec<u8> {
    [&[ledger::JOB_ENTRY], jid.as_str().as_bytes(), &[0], minion.as_str().as_bytes()].concat()
}

pub(super) fn job_entries(jid: &JobId) -> (Vec<u8>, Vec<u8>) {
    let from = named(ledger::JOB_ENTRY, jid.as_str());
    ([&from[..], &[0]].concat(), [&from[..], &[1]].concat())
}

/// The name after the last separator: the minion of a job's entry.
pub(super) fn last_part(key: &[u8]) -> &str {
    let part = key.rsplit(|&byte| byte == 0).next().unwrap_or_default();
    std::str::from_utf8(part).unwrap_or_default()
}

pub(super) fn pending(minion: &MinionId, jid: &JobId) -> Vec<u8> {
    [&[ledger::PENDING], minion.as_str().as_bytes(), &[0], jid.as_str().as_bytes()].concat()
}

pub(super) fn outbox(minion: &MinionId) -> Vec<u8> {
    named(ledger::OUTBOX, minion.as_str())
}

pub(super) fn dead_letter(bridge: &str, seq: u64) -> Vec<u8> {
    [&[ledger::DEAD_LETTER], bridge.as_bytes(), &[0], &seq.to_be_bytes()].concat()
}

/// Which event the letter of a key is of.
pub(super) fn letter_seq(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

pub(super) fn dead_letters(bridge: &str) -> (Vec<u8>, Vec<u8>) {
    let from = named(ledger::DEAD_LETTER, bridge);
    ([&from[..], &[0]].concat(), [&from[..], &[1]].concat())
}

pub(super) fn expiry(authority: &Fingerprint) -> Vec<u8> {
    [&[ledger::EXPIRY], &authority.as_bytes()[..]].concat()
}

pub(super) fn crl(issuer: &KeyDigest) -> Vec<u8> {
    [&[ledger::CRL], &issuer.as_bytes()[..]].concat()
}

/// Issuers' digests have one length, so a serial number needs no separator before it.
pub(super) fn revocation(issuer: &KeyDigest, serial: &SerialNumber) -> Vec<u8> {
    [&[ledger::REVOCATION], &issuer.as_bytes()[..], serial.as_bytes()].concat()
}

pub(super) fn revocations(issuer: &KeyDigest) -> (Vec<u8>, Vec<u8>) {
    let from = [&[ledger::REVOCATION], &issuer.as_bytes()[..]].concat();
    // Serial numbers have 20 bytes at most, so none sorts after this.
    let until = [&from[..], &[0xff; 21]].concat();
    (from, until)
}

/// A station made again under its name has another key.
pub(super) fn factory_crl(station: &str, issuer: &KeyDigest) -> Vec<u8> {
    [&[ledger::FACTORY_CRL], station.as_bytes(), &[0], &issuer.as_bytes()[..]].concat()
}
