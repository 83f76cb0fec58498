//! From declarations to chunks: names split, functions looked up, arguments parsed, requisites
//! resolved, everything put in order.

use drover_proto::nearest::nearest;
use serde_json::{Map, Value};

use super::global::{self, Order};
use super::high::{Argument, Declaration, High, Loaded, StateDeclaration};
use super::order;
use super::requisite::{self, Written};
use crate::diagnostic::{CompileErrors, Diagnostic};
use crate::low::{Chunk, GlobalArguments, LowState, Requisite};
use crate::module::{Arguments, Module, scalar_text};

/// Where Salt begins to count.
const FIRST_ORDER: i64 = 10_000;

/// A chunk whose requisites are not resolved yet.
struct Draft {
    chunk: Chunk,
    file: usize,
    written: Vec<Written>,
}

/// Compiles all declarations.
pub(super) fn compile(high: High) -> Result<LowState, CompileErrors> {
    let High { files, declarations, mut errors } = high;
    let mut drafts = Vec::new();
    let mut counter = FIRST_ORDER;
    for declaration in &declarations {
        for state in &declaration.states {
            let mut reader = Reader {
                files: &files,
                declaration,
                state,
                errors: &mut errors,
                counter: &mut counter,
            };
            drafts.extend(reader.read());
        }
    }
    settle_last(&mut drafts);
    let requisites = resolve(&files, &drafts, &mut errors);
    if errors.is_empty() {
        let before: Vec<Vec<usize>> = requisites
            .iter()
            .map(|all| all.iter().flat_map(|requisite| requisite.targets.clone()).collect())
            .collect();
        let orders: Vec<i64> = drafts.iter().map(|draft| draft.chunk.order).collect();
        match order::sort(&orders, &before) {
            Ok(sorted) => return Ok(arrange(drafts, requisites, &sorted)),
            Err(circle) => errors.push(recursion(&files, &drafts, &circle)),
        }
    }
    Err(CompileErrors::from_diagnostics(errors).expect("invariant: there is an error to tell"))
}

/// Reads one state function of one ID.
struct Reader<'a> {
    files: &'a [Loaded],
    declaration: &'a Declaration,
    state: &'a StateDeclaration,
    errors: &'a mut Vec<Diagnostic>,
    counter: &'a mut i64,
}

