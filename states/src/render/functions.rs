//! The `salt` object of templates, and the global functions. Templates ask; they do not act: what
//! would run a command or change the device is refused.

use std::fmt;
use std::sync::Arc;

use drover_proto::nearest::nearest;
use minijinja::value::{Kwargs, Object, Serde};
use minijinja::{Environment, Error, ErrorKind, State, Value as Jinja};
use serde_json::{Map, Value};

use super::Context;

/// Execution functions that templates may call on this host, beside the built-in ones.
pub trait ExecutionFunctions: Send + Sync {
    /// The names, for hints.
    fn names(&self) -> Vec<String>;

    /// Calls a function; `None` if there is none of that name.
    ///
    /// # Errors
    /// What the operator reads.
    fn call(
        &self,
        function: &str,
        arguments: &[Value],
        keywords: &Map<String, Value>,
    ) -> Option<Result<Value, String>>;
}

const BUILT_IN: &[&str] = &[
    "config.get",
    "grains.filter_by",
    "grains.get",
    "grains.has_value",
    "grains.items",
    "pillar.get",
    "pillar.items",
    "test.ping",
];

/// Adds `salt` and the global functions.
pub(super) fn add(jinja: &mut Environment<'static>, context: &Context) {
    jinja.add_global("salt", Jinja::from_object(Salt(Arc::new(context.clone()))));
    jinja.add_function("raise", |message: String| -> Result<Jinja, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    jinja.add_function("ifelse", |arguments: minijinja::value::Rest<Jinja>| {
        let pairs = arguments.0.chunks_exact(2);
        let otherwise = pairs.remainder().first().cloned().unwrap_or_else(|| Jinja::from(()));
        arguments
            .0
            .chunks_exact(2)
            .find(|pair| pair[0].is_true())
            .map_or(otherwise, |pair| pair[1].clone())
    });
}

/// `salt['module.function']` and `salt.module.function`.
struct Salt(Arc<Context>);

/// `salt.module`, or a function ready to be called.
struct Function {
    context: Arc<Context>,
    name: String,
}

impl fmt::Debug for Salt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<salt>")
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<function {}>", self.name)
    }
}

impl Object for Salt {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let name = key.as_str()?.to_owned();
        Some(Jinja::from_object(Function { context: Arc::clone(&self.0), name }))
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _arguments: &[Jinja],
    ) -> Result<Jinja, Error> {
        Err(refusal(&self.0, method))
    }
}

impl Object for Function {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let name = format!("{}.{}", self.name, key.as_str()?);
        Some(Jinja::from_object(Self { context: Arc::clone(&self.context), name }))
    }

    fn call(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        arguments: &[Jinja],
    ) -> Result<Jinja, Error> {
        call(&self.context, &self.name, arguments)
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        arguments: &[Jinja],
    ) -> Result<Jinja, Error> {
        call(&self.context, &format!("{}.{method}", self.name), arguments)
    }
}

fn call(context: &Context, name: &str, arguments: &[Jinja]) -> Result<Jinja, Error> {
    let (positional, keywords) = split(arguments)?;
    let argument = |index: usize, keyword: &str| {
        positional.get(index).or_else(|| keywords.get(keyword)).cloned()
    };
    let lookup = |map: &Map<String, Value>| {
        let key = argument(0, "key").and_then(|key| key.as_str().map(str::to_owned));
        let key = key.ok_or_else(|| bad(format!("`{name}` wants a key")))?;
        for keyword in keywords.keys() {
            if !matches!(keyword.as_str(), "key" | "default" | "delimiter") {
                return Err(bad(format!("`{name}` has no argument `{keyword}` here")));
            }
        }
        let delimiter = argument(2, "delimiter");
        let delimiter = delimiter.as_ref().and_then(Value::as_str).unwrap_or(":");
        Ok(traverse(map, &key, delimiter).cloned())
    };
    let default = || argument(1, "default").unwrap_or_else(|| Value::String(String::new()));
    let value = match name {
        "grains.get" => lookup(&context.grains)?.unwrap_or_else(default),
        "pillar.get" => lookup(&context.pillar)?.unwrap_or_else(default),
        "config.get" => lookup(&context.opts)?
            .or(lookup(&context.grains)?)
            .or(lookup(&context.pillar)?)
            .unwrap_or_else(default),
        "grains.items" => Value::Object(context.grains.clone()),
        "pillar.items" => Value::Object(context.pillar.clone()),
        "grains.has_value" => Value::Bool(lookup(&context.grains)?.is_some()),
        "test.ping" => Value::Bool(true),
        "grains.filter_by" => {
            let choices = argument(0, "lookup_dict");
            let grain = argument(1, "grain").unwrap_or_else(|| "os_family".into());
            let otherwise = argument(3, "default").unwrap_or_else(|| "default".into());
            let key = grain.as_str().and_then(|grain| traverse(&context.grains, grain, ":"));
            let key = key.and_then(crate::module::scalar_text).unwrap_or_default();
            let choices = choices.as_ref().and_then(Value::as_object);
            let choices = choices.ok_or_else(|| bad(format!("`{name}` wants a map")))?;
            let otherwise = otherwise.as_str().and_then(|key| choices.get(key));
            choices.get(&key).or(otherwise).cloned().unwrap_or(Value::Null)
        }
        _ => {
            let host = context.functions.as_ref();
            let result = host.and_then(|host| host.call(name, &positional, &keywords));
            result.ok_or_else(|| refusal(context, name))?.map_err(bad)?
        }
    };
    Ok(Jinja::from(Serde(&value)))
}

fn split(arguments: &[Jinja]) -> Result<(Vec<Value>, Map<String, Value>), Error> {
    let convert = |value: &Jinja| {
        serde_json::to_value(value)
            .map_err(|error| bad("cannot pass this value".to_owned()).with_source(error))
    };
    let (positional, last) = match arguments.split_last() {
        Some((last, rest)) if last.is_kwargs() => (rest, Some(last)),
        Some(_) | None => (arguments, None),
    };
    let positional = positional.iter().map(convert).collect::<Result<_, _>>()?;
    let mut keywords = Map::new();
    if let Some(last) = last {
        let kwargs = Kwargs::try_from(last.clone())?;
        for name in kwargs.args() {
            keywords.insert(name.to_owned(), convert(&kwargs.get::<Jinja>(name)?)?);
        }
    }
    Ok((positional, keywords))
}

/// `a:b:0` in nested maps and lists.
pub(crate) fn traverse<'a>(
    map: &'a Map<String, Value>,
    key: &str,
    delimiter: &str,
) -> Option<&'a Value> {
    if let Some(value) = map.get(key) {
        return Some(value);
    }
    let mut parts = key.split(delimiter);
    let first = map.get(parts.next()?)?;
    parts.try_fold(first, |value, part| match value {
        Value::Object(map) => map.get(part),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

fn bad(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn refusal(context: &Context, name: &str) -> Error {
    if name.starts_with("cmd.") {
        return bad(format!(
            "`{name}` is refused: a template must not run commands; use a `cmd.run` state or a grain"
        ));
    }
    let host = context.functions.as_ref().map(|host| host.names()).unwrap_or_default();
    let known = BUILT_IN.iter().copied().chain(host.iter().map(String::as_str));
    let near = nearest(name, known).map(|near| format!("; did you mean `{near}`?"));
    bad(format!(
        "`{name}` is not available in templates{}",
        near.unwrap_or_else(|| format!(": there are {}", BUILT_IN.join(", ")))
    ))
}
