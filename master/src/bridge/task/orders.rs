//! What an operator may want of a bridge.

use serde_json::json;
use tracing::info;

use super::{BridgeStopped, BridgeTask, Order, StoreError, now, tag};
use crate::{
    bridge::handle::NothingToReplay,
    store::{Batch, BridgeEntry},
};

impl BridgeTask {
    /// Does it, and tells whoever asked; they may be gone.
    pub(super) async fn carry_out(&mut self, order: Order) -> Result<(), BridgeStopped> {
        match order {
            Order::Test(done) => self.tests.push_back(done),
            Order::Replay { after, done } => {
                let read = |source| BridgeStopped::Read { bridge: self.name.clone(), source };
                // What the log has no more is not missed: nobody was promised it.
                let after = after.max(self.store.first_seq().map_err(read)?.saturating_sub(1));
                // Events and not seqs: a restore has left some of those out.
                let behind = |seq| self.store.lag(seq).map(|lag| lag.events).map_err(read);
                let events = behind(after)?.saturating_sub(behind(self.feed.settled())?);
                let _ = done.send(self.replay(after).map(|()| events));
            }
            Order::Pause { is_paused, done } => {
                self.pause(is_paused).await?;
                let _ = done.send(());
            }
            Order::Revive { letters, done } => {
                let before = self.reviving.len();
                for seq in letters {
                    // One that is on its way already goes once.
                    if self.ledger.letters().has(seq) && self.revived.insert(seq) {
                        self.reviving.push_back(seq);
                    }
                }
                let _ = done.send(self.reviving.len() - before);
            }
            Order::Drop { letters, done } => {
                let mut dropped = 0;
                for seq in letters {
                    dropped += usize::from(self.ledger.remove(seq));
                    self.revived.remove(&seq);
                }
                let _ = done.send(dropped);
            }
        }
        Ok(())
    }

    fn replay(&mut self, after: u64) -> Result<(), NothingToReplay> {
        let at = self.feed.settled();
        if after >= at {
            return Err(NothingToReplay { at });
        }
        info!(bridge = self.name, after, at, "a bridge sends again what it sent");
        self.feed.handle_rewind(after);
        self.sink.handle_replay();
        self.ledger.hurry();
        Ok(())
    }

    async fn pause(&mut self, is_paused: bool) -> Result<(), StoreError> {
        if is_paused != self.is_paused {
            let what = if is_paused { "paused" } else { "resumed" };
            let data = json!({"reason": format!("an operator {what} it")});
            let mut batch = Batch::new();
            batch.event(drover_proto::event::NewEvent::new(tag(&self.name, what), None, data));
            batch.bridge(&self.name, &BridgeEntry { is_paused });
            // Durable before it is said: a master that starts anew goes by it.
            self.store.write(batch).await?;
            self.is_paused = is_paused;
        }
        self.feed.stop(!self.is_running());
        // One that waits until somebody has done something is told by this that they have.
        if !is_paused {
            self.feed.hurry(now());
        }
        Ok(())
    }
}
