//! SLS files read and put together: include, extend and exclude. What is left are declarations: an ID
//! with its state functions, not yet split by name nor ordered.

use std::collections::BTreeSet;

use drover_proto::nearest::nearest;

use super::{Renderers, body};
use crate::diagnostic::Diagnostic;
use crate::files::FileError;
use crate::render::{Rendered, SlsFile};
use crate::yaml::{self, Data, Entry, Node, Position};

/// Includes nested deeper than this run in a circle of templates.
const MAX_FILES: usize = 1_000;

/// One SLS file, rendered and read.
pub(crate) struct Loaded {
    pub(crate) saltenv: String,
    pub(crate) sls: String,
    pub(crate) rendered: Rendered,
    pub(crate) root: Option<Node>,
}

impl Loaded {
    /// A problem at a node.
    pub(crate) fn error(&self, node: &Node, message: &str) -> Diagnostic {
        self.error_at(node.position, message)
    }

    /// A problem at a position of the rendered text, told with the template's line.
    pub(crate) fn error_at(&self, position: Position, message: &str) -> Diagnostic {
        self.locate(Diagnostic::new(message).at(&self.rendered.text, position.line, None))
    }

    fn locate(&self, mut diagnostic: Diagnostic) -> Diagnostic {
        if let Some(line) = diagnostic.line {
            let (file, line) = self.rendered.source(line);
            diagnostic.line = Some(line);
            diagnostic.file = Some(file.to_owned());
        }
        diagnostic
    }
}

/// One ID.
pub(super) struct Declaration {
    pub(super) id: String,
    pub(super) file: usize,
    pub(super) states: Vec<StateDeclaration>,
}

/// One state function of an ID, with its arguments as written.
pub(super) struct StateDeclaration {
    pub(super) state: String,
    pub(super) function: String,
    pub(super) position: Position,
    pub(super) arguments: Vec<Argument>,
}

/// One argument; `file` differs from the declaration's where `extend` brought it.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    pub(super) key: String,
    pub(super) file: usize,
    pub(super) position: Position,
    pub(super) node: Node,
}

/// All declarations of a run.
#[derive(Default)]
pub(super) struct High {
    pub(super) files: Vec<Loaded>,
    pub(super) declarations: Vec<Declaration>,
    pub(super) errors: Vec<Diagnostic>,
}

/// Loads SLS files with all they include.
pub(super) struct Loader<'a> {
    pub(super) renderers: Renderers<'a>,
    high: High,
    seen: BTreeSet<(String, String)>,
    extends: Vec<(usize, Entry)>,
    excluded: Vec<Exclude>,
}

enum Exclude {
    Sls(String),
    Id(String),
}

impl<'a> Loader<'a> {
    pub(super) fn new(renderers: Renderers<'a>) -> Self {
        Self {
            renderers,
            high: High::default(),
            seen: BTreeSet::new(),
            extends: Vec::new(),
            excluded: Vec::new(),
        }
    }

    /// Loads one SLS, what it includes first, as in Salt.
    pub(super) fn load(&mut self, saltenv: &str, sls: &str) {
        if !self.seen.insert((saltenv.to_owned(), sls.to_owned())) {
            return;
        }
        if self.seen.len() > MAX_FILES {
            let message = format!("more than {MAX_FILES} SLS files in one run");
            self.high.errors.push(Diagnostic::new(message));
            return;
        }
        let file = match find(&self.renderers, saltenv, sls) {
            Ok(file) => file,
            Err(error) => return self.high.errors.push(error),
        };
        let is_init = file.path.ends_with("/init.sls");
        let loaded = match load_file(&mut self.renderers, saltenv, file) {
            Ok(loaded) => loaded,
            Err(error) => return self.high.errors.push(error),
        };
        let entries = match &loaded.root {
            None => Vec::new(),
            Some(root) => match &root.data {
                Data::Mapping(entries) => entries.clone(),
                Data::Scalar(_) | Data::Sequence(_) => {
                    let message = format!("SLS {sls} is not formed as a dictionary");
                    let error = loaded.error(root, &message).hint("begin it with an `ID:`");
                    return self.high.errors.push(error);
                }
            },
        };
        let index = self.high.files.len();
        self.high.files.push(loaded);
        if let Some(include) = entries.iter().find(|entry| entry.key == "include") {
            self.include(index, &include.node, is_init);
        }
        for entry in entries {
            match entry.key.as_str() {
                "include" => {}
                "extend" => match entry.node.data {
                    Data::Mapping(extends) => {
                        self.extends.extend(extends.into_iter().map(|extend| (index, extend)));
                    }
                    Data::Scalar(_) | Data::Sequence(_) => self.error(
                        index,
                        entry.position,
                        &format!("Extension in SLS '{sls}' is not formed as a dictionary"),
                    ),
                },
                "exclude" => self.exclude(index, &entry.node),
                key if key.starts_with("__") => {}
                _ => self.declare(index, &entry),
            }
        }
    }

