//! The agent's part in following what the master says of the fleet's roots and of the device's end: hands it to whoever
//! decides, and tells what became of it. A list of roots that is refused is an event: either this device or the master
//! that sent it is not what it should be.

use std::time::Duration;

use bytes::Bytes;
use drover_proto::session::minion::Established;
use jiff::Timestamp;
use serde_json::json;

use super::{Agent, now};
use crate::{allowance::Allowance, error_chain};

/// How much of what the master may say on and on is written to the disk.
pub(super) struct Heard {
    refused_lists: Allowance,
    ends: Allowance,
}

impl Heard {
    pub(super) const fn new() -> Self {
        Self {
            refused_lists: Allowance::new(4, Duration::from_secs(3_600)),
            ends: Allowance::new(16, Duration::from_secs(600)),
        }
    }
}

impl Agent {
    pub(super) fn take_retirement(&mut self, at: Option<Timestamp>) {
        if at == self.device.retires() {
            return;
        }
        if !self.heard.ends.take(now()) {
            // The next welcome says it again.
            return tracing::debug!("the master changes the day of this device's end on and on");
        }
        if let Err(why) = self.device.retire(at) {
            tracing::warn!("{}", error_chain(&why));
        }
    }

    pub(super) fn follow_roots(&mut self, list: &Bytes, session: &mut Established) {
        // The master was judged when it was met. Since then years may have passed, or the clock may have jumped.
        let at = self.floor.clock().time_within(&self.shown_by_master);
        match self.identity.roots.follow(list, &self.shown_by_master, at) {
            Ok(stored) => {
                let told = self.identity.roots.told();
                tracing::info!(
                    list = told.root_list,
                    roots = told.roots.len(),
                    "trusts other roots"
                );
                session.send_roots(told);
                if let Err(why) = stored {
                    let reason = error_chain(&why);
                    tracing::error!("the new roots are kept in memory alone: {reason}");
                    self.work.tell("identity/not_stored", json!({ "reason": reason }));
                }
            }
            Err(why) if why.is_known() || !self.heard.refused_lists.take(now()) => {
                tracing::debug!("{}", error_chain(&why));
            }
            Err(why) => {
                let reason = error_chain(&why);
                tracing::error!("{reason}");
                let root_list = self.identity.roots.told().root_list;
                let data = json!({ "reason": reason, "root_list": root_list });
                self.work.tell("identity/roots_refused", data);
            }
        }
    }
}
