//! The Elasticsearch sink alone, without a fleet: what a bridge's task does with it, done by a test.

use std::{path::Path, sync::Arc};

use drover_master::bridge::{
    ElasticsearchError, ElasticsearchSink, Form, Item, News, Quiet, Verdict,
};
use drover_proto::event::Event;
use drover_states::{settings::Settings, yaml};
use drover_tests::parts::search::Server;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// A sink on a server, into an index that no other test has.
pub(crate) struct Lone<'s> {
    pub(crate) server: &'s Server,
    pub(crate) index: String,
    sink: ElasticsearchSink,
    runtime: Runtime,
}

impl<'s> Lone<'s> {
    /// With settings beside `hosts` and `index`, as lines of YAML.
    pub(crate) fn new(server: &'s Server, what: &str, settings: &str) -> Self {
        let index = format!("alone-{what}-{}", Uuid::new_v4().simple());
        Self::on(server, index, settings)
    }

    /// Into an index that is there.
    pub(crate) fn on(server: &'s Server, index: String, settings: &str) -> Self {
        let text = format!("hosts: ['{}']\nindex: {index}\n{settings}", server.url());
        let node = yaml::load_nodes(&text).unwrap();
        let mut settings = Settings::new(Path::new("/"), &text, node.as_ref()).unwrap();
        let sink = ElasticsearchSink::read(&mut settings).unwrap();
        settings.finish().unwrap();
        let runtime = Runtime::new().unwrap();
        Self { server, index, sink, runtime }
    }

    #[expect(clippy::result_large_err, reason = "it is the sink's own, and a test has room for it")]
    pub(crate) fn try_deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, ElasticsearchError> {
        self.runtime.block_on(self.sink.deliver(items))
    }

    /// Delivers what the server must take.
    pub(crate) fn deliver(&self, items: &[Item]) {
        let verdicts = self.try_deliver(items).unwrap();
        for (item, verdict) in items.iter().zip(verdicts) {
            let data = item.event.data.to_string();
            let shown = data.chars().take(2000).collect::<String>();
            assert_eq!(verdict, Verdict::Done, "{} {shown}", item.event.tag);
        }
    }

    /// Housekeeping with nothing on its way and no request that may still be carried out.
    pub(crate) fn keep(&self) -> Vec<News> {
        self.runtime.block_on(self.sink.upkeep(Quiet { since_ambiguous: None }))
    }

    /// Housekeeping this long after a request ended without an answer.
    pub(crate) fn keep_after(&self, since: std::time::Duration) -> Vec<News> {
        self.runtime.block_on(self.sink.upkeep(Quiet { since_ambiguous: Some(since) }))
    }

    pub(crate) fn shown(&self) -> String {
        self.sink.server().unwrap_or_default()
    }

    /// Everything of it, whether a data stream or daily indices.
    pub(crate) fn pattern(&self) -> String {
        format!("{}*", self.index)
    }

    pub(crate) fn count(&self) -> u64 {
        self.server.count(&self.pattern())
    }

    /// The one document that a query finds.
    pub(crate) fn document(&self, query: &Value) -> Value {
        let mut found = self.server.documents(&self.pattern(), query);
        assert_eq!(found.len(), 1, "{query}: {found:?}");
        found.remove(0)["_source"].take()
    }

    pub(crate) fn mapping(&self) -> Value {
        let mut mappings = self.server.get(&format!("/{}/_mapping", self.pattern()));
        let mappings = mappings.as_object_mut().unwrap();
        let (_, mapping) = mappings.iter_mut().next().expect("there is an index");
        mapping["mappings"].take()
    }

    /// Puts what was indexed where its size is seen.
    pub(crate) fn settle(&self) {
        let _ = self.server.request("POST", &format!("/{}/_flush", self.pattern()), &Value::Null);
        let _ = self.server.request("POST", &format!("/{}/_refresh", self.pattern()), &Value::Null);
    }
}

impl Drop for Lone<'_> {
    fn drop(&mut self) {
        for (what, kind) in [("_data_stream", ""), ("_index_template", "drover-")] {
            let path = format!("/{what}/{kind}{}", self.index);
            let _ = self.server.request("DELETE", &path, &Value::Null);
        }
    }
}

/// An event as the log has it, of now.
pub(crate) fn item(seq: u64, tag: &str, data: Value) -> Item {
    let event = Event {
        id: Uuid::now_v7(),
        seq,
        ts: now(),
        at: None,
        tag: tag.parse().unwrap(),
        minion: tag.contains("rfid-1").then(|| "rfid-1".parse().unwrap()),
        data,
    };
    let grains = json!({"role": "rfid", "site": ["bne", "syd"]});
    let grains = Arc::new(grains.as_object().unwrap().clone());
    Item { event: Arc::new(event), grains, form: Form::Whole, is_retry: false }
}

pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
