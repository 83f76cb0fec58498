//! A fleet whose master has one bridge, `elk`, and what is asked of both ends of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_tests::{fleet::Fleet, local_bus::Program, parts::search::Server, wait};
use serde_json::{Value, json};

/// How long everything that is under way may take to arrive, also after the longest backoff.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(60);

/// Whether the long forms of the scenarios are wanted: `DROVER_LONG=1`.
pub(crate) fn is_long() -> bool {
    std::env::var("DROVER_LONG").is_ok_and(|value| value == "1")
}

/// A fleet and a bridge into one index.
pub(crate) struct Pipeline {
    pub(crate) fleet: Fleet,
    pub(crate) index: String,
}

impl Pipeline {
    /// Of these hosts, with these further keys (`, key: value`). Nothing runs yet. `name` is the end of the index's
    /// name: the tests share servers.
    pub(crate) fn new(hosts: &[String], name: &str, keys: &str) -> Self {
        // The end keeps one test's pattern from being the beginning of another's.
        let index = format!("drover-{name}-t");
        let fleet = Fleet::new();
        let pipeline = Self { fleet, index };
        pipeline.configure(hosts, keys);
        pipeline
    }

    /// One whose master runs.
    pub(crate) fn started(hosts: &[String], name: &str, keys: &str) -> Self {
        let mut pipeline = Self::new(hosts, name, keys);
        pipeline.fleet.start_master();
        pipeline
    }

    /// Writes master.yml anew, for the next start.
    pub(crate) fn configure(&self, hosts: &[String], keys: &str) {
        self.fleet.configure_master(&format!(
            "acceptance: auto\nbridges:\n  - {{name: elk, type: elasticsearch, hosts: {}, index: {}{keys}}}\n",
            json!(hosts),
            self.index
        ));
    }

    /// What `drover bridge status` says.
    pub(crate) fn status(&self) -> Value {
        self.fleet.json(&["bridge", "status"])["elk"].clone()
    }

    /// Waits until that is so.
    pub(crate) fn wait_status(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        wait::until_some(
            what,
            ARRIVAL,
            || Some(self.status()).filter(|status| holds(status)),
            || format!("{}\n{}", self.status(), self.fleet.logs()),
        )
    }

    /// A program on the master's machine that injects events.
    pub(crate) fn program(&self) -> Program {
        Program::connect(&self.fleet.path("master/run/inject.ipc"))
    }

    /// What all of the bridge's indices match, data stream or daily.
    pub(crate) fn pattern(&self) -> String {
        format!("{}*", self.index)
    }

    /// Waits until the log has so many events.
    pub(crate) fn wait_log(&self, events: u64) {
        wait::until_some(
            "the log has the events",
            Duration::from_secs(120),
            || (self.last_seq() >= events).then_some(()),
            || self.fleet.logs(),
        );
    }

    /// The number of the newest event.
    pub(crate) fn last_seq(&self) -> u64 {
        let newest = self.fleet.drover(&["events", "--limit", "1", "--out", "json"]).ok();
        let newest: Value = serde_json::from_str(newest.stdout.trim()).unwrap_or_default();
        newest["seq"].as_u64().unwrap_or_default()
    }

    /// Sends one event, through the command line.
    pub(crate) fn send(&self, tag: &str, data: &str) {
        let _ = self.fleet.drover(&["events", "send", tag, data]).ok();
    }

    /// Waits until all that was kept up to a last event, which this sends, is on the server, and says how many that
    /// were.
    ///
    /// # Panics
    /// When an event is missing, is there twice, or is there and was never kept.
    pub(crate) fn every_event_is_there_once(&self, server: &Server) -> usize {
        let end = self.last_event();
        let kept = self.kept(end);
        wait::until_some(
            "every event arrives",
            ARRIVAL,
            || (server.count(&self.pattern()) >= kept.len() as u64).then_some(()),
            || self.complaint(server, &kept),
        );
        // What came after the last event may be there too.
        let (missing, twice) = self.compare(server, &kept);
        if !missing.is_empty() || !twice.is_empty() {
            // Enough documents, and not these: some are there twice, or the count ran ahead of the last ones.
            wait::until_some(
                "every event arrives, once",
                ARRIVAL,
                || {
                    let (missing, twice) = self.compare(server, &kept);
                    assert!(twice.is_empty(), "there twice: {}", self.places(server, &twice));
                    missing.is_empty().then_some(())
                },
                || self.complaint(server, &kept),
            );
        }
        kept.len()
    }

    /// Sends the event that ends a scenario, and gives its number.
    pub(crate) fn last_event(&self) -> u64 {
        self.send("the/end", "n=1");
        let ends = self.fleet.wait_events("the/end", 1);
        ends.iter().filter_map(|event| event["seq"].as_u64()).max().unwrap()
    }

    /// The ids of what is kept, up to a number, and the tags.
    pub(crate) fn kept(&self, end: u64) -> BTreeMap<String, String> {
        let kept = self.fleet.events("*");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        kept.iter()
            .filter(|event| event["seq"].as_u64().unwrap() <= end)
            .map(|event| (text(&event["id"]), text(&event["tag"])))
            .collect()
    }

    /// Which of these events are missing on the server, and which of its ids are there more than once.
    fn compare<'a>(
        &self,
        server: &Server,
        kept: &'a BTreeMap<String, String>,
    ) -> (Vec<(&'a String, &'a String)>, Vec<String>) {
        let ids = server.ids(&self.pattern());
        let mut seen = BTreeSet::new();
        let twice = ids.iter().filter(|id| !seen.insert(id.as_str())).cloned().collect();
        (kept.iter().filter(|(id, _)| !seen.contains(id.as_str())).collect(), twice)
    }

    /// Where these documents lie: the index, the number and the tag of each.
    fn places(&self, server: &Server, ids: &[String]) -> String {
        let hits = server.documents(&self.pattern(), &json!({"terms": {"_id": ids}}));
        let place = |hit: &Value| {
            let event = &hit["_source"]["drover"];
            format!("{} {} {}\n", hit["_index"], event["seq"], event["tag"])
        };
        hits.iter().map(place).collect()
    }

    fn complaint(&self, server: &Server, kept: &BTreeMap<String, String>) -> String {
        let (missing, twice) = self.compare(server, kept);
        format!(
            "{} of {} are missing, the first {:?}; twice are {twice:?}\n{}\n{}",
            missing.len(),
            kept.len(),
            &missing[..missing.len().min(5)],
            self.status(),
            self.fleet.logs()
        )
    }
}
