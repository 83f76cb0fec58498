//! The last returns of jobs that are not journalled, so that a repetition is answered without running again. Bounded by
//! count and by bytes, and kept as they travel: as values they would take several times the room. One that has been
//! forgotten, or that the agent's end took along, runs again, which it may.

use std::collections::VecDeque;

use bytes::Bytes;
use drover_proto::{codec, id::JobId, job::Return};

const MOST: usize = 64;
const MOST_BYTES: usize = 512 << 10;

#[derive(Debug, Default)]
pub(super) struct Memory {
    returns: VecDeque<(JobId, Bytes)>,
    bytes: usize,
}

impl Memory {
    pub(super) fn recall(&self, jid: &JobId) -> Option<Return> {
        let (_, encoded) = self.returns.iter().find(|(known, _)| known == jid)?;
        codec::decode(encoded).ok()
    }

    /// The newest is kept whatever its size; returns are bounded by what a message carries.
    pub(super) fn keep(&mut self, returned: &Return) {
        let Ok(encoded) = codec::encode(returned) else { return };
        self.bytes += encoded.len();
        self.returns.push_back((returned.jid.clone(), encoded));
        while self.returns.len() > MOST || (self.bytes > MOST_BYTES && self.returns.len() > 1) {
            if let Some((_, oldest)) = self.returns.pop_front() {
                self.bytes -= oldest.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn returned(number: usize, length: usize) -> Return {
        let jid = format!("2026112302370500{number:04}").parse().unwrap();
        Return { jid, fun: "test.echo".into(), value: json!("x".repeat(length)), retcode: 0 }
    }

    #[test]
    fn returns_are_recalled_until_there_are_too_many() {
        let mut memory = Memory::default();
        for number in 0..=MOST {
            memory.keep(&returned(number, 10));
        }
        assert_eq!(memory.recall(&returned(0, 10).jid), None);
        assert_eq!(memory.recall(&returned(1, 10).jid), Some(returned(1, 10)));
    }

    #[test]
    fn a_large_return_pushes_the_others_out_and_is_kept() {
        let mut memory = Memory::default();
        memory.keep(&returned(1, 10));
        memory.keep(&returned(2, MOST_BYTES));
        assert_eq!(memory.recall(&returned(1, 10).jid), None);
        assert!(memory.recall(&returned(2, 0).jid).is_some());
        memory.keep(&returned(3, 10));
        assert!(memory.bytes < MOST_BYTES);
    }
}
