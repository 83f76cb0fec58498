//! The `bridges` key: a list of maps, each with a name and a type.

use drover_proto::event::Event;
use drover_states::{
    diagnostic::Diagnostic,
    yaml::{Data, Node},
};
use hyper::Uri;

use super::{
    elasticsearch::{ElasticsearchSink, IndexName},
    feed::Limits,
    sink::Sink,
};
use crate::config::Section;

/// The longest name.
const LONGEST_NAME: usize = 64;

/// One bridge as the configuration has it.
pub struct Bridge {
    /// Its name: its cursor and its events go by it.
    pub name: String,
    /// Where events go.
    pub sink: Sink,
    /// Which do.
    pub filter: Filter,
    /// How many at once.
    pub limits: Limits,
}

/// Globs on tags; without any, every event is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(Vec<String>);

impl Filter {
    /// Whether an event is meant.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        self.0.is_empty() || self.0.iter().any(|glob| event.tag.matches(glob))
    }
}

/// Reads the `bridges` key.
///
/// # Errors
/// With the place of what cannot be used.
pub fn read(section: &Section) -> Result<Vec<Bridge>, Diagnostic> {
    let Data::Sequence(items) = &section.node().data else {
        let message = "`bridges` must be a list of maps, each with `name` and `type`";
        return Err(section.wrong(section.node(), message));
    };
    let mut bridges: Vec<Bridge> = Vec::new();
    for item in items {
        let bridge = bridge(section, item).map_err(|wrong| section.in_file(wrong))?;
        if bridges.iter().any(|other| other.name == bridge.name) {
            let message = format!("two bridges have the name `{}`", bridge.name);
            return Err(section
                .wrong(item, message)
                .hint("each has a cursor of its own, by its name"));
        }
        bridges.push(bridge);
    }
    Ok(bridges)
}

fn bridge(section: &Section, node: &Node) -> Result<Bridge, Diagnostic> {
    let mut settings = section.settings(node)?;
    let missing = |key| section.wrong(node, format!("the bridge has no `{key}`"));
    let name = settings.take("name", name)?.ok_or_else(|| missing("name"))?;
    let kind = settings.text("type")?.ok_or_else(|| missing("type"))?;
    let filter = Filter(settings.take("filter", texts)?.unwrap_or_default());
    let kept = Limits::default();
    let limits = Limits {
        events: settings.count("batch_events")?.unwrap_or(kept.events),
        bytes: settings
            .size("batch_bytes")?
            .map_or(kept.bytes, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        delay: settings.duration("batch_delay")?.unwrap_or(kept.delay),
    };
    let sink = match kind.as_str() {
        "file" => {
            let path = settings.path("path")?;
            Sink::file(path.ok_or_else(|| missing("path"))?)
        }
        "elasticsearch" => {
            let hosts = settings.take("hosts", hosts)?.ok_or_else(|| missing("hosts"))?;
            let index =
                settings.take("index", |node| IndexName::new(node.as_str().unwrap_or_default()))?;
            let index = index.ok_or_else(|| missing("index"))?;
            Sink::Elasticsearch(Box::new(ElasticsearchSink::new(hosts, index)))
        }
        other => {
            return Err(section
                .wrong(node, format!("there is no bridge type `{other}`"))
                .hint("there are `file` and `elasticsearch`"));
        }
    };
    settings.finish()?;
    Ok(Bridge { name, sink, filter, limits })
}

fn name(node: &Node) -> Result<String, &'static str> {
    let name = node.as_str().unwrap_or_default();
    let is_valid = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if is_valid { Ok(name.to_owned()) } else { Err("1 to 64 of A-Z a-z 0-9 . _ -") }
}

fn texts(node: &Node) -> Result<Vec<String>, &'static str> {
    const WANTED: &str = "a glob on tags, or a list of them";
    match &node.data {
        Data::Scalar(_) => Ok(vec![node.as_str().ok_or(WANTED)?.to_owned()]),
        Data::Sequence(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or(WANTED)).collect()
        }
        Data::Mapping(_) => Err(WANTED),
    }
}

