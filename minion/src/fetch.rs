//! What the agent asks its master for: file lists, file contents in chunks, pillar. A machine: the agent passes its
//! requests to the session and the session's answers back. What was under way when a connection ended goes on with the
//! next one, where it stopped.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use drover_proto::{
    digest::Digest,
    message::{BlobChunk, BlobRequest, PillarRequest, TreeRequest},
    session::minion::{Answer, Request},
};
use serde_json::{Map, Value};
use thiserror::Error;

/// A chunk of file data, in bytes.
const CHUNK: u64 = 256 << 10;
/// Chunks of one file that are under way at a time.
const WINDOW: usize = 4;
/// The largest file that is taken; it is held in memory until it is whole.
const LARGEST: u64 = 64 << 20;
/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The file list of an environment: where it is to be found.
    Tree {
        /// The environment.
        saltenv: String,
    },
    /// A content.
    Blob {
        /// Of the whole.
        digest: Digest,
        /// In bytes.
        size: u64,
    },
    /// The pillar.
    Pillar {
        /// The environment.
        saltenv: String,
    },
}

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Fetched {
    /// The digest and size of a file list.
    Tree(Digest, u64),
    /// A content that has the digest which was asked for.
    Blob(Vec<u8>),
    /// The pillar.
    Pillar(Map<String, Value>),
}

/// Why nothing came.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FetchError {
    /// There is no connection.
    #[error("there is no connection to the master")]
    Offline,
    /// Nothing came for a minute.
    #[error("the master has sent nothing of it for {} s", PATIENCE.as_secs())]
    TimedOut,
    /// The master says that it cannot.
    #[error("the master says: {0}")]
    Refused(String),
    /// More than a device should hold in memory.
    #[error("a file of {0} bytes is larger than the {LARGEST} that a minion takes")]
    TooLarge(u64),
    /// The answer is not one to the question.
    #[error("the master answered with something else than was asked for")]
    Mismatch,
}

/// Names a fetch that was begun.
pub type FetchId = u64;

/// All fetches of one agent.
#[derive(Debug, Default)]
pub struct Fetches {
    connected: bool,
    last_id: FetchId,
    last_request: u64,
    wants: BTreeMap<FetchId, Want>,
    /// Which fetch, and which chunk of it, a request is for.
    requests: BTreeMap<u64, (FetchId, u64)>,
    out: VecDeque<Request>,
    done: VecDeque<(FetchId, Result<Fetched, FetchError>)>,
}

#[derive(Debug)]
struct Want {
    wanted: Wanted,
    give_up_at: Instant,
    /// Chunk offsets that nobody was asked for yet, in order; one of 0 for what is no blob.
    todo: VecDeque<u64>,
    under_way: usize,
    missing: u64,
    content: Vec<u8>,
}

impl Fetches {
    /// Begins to fetch something.
    pub fn start(&mut self, wanted: Wanted, now: Instant) -> FetchId {
        self.last_id += 1;
        let id = self.last_id;
        let size = match &wanted {
            Wanted::Blob { size, .. } => *size,
            Wanted::Tree { .. } | Wanted::Pillar { .. } => 0,
        };
        if !self.connected {
            self.done.push_back((id, Err(FetchError::Offline)));
        } else if size > LARGEST {
            self.done.push_back((id, Err(FetchError::TooLarge(size))));
        } else {
            let todo = (0..size.div_ceil(CHUNK).max(1)).map(|chunk| chunk * CHUNK).collect();
            let want = Want {
                wanted,
                give_up_at: now + PATIENCE,
                todo,
                under_way: 0,
                missing: size,
                content: Vec::new(),
            };
            self.wants.insert(id, want);
            self.ask(id);
        }
        id
    }

    /// The session was welcomed: asks again for what had not come.
    pub fn handle_connected(&mut self, now: Instant) {
        self.connected = true;
        for want in self.wants.values_mut() {
            want.give_up_at = now + PATIENCE;
        }
        for id in self.wants.keys().copied().collect::<Vec<_>>() {
            self.ask(id);
        }
    }

    /// The session ended, and with it everything that it was asked for.
    pub fn handle_disconnected(&mut self) {
        self.connected = false;
        self.out.clear();
        for (_, (id, offset)) in std::mem::take(&mut self.requests).into_iter().rev() {
            if let Some(want) = self.wants.get_mut(&id) {
                want.todo.push_front(offset);
                want.under_way = 0;
            }
        }
    }

