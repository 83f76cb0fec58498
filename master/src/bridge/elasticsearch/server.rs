//! What a server is, by its own account and by what it was seen to take.

use std::fmt;

use serde_json::Value;

use super::{indices::Layout, template::Flavour};

/// What a server says of itself at `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    distribution: &'static str,
    version: String,
}

impl Identity {
    /// Reads the answer to `GET /`. A server that says nothing of the kind is judged by what it takes.
    pub(super) fn read(answer: &Value) -> Self {
        let version = &answer["version"];
        let distribution = match version["distribution"].as_str() {
            Some("opensearch") => "OpenSearch",
            _ if version["number"].is_string() => "Elasticsearch",
            _ => "a server of unknown version",
        };
        let number = version["number"].as_str().unwrap_or_default();
        Self { distribution, version: number.chars().take(40).collect() }
    }
}

/// What is known of the servers of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) identity: Identity,
    /// How documents lie there.
    pub(super) layout: Layout,
    /// How it maps payloads.
    pub(super) flavour: Flavour,
    /// Whether it was found to have no data streams, where one was wanted.
    pub(super) has_no_streams: bool,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.identity.distribution)?;
        if !self.identity.version.is_empty() {
            write!(f, " {}", self.identity.version)?;
        }
        f.write_str(match (self.layout, self.has_no_streams) {
            (Layout::Stream, _) => ", data streams",
            (Layout::Daily, false) => ", daily indices",
            (Layout::Daily, true) => ", daily indices since it has no data streams",
        })?;
        if self.flavour == Flavour::Unindexed {
            f.write_str(
                ", payloads are not searchable: it has neither `flattened` nor `flat_object`",
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_is_shown_with_what_it_can() {
        let answer = json!({"version": {"number": "7.17.29"}, "tagline": "You Know, for Search"});
        let identity = Identity::read(&answer);
        let mut server = Server {
            identity,
            layout: Layout::Daily,
            flavour: Flavour::Flattened,
            has_no_streams: true,
        };
        let shown = "Elasticsearch 7.17.29, daily indices since it has no data streams";
        assert_eq!(server.to_string(), shown);
        server.identity =
            Identity::read(&json!({"version": {"number": "2.19.6", "distribution": "opensearch"}}));
        server.layout = Layout::Stream;
        assert_eq!(server.to_string(), "OpenSearch 2.19.6, data streams");
        assert_eq!(Identity::read(&json!({})).distribution, "a server of unknown version");
    }
}
