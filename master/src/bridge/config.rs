//! The `bridges` key: a list of maps, each with a name, a type, what every bridge has, and its sink's own keys.

use std::num::NonZeroU32;

use drover_states::{
    diagnostic::Diagnostic,
    settings::size,
    yaml::{Data, Node},
};

use super::{
    credentials::without_secrets, feed::Limits, filter::Filter, sample::Sample, sink::Sink,
};
use crate::config::Section;

/// The longest name.
const LONGEST_NAME: usize = 64;
/// The most events of a batch. Each is held in memory until it is settled.
const MOST_EVENTS: usize = 50_000;
/// The most bytes of a batch: as many as Elasticsearch takes in one request, unless it is told otherwise.
const MOST_BYTES: u64 = 100 << 20;

/// One bridge as the configuration has it.
pub struct Bridge {
    /// Its name: its cursor and its events go by it.
    pub name: String,
    /// Whether it runs. One that does not keeps its cursor, and holds nothing back in the log.
    pub is_enabled: bool,
    /// Where events go.
    pub sink: Sink,
    /// Which do.
    pub filter: Filter,
    /// How large a share of those.
    pub sample: Sample,
    /// How many events a second at most.
    pub rate: Option<NonZeroU32>,
    /// The grains that are added to each event.
    pub grains: Vec<String>,
    /// How many at once.
    pub limits: Limits,
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
        let bridge = bridge(section, item);
        let bridge = bridge.map_err(|wrong| section.in_file(without_secrets(wrong)))?;
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
    let name = settings.take("name", name)?;
    let name = name.ok_or_else(|| settings.missing("the bridge", "name"))?;
    let kind = settings.text("type")?.ok_or_else(|| settings.missing("the bridge", "type"))?;
    let kept = Limits::default();
    let bridge = Bridge {
        name,
        is_enabled: settings.flag("enabled")?.unwrap_or(true),
        filter: settings.parse("filter", Filter::read)?.unwrap_or_default(),
        sample: settings.parse("sample", Sample::read)?.unwrap_or_default(),
        rate: settings.count::<u32>("rate")?.and_then(NonZeroU32::new),
        grains: settings.take("grains", grains)?.unwrap_or_default(),
        limits: Limits {
            events: settings.count_to("batch_events", MOST_EVENTS)?.unwrap_or(kept.events),
            bytes: settings.take("batch_bytes", batch_bytes)?.unwrap_or(kept.bytes),
            delay: settings.wait("batch_delay")?.unwrap_or(kept.delay),
        },
        sink: Sink::read(&kind, &mut settings)?,
    };
    settings.finish()?;
    Ok(bridge)
}

/// A complaint about a part of the configuration; the file's name is added by whoever knows it.
pub(super) fn wrong(node: &Node, text: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(message).at(text, node.position.line, Some(node.position.column))
}

fn name(node: &Node) -> Result<String, &'static str> {
    let name = node.as_str().unwrap_or_default();
    let is_valid = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if is_valid {
        Ok(name.to_owned())
    } else {
        Err("a text of 1 to 64 of A-Z a-z 0-9 . _ -; quote a number, `on` or `off`")
    }
}

fn batch_bytes(node: &Node) -> Result<usize, &'static str> {
    let bytes = size(&node.to_value()).filter(|bytes| *bytes <= MOST_BYTES);
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or("a number of bytes, such as `65536` or `4MiB`, at most `100MiB`")
}

/// A text, or a list of them.
pub(super) fn texts(node: &Node) -> Result<Vec<String>, &'static str> {
    const WANTED: &str = "a glob on tags, or a list of them";
    match &node.data {
        Data::Scalar(_) => Ok(vec![node.as_str().ok_or(WANTED)?.to_owned()]),
        Data::Sequence(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or(WANTED)).collect()
        }
        Data::Mapping(_) => Err(WANTED),
    }
}