    fn error(&mut self, file: usize, position: Position, message: &str) {
        let error = self.high.files[file].error_at(position, message);
        self.high.errors.push(error);
    }

    fn include(&mut self, file: usize, node: &Node, is_init: bool) {
        let (saltenv, sls) =
            (self.high.files[file].saltenv.clone(), self.high.files[file].sls.clone());
        let Data::Sequence(items) = &node.data else {
            let message = format!("Include Declaration in SLS {sls} is not formed as a list");
            return self.error(file, node.position, &message);
        };
        for item in items {
            let (environment, name) = match &item.data {
                Data::Mapping(entries) if entries.len() == 1 => {
                    (entries[0].key.clone(), entries[0].node.as_str())
                }
                Data::Scalar(_) | Data::Sequence(_) | Data::Mapping(_) => {
                    (saltenv.clone(), item.as_str())
                }
            };
            let Some(name) = name else {
                self.error(file, item.position, "an include must be the name of an SLS");
                continue;
            };
            match resolve(&sls, is_init, name) {
                Some(name) => {
                    let before = self.high.errors.len();
                    self.load(&environment, &name);
                    // A missing include is the including file's mistake: say where it stands.
                    if let Some(error) = self.high.errors.get_mut(before)
                        && error.file.is_none()
                    {
                        let place = self.high.files[file].error_at(item.position, &error.message);
                        let hint = error.hint.take();
                        *error = place.maybe_hint(hint);
                    }
                }
                None => self.error(
                    file,
                    item.position,
                    &format!(
                        "Attempted relative include of '{name}' within SLS '{saltenv}:{sls}' goes \
                         beyond top level package"
                    ),
                ),
            }
        }
    }

    fn exclude(&mut self, file: usize, node: &Node) {
        let Data::Sequence(items) = &node.data else {
            return self.error(file, node.position, "exclude must be a list");
        };
        for item in items {
            let excluded = item.as_str().map(|sls| Exclude::Sls(sls.to_owned())).or_else(|| {
                let sls = item.get("sls").and_then(Node::as_str).map(str::to_owned);
                let id = item.get("id").and_then(Node::as_str).map(str::to_owned);
                sls.map(Exclude::Sls).or(id.map(Exclude::Id))
            });
            match excluded {
                Some(excluded) => self.excluded.push(excluded),
                None => self.error(file, item.position, "exclude takes `sls: name` and `id: ID`"),
            }
        }
    }

    fn declare(&mut self, file: usize, entry: &Entry) {
        let states = body::states(&self.high.files[file], file, entry);
        let states = match states {
            Ok(states) => states,
            Err(errors) => return self.high.errors.extend(errors),
        };
        let earlier = self.high.declarations.iter().find(|other| other.id == entry.key);
        if let Some(earlier) = earlier {
            let (one, other) = (&self.high.files[earlier.file], &self.high.files[file]);
            let message = format!(
                "Detected conflicting IDs, SLS IDs need to be globally unique.\n    The conflicting \
                 ID is '{}' and is found in SLS '{}:{}' and SLS '{}:{}'",
                entry.key, one.saltenv, one.sls, other.saltenv, other.sls
            );
            return self.error(file, entry.position, &message);
        }
        self.high.declarations.push(Declaration { id: entry.key.clone(), file, states });
    }

    /// Applies what extends and excludes, once everything is there.
    pub(super) fn finish(mut self) -> High {
        for (file, extend) in std::mem::take(&mut self.extends) {
            self.extend(file, &extend);
        }
        let files = &self.high.files;
        let excluded = &self.excluded;
        self.high.declarations.retain(|declaration| {
            !excluded.iter().any(|exclude| match exclude {
                Exclude::Sls(sls) => files[declaration.file].sls == *sls,
                Exclude::Id(id) => declaration.id == *id,
            })
        });
        self.high
    }

