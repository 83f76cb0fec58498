//! Keeps a cluster's indices to the budget: removes the oldest of ours, lets the one that is written to be followed by a
//! new one, and tells of each.

use std::time::Instant;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{
    super::{
        answer,
        budget::{Budget, Reason, Retention},
        cluster::Cluster,
        error::ElasticsearchError,
        indices::OwnIndex,
    },
    Destination,
};
use crate::{
    bridge::sink::{News, Quiet},
    clock::Now,
};

impl Destination {
    /// Whether there is something to tell or to look at.
    pub(in super::super) fn wants_upkeep(&self, now: Instant) -> bool {
        let told = self.told();
        let is_ours = matches!(self.retention, Retention::Own(..));
        !told.news.is_empty() || is_ours && told.due.is_some_and(|due| due <= now)
    }

    /// Does what is to be done, with nothing on its way. What fails is told, and tried again at the next look.
    pub(in super::super) async fn upkeep(&self, cluster: &Cluster, quiet: Quiet) -> Vec<News> {
        let mut news = std::mem::take(&mut self.told().news);
        let Retention::Own(budget, pace) = self.retention else { return news };
        let now = Now::read();
        let is_due = self.told().due.is_some_and(|due| due <= now.instant);
        if !is_due {
            return news;
        }
        // A request that nobody waits for any more may still be in a server's queue. Carried out after a rollover, it
        // would store in the new index what its retry has stored in the old one: an id is known within one index only.
        let since = [quiet.since_ambiguous, cluster.since_ambiguous(now.instant)];
        let can_roll = since.into_iter().flatten().all(|since| since >= pace.settle);
        let done = self.keep(cluster, &budget, can_roll, &mut news).await;
        let mut told = self.told();
        told.due = Some(Now::read().instant + pace.every);
        let complaint = done.err().map(|error| error.to_string());
        if let Some(reason) = &complaint
            && told.complaint != complaint
        {
            news.push(News { what: "retention_failed", data: json!({"reason": reason}) });
        }
        told.complaint = complaint;
        news
    }

    async fn keep(
        &self,
        cluster: &Cluster,
        budget: &Budget,
        can_roll: bool,
        news: &mut Vec<News>,
    ) -> Result<(), ElasticsearchError> {
        let (_, own) = self.list(cluster).await?;
        let plan = budget.plan(&own, Now::read().wall);
        // What cannot be removed, as while a snapshot of it is made, keeps nothing else back.
        let mut failed = Ok(());
        for (index, reason) in &plan.remove {
            failed = failed.and(remove(cluster, index, *reason, news).await);
        }
        let roll = plan.roll.filter(|_| can_roll);
        let has_changed = !plan.remove.is_empty() || roll.is_some();
        if let Some(index) = roll {
            self.roll(cluster, index, news).await?;
        }
        self.tell_over(budget, plan.over.filter(|_| plan.roll.is_none()), news);
        let own = if has_changed { self.list(cluster).await?.1 } else { own };
        if let Some(found) = self.found.lock().await.as_mut() {
            found.own = own.into();
        }
        failed
    }

    async fn roll(
        &self,
        cluster: &Cluster,
        index: &OwnIndex,
        news: &mut Vec<News>,
    ) -> Result<(), ElasticsearchError> {
        // Before it is asked: also where the answer is lost, or what comes after fails, nobody takes the index that is now
        // an older one for the one that is written to.
        *self.found.lock().await = None;
        let path = format!("/{}/_rollover", self.index.as_str());
        let (status, said) = cluster.post(&path, &Value::Null).await?;
        if !status.is_success() {
            return Err(refused("to roll over", status, &said));
        }
        let data = json!({
            "index": index.name,
            "next": said["new_index"],
            "bytes": index.bytes,
            "docs": index.documents,
        });
        news.push(News { what: "rolled", data });
        Ok(())
    }

    /// Tells once that what is being written to is alone more than the budget.
    fn tell_over(&self, budget: &Budget, over: Option<u64>, news: &mut Vec<News>) {
        let mut told = self.told();
        if let Some(over) = over.filter(|_| !told.is_over) {
            let data = json!({"over": over, "max_bytes": budget.max_bytes});
            news.push(News { what: "over_budget", data });
        }
        told.is_over = over.is_some();
    }
}

/// By its exact name: a pattern may take others with it, and most servers refuse one.
async fn remove(
    cluster: &Cluster,
    index: &OwnIndex,
    reason: Reason,
    news: &mut Vec<News>,
) -> Result<(), ElasticsearchError> {
    let (status, said) = cluster.delete(&format!("/{}", index.name)).await?;
    if !(status.is_success() || status == StatusCode::NOT_FOUND) {
        return Err(refused("to remove an index", status, &said));
    }
    let data = json!({
        "index": index.name,
        "bytes": index.bytes,
        "docs": index.documents,
        "reason": reason.word(),
    });
    news.push(News { what: "index_removed", data });
    Ok(())
}

fn refused(what: &'static str, status: StatusCode, said: &Value) -> ElasticsearchError {
    ElasticsearchError::Refused { what, status, reason: answer::reason(&said["error"]) }
}