    /// An answer from the master. One that nobody waits for any more is ignored.
    pub fn handle_answer(&mut self, answer: Answer, now: Instant) {
        let request = match &answer {
            Answer::Tree(tree) => tree.request,
            Answer::BlobChunk(chunk) => chunk.request,
            Answer::Pillar(pillar) => pillar.request,
            Answer::Certificate(certificate) => certificate.request,
            Answer::Failed(failed) => failed.request,
        };
        let Some((id, offset)) = self.requests.remove(&request) else { return };
        let Some(want) = self.wants.get_mut(&id) else { return };
        want.under_way -= 1;
        want.give_up_at = now + PATIENCE;
        let ended = match (answer, &want.wanted) {
            (Answer::Failed(failed), _) => Some(Err(FetchError::Refused(failed.reason))),
            (Answer::Tree(tree), Wanted::Tree { .. }) => {
                Some(Ok(Fetched::Tree(tree.digest, tree.size)))
            }
            (Answer::Pillar(pillar), Wanted::Pillar { .. }) => {
                Some(Ok(Fetched::Pillar(pillar.pillar)))
            }
            (Answer::BlobChunk(chunk), Wanted::Blob { digest, size }) => {
                let (digest, size) = (*digest, *size);
                want.take_chunk(&chunk, offset, digest, size).transpose()
            }
            (
                Answer::Tree(_) | Answer::Pillar(_) | Answer::BlobChunk(_) | Answer::Certificate(_),
                _,
            ) => Some(Err(FetchError::Mismatch)),
        };
        match ended {
            Some(result) => self.finish(id, result),
            None => self.ask(id),
        }
    }

    /// Gives up what has waited too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late = |want: &Want| want.give_up_at <= now;
        let ids: Vec<_> = self.wants.iter().filter(|(_, w)| late(w)).map(|(id, _)| *id).collect();
        for id in ids {
            self.finish(id, Err(FetchError::TimedOut));
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wants.values().map(|want| want.give_up_at).min()
    }

    /// The next request for the session.
    pub fn poll_transmit(&mut self) -> Option<Request> {
        self.out.pop_front()
    }

    /// The next fetch that has ended.
    pub fn poll_event(&mut self) -> Option<(FetchId, Result<Fetched, FetchError>)> {
        self.done.pop_front()
    }

    fn finish(&mut self, id: FetchId, result: Result<Fetched, FetchError>) {
        self.wants.remove(&id);
        // Answers to what is still under way find nobody.
        self.done.push_back((id, result));
    }

    fn ask(&mut self, id: FetchId) {
        let Some(want) = self.wants.get_mut(&id) else { return };
        while want.under_way < WINDOW
            && let Some(offset) = want.todo.pop_front()
        {
            want.under_way += 1;
            self.last_request += 1;
            let request = self.last_request;
            self.requests.insert(request, (id, offset));
            self.out.push_back(match &want.wanted {
                Wanted::Tree { saltenv } => {
                    Request::Tree(TreeRequest { request, saltenv: saltenv.clone() })
                }
                Wanted::Pillar { saltenv } => {
                    Request::Pillar(PillarRequest { request, saltenv: saltenv.clone() })
                }
                Wanted::Blob { digest, .. } => {
                    Request::Blob(BlobRequest { request, digest: *digest, offset })
                }
            });
        }
    }
}

impl Want {
    /// Puts a chunk in its place; gives the content once it is whole.
    fn take_chunk(
        &mut self,
        chunk: &BlobChunk,
        offset: u64,
        digest: Digest,
        size: u64,
    ) -> Result<Option<Fetched>, FetchError> {
        let length = (size - offset).min(CHUNK);
        if chunk.offset != offset || chunk.size != size || chunk.data.len() as u64 != length {
            return Err(FetchError::Mismatch);
        }
        // invariant: `size` is at most LARGEST, which a `usize` of any platform holds.
        self.content.resize(size as usize, 0);
        self.content[offset as usize..][..chunk.data.len()].copy_from_slice(&chunk.data);
        self.missing -= length;
        if self.missing > 0 {
            return Ok(None);
        }
        let content = std::mem::take(&mut self.content);
        if Digest::of(&content) != digest {
            return Err(FetchError::Mismatch);
        }
        Ok(Some(Fetched::Blob(content)))
    }
}

#[cfg(test)]
mod tests;