fn hosts(node: &Node) -> Result<Vec<Uri>, &'static str> {
    const WANTED: &str = "an address such as `http://127.0.0.1:9200`, or a list of them";
    const NO_TLS: &str = "`http://` addresses: the bridge speaks no TLS, put a local proxy that does before a server \
                          that wants it";
    const NO_PASSWORD: &str = "addresses without a user or password: put a local proxy that adds them before a server \
                               that wants them";
    let addresses = texts(node).map_err(|_| WANTED)?;
    if addresses.is_empty() {
        return Err(WANTED);
    }
    let host = |address: &String| {
        let host: Uri = address.parse().map_err(|_| WANTED)?;
        match host.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(NO_TLS),
            Some(_) | None => return Err(WANTED),
        }
        let authority = host.authority().ok_or(WANTED)?;
        if authority.as_str().contains('@') {
            return Err(NO_PASSWORD);
        }
        if host.query().is_some() { Err(WANTED) } else { Ok(host) }
    };
    addresses.iter().map(host).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use insta::assert_snapshot;

    use super::*;
    use crate::config::Config;

    fn bridges(text: &str) -> Result<Vec<Bridge>, Diagnostic> {
        let config = Config::parse(text, Path::new("/x"))?;
        read(config.bridges.as_ref().expect("there is a `bridges` key"))
    }

    fn wrong(text: &str) -> String {
        bridges(text).err().expect("it is refused").to_string()
    }

    #[test]
    fn both_types_are_read() {
        let bridges = bridges(
            "bridges:\n  - {name: log, type: file, path: events.ndjson, filter: 'drover/job/*'}\n  \
             - {name: elk, type: elasticsearch, hosts: ['http://127.0.0.1:9200', 'http://b:9200/es'], \
             index: drover-events, batch_events: 50, batch_delay: 2s}\n",
        )
        .unwrap();
        let kinds: Vec<_> =
            bridges.iter().map(|bridge| (&*bridge.name, bridge.sink.kind())).collect();
        assert_eq!(kinds, [("log", "file"), ("elk", "elasticsearch")]);
        assert_eq!(bridges[0].filter, Filter(vec!["drover/job/*".into()]));
        assert_eq!(bridges[1].limits.events, 50);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_place() {
        assert_snapshot!(wrong("bridges: [{name: a, type: elasticsearch, hosts: ['https://a:9200'], index: e}]\n"), @r"
    /x/master.yml:1:49: `hosts` must be `http://` addresses: the bridge speaks no TLS, put a local proxy that does before a server that wants it
        1 | bridges: [{name: a, type: elasticsearch, hosts: ['https://a:9200'], index: e}]
    ");
        assert_snapshot!(wrong("bridges: [{name: a, type: elasticsearch, hosts: ['http://u:p@a:9200'], index: e}]\n"), @r"
    /x/master.yml:1:49: `hosts` must be addresses without a user or password: put a local proxy that adds them before a server that wants them
        1 | bridges: [{name: a, type: elasticsearch, hosts: ['http://u:p@a:9200'], index: e}]
    ");
        assert_snapshot!(wrong("bridges: [{name: a, type: soap}]\n"), @r"
    /x/master.yml:1:11: there is no bridge type `soap`
        1 | bridges: [{name: a, type: soap}]
    hint: there are `file` and `elasticsearch`
    ");
        assert_snapshot!(wrong("bridges: [{name: a, type: file, path: x, index: y}]\n"), @r"
    /x/master.yml:1:42: unknown key `index`
        1 | bridges: [{name: a, type: file, path: x, index: y}]
    ");
        assert_snapshot!(wrong("bridges: [{name: a, type: file, path: x}, {name: a, type: file, path: y}]\n"), @r"
    /x/master.yml:1:43: two bridges have the name `a`
        1 | bridges: [{name: a, type: file, path: x}, {name: a, type: file, path: y}]
    hint: each has a cursor of its own, by its name
    ");
        assert_snapshot!(wrong("bridges: {name: a}\n"), @r"
    /x/master.yml:1:10: `bridges` must be a list of maps, each with `name` and `type`
        1 | bridges: {name: a}
    ");
    }
}
