//! `sys.*`: what this minion can do.

use serde_json::{Map, Value, json};

use super::{ArgumentError, Arguments, Call, Effect, ExecutionFunction, Reply, documentation};
use crate::device::Device;

/// `sys.list_functions [MODULE…]`.
pub struct ListFunctions(Vec<String>);

impl ExecutionFunction for ListFunctions {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Lists the functions, of all modules or of those named; globs are understood.\n\n    \
                               drover '*' sys.list_functions\n    drover '*' sys.list_functions grains";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        arguments.names("module").map(Self)
    }

    async fn run(self, _: &Device) -> Reply {
        Reply::done(selected(&self.0).map(Value::from).collect())
    }
}

/// `sys.doc [MODULE or FUNCTION…]`.
pub struct Doc(Vec<String>);

impl ExecutionFunction for Doc {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Says what functions do: all of them, or those of a module, or one.\n\n    \
                               drover '*' sys.doc\n    drover '*' sys.doc cmd.run";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        arguments.names("module").map(Self)
    }

    async fn run(self, _: &Device) -> Reply {
        let told =
            selected(&self.0).filter_map(|name| Some((name.into(), json!(documentation(name)?))));
        Reply::done(Value::Object(told.collect::<Map<String, Value>>()))
    }
}

/// The functions that a module's name, a function's name or a glob means; all of them when nothing is named.
fn selected(wanted: &[String]) -> impl Iterator<Item = &'static str> {
    Call::FUNCTIONS.iter().copied().filter(move |name| {
        wanted.is_empty()
            || wanted.iter().any(|wanted| {
                name.split('.').next() == Some(wanted) || drover_proto::glob::matches(wanted, name)
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_selected_by_module_by_name_and_by_glob() {
        let select = |wanted: &str| selected(&[wanted.to_owned()]).collect::<Vec<_>>();
        assert_eq!(select("test.ping"), ["test.ping"]);
        assert_eq!(select("sys"), ["sys.doc", "sys.list_functions"]);
        assert_eq!(select("*.show_*"), ["state.show_highstate", "state.show_sls"]);
        assert_eq!(selected(&[]).count(), Call::FUNCTIONS.len());
    }
}