impl Reader<'_> {
    fn read(&mut self) -> Vec<Draft> {
        let full = format!("{}.{}", self.state.state, self.state.function);
        if !Module::FUNCTIONS.contains(&full.as_str()) {
            self.unknown_function(&full);
            return Vec::new();
        }
        let mut values = Map::new();
        let mut written = Vec::new();
        let mut globals = GlobalArguments::default();
        let mut order = Order::default();
        let mut names = None;
        for argument in &self.state.arguments {
            let value = argument.node.to_value();
            if argument.key == "names" {
                names = Some((argument, value));
            } else if let Some(read) = requisite::read(argument) {
                match read {
                    Ok(requisite) => written.push(requisite),
                    Err(message) => self.error(argument, &message),
                }
            } else if let Some(read) = global::read(&argument.key, &value, &mut globals, &mut order)
            {
                if let Err(message) = read {
                    self.error(argument, &message);
                }
            } else {
                values.insert(argument.key.clone(), value);
            }
        }
        let names = match names {
            None => vec![(self.own_name(&values), Map::new())],
            Some((argument, value)) => match expand(&value) {
                Some(names) => names,
                None => {
                    self.error(argument, "`names` must be a list of names");
                    return Vec::new();
                }
            },
        };
        let order_number = self.number(order);
        names
            .into_iter()
            .filter_map(|(name, own)| {
                let mut values = values.clone();
                values.extend(own);
                let mut global = globals.clone();
                let mut ignored = Order::default();
                values.retain(|key, value| {
                    global::read(key, value, &mut global, &mut ignored).is_none()
                });
                self.chunk(&full, name, values, global, order_number).map(|chunk| Draft {
                    chunk,
                    file: self.declaration.file,
                    written: written.clone(),
                })
            })
            .collect()
    }

    fn own_name(&self, values: &Map<String, Value>) -> String {
        values.get("name").and_then(scalar_text).unwrap_or_else(|| self.declaration.id.clone())
    }

    fn number(&mut self, order: Order) -> i64 {
        match order {
            Order::Written => {
                *self.counter += 1;
                *self.counter - 1
            }
            Order::First => 0,
            Order::Last => i64::MAX,
            Order::At(number) => number,
        }
    }

    fn chunk(
        &mut self,
        full: &str,
        name: String,
        values: Map<String, Value>,
        global: GlobalArguments,
        order: i64,
    ) -> Option<Chunk> {
        let mut arguments = Arguments::new(&name, &values);
        let module = Module::parse(full, &mut arguments)?;
        let problems = arguments.finish(full, global::NAMES);
        let is_fine = problems.is_empty();
        for problem in problems {
            let argument = self.state.arguments.iter().find(|a| a.key == problem.argument);
            let (id, sls) = (&self.declaration.id, &self.file().sls);
            let message = format!("State '{id}' in SLS '{sls}': {}", problem.message);
            let diagnostic = match argument {
                Some(argument) => self.files[argument.file].error_at(argument.position, &message),
                None => self.file().error_at(self.state.position, &message),
            };
            self.errors.push(diagnostic.maybe_hint(problem.hint));
        }
        let file = self.file();
        is_fine.then(|| Chunk {
            id: self.declaration.id.clone(),
            sls: file.sls.clone(),
            saltenv: file.saltenv.clone(),
            state: self.state.state.clone(),
            function: self.state.function.clone(),
            order,
            arguments: values.clone(),
            requisites: Vec::new(),
            global,
            module,
            name: name.clone(),
        })
    }

    fn file(&self) -> &Loaded {
        &self.files[self.declaration.file]
    }

    fn error(&mut self, argument: &Argument, message: &str) {
        let (id, sls) = (&self.declaration.id, &self.file().sls);
        let message = format!("State '{id}' in SLS '{sls}': {message}");
        self.errors.push(self.files[argument.file].error_at(argument.position, &message));
    }

    fn unknown_function(&mut self, full: &str) {
        let (state, sls) = (&self.state.state, &self.file().sls);
        let message = if self.state.function.is_empty() {
            format!("No function declared in state '{state}' in SLS '{sls}'")
        } else {
            format!("State '{full}' was not found in SLS '{sls}'")
        };
        let near = nearest(full, Module::FUNCTIONS.iter().copied());
        let known = || Module::FUNCTIONS.iter().filter_map(|known| known.split_once('.'));
        let module = known().map(|(module, _)| module).find(|module| module.starts_with(&**state));
        let module = module.or_else(|| nearest(state, known().map(|(module, _)| module)));
        let hint = match (near, module) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(module)) => {
                let siblings = known().filter(|(of, _)| *of == module || of.starts_with(&**state));
                let names: Vec<_> = siblings.map(|(of, name)| format!("{of}.{name}")).collect();
                format!("there are {}", names.join(", "))
            }
            (None, None) => {
                let mut modules: Vec<_> = known().map(|(module, _)| module).collect();
                modules.dedup();
                format!("there are states of {}", modules.join(", "))
            }
        };
        let error = self.file().error_at(self.state.position, &message).hint(hint);
        self.errors.push(error);
    }
}

/// `names`: texts, or one-key maps with arguments of their own.
fn expand(value: &Value) -> Option<Vec<(String, Map<String, Value>)>> {
    let items = value.as_array()?;
    items
        .iter()
        .map(|item| match item {
            Value::Object(map) => {
                let (name, own) = map.iter().next().filter(|_| map.len() == 1)?;
                let own = match own {
                    Value::Array(items) => items
                        .iter()
                        .filter_map(Value::as_object)
                        .flatten()
                        .map(|(key, value)| (key.clone(), value.clone()))
                        .collect(),
                    Value::Object(own) => own.clone(),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                        return None;
                    }
                };
                Some((name.clone(), own))
            }
            Value::Null | Value::Array(_) => None,
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Some((scalar_text(item)?, Map::new()))
            }
        })
        .collect()
}

/// `order: last` and negative numbers stand behind all that are written.
fn settle_last(drafts: &mut [Draft]) {
    let orders = drafts.iter().map(|draft| draft.chunk.order);
    let highest = orders.filter(|order| *order < i64::MAX).max().unwrap_or(FIRST_ORDER);
    for draft in drafts {
        let order = &mut draft.chunk.order;
        *order = match *order {
            i64::MAX => highest.saturating_add(1_000_000),
            negative if negative < 0 => highest.saturating_add(1_000_000).saturating_add(negative),
            order => order,
        };
    }
}

