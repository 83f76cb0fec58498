//! Elasticsearch and OpenSearch: the vendors' own servers, by `tests/parts/search`, and what a test asks of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{free_port, script, script_with, text};

mod shared;

pub use shared::{on_any, on_each};

/// The servers that a bridge speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Elasticsearch 7.17, which has no data streams here.
    Elasticsearch7,
    /// Elasticsearch 8.
    Elasticsearch8,
    /// Elasticsearch 9.
    Elasticsearch9,
    /// OpenSearch 2.
    Opensearch2,
    /// OpenSearch 3.
    Opensearch3,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Elasticsearch7,
        Self::Elasticsearch8,
        Self::Elasticsearch9,
        Self::Opensearch2,
        Self::Opensearch3,
    ];

    /// As `tests/parts/search` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Elasticsearch7 => "elasticsearch-7",
            Self::Elasticsearch8 => "elasticsearch-8",
            Self::Elasticsearch9 => "elasticsearch-9",
            Self::Opensearch2 => "opensearch-2",
            Self::Opensearch3 => "opensearch-3",
        }
    }

    /// Those that `DROVER_SEARCH_KINDS` names (separated by commas or spaces); one of each vendor without it.
    ///
    /// # Panics
    /// When it names another.
    #[must_use]
    pub fn chosen() -> Vec<Self> {
        let names = std::env::var("DROVER_SEARCH_KINDS")
            .unwrap_or_else(|_| "elasticsearch-8,opensearch-2".to_owned());
        let words = names.split([',', ' ']).filter(|word| !word.is_empty());
        let known = |word: &str| Self::ALL.into_iter().find(|kind| kind.name() == word);
        words
            .map(|word| known(word).unwrap_or_else(|| panic!("there is no server `{word}`")))
            .collect()
    }

    /// Whether it is Elasticsearch, and not OpenSearch.
    #[must_use]
    pub const fn is_elasticsearch(self) -> bool {
        matches!(self, Self::Elasticsearch7 | Self::Elasticsearch8 | Self::Elasticsearch9)
    }

    /// Whether what runs here has data streams.
    #[must_use]
    pub const fn has_data_streams(self) -> bool {
        !matches!(self, Self::Elasticsearch7)
    }
}

/// A node.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    dir: PathBuf,
    port: u16,
    password: Option<String>,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body; text that is not JSON is a string.
    pub body: Value,
}

impl Answer {
    /// The body of an answer that says it was done.
    ///
    /// # Panics
    /// When it says otherwise.
    #[must_use]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.body);
        self.body
    }
}

impl Server {
    /// Starts one on a free port with its data in `dir`; `settings` (`NAME=VALUE`) go into its configuration.
    #[must_use]
    pub fn start(kind: Kind, dir: PathBuf, settings: &[&str]) -> Self {
        let server = Self { kind, dir, port: free_port(), password: None };
        server.start_again(settings);
        server
    }

    /// Starts one that wants the user `elastic` with this password: Elasticsearch 7 or 8.
    #[must_use]
    pub fn start_with_password(kind: Kind, dir: PathBuf, password: &str) -> Self {
        let server = Self { kind, dir, port: free_port(), password: Some(password.to_owned()) };
        server.start_again(&[]);
        server
    }

    /// Starts it after [`Server::kill`] or [`Server::stop`], on the same port and data.
    pub fn start_again(&self, settings: &[&str]) {
        let port = self.port.to_string();
        let mut arguments = vec!["start", self.kind.name(), port.as_str(), text(&self.dir)];
        arguments.extend(settings);
        let password = self.password.iter().map(|password| ("ELASTIC_PASSWORD", password.as_str()));
        script_with("search", &arguments, &password.collect::<Vec<_>>());
    }

    /// SIGKILL.
    pub fn kill(&self) {
        script("search", &["stop", "--kill", text(&self.dir)]);
    }

    /// SIGTERM.
    pub fn stop(&self) {
        script("search", &["stop", text(&self.dir)]);
    }

    /// It answers nothing any more, and its connections stay: SIGSTOP.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.pid().expect("the server runs");
        kill_process(id, signal).expect("the server can be signalled");
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.dir.join("pid")).ok()?;
        text.trim().parse().ok().and_then(Pid::from_raw)
    }

    /// Which it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens on loopback.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `http://127.0.0.1:PORT`, as `hosts` of a bridge takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sends a request. One that gets no answer within 30 s has the status 0.
    ///
    /// # Panics
    /// When curl cannot be run.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let url = format!("{}{path}", self.url());
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--globoff", "--max-time", "30", "--write-out", "\n%{http_code}"]);
        if let Some(password) = &self.password {
            curl.args(["--user", &format!("elastic:{password}")]);
        }
        if !body.is_empty() {
            curl.args(["-H", "content-type: application/json", "--data-binary", &body]);
        }
        let output = curl.args(["-X", method, &url]).output().expect("curl is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').expect("curl writes the status");
        Answer {
            status: status.parse().expect("a status is a number"),
            body: serde_json::from_str(body).unwrap_or_else(|_| body.into()),
        }
    }

    /// GET, of what must be there.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        self.request("GET", path, &Value::Null).ok()
    }

    /// Sets a transient setting of the cluster; null takes it back.
    pub fn set(&self, setting: &str, value: &Value) {
        let body = json!({"transient": {setting: value}});
        let _ = self.request("PUT", "/_cluster/settings", &body).ok();
    }

    /// How many documents an index, a data stream or a pattern has, all that was acknowledged included. Those that are
    /// not there have none.
    #[must_use]
    pub fn count(&self, index: &str) -> u64 {
        let _ = self.request("POST", &format!("/{index}/_refresh"), &Value::Null);
        let found = self.request("GET", &format!("/{index}/_count"), &Value::Null);
        found.body["count"].as_u64().unwrap_or_default()
    }

    /// The `_id` of every document, in no order; an id that two backing indices have is there twice.
    #[must_use]
    pub fn ids(&self, index: &str) -> Vec<String> {
        let hits = self.all(index, &json!({"size": 10_000, "_source": false}));
        hits.iter().filter_map(|hit| hit["_id"].as_str().map(str::to_owned)).collect()
    }

    /// Every document that a query finds, as `hits` of a search has it.
    #[must_use]
    pub fn documents(&self, index: &str, query: &Value) -> Vec<Value> {
        self.all(index, &json!({"size": 10_000, "query": query}))
    }

    /// Reads a search to its end.
    fn all(&self, index: &str, search: &Value) -> Vec<Value> {
        let _ = self.request("POST", &format!("/{index}/_refresh"), &Value::Null);
        let first = self.request("POST", &format!("/{index}/_search?scroll=1m"), search);
        if first.status == 404 {
            return Vec::new();
        }
        let mut page = first.ok();
        let mut all = Vec::new();
        loop {
            let hits = page["hits"]["hits"].as_array().cloned().unwrap_or_default();
            let id = page["_scroll_id"].clone();
            if hits.is_empty() {
                let _ = self.request("DELETE", "/_search/scroll", &json!({"scroll_id": id}));
                return all;
            }
            all.extend(hits);
            let next = json!({"scroll": "1m", "scroll_id": id});
            page = self.request("POST", "/_search/scroll", &next).ok();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
