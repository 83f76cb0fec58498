//! What a minion was sent and has not taken. ROUTER's queue would hold a hundred thousand messages of each minion, and
//! make the hub wait for the one whose queue is full; so a minion that asks on and on, and reads nothing, is let go of
//! long before.

use std::collections::VecDeque;

use drover_proto::{
    session::{REQUEST_WINDOW, master::Close},
    tunnel::Taken,
};

/// Messages of any kind. Each but a job is an answer to something that the minion sent, and none is large but a job,
/// which has a window of its own, and a reply.
const MESSAGES: u64 = 4_096;

/// The backlog of one connection.
#[derive(Debug)]
pub(super) struct Backlog {
    taken: Taken,
    sent: u64,
    /// The first numbers that replies can have among the messages, of those that are not taken.
    replies: VecDeque<u64>,
}

impl Backlog {
    pub(super) const fn new(taken: Taken) -> Self {
        Self { taken, sent: 0, replies: VecDeque::new() }
    }

    /// A reply is handed to the session; it is sent with what goes next.
    pub(super) fn handle_reply(&mut self) {
        let taken = self.taken.messages();
        while self.replies.pop_front_if(|number| *number <= taken).is_some() {}
        let unsent = self.replies.iter().filter(|number| **number > self.sent).count() as u64;
        self.replies.push_back(self.sent + unsent + 1);
    }

    /// So many messages are on their way.
    pub(super) const fn handle_sent(&mut self, messages: u64) {
        self.sent += messages;
    }

    /// Why the minion has to go, if it has. One that waits for its answers has a window of them under way at most.
    pub(super) fn excess(&mut self) -> Option<Close> {
        let taken = self.taken.messages();
        while self.replies.pop_front_if(|number| *number <= taken).is_some() {}
        if self.replies.is_empty() {
            // An idle connection gives its memory back.
            self.replies = VecDeque::new();
        }
        let is_over =
            self.replies.len() > REQUEST_WINDOW || self.sent - taken.min(self.sent) > MESSAGES;
        is_over.then_some(Close::Backlog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minion_that_asks_on_without_reading_is_let_go() {
        let mut backlog = Backlog::new(Taken::default());
        for _ in 0..REQUEST_WINDOW {
            assert!(backlog.excess().is_none());
            backlog.handle_reply();
            backlog.handle_sent(1);
        }
        assert!(backlog.excess().is_none(), "a window of replies may be under way");
        backlog.handle_reply();
        assert!(matches!(backlog.excess(), Some(Close::Backlog)));
    }

    #[test]
    fn a_minion_that_sends_heartbeats_without_reading_is_let_go() {
        let mut backlog = Backlog::new(Taken::default());
        for _ in 0..MESSAGES {
            assert!(backlog.excess().is_none());
            backlog.handle_sent(1);
        }
        assert!(backlog.excess().is_none());
        backlog.handle_sent(1);
        assert!(matches!(backlog.excess(), Some(Close::Backlog)));
    }

    #[test]
    fn a_minion_that_takes_its_answers_is_kept() {
        let taken = Taken::default();
        let mut backlog = Backlog::new(taken.clone());
        for _ in 0..10 * REQUEST_WINDOW {
            backlog.handle_reply();
            backlog.handle_sent(2);
            assert!(backlog.excess().is_none());
            taken.add(2);
        }
    }
}