fn resolve(
    files: &[Loaded],
    drafts: &[Draft],
    errors: &mut Vec<Diagnostic>,
) -> Vec<Vec<Requisite>> {
    let mut requisites: Vec<Vec<Requisite>> = drafts.iter().map(|_| Vec::new()).collect();
    for (index, draft) in drafts.iter().enumerate() {
        for written in &draft.written {
            let mut found = Vec::new();
            for target in &written.targets {
                let before = found.len();
                let means = |other: &Draft| {
                    let chunk = &other.chunk;
                    target.matches(&chunk.sls, &chunk.state, &chunk.id, &chunk.name)
                };
                let others = drafts.iter().enumerate().filter(|(_, other)| means(other));
                found.extend(others.map(|(other, _)| other).filter(|other| *other != index));
                if found.len() == before {
                    errors.push(missing(files, drafts, draft, written, target));
                }
            }
            found.sort_unstable();
            found.dedup();
            let (kind, join) = (written.kind, written.join);
            if written.inverted {
                for other in found {
                    requisites[other].push(Requisite { kind, join, targets: vec![index] });
                }
            } else {
                requisites[index].push(Requisite { kind, join, targets: found });
            }
        }
    }
    requisites.iter_mut().for_each(join_any);
    requisites
}

/// Several `onchanges_in` or `…_any_in` on one state are one list of which one is enough.
fn join_any(requisites: &mut Vec<Requisite>) {
    let mut joined: Vec<Requisite> = Vec::new();
    for requisite in requisites.drain(..) {
        let same =
            |known: &&mut Requisite| known.kind == requisite.kind && known.join == requisite.join;
        match joined.iter_mut().find(same) {
            Some(known) => known.targets.extend(requisite.targets),
            None => joined.push(requisite),
        }
    }
    *requisites = joined;
}

fn missing(
    files: &[Loaded],
    drafts: &[Draft],
    draft: &Draft,
    written: &Written,
    target: &requisite::Target,
) -> Diagnostic {
    let chunk = &draft.chunk;
    let message = format!(
        "Referenced state does not exist for requisite [{}: {}] in state [{}] in SLS [{}]",
        written.keyword,
        target.shown(),
        chunk.id,
        chunk.sls
    );
    let (wanted, state) = match target {
        requisite::Target::Sls(name) | requisite::Target::Id(name) => (name, None),
        requisite::Target::State(state, name) => (name, Some(state)),
    };
    let same_name = drafts.iter().map(|other| &other.chunk).find(|other| other.id == *wanted);
    let hint = match (same_name, state) {
        (Some(other), Some(_)) if other.id != chunk.id => {
            format!("`{wanted}` is a `{}` state: write `{}: {wanted}`", other.state, other.state)
        }
        _ => {
            let ids = drafts.iter().map(|other| other.chunk.id.as_str());
            nearest(wanted, ids).map_or_else(
                || "include the SLS that declares it".to_owned(),
                |near| format!("did you mean `{near}`?"),
            )
        }
    };
    let argument = &written.argument;
    files[argument.file].error_at(argument.position, &message).hint(hint)
}

fn recursion(files: &[Loaded], drafts: &[Draft], circle: &[usize]) -> Diagnostic {
    let shown = |index: &usize| {
        let chunk = &drafts[*index].chunk;
        format!("{}: {} (SLS {})", chunk.state, chunk.id, chunk.sls)
    };
    let names: Vec<String> = circle.iter().chain(circle.first()).map(shown).collect();
    let message = format!("Recursive requisites were found: {}", names.join(" needs "));
    let first = circle.first().map(|index| &drafts[*index]);
    let place = first.and_then(|draft| draft.written.first().map(|w| (draft, w)));
    let diagnostic = match place {
        Some((_, written)) => {
            files[written.argument.file].error_at(written.argument.position, &message)
        }
        None => match first {
            Some(draft) => Diagnostic::new(message).in_file(&files[draft.file].sls),
            None => Diagnostic::new(message),
        },
    };
    diagnostic.hint("remove one of these requisites")
}

/// Puts the chunks in run order and turns draft indices into run indices.
fn arrange(drafts: Vec<Draft>, requisites: Vec<Vec<Requisite>>, sorted: &[usize]) -> LowState {
    let mut position = vec![0; sorted.len()];
    for (at, index) in sorted.iter().enumerate() {
        position[*index] = at;
    }
    let mut chunks: Vec<(usize, Chunk)> = drafts
        .into_iter()
        .zip(requisites)
        .enumerate()
        .map(|(index, (mut draft, mut requisites))| {
            for target in requisites.iter_mut().flat_map(|requisite| &mut requisite.targets) {
                *target = position[*target];
            }
            draft.chunk.requisites = requisites;
            (position[index], draft.chunk)
        })
        .collect();
    chunks.sort_by_key(|(at, _)| *at);
    LowState { chunks: chunks.into_iter().map(|(_, chunk)| chunk).collect() }
}