    fn extend(&mut self, file: usize, extend: &Entry) {
        let states = match body::states(&self.high.files[file], file, extend) {
            Ok(states) => states,
            Err(errors) => return self.high.errors.extend(errors),
        };
        let ids: Vec<&str> = self.high.declarations.iter().map(|d| d.id.as_str()).collect();
        let Some(index) = ids.iter().position(|id| *id == extend.key) else {
            let near = nearest(&extend.key, ids).map(|near| format!("did you mean `{near}`?"));
            let loaded = &self.high.files[file];
            let message = format!(
                "Cannot extend ID '{}' in '{}:{}'. It is not part of the high state.",
                extend.key, loaded.saltenv, loaded.sls
            );
            let hint = near.unwrap_or_else(|| "include the SLS that declares it".to_owned());
            let error = loaded.error_at(extend.position, &message).hint(hint);
            return self.high.errors.push(error);
        };
        let declaration = &mut self.high.declarations[index];
        for state in states {
            match declaration.states.iter_mut().find(|known| known.state == state.state) {
                None => declaration.states.push(state),
                Some(known) => {
                    if !state.function.is_empty() {
                        known.function = state.function;
                    }
                    for argument in state.arguments {
                        merge(known, argument);
                    }
                }
            }
        }
    }
}

/// An extended requisite is appended to; any other argument is replaced.
fn merge(state: &mut StateDeclaration, argument: Argument) {
    let is_requisite = super::requisite::is_requisite(&argument.key);
    match state.arguments.iter_mut().find(|known| known.key == argument.key) {
        Some(known) if !is_requisite => *known = argument,
        Some(_) | None => state.arguments.push(argument),
    }
}

/// `.x` beside the including SLS, `..x` one package further up.
pub(crate) fn resolve(sls: &str, is_init: bool, include: &str) -> Option<String> {
    let name = include.trim_start_matches('.');
    let levels = include.len() - name.len();
    if levels == 0 {
        return Some(include.to_owned());
    }
    let mut parts: Vec<&str> = sls.split('.').collect();
    if is_init {
        parts.push("init");
    }
    let kept = parts.len().checked_sub(levels)?;
    parts.truncate(kept);
    parts.push(name);
    Some(parts.join("."))
}

/// `x.y` is `x/y.sls` or `x/y/init.sls`.
pub(crate) fn find(
    renderers: &Renderers<'_>,
    saltenv: &str,
    sls: &str,
) -> Result<SlsFile, Diagnostic> {
    let base = sls.replace('.', "/");
    let not_found =
        || Diagnostic::new(format!("No matching sls found for '{sls}' in env '{saltenv}'"));
    let naming = "an SLS is named by its path under the file roots, with dots and without `.sls`, \
                  as `apps.rfid` for `apps/rfid.sls`";
    if base.split('/').any(str::is_empty) {
        return Err(not_found().hint(naming));
    }
    let mut failure = None;
    for path in [format!("{base}.sls"), format!("{base}/init.sls")] {
        match renderers.files().read(saltenv, &path) {
            Ok(_) => return Ok(SlsFile { sls: sls.to_owned(), path }),
            Err(FileError::NotFound { .. }) => {}
            Err(error @ (FileError::Outside { .. } | FileError::Unreadable { .. })) => {
                failure = Some(error.to_string());
            }
        }
    }
    if let Some(failure) = failure {
        return Err(Diagnostic::new(format!("SLS '{sls}' in env '{saltenv}': {failure}")));
    }
    let files = renderers.files().list(saltenv).unwrap_or_default();
    let names: Vec<String> = files
        .iter()
        .filter_map(|path| path.strip_suffix(".sls"))
        .map(|path| path.strip_suffix("/init").unwrap_or(path).replace('/', "."))
        .collect();
    let near = nearest(sls, names.iter().map(String::as_str));
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if sls.ends_with(".sls") => naming.to_owned(),
        None => format!("it would be `{base}.sls` or `{base}/init.sls` under the file roots"),
    };
    Err(not_found().hint(hint))
}

/// Reads, renders and parses one file.
pub(crate) fn load_file(
    renderers: &mut Renderers<'_>,
    saltenv: &str,
    file: SlsFile,
) -> Result<Loaded, Diagnostic> {
    let bytes = renderers
        .files()
        .read(saltenv, &file.path)
        .map_err(|error| Diagnostic::new(error.to_string()).hint("is it under the file roots?"))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        Diagnostic::new(format!("not UTF-8 after byte {}", error.valid_up_to())).in_file(&file.path)
    })?;
    let failed = |mut diagnostic: Diagnostic| {
        diagnostic.message =
            format!("Rendering SLS '{saltenv}:{}' failed: {}", file.sls, diagnostic.message);
        diagnostic
    };
    let rendered = renderers.of(saltenv).sls(&file, text).map_err(failed)?;
    let root = yaml::load_nodes(&rendered.text);
    let mut loaded =
        Loaded { saltenv: saltenv.to_owned(), sls: file.sls.clone(), rendered, root: None };
    loaded.root =
        root.map_err(|error| failed(loaded.locate(error)))?.filter(|root| !root.is_null());
    Ok(loaded)
}
