//! Where the documents go in a cluster: finds out what the servers can, puts the template, knows which indices are ours
//! and whether an event that may have been sent before lies in one of them. A shell around [`super::indices`],
//! [`super::template`] and [`super::budget`]; `destination/upkeep.rs` keeps to the storage budget.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex as Lock, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use drover_proto::event::Event;
use drover_states::{diagnostic::Diagnostic, settings::Settings};
use hyper::StatusCode;
use jiff::{civil::Date, tz::TimeZone};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    answer,
    budget::Retention,
    cluster::Cluster,
    error::ElasticsearchError,
    indices::{self, IndexName, Layout, OwnIndex, Resolved},
    server::{Identity, Server},
    template::{self, Additions, Flavour, META, VERSION},
};
use crate::{
    bridge::sink::{Item, News},
    clock::Now,
};

mod upkeep;

/// For how long a day counts as written to after an event of it was sent.
const WRITTEN: Duration = Duration::from_secs(600);
/// For how long it is believed that our template and our indices are still there.
const BELIEVED: Duration = Duration::from_secs(60);

/// Where one bridge's documents go.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) index: IndexName,
    /// Daily indices are wanted, whatever the server can.
    is_daily: bool,
    additions: Additions,
    retention: Retention,
    /// Held while it is found out, by the first that needs it.
    found: Mutex<Option<Found>>,
    told: Lock<Told>,
}

/// What is known of the cluster.
#[derive(Debug, Clone)]
struct Found {
    /// When, by [`Cluster::epoch`].
    epoch: u64,
    /// When it was looked at last.
    at: Instant,
    /// Days whose indices are ours, or will be made by our template.
    days: BTreeSet<Date>,
    server: Server,
    own: Arc<[OwnIndex]>,
}

/// What is known of it for a batch.
#[derive(Debug)]
pub(super) struct Place {
    /// How documents lie.
    pub(super) layout: Layout,
    own: Arc<[OwnIndex]>,
}

/// What others see of it, without waiting.
#[derive(Debug, Default)]
struct Told {
    server: Option<Server>,
    news: Vec<News>,
    /// When the budget is looked at next; `None` before the cluster is known.
    due: Option<Instant>,
    /// The earliest day that events went to lately.
    written: Option<(Date, Instant)>,
    /// What housekeeping complained of last.
    complaint: Option<String>,
    /// Whether it was told that there is too much.
    is_over: bool,
}

