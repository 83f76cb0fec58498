//! Two machines with one identity, as the hub meets them: who is refused, cut off and told of.

use drover_proto::{
    MinionId,
    event::{NewEvent, Tag},
    message::Scope,
    tunnel::CutReason,
};
use serde_json::json;

use super::HubTask;
use crate::{
    clock::Now,
    clones::{Machine, TwoMachines, Verdict},
    registry::{ChangeError, SupersededShown, Verb},
};

impl HubTask {
    /// Whether a machine that says hello may have its session.
    pub(super) fn is_welcome(
        &mut self,
        minion: &MinionId,
        number: u64,
        machine: Machine,
        scope: Scope,
        now: Now,
    ) -> bool {
        if scope == Scope::Renewal {
            // One that has come for a certificate is no sign of anything: it takes nobody's place.
            return machine.boot.is_some_and(|boot| !self.clones.refuses(minion, boot));
        }
        let (verdict, found) = self.clones.handle_hello(minion, number, machine, now.instant);
        if let Some(found) = found {
            self.tell_of(found, now);
        }
        verdict == Verdict::Welcome
    }

    pub(super) fn handle_superseded(&mut self, shown: SupersededShown) {
        let now = Now::read();
        let SupersededShown { minion, address, fingerprint, at } = shown;
        let Some(entry) = self.registry.entry(&minion) else { return };
        let used = entry
            .operational
            .as_ref()
            .and_then(|certificates| certificates.all().find(|certificate| certificate.seen));
        let sighting = self.registry.sighting(&minion);
        let other = Machine {
            boot: None,
            address: sighting.address,
            fingerprint: used.map(|certificate| certificate.fingerprint.with_colons()),
            since: sighting.last_seen.unwrap_or(at),
        };
        let shown = Machine {
            boot: None,
            address: Some(address.ip()),
            fingerprint: Some(fingerprint.with_colons()),
            since: at,
        };
        if let Some(found) = self.clones.handle_superseded(&minion, shown, other, now.instant) {
            self.tell_of(found, now);
        }
    }

    fn tell_of(&mut self, found: TwoMachines, now: Now) {
        let minion = found.id.clone();
        if found.is_news {
            tracing::warn!(%minion, sign = ?found.sign, "two machines have this identity");
            let event =
                NewEvent::new(Tag::key(&minion, "clone"), Some(minion.clone()), json!(found));
            self.round.effects.batch.event(event);
        }
        if found.rejects {
            self.gateway.cut_minion(&minion, CutReason::NotAccepted);
            let registry = self.registry.clone();
            // The hub does not wait for the registry, and nobody is let in meanwhile who is not cut again then.
            tokio::spawn(async move {
                let reason = "two machines have this identity; accept it once there is one";
                let ids = [minion];
                for (id, changed) in
                    registry.change(&ids, Verb::Reject, Some(reason), now.wall).await
                {
                    if let Err(error) = changed
                        && !matches!(error, ChangeError::Verb(_))
                    {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(minion = %id, error, "a clone is not rejected");
                    }
                }
            });
        }
    }
}
