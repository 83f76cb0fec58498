//! The rules of `master.yml` and their files: which rule an event meets, and what its files ask for. Files are read
//! again when they have changed, so a rule is mended without a restart.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use drover_proto::{
    event::{Event, Tag},
    glob,
};
use drover_states::{
    diagnostic::Diagnostic,
    files::DirectoryRoots,
    render::{Context, Renderer},
    yaml::{self, Data, Node},
};
use serde_json::Map;

use super::{
    context::context,
    reaction::{self, Reaction},
};
use crate::config::Section;

/// A rule file over this size is a mistake.
const LONGEST: u64 = 1 << 20;

/// All rules, in the order of the configuration.
pub struct Rules {
    rules: Vec<Rule>,
    file_roots: BTreeMap<String, Vec<PathBuf>>,
    loaded: HashMap<PathBuf, Loaded>,
}

#[derive(Debug, Clone)]
struct Rule {
    tags: String,
    files: Vec<PathBuf>,
}

struct Loaded {
    stamp: Stamp,
    text: String,
    renderer: Renderer,
}

/// What changes when a file does: when it was written, its length, and which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(i64, i64, u64, u64);

/// What a rule's files ask for at one event.
#[derive(Debug, Default)]
pub struct Rendered {
    /// Of the files that could be read, in order.
    pub reactions: Vec<Reaction>,
    /// What is wrong with the others.
    pub errors: Vec<Diagnostic>,
}

impl Rules {
    /// Reads the `reactor` key: a list of one-key maps, each a glob on tags with a list of files.
    ///
    /// # Errors
    /// With the place of what cannot be understood.
    pub fn read(
        section: &Section,
        file_roots: BTreeMap<String, Vec<PathBuf>>,
    ) -> Result<Self, Diagnostic> {
        const FORM: &str = "write `- 'drover/minion/*/start': [reactor/push-pending.sls]`";
        let Data::Sequence(items) = &section.node().data else {
            let message = "`reactor` must be a list of one-key maps";
            return Err(section.wrong(section.node(), message).hint(FORM));
        };
        let mut rules = Vec::new();
        for item in items {
            let entries = match &item.data {
                Data::Mapping(entries) => entries.as_slice(),
                Data::Scalar(_) | Data::Sequence(_) => {
                    let message = "a rule must be a one-key map, a glob on tags with its files";
                    return Err(section.wrong(item, message).hint(FORM));
                }
            };
            for entry in entries {
                let files = match &entry.node.data {
                    Data::Sequence(files) => files.iter().collect(),
                    Data::Scalar(_) | Data::Mapping(_) => vec![&entry.node],
                };
                let files = files.into_iter().map(|file| path(section, file, &file_roots));
                rules.push(Rule {
                    tags: entry.key.clone(),
                    files: files.collect::<Result<Vec<_>, _>>()?.concat(),
                });
            }
        }
        Ok(Self { rules, file_roots, loaded: HashMap::new() })
    }

