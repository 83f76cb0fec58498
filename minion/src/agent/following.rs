//! The agent's part in following the fleet's roots: hands a list that came to whoever decides, and tells what became of
//! it. A list that is refused is an event: either this device or the master that sent it is not what it should be.

use bytes::Bytes;
use drover_proto::session::minion::Established;
use serde_json::json;

use super::Agent;
use crate::error_chain;

impl Agent {
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
            Err(why) if why.is_known() => tracing::debug!("{}", error_chain(&why)),
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
