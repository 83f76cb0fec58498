//! The last returns of jobs that are not journalled, so that a repetition is answered without running again. Bounded by
//! count and by bytes; one that has been forgotten, or that the agent's end took along, runs again, which it may.

use std::collections::VecDeque;

use drover_proto::{id::JobId, job::Return};

const MOST: usize = 64;
const MOST_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Memory {
    returns: VecDeque<(Return, usize)>,
    bytes: usize,
}

impl Memory {
    pub(super) fn recall(&self, jid: &JobId) -> Option<Return> {
        self.returns.iter().find(|(known, _)| known.jid == *jid).map(|(known, _)| known.clone())
    }

    pub(super) fn keep(&mut self, returned: &Return) {
        // As text: close enough to what it takes.
        let size = returned.value.to_string().len();
        if size > MOST_BYTES {
            return;
        }
        self.returns.push_back((returned.clone(), size));
        self.bytes += size;
        while self.returns.len() > MOST || self.bytes > MOST_BYTES {
            match self.returns.pop_front() {
                Some((_, size)) => self.bytes -= size,
                None => return,
            }
        }
    }
}