    /// No rules.
    #[must_use]
    pub fn none() -> Self {
        Self { rules: Vec::new(), file_roots: BTreeMap::new(), loaded: HashMap::new() }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// A rule's glob, by which events name it.
    #[must_use]
    pub fn name(&self, rule: usize) -> &str {
        self.rules.get(rule).map_or("", |rule| &rule.tags)
    }

    /// The rules that take a tag.
    #[must_use]
    pub fn matching(&self, tag: &Tag) -> Vec<usize> {
        let rules = self.rules.iter().enumerate();
        rules.filter(|(_, rule)| tag.matches(&rule.tags)).map(|(index, _)| index).collect()
    }

    /// The files that are named and not there.
    #[must_use]
    pub fn missing(&self) -> Vec<PathBuf> {
        let files = self.rules.iter().flat_map(|rule| &rule.files);
        files.filter(|file| !is_pattern(file) && !file.is_file()).cloned().collect()
    }

    /// What a rule's files ask for at an event. Reads files, and renders templates: not for an async task's thread.
    #[must_use]
    pub fn render(&mut self, rule: usize, event: &Event) -> Rendered {
        let mut rendered = Rendered::default();
        let files = self.rules.get(rule).map(|rule| rule.files.clone()).unwrap_or_default();
        for file in files.iter().flat_map(|file| expand(file)) {
            match self.file(&file, event) {
                Ok(reactions) => rendered.reactions.extend(reactions),
                Err(error) => rendered.errors.push(named(error, &file)),
            }
        }
        rendered
    }

    fn file(&mut self, file: &Path, event: &Event) -> Result<Vec<Reaction>, Diagnostic> {
        let loaded = self.load(file)?;
        let name = name(file);
        let text = loaded.renderer.template(&name, &loaded.text, &context(event))?;
        reaction::parse(&text, yaml::load_nodes(&text)?.as_ref())
    }

    /// The file as it is now; it is read only where it has changed.
    fn load(&mut self, file: &Path) -> Result<&Loaded, Diagnostic> {
        let unreadable = |error: std::io::Error| {
            Diagnostic::new(format!("cannot read the rule file: {error}"))
                .hint("see `reactor` in master.yml")
        };
        let metadata = fs::metadata(file).map_err(unreadable)?;
        let stamp = Stamp(metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.ino());
        if self.loaded.get(file).is_none_or(|loaded| loaded.stamp != stamp) {
            if metadata.len() > LONGEST {
                return Err(Diagnostic::new(format!("a rule file has at most {LONGEST} bytes")));
            }
            let text = fs::read_to_string(file).map_err(unreadable)?;
            check_renderer(&text)?;
            // What a template imports stands beside it or in the file roots.
            let mut roots = self.file_roots.clone();
            let beside = file.parent().unwrap_or(Path::new(".")).to_owned();
            roots.entry("base".to_owned()).or_default().insert(0, beside);
            let files = Arc::new(DirectoryRoots::new(roots));
            let renderer = Renderer::new(files, "base", &Context::new(Map::new(), Map::new()));
            self.loaded.insert(file.to_owned(), Loaded { stamp, text, renderer });
        }
        Ok(self.loaded.get(file).expect("inserted above where it was missing"))
    }
}

/// A path of the configuration: `salt://x.sls` lies in the file roots, a relative one starts at the configuration.
fn path(
    section: &Section,
    node: &Node,
    file_roots: &BTreeMap<String, Vec<PathBuf>>,
) -> Result<Vec<PathBuf>, Diagnostic> {
    let Some(text) = node.as_str() else {
        return Err(section.wrong(node, "a rule's file must be a path"));
    };
    let Some(address) = text.strip_prefix("salt://") else {
        return Ok(vec![section.directory().join(text)]);
    };
    let (path, saltenv) = match address.split_once("?saltenv=") {
        Some((path, saltenv)) => (path, saltenv),
        None => (address, "base"),
    };
    let roots = file_roots.get(saltenv).filter(|roots| !roots.is_empty()).ok_or_else(|| {
        section.wrong(node, format!("there is no environment `{saltenv}` in `file_roots`"))
    })?;
    let candidates: Vec<_> = roots.iter().map(|root| root.join(path)).collect();
    let found = candidates.iter().find(|candidate| candidate.is_file());
    // Where it is nowhere yet, it is looked for where it would come first.
    Ok(found.or(candidates.first()).cloned().into_iter().collect())
}

fn is_pattern(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_some_and(glob::is_pattern)
}

/// A glob in a path's last part stands for the files that it matches now, sorted.
fn expand(file: &Path) -> Vec<PathBuf> {
    if !is_pattern(file) || file.is_file() {
        return vec![file.to_owned()];
    }
    let directory = file.parent().unwrap_or(Path::new("."));
    let pattern = name(file);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| glob::matches(&pattern, name))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A complaint about the rule file names it in full; one about a file that it imports names that.
fn named(mut error: Diagnostic, file: &Path) -> Diagnostic {
    if error.file.as_deref() == Some(name(file).as_str()) {
        error.file = None;
    }
    error.in_file(file.display().to_string())
}

fn check_renderer(text: &str) -> Result<(), Diagnostic> {
    let Some(renderer) = text.strip_prefix("#!").and_then(|rest| rest.lines().next()) else {
        return Ok(());
    };
    let renderer = renderer.replace(' ', "");
    if matches!(renderer.as_str(), "jinja|yaml" | "yaml") {
        return Ok(());
    }
    Err(Diagnostic::new(format!("the renderer `{renderer}` is not supported"))
        .at(text, 1, None)
        .hint("write `#!jinja|yaml`, or leave the line out"))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use jiff::Timestamp;
    use serde_json::{Value, json};
    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;
    use crate::config::Config;

    fn rules(directory: &Path, text: &str) -> Result<Rules, Diagnostic> {
        let config = Config::parse(text, directory)?;
        let section = config.reactor.as_ref().expect("there is a `reactor` key");
        Rules::read(section, config.file_roots.clone())
    }

    fn event(tag: &str, data: Value) -> Event {
        Event {
            id: Uuid::nil(),
            seq: 1,
            ts: Timestamp::UNIX_EPOCH,
            at: None,
            tag: tag.parse().unwrap(),
            minion: Some("rfid-1".parse().unwrap()),
            data,
        }
    }

    #[test]
    fn salts_form_is_read_and_a_rule_for_salts_tags_matches() {
        let directory = TempDir::new().unwrap();
        let rules = rules(
            directory.path(),
            "reactor:\n  - 'salt/minion/*/start': [a.sls, /b.sls]\n  - 'drover/*': c.sls\n",
        )
        .unwrap();
        assert_eq!(rules.matching(&"drover/minion/x/start".parse().unwrap()), [0, 1]);
        assert_eq!(rules.matching(&"drover/app/x/y".parse().unwrap()), [1]);
        assert!(rules.matching(&"shop/open".parse().unwrap()).is_empty());
        assert_eq!(rules.missing()[0], directory.path().join("a.sls"));
    }

    #[test]
    fn a_file_is_read_again_when_it_has_changed() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("a.sls");
        fs::write(&file, "x:\n  local.test.ping:\n    - tgt: {{ data['id'] }}\n").unwrap();
        let mut rules = rules(directory.path(), "reactor: [{'*': [a.sls]}]\n").unwrap();
        let event = event("a/b", json!({"n": 2}));
        let Reaction::Local(request) = &rules.render(0, &event).reactions[0] else { panic!() };
        assert_eq!((request.tgt.as_str(), request.fun.as_str()), ("rfid-1", "test.ping"));
        fs::write(&file, "x:\n  local.test.version:\n    - tgt: n{{ data['data']['n'] }}\n")
            .unwrap();
        let Reaction::Local(request) = &rules.render(0, &event).reactions[0] else { panic!() };
        assert_eq!((request.tgt.as_str(), request.fun.as_str()), ("n2", "test.version"));
    }

