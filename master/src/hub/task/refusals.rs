//! A store that is full: entries of outboxes are turned away before anything learns of them, and stay where they are. When
//! there is room, the minions that were refused come again, one after the other, and bring them.

use std::time::Duration;

use super::{HubTask, send};
use crate::{clock::Now, hub::connection::Phase, store::StoreState};

/// How long after one minion the next one comes again.
const APART: Duration = Duration::from_millis(2);

impl HubTask {
    /// Whether an outbox entry of this connection is refused. It is not acknowledged, so its minion keeps it, and sends
    /// no more than a window of others.
    pub(super) fn refuses(&mut self, number: u64) -> bool {
        let is_full = self.store.is_full();
        let Some(connection) = self.connections.get_mut(&number) else { return is_full };
        connection.is_refused |= is_full;
        if connection.is_refused {
            self.store.count_refused(1);
        }
        connection.is_refused
    }

    /// Once there is room, ends the sessions of those that were refused: a session goes on after what it has sent, a new
    /// one begins with what is not acknowledged.
    pub(super) async fn handle_store_state(&mut self) {
        if *self.store_state.borrow_and_update() != StoreState::Open {
            return;
        }
        let now = Now::read();
        let refused = self.connections.iter().filter(|(_, connection)| connection.is_refused);
        let numbers: Vec<u64> = refused.map(|(number, _)| *number).collect();
        for (number, place) in numbers.into_iter().zip(0..) {
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
            let Phase::Established { session, .. } = phase else { continue };
            let farewell = session.retry_after(APART * place, "the master's disk has room again");
            let (id, identity) = (connection.id.clone(), connection.identity.clone());
            send(&mut self.sender, vec![identity, farewell]).await;
            self.unfinished(&id.minion, *session, now);
        }
    }
}
