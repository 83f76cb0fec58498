//! Events by what they are about, counted as they are appended. The kinds are a closed list, so that no tag makes a
//! number of its own.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use drover_proto::event::Tag;

use crate::store::{ReadError, Store};

/// The second parts of Drover's own tags; then its other ones, then those of users.
const KINDS: [&str; 15] = [
    "app",
    "authority",
    "beacon",
    "bridge",
    "job",
    "key",
    "master",
    "minion",
    "pending",
    "presence",
    "reactor",
    "station",
    "store",
    "other",
    "custom",
];
const OTHER: usize = KINDS.len() - 2;
const CUSTOM: usize = KINDS.len() - 1;
/// Events that are read at once.
const CHUNK: usize = 512;

/// Counts by kind since the master started.
#[derive(Debug, Clone, Default)]
pub struct EventKinds(Arc<[AtomicU64; KINDS.len()]>);

impl EventKinds {
    /// Each kind with its count.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().zip(self.0.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    fn handle(&self, tag: &Tag) {
        self.0[kind(tag.as_str())].fetch_add(1, Ordering::Relaxed);
    }
}

fn kind(tag: &str) -> usize {
    let Some(rest) = tag.strip_prefix("drover/") else { return CUSTOM };
    let part = rest.split('/').next().unwrap_or_default();
    KINDS[..OTHER].binary_search(&part).unwrap_or(OTHER)
}

/// Follows the log.
pub struct EventKindsTask {
    store: Store,
    after: u64,
    kinds: EventKinds,
}

impl EventKindsTask {
    /// From the log's end on.
    #[must_use]
    pub fn new(store: Store) -> (EventKinds, Self) {
        let kinds = EventKinds::default();
        (kinds.clone(), Self { after: store.last_seq(), store, kinds })
    }

    /// Until the master ends.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn run(mut self) -> Result<(), ReadError> {
        let mut newer = self.store.watch();
        while newer.changed().await.is_ok() {
            loop {
                let events = self.store.events(self.after, CHUNK).await?;
                let Some(last) = events.last() else { break };
                self.after = last.seq;
                events.iter().for_each(|event| self.kinds.handle(&event.tag));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_a_kind_of_a_closed_list() {
        assert!(KINDS[..OTHER].is_sorted(), "they are searched");
        let of = |tag| KINDS[kind(tag)];
        assert_eq!(of("drover/beacon/rfid-1/load"), "beacon");
        assert_eq!(of("drover/job/20261123/ret/rfid-1"), "job");
        assert_eq!(of("drover/invented/by/somebody"), "other");
        assert_eq!(of("drover/other/x"), "other");
        assert_eq!(of("site/door"), "custom");
        assert_eq!(of("drover"), "custom");
    }

    #[tokio::test]
    async fn what_is_appended_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Default::default()).unwrap();
        let event = |tag: &str| {
            drover_proto::event::NewEvent::new(tag.parse().unwrap(), None, serde_json::Value::Null)
        };
        store.append(event("drover/key/a/seen")).await.unwrap();
        let (kinds, task) = EventKindsTask::new(store.clone());
        let task = tokio::spawn(task.run());
        store.append(event("drover/key/a/accepted")).await.unwrap();
        store.append(event("site/door")).await.unwrap();
        let count = |wanted: &str| kinds.counts().find(|(kind, _)| *kind == wanted).unwrap().1;
        while (count("key"), count("custom")) != (1, 1) {
            tokio::task::yield_now().await;
        }
        task.abort();
    }
}