    #[test]
    fn one_wrong_file_keeps_none_of_the_others_from_working() {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("a.sls"), "x: {{ data['nothing'] }}\n").unwrap();
        fs::write(directory.path().join("b.sls"), "x:\n  local.test.ping:\n    - tgt: '*'\n")
            .unwrap();
        let mut rules = rules(directory.path(), "reactor: [{'*': ['*.sls', gone.sls]}]\n").unwrap();
        let rendered = rules.render(0, &event("a/b", Value::Null));
        assert_eq!(rendered.reactions.len(), 1);
        let errors: Vec<_> = rendered.errors.iter().map(ToString::to_string).collect();
        let errors = errors.join("\n").replace(&directory.path().display().to_string(), "DIR");
        assert_snapshot!(errors, @r"
    DIR/a.sls:1: Jinja variable 'data' has no attribute 'nothing'
        1 | x: {{ data['nothing'] }}
    hint: define it, or write `data.get('nothing', …)` if it may be absent
    DIR/gone.sls: cannot read the rule file: No such file or directory (os error 2)
    hint: see `reactor` in master.yml
    ");
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_place() {
        let wrong = |text| rules(Path::new("/x"), text).err().unwrap().to_string();
        assert_snapshot!(wrong("reactor: {'*': [a.sls]}\n"), @r"
    /x/master.yml:1:10: `reactor` must be a list of one-key maps
        1 | reactor: {'*': [a.sls]}
    hint: write `- 'drover/minion/*/start': [reactor/push-pending.sls]`
    ");
        assert_snapshot!(wrong("reactor: [a.sls]\n"), @r"
    /x/master.yml:1:11: a rule must be a one-key map, a glob on tags with its files
        1 | reactor: [a.sls]
    hint: write `- 'drover/minion/*/start': [reactor/push-pending.sls]`
    ");
        assert_snapshot!(wrong("reactor: [{'*': [{a: b}]}]\n"), @r"
    /x/master.yml:1:18: a rule's file must be a path
        1 | reactor: [{'*': [{a: b}]}]
    ");
    }
}
