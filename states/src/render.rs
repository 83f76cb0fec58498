//! Jinja as SLS files, pillar files and `template: jinja` sources use it: minijinja, strict about
//! undefined names, with Python's methods and Salt's context, functions and filters. A template
//! reads the file source and nothing else of the outside.

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value as Jinja};
use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::files::{FileError, FileSource};

mod filters;
mod functions;
mod python;
mod report;
mod source_map;

pub use functions::ExecutionFunctions;
pub(crate) use functions::traverse;
pub(crate) use source_map::Rendered;

/// What one template may spend; a loop of a million steps is over it.
const FUEL: u64 = 5_000_000;

/// What templates see, beside the names of the file that is rendered.
#[derive(Clone)]
pub struct Context {
    /// The minion's grains.
    pub grains: Map<String, Value>,
    /// The minion's pillar; empty while the pillar itself is rendered.
    pub pillar: Map<String, Value>,
    /// `opts`: configuration that templates may ask for.
    pub opts: Map<String, Value>,
    /// Functions of the host for `salt['…']`, beside the built-in ones.
    pub functions: Option<Arc<dyn ExecutionFunctions>>,
}

impl Context {
    /// The context of a minion with these grains and this pillar.
    #[must_use]
    pub fn new(grains: Map<String, Value>, pillar: Map<String, Value>) -> Self {
        let opts = grains.get("id").map(|id| ("id".to_owned(), id.clone())).into_iter().collect();
        Self { grains, pillar, opts, functions: None }
    }
}

/// Renders templates of one environment.
pub struct Renderer {
    jinja: Environment<'static>,
    files: Arc<dyn FileSource>,
    saltenv: String,
}

/// The name of an SLS and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlsFile {
    /// Dotted: `fleet.rfid`.
    pub(crate) sls: String,
    /// Its path: `fleet/rfid.sls` or `fleet/rfid/init.sls`.
    pub(crate) path: String,
}

impl Renderer {
    /// A renderer for the files of `saltenv`.
    #[must_use]
    pub fn new(files: Arc<dyn FileSource>, saltenv: &str, context: &Context) -> Self {
        let mut jinja = Environment::new();
        jinja.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        jinja.set_syntax(syntax.expect("the default delimiters are valid"));
        jinja.set_debug(true);
        jinja.set_fuel(Some(FUEL));
        jinja.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        jinja.set_unknown_method_callback(python::method);
        jinja.set_formatter(python::print);
        jinja.set_path_join_callback(join);
        let (source, environment) = (Arc::clone(&files), saltenv.to_owned());
        jinja.set_loader(move |name| match source.read(&environment, name) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(FileError::NotFound { .. }) => Ok(None),
            Err(error) => {
                let kind = minijinja::ErrorKind::InvalidOperation;
                Err(minijinja::Error::new(kind, error.to_string()))
            }
        });
        filters::add(&mut jinja);
        functions::add(&mut jinja, context);
        jinja.add_global("grains", Jinja::from(Serde(&context.grains)));
        jinja.add_global("pillar", Jinja::from(Serde(&context.pillar)));
        jinja.add_global("opts", Jinja::from(Serde(&context.opts)));
        jinja.add_global("saltenv", saltenv);
        jinja.add_global("env", saltenv);
        Self { jinja, files, saltenv: saltenv.to_owned() }
    }

    /// Renders the text of an SLS file.
    pub(crate) fn sls(&self, file: &SlsFile, text: &str) -> Result<Rendered, Diagnostic> {
        let (text, renderer) = pipe(text);
        match renderer {
            None | Some("jinja|yaml" | "jinja | yaml") => {}
            Some("yaml") => return Ok(Rendered::verbatim(&file.path, text)),
            Some(other) => {
                return Err(Diagnostic::new(format!("the renderer `{other}` is not supported"))
                    .in_file(&file.path)
                    .at(text, 1, None)
                    .hint("write `#!jinja|yaml` or `#!yaml`"));
            }
        }
        let directory = parent(&file.path);
        let mut names = template_names(&file.path);
        // For `d/init.sls` the path is that of the SLS, for `d/s.sls` that of its directory.
        let sls_path = if file.path.ends_with("/init.sls") {
            file.sls.replace('.', "/")
        } else if directory == "." {
            String::new()
        } else {
            directory.to_owned()
        };
        names.push(("sls", file.sls.clone()));
        names.push(("slsdotpath", sls_path.replace('/', ".")));
        names.push(("slscolonpath", sls_path.replace('/', ":")));
        names.push(("sls_path", sls_path.replace('/', "_")));
        names.push(("slspath", sls_path));
        let context = Jinja::from_pairs(names);
        self.render(&file.path, text, context)
    }

    /// Renders a template with names of its own, as `file.managed` does with `context`.
    ///
    /// # Errors
    /// A [`Diagnostic`] with the template's file and line.
    pub fn template(
        &self,
        path: &str,
        text: &str,
        context: &Map<String, Value>,
    ) -> Result<String, Diagnostic> {
        let names = template_names(path).into_iter();
        let names = names.map(|(name, text)| (name.to_owned(), Jinja::from(text)));
        let given = context.iter().map(|(name, value)| (name.clone(), Jinja::from(Serde(value))));
        let source = ("source".to_owned(), Jinja::from(format!("salt://{path}")));
        let context = Jinja::from_pairs(names.chain([source]).chain(given));
        Ok(self.render(path, text, context)?.text)
    }

    fn render(&self, path: &str, text: &str, context: Jinja) -> Result<Rendered, Diagnostic> {
        let template = self
            .jinja
            .template_from_named_str(path, text)
            .and_then(|template| template.render_with_spans(context));
        match template {
            Ok((rendered, spans)) => Ok(Rendered::new(path, text, rendered, spans)),
            Err(error) => Err(self.report(&error, path, text)),
        }
    }

    fn report(&self, error: &minijinja::Error, path: &str, text: &str) -> Diagnostic {
        let name = error.name().unwrap_or(path);
        let known = |root: &str| {
            self.jinja.globals().find(|(name, _)| *name == root).map(|(_, value)| value)
        };
        if name == path {
            return report::diagnostic(error, path, text, known);
        }
        let included = self.files.read(&self.saltenv, name).unwrap_or_default();
        report::diagnostic(error, name, &String::from_utf8_lossy(&included), known)
    }
}

/// `#!jinja|yaml` on the first line; the line stays, as a comment, so that lines keep their numbers.
fn pipe(text: &str) -> (&str, Option<&str>) {
    let renderer = text.strip_prefix("#!").and_then(|rest| rest.lines().next()).map(str::trim);
    (text, renderer)
}

fn template_names(path: &str) -> Vec<(&'static str, String)> {
    let directory = parent(path);
    vec![
        ("tplfile", path.to_owned()),
        ("tplpath", path.to_owned()),
        ("tpldir", directory.to_owned()),
        ("tpldot", if directory == "." { String::new() } else { directory.replace('/', ".") }),
    ]
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(directory, _)| directory)
}

/// `salt://a/b` and `a/b` begin at the root; `./b` and `../b` beside the importing file.
fn join<'s>(name: &'s str, importer: &'s str) -> Cow<'s, str> {
    if let Some(path) = name.strip_prefix("salt://") {
        return Cow::Borrowed(path);
    }
    if !name.starts_with("./") && !name.starts_with("../") {
        return Cow::Borrowed(name);
    }
    let mut parts: Vec<&str> = importer.split('/').collect();
    parts.pop();
    for part in name.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Cow::Owned(parts.join("/"))
}

#[cfg(test)]
mod tests;
