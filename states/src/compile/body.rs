//! The body of an ID: its state functions in Salt's short and long forms.

use super::high::{Argument, Loaded, StateDeclaration};
use crate::diagnostic::Diagnostic;
use crate::yaml::{Data, Entry, Node, Position};

/// Reads the state functions of an ID. A function may be missing in an `extend`.
pub(super) fn states(
    loaded: &Loaded,
    file: usize,
    declaration: &Entry,
) -> Result<Vec<StateDeclaration>, Vec<Diagnostic>> {
    let id = &declaration.key;
    let sls = &loaded.sls;
    let entries = match &declaration.node.data {
        // `vim: pkg.installed`
        Data::Scalar(value) => {
            let Some((state, function)) = value.as_str().and_then(|text| text.split_once('.'))
            else {
                let message = format!("ID '{id}' in SLS '{sls}' is not a dictionary");
                return Err(vec![
                    loaded
                        .error_at(declaration.position, &message)
                        .hint("write a state function beneath it, as in `file.managed:`"),
                ]);
            };
            let (state, function) = (state.to_owned(), function.to_owned());
            let position = declaration.position;
            return Ok(vec![StateDeclaration { state, function, position, arguments: Vec::new() }]);
        }
        Data::Sequence(_) => {
            let message = format!("ID '{id}' in SLS '{sls}' is not a dictionary");
            return Err(vec![
                loaded
                    .error_at(declaration.position, &message)
                    .hint("put the state function, as in `file.managed:`, before its arguments"),
            ]);
        }
        Data::Mapping(entries) => entries,
    };
    let mut errors = Vec::new();
    let mut states: Vec<StateDeclaration> = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.key.starts_with("__")) {
        let (state, function) = match entry.key.split_once('.') {
            Some((state, function)) => (state.to_owned(), Some(function.to_owned())),
            None => (entry.key.clone(), None),
        };
        if states.iter().any(|known| known.state == state) {
            let message = format!(
                "ID '{id}' in SLS '{sls}' contains multiple state declarations of the same type"
            );
            errors.push(
                loaded
                    .error_at(entry.position, &message)
                    .hint(format!("give the second `{state}` state an ID of its own")),
            );
            continue;
        }
        match arguments(loaded, file, entry, function) {
            Ok((function, arguments)) => {
                states.push(StateDeclaration {
                    state,
                    function,
                    position: entry.position,
                    arguments,
                });
            }
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(states) } else { Err(errors) }
}

type Read = (String, Vec<Argument>);

fn arguments(
    loaded: &Loaded,
    file: usize,
    state: &Entry,
    mut function: Option<String>,
) -> Result<Read, Vec<Diagnostic>> {
    let mut arguments: Vec<Argument> = Vec::new();
    let mut errors = Vec::new();
    let error = |position: Position, message: &str| loaded.error_at(position, message);
    let items: &[Node] = match &state.node.data {
        Data::Sequence(items) => items,
        Data::Scalar(serde_json::Value::Null) => &[],
        // `pkg: installed`
        Data::Scalar(serde_json::Value::String(name)) if function.is_none() => {
            return Ok((name.clone(), arguments));
        }
        Data::Scalar(_) | Data::Mapping(_) => {
            let message =
                format!("State '{}' in SLS '{}' is not formed as a list", state.key, loaded.sls);
            return Err(vec![
                error(state.position, &message).hint("begin each argument with `- `"),
            ]);
        }
    };
    for item in items {
        match &item.data {
            Data::Scalar(serde_json::Value::String(name)) if function.is_none() => {
                function = Some(name.clone());
            }
            Data::Mapping(entries) if entries.len() == 1 => {
                let entry = &entries[0];
                if arguments.iter().any(|known| known.key == entry.key) {
                    let message = format!("argument `{}` is given twice", entry.key);
                    errors.push(error(entry.position, &message));
                    continue;
                }
                arguments.push(Argument {
                    key: entry.key.clone(),
                    file,
                    position: entry.position,
                    node: entry.node.clone(),
                });
            }
            Data::Mapping(entries) => {
                let first = entries.first().map_or("", |entry| entry.key.as_str());
                let message = format!("one argument holds several keys, beginning with `{first}`");
                errors.push(error(item.position, &message).hint(
                    "begin each argument with `- `, and indent a map by four blanks beneath its key",
                ));
            }
            Data::Scalar(_) | Data::Sequence(_) => {
                let message = format!("`{}` is not an argument", item.to_value());
                errors.push(error(item.position, &message).hint("write `- name: value`"));
            }
        }
    }
    if errors.is_empty() { Ok((function.unwrap_or_default(), arguments)) } else { Err(errors) }
}
