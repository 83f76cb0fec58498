//! The top file: which SLS a minion gets.

use drover_proto::nearest::nearest;

use super::high::{Loaded, load_file};
use super::{Renderers, TargetMatcher};
use crate::diagnostic::{CompileErrors, Diagnostic};
use crate::render::SlsFile;
use crate::yaml::{Data, Node};

/// One SLS that the top file gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) saltenv: String,
    pub(crate) sls: String,
    /// Of pillar tops: do without it when it is not there.
    pub(crate) ignore_missing: bool,
}

const MATCH_TYPES: &[&str] = &[
    "compound",
    "data",
    "glob",
    "grain",
    "grain_pcre",
    "ipcidr",
    "list",
    "nodegroup",
    "pcre",
    "pillar",
    "pillar_exact",
    "pillar_pcre",
    "range",
];

/// What the top file of `saltenv` selects, each SLS once, in the order of the file.
pub(crate) fn select(
    renderers: &mut Renderers<'_>,
    saltenv: &str,
    matcher: &dyn TargetMatcher,
) -> Result<Vec<Selection>, CompileErrors> {
    let file = SlsFile { sls: "top".to_owned(), path: "top.sls".to_owned() };
    let top = load_file(renderers, saltenv, file)?;
    let Some(root) = &top.root else { return Ok(Vec::new()) };
    let mut errors = Vec::new();
    let mut selections: Vec<Selection> = Vec::new();
    let Data::Mapping(environments) = &root.data else {
        let error = top.error(root, "the top file must be a map of environments");
        return Err(error.hint("begin it with `base:`").into());
    };
    for environment in environments {
        let Data::Mapping(targets) = &environment.node.data else {
            errors.push(top.error(&environment.node, "an environment must be a map of targets"));
            continue;
        };
        for target in targets {
            let (kind, names) = match read_target(&top, &target.node) {
                Ok(read) => read,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            match matcher.matches(&target.key, kind) {
                Ok(false) => {}
                Ok(true) => {
                    for (sls, ignore_missing) in names {
                        let saltenv = environment.key.clone();
                        let selection = Selection { saltenv, sls, ignore_missing };
                        let same = |other: &Selection| {
                            other.saltenv == selection.saltenv && other.sls == selection.sls
                        };
                        if !selections.iter().any(same) {
                            selections.push(selection);
                        }
                    }
                }
                Err(message) => {
                    let message = format!("target `{}`: {message}", target.key);
                    errors.push(top.error_at(target.position, &message));
                }
            }
        }
    }
    match CompileErrors::from_diagnostics(errors) {
        Some(errors) => Err(errors),
        None => Ok(selections),
    }
}

type Names = Vec<(String, bool)>;

/// The match type and the SLS names of one target.
fn read_target<'a>(top: &Loaded, node: &'a Node) -> Result<(&'a str, Names), Diagnostic> {
    let mut kind = "compound";
    let mut ignore_missing = false;
    let mut names = Vec::new();
    let items = match &node.data {
        Data::Sequence(items) => items.as_slice(),
        Data::Scalar(_) => std::slice::from_ref(node),
        Data::Mapping(_) => return Err(top.error(node, "a target must be a list of SLS names")),
    };
    for item in items {
        match &item.data {
            Data::Scalar(value) => {
                let name = crate::module::scalar_text(value)
                    .ok_or_else(|| top.error(item, "an SLS name must be text"))?;
                names.push(name);
            }
            Data::Mapping(entries) => {
                for entry in entries {
                    match entry.key.as_str() {
                        "match" => {
                            let written = entry.node.as_str().unwrap_or_default();
                            if !MATCH_TYPES.contains(&written) {
                                let near = nearest(written, MATCH_TYPES.iter().copied());
                                let hint = near.map(|near| format!("did you mean `{near}`?"));
                                let message = format!("unknown match type `{written}`");
                                return Err(top.error(item, &message).maybe_hint(hint));
                            }
                            kind = written;
                        }
                        "ignore_missing" => {
                            ignore_missing = entry.node.to_value() == serde_json::json!(true);
                        }
                        other => {
                            let message = format!("`{other}` is not known in a top file");
                            return Err(top.error(item, &message).hint("known is `match`"));
                        }
                    }
                }
            }
            Data::Sequence(_) => return Err(top.error(item, "an SLS name must be text")),
        }
    }
    Ok((kind, names.into_iter().map(|name| (name, ignore_missing)).collect()))
}