impl Destination {
    /// Reads `index`, `daily`, `retention`, `grains`, `fields`, `replicas` and `index_settings`.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub(super) fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let index =
            settings.take("index", |node| IndexName::new(node.as_str().unwrap_or_default()))?;
        Ok(Self {
            index: index.ok_or_else(|| settings.missing("the bridge", "index"))?,
            is_daily: settings.flag("daily")?.unwrap_or(false),
            additions: Additions::read(settings)?,
            retention: settings.take("retention", Retention::read)?.unwrap_or_default(),
            found: Mutex::default(),
            told: Lock::default(),
        })
    }

    /// The values of applications that have types.
    pub(super) const fn fields(&self) -> &super::TypedFields {
        &self.additions.fields
    }

    /// What the server is, once that is known.
    pub(super) fn server(&self) -> Option<String> {
        self.told().server.as_ref().map(ToString::to_string)
    }

    /// Makes a cluster ready for a batch, unless nothing has changed since the last one: who it is, what it can, our
    /// template in it, and nobody else's index under our name.
    ///
    /// # Errors
    /// When it cannot be made ready.
    pub(super) async fn ready(
        &self,
        cluster: &Cluster,
        items: &[Item],
    ) -> Result<Place, ElasticsearchError> {
        self.note_days(items);
        let days = items.iter().map(|item| day(&item.event)).collect();
        let mut found = self.found.lock().await;
        let known = match found.take() {
            // After an outage it may be another version, or have lost its state.
            Some(known) if known.epoch == cluster.epoch() => {
                self.ascertained(cluster, known, days).await?
            }
            _ => self.find_out(cluster, days).await?,
        };
        let place = Place { layout: known.server.layout, own: Arc::clone(&known.own) };
        *found = Some(known);
        Ok(place)
    }

    /// Which of these events are there already, in another index than the one that they would go to now. A server knows
    /// an id within one index only.
    ///
    /// # Errors
    /// When that is not to be found out.
    pub(super) async fn stored(
        &self,
        cluster: &Cluster,
        place: &Place,
        items: &[Item],
    ) -> Result<HashSet<Uuid>, ElasticsearchError> {
        let mut stored = HashSet::new();
        let retried: Vec<_> = items.iter().filter(|item| item.is_retry).collect();
        if retried.is_empty() {
            return Ok(stored);
        }
        let own = self.current(cluster, place).await?;
        let older = || own.iter().filter(|index| !index.is_target(place.layout));
        // A retry lies there most often, and by our clock alone it might seem that it cannot.
        let latest = older().rfind(|index| index.day.is_none());
        for index in older() {
            let may_have = |item: &&&Item| Some(index) == latest || index.may_have(&item.event);
            let ids: Vec<_> = retried.iter().filter(may_have).map(|item| item.event.id).collect();
            if !ids.is_empty() {
                stored.extend(cluster.mget(std::slice::from_ref(&index.name), &ids).await?);
            }
        }
        Ok(stored)
    }

    /// Our indices as they are now: others may roll over too, by ILM, by hand, or as a second bridge to the same place.
    async fn current(
        &self,
        cluster: &Cluster,
        place: &Place,
    ) -> Result<Arc<[OwnIndex]>, ElasticsearchError> {
        let resolved = self.resolve(cluster).await?;
        let target = resolved.stream.as_deref().and_then(<[_]>::last);
        let believed = place.own.iter().find(|index| index.can_roll).map(|index| &index.name);
        if target == believed && self.retention != Retention::External {
            return Ok(Arc::clone(&place.own));
        }
        let own: Arc<[_]> = self.list(cluster).await?.1.into();
        if let Some(found) = self.found.lock().await.as_mut() {
            found.own = Arc::clone(&own);
        }
        Ok(own)
    }

    /// Looks now and then whether somebody has taken the template or an index away: a server makes an index that is not
    /// there by itself, without our mapping where there is no template, and every payload would add fields to it.
    async fn ascertained(
        &self,
        cluster: &Cluster,
        mut known: Found,
        mut days: BTreeSet<Date>,
    ) -> Result<Found, ElasticsearchError> {
        let now = Now::read().instant;
        let is_old = now.saturating_duration_since(known.at) >= BELIEVED;
        let has_days = known.server.layout == Layout::Stream || days.is_subset(&known.days);
        if has_days && !is_old {
            return Ok(known);
        }
        if !is_old {
            days.append(&mut known.days);
        }
        let path = format!("/_index_template/{}", self.index.template(known.server.layout));
        let (status, _) = cluster.get(&path).await?;
        if status == StatusCode::NOT_FOUND {
            return self.find_out(cluster, days).await;
        }
        let (resolved, own) = self.list(cluster).await?;
        self.check(cluster, known.server.layout, &resolved, &own, &days).await?;
        Ok(Found { at: now, days, own: own.into(), ..known })
    }

    async fn find_out(
        &self,
        cluster: &Cluster,
        days: BTreeSet<Date>,
    ) -> Result<Found, ElasticsearchError> {
        let epoch = cluster.epoch();
        let at = Now::read().instant;
        let (_, said) = cluster.get("/").await?;
        let mut server = Server {
            identity: Identity::read(&said),
            layout: if self.is_daily { Layout::Daily } else { Layout::Stream },
            flavour: Flavour::Flattened,
            has_no_streams: false,
        };
        self.put_template(cluster, &mut server).await?;
        let (resolved, own) = self.list(cluster).await?;
        self.check(cluster, server.layout, &resolved, &own, &days).await?;
        self.put_additions(cluster, server.layout, &resolved, &own).await?;
        let mut told = self.told();
        if told.server.as_ref() != Some(&server) {
            if told.server.is_some() || server.has_no_streams {
                told.news
                    .push(News { what: "server", data: json!({"server": server.to_string()}) });
            }
            told.server = Some(server.clone());
        }
        // What was noticed while the cluster was away is looked at soon.
        told.due = Some(at);
        Ok(Found { epoch, at, days, server, own: own.into() })
    }

    /// Puts the template that this server takes: what it can is found out by trying, since versions say little of what is
    /// switched off or left out.
    async fn put_template(
        &self,
        cluster: &Cluster,
        server: &mut Server,
    ) -> Result<(), ElasticsearchError> {
        loop {
            let path = format!("/_index_template/{}", self.index.template(server.layout));
            if self.is_newer(cluster, &path).await? {
                return Ok(());
            }
            let body = self.additions.template(&self.index, server.layout, server.flavour);
            let (status, said) = cluster.put(&path, &body).await?;
            if status.is_success() {
                return Ok(());
            }
            let text = said.to_string();
            if server.layout == Layout::Stream && template::has_no_data_streams(&text) {
                server.layout = Layout::Daily;
                server.has_no_streams = true;
                continue;
            }
            match server.flavour.next().filter(|_| template::is_unknown_type(&text)) {
                Some(next) => server.flavour = next,
                None => {
                    return Err(ElasticsearchError::Refused {
                        what: "the index template",
                        status,
                        reason: answer::reason(&said["error"]),
                    });
                }
            }
        }
    }

    /// Whether there is a template of a newer master's, which is left as it is.
    async fn is_newer(&self, cluster: &Cluster, path: &str) -> Result<bool, ElasticsearchError> {
        let (status, said) = cluster.get(path).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let template = &said["index_templates"][0]["index_template"];
        match template["_meta"][META].as_u64() {
            Some(version) if version > VERSION => {
                let data = json!({"version": version, "ours": VERSION});
                self.tell_once(News { what: "template_is_newer", data });
                Ok(true)
            }
            Some(_) => Ok(false),
            None if template.is_null() => Ok(false),
            None => Err(ElasticsearchError::NotOurs {
                what: format!("the index template `{}`", path.rsplit('/').next().unwrap_or(path)),
                hint: "rename or delete it, or choose another `index`",
            }),
        }
    }

    /// What stands under our name.
    async fn resolve(&self, cluster: &Cluster) -> Result<Resolved, ElasticsearchError> {
        let path = format!("/_resolve/index/{}?expand_wildcards=all", self.index.as_str());
        let (status, said) = cluster.get(&path).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(Resolved::default()),
            _ if status.is_success() => Ok(Resolved::read(&said, &self.index)),
            _ => Err(refused("to say what is there", status, &said)),
        }
    }

    /// The same, and which of it is ours.
    async fn list(
        &self,
        cluster: &Cluster,
    ) -> Result<(Resolved, Vec<OwnIndex>), ElasticsearchError> {
        let index = self.index.as_str();
        let resolved = self.resolve(cluster).await?;
        // The names of days are a pattern, and those of backing indices the server's own affair. A name that is not there
        // is left out: to `_cat/indices` with one, Elasticsearch 7 and OpenSearch never answer.
        let days = self.index.pattern(Layout::Daily);
        let all = if resolved.stream.is_some() { format!("{index},{days}") } else { days };
        let path = format!(
            "/_cat/indices/{all}?expand_wildcards=all&ignore_unavailable=true&format=json&bytes=b\
             &h=index,pri.store.size,docs.count,creation.date"
        );
        let lines = match cluster.get(&path).await? {
            (StatusCode::NOT_FOUND, _) => json!([]),
            (status, lines) if status.is_success() => lines,
            (status, said) => return Err(refused("to list indices", status, &said)),
        };
        let path = format!(
            "/{all}/_mapping?expand_wildcards=all&ignore_unavailable=true&filter_path=*.mappings._meta"
        );
        let (status, mappings) = cluster.get(&path).await?;
        if !(status.is_success() || status == StatusCode::NOT_FOUND) {
            return Err(refused("to show mappings", status, &mappings));
        }
        let backing = resolved.stream.as_deref().unwrap_or_default();
        let own = indices::own(&self.index, backing, &lines, &mappings, self.written_from())
            .map_err(ElasticsearchError::Unlisted)?;
        Ok((resolved, own))
    }

    /// That nobody else's data is written among.
    async fn check(
        &self,
        cluster: &Cluster,
        layout: Layout,
        resolved: &Resolved,
        own: &[OwnIndex],
        days: &BTreeSet<Date>,
    ) -> Result<(), ElasticsearchError> {
        const HINT: &str = "it has not the mapping that the documents need: delete or rename it, or choose another `index`";
        let index = self.index.as_str();
        let is_own = |name: &str| own.iter().any(|index| index.name == name);
        match layout {
            Layout::Stream if resolved.is_taken => Err(ElasticsearchError::NotOurs {
                what: format!("the index or alias `{index}`"),
                hint: "a data stream of that name cannot be made: delete or rename it, choose another `index`, or say \
                       `daily: true`",
            }),
            Layout::Stream => match resolved.stream.as_deref().and_then(<[_]>::last) {
                Some(last) if !is_own(last) => {
                    let what = format!("the data stream `{index}`");
                    Err(ElasticsearchError::NotOurs { what, hint: HINT })
                }
                Some(_) | None => Ok(()),
            },
            Layout::Daily => {
                for day in days {
                    let name = self.index.of_day(*day);
                    if is_own(&name) {
                        continue;
                    }
                    let path = format!("/{name}/_settings?filter_path=*.settings.index.uuid");
                    let (status, _) = cluster.get(&path).await?;
                    if status != StatusCode::NOT_FOUND {
                        let what = format!("the index or alias `{name}`");
                        return Err(ElasticsearchError::NotOurs { what, hint: HINT });
                    }
                }
                Ok(())
            }
        }
    }

    /// Labels and typed fields that were configured since the index was made that is written to now.
    async fn put_additions(
        &self,
        cluster: &Cluster,
        layout: Layout,
        resolved: &Resolved,
        own: &[OwnIndex],
    ) -> Result<(), ElasticsearchError> {
        let today = self.index.of_day(today());
        let path = match layout {
            Layout::Stream if resolved.stream.is_some() => {
                format!("/{}/_mapping?write_index_only=true", self.index.as_str())
            }
            Layout::Daily if own.iter().any(|index| index.name == today) => {
                format!("/{today}/_mapping")
            }
            Layout::Stream | Layout::Daily => return Ok(()),
        };
        let (status, said) = cluster.put(&path, &self.additions.later()).await?;
        if !status.is_success() {
            // The next index has the new type; until then such values are kept and not searchable, or dead letters.
            let reason = answer::reason(&said["error"]);
            self.tell_once(News { what: "mapping_conflict", data: json!({"reason": reason}) });
        }
        Ok(())
    }

    /// The days that events go to are written to, until that is some time ago.
    fn note_days(&self, items: &[Item]) {
        let Some(earliest) = items.iter().map(|item| day(&item.event)).min() else { return };
        let now = Now::read().instant;
        let mut told = self.told();
        match told.written {
            Some((day, at)) if day < earliest && now.saturating_duration_since(at) < WRITTEN => {}
            _ => told.written = Some((earliest, now)),
        }
    }

    /// The earliest day that is written to.
    fn written_from(&self) -> Date {
        let written = self.told().written;
        written.map_or_else(today, |(day, _)| day.min(today()))
    }

    /// Tells something unless it is waiting to be told already.
    fn tell_once(&self, news: News) {
        let mut told = self.told();
        if !told.news.contains(&news) {
            told.news.push(news);
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(what: &'static str, status: StatusCode, said: &Value) -> ElasticsearchError {
    ElasticsearchError::Refused { what, status, reason: answer::reason(&said["error"]) }
}

/// The day of an event's append.
fn day(event: &Event) -> Date {
    event.ts.to_zoned(TimeZone::UTC).date()
}

fn today() -> Date {
    Now::read().wall.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests;