fn grains(node: &Node) -> Result<Vec<String>, &'static str> {
    texts(node).map_err(|_| "a list of grains' names")
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
        assert_eq!(bridges[1].limits.events, 50);
    }

    #[test]
    fn the_packaged_example_is_read_also_with_everything_that_is_commented_out() {
        let example = include_str!("../../../packaging/etc/master.yml");
        assert!(Config::parse(example, Path::new("/etc/drover")).unwrap().bridges.is_none());
        // A key begins in lower case, and what belongs to it is indented; sentences do neither.
        let is_key = |line: &str| {
            line.starts_with("  ")
                || line.split_once(": ").is_some_and(|(key, _)| !key.contains(' '))
                || line == "bridges:"
        };
        let lines = example.lines().map(|line| match line.strip_prefix("# ") {
            Some(key) if is_key(key) => key,
            Some(_) | None => line,
        });
        let bridges = bridges(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        let kinds: Vec<_> = bridges.iter().map(|bridge| bridge.sink.kind()).collect();
        assert_eq!(kinds, ["file", "elasticsearch", "webhook"]);
    }

    #[test]
    fn the_pages_examples_are_read() {
        let pages = [
            include_str!("../../../README.md"),
            include_str!("../../../docs/bridge.md"),
            include_str!("../../../docs/bridges/elasticsearch.md"),
            include_str!("../../../docs/bridges/exec.md"),
            include_str!("../../../docs/bridges/logstash.md"),
            include_str!("../../../docs/bridges/mqtt.md"),
            include_str!("../../../docs/bridges/syslog.md"),
            include_str!("../../../docs/bridges/webhook.md"),
        ];
        for page in pages {
            let mut examples = page
                .split("```yaml\n")
                .skip(1)
                .filter_map(|rest| rest.split("```").next())
                .filter(|example| example.starts_with("bridges:"))
                .peekable();
            assert!(examples.peek().is_some(), "a page has no example: {page:.40}");
            for example in examples {
                let read = bridges(example).map(|bridges| bridges.len());
                assert!(matches!(read, Ok(1..)), "{example}\n{read:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_place() {
        let soap = wrong("bridges: [{name: a, type: soap}]\n");
        assert!(soap.starts_with("/x/master.yml:1:11: there is no bridge type `soap`"), "{soap}");
        assert!(soap.contains("\nhint: there are `elasticsearch`"), "{soap}");
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

    #[test]
    fn a_needed_key_that_is_misspelt_is_named_and_not_called_missing() {
        assert_snapshot!(wrong("bridges: [{name: a, type: elasticsearch, host: x, index: y}]\n"), @r"
    /x/master.yml:1:42: unknown key `host`
        1 | bridges: [{name: a, type: elasticsearch, host: x, index: y}]
    hint: did you mean `hosts`?
    ");
        assert_snapshot!(wrong("bridges: [{nam: a, type: file, path: x}]\n"), @r"
    /x/master.yml:1:12: unknown key `nam`
        1 | bridges: [{nam: a, type: file, path: x}]
    hint: did you mean `name`?
    ");
        assert_snapshot!(wrong("bridges: [{name: a, type: file, fields: [id]}]\n"), @r"
    /x/master.yml:1:11: the bridge has no `path`
        1 | bridges: [{name: a, type: file, fields: [id]}]
    ");
    }

    #[test]
    fn open_search_is_a_server_and_no_type() {
        for kind in ["opensearch", "elastic", "es"] {
            let wrong = wrong(&format!("bridges: [{{name: a, type: {kind}}}]\n"));
            assert!(
                wrong.ends_with("hint: write `elasticsearch`: it is for OpenSearch too"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_batch_has_a_limit_that_a_master_survives() {
        for (key, value, is_taken) in [
            ("batch_events", "50000", true),
            ("batch_events", "1000000000", false),
            ("batch_events", "0", false),
            ("batch_bytes", "100MiB", true),
            ("batch_bytes", "1TiB", false),
            ("batch_bytes", "-1", false),
            ("in_flight", "64", true),
            ("in_flight", "1000", false),
        ] {
            let text = format!(
                "bridges: [{{name: a, type: elasticsearch, hosts: 'http://a', index: y, {key}: {value}}}]\n"
            );
            assert_eq!(bridges(&text).is_ok(), is_taken, "{key}: {value}");
        }
    }
}
