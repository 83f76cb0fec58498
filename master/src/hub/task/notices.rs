//! What the hub tells minions without being asked: which root list to follow, and to renew before it is due.

use std::time::Duration;

use drover_pki::verify::MinionCertificate;
use drover_proto::{
    MinionId,
    event::{NewEvent, Tag},
    message::{Renew, RootList, Roots, Scope},
    session::master::Notice,
};
use serde_json::json;

use super::HubTask;
use crate::{
    authorities::RootSet,
    hub::connection::Phase,
    operational::Applicant,
    registry::{AskedBy, Sighting},
};

impl HubTask {
    /// What a minion that was just welcomed has to be told.
    pub(super) fn tell_welcomed(
        &mut self,
        number: u64,
        roots: &Roots,
        certificate: &MinionCertificate,
        applicant: AskedBy,
    ) {
        self.send_lists(number, roots.root_list, self.root_lists.known(&roots.roots));
        if applicant == AskedBy::Operational
            && self.root_lists.is_replaced(&certificate.issuer().key)
        {
            self.notify(number, Notice::Renew(Renew { within: millis(self.renew_within) }));
        }
    }

    /// A minion trusts other roots than before.
    pub(super) fn handle_roots(&mut self, minion: &MinionId, roots: &Roots) {
        let trusted = self.root_lists.known(&roots.roots);
        let known = self.registry.sighting(minion);
        if (known.root_list, known.roots) != (roots.root_list, trusted) {
            let sighting = Sighting { root_list: roots.root_list, roots: trusted, ..known };
            let batch = &mut self.round.effects.batch;
            self.registry.sighted(minion, sighting, false, batch);
            let data = json!({ "id": minion, "root_list": roots.root_list, "roots": roots.roots });
            batch.event(NewEvent::new(Tag::key(minion, "roots"), Some(minion.clone()), data));
        }
    }

    pub(super) fn tell_roots(&mut self) {
        let minions: Vec<_> =
            self.current.iter().map(|(id, number)| (id.clone(), *number)).collect();
        for (minion, number) in minions {
            let sighting = self.registry.sighting(&minion);
            if self.send_lists(number, sighting.root_list, sighting.roots) {
                self.noticed.push(number);
            }
        }
    }

    pub(super) fn tell_renew(&mut self, within: Duration) {
        self.renew_within = within;
        let is_meant = |phase: &Phase| match phase {
            Phase::Established { session, applicant: Applicant { by, .. }, .. } => {
                session.scope() == Scope::Full && *by == AskedBy::Operational
            }
            Phase::Hello(..) | Phase::Closing => false,
        };
        let connections = self.connections.iter().filter(|(_, known)| is_meant(&known.phase));
        let numbers: Vec<_> = connections.map(|(number, _)| *number).collect();
        for number in numbers {
            self.notify(number, Notice::Renew(Renew { within: millis(within) }));
            self.noticed.push(number);
        }
    }

    /// Whether there were any: most minions are up to date.
    fn send_lists(&mut self, number: u64, root_list: u64, trusted: RootSet) -> bool {
        let lists = self.root_lists.after(root_list, trusted);
        let has_any = !lists.is_empty();
        for list in lists {
            self.notify(number, Notice::RootList(RootList { list }));
        }
        has_any
    }

    fn notify(&mut self, number: u64, notice: Notice) {
        let connection = self.connections.get_mut(&number);
        if let Some(session) = connection.and_then(|connection| connection.session()) {
            session.notify(notice);
        }
    }

    pub(super) async fn transmit_notices(&mut self) {
        for number in std::mem::take(&mut self.noticed) {
            self.transmit(number).await;
        }
    }
}

fn millis(within: Duration) -> u64 {
    u64::try_from(within.as_millis()).unwrap_or(u64::MAX)
}
