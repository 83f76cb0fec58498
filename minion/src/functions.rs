//! Execution functions: what a job may ask of this device. Each is one struct beneath `functions/` that reads its
//! arguments, says whether it changes anything, and runs. A new one is a struct there and a line in the table below.

use std::{future::Future, time::Duration};

use drover_proto::job::Job;
use drover_proto::nearest::nearest;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::device::Device;

mod arguments;
mod cmd;
mod cut;
mod docker;
mod grains;
mod pillar;
mod saltutil;
mod state;
mod sys;
mod test;

pub use arguments::{ArgumentError, Arguments};

/// What a repetition of a function would do, which decides how the device remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it may run again, and costs no write.
    ReadOnly,
    /// It might do twice what was asked once: journalled before it runs.
    Changing,
    /// A state run: it may run again, but never beside another one.
    StateRun,
}

/// What a function gives back.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The return.
    pub value: Value,
    /// 0 for success, else as [`drover_proto::job::Return`] has it.
    pub retcode: i32,
}

impl Reply {
    /// A success.
    #[must_use]
    pub const fn done(value: Value) -> Self {
        Self { value, retcode: 0 }
    }

    /// The same, with its longest texts cut until it has at most `limit` bytes.
    #[must_use]
    pub fn within(mut self, limit: usize) -> Self {
        cut::to_fit(&mut self.value, limit);
        self
    }

    /// A failure with the sentence that the operator reads.
    #[must_use]
    pub fn failed(why: impl Into<String>) -> Self {
        Self { value: Value::String(why.into()), retcode: 1 }
    }
}

/// What every execution function implements.
pub(crate) trait ExecutionFunction: Sized + Send {
    /// What a repetition would do.
    const EFFECT: Effect;
    /// What `sys.doc` tells: one line, then an example.
    const DOC: &'static str;

    /// Takes its arguments; what it leaves is refused by the caller.
    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError>;

    /// How long it may run, given the job's own limit.
    fn time_limit(&self, of_job: Duration, device: &Device) -> Duration {
        let _ = device;
        of_job
    }

    /// Does it.
    fn run(self, device: &Device) -> impl Future<Output = Reply> + Send;
}

macro_rules! functions {
    ($($name:literal => $variant:ident($function:ty),)+) => {
        /// A call of one function, its arguments read.
        pub enum Call {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant($function),
            )+
        }

        impl Call {
            /// Every function's name.
            pub const FUNCTIONS: &'static [&'static str] = &[$($name),+];

            /// Reads a job.
            ///
            /// # Errors
            /// When there is no such function, or it does not take these arguments.
            pub fn parse(
                function: &str,
                positional: Vec<Value>,
                keyword: Map<String, Value>,
            ) -> Result<Self, CallError> {
                match function {
                    $($name => {
                        let mut arguments = Arguments::new($name, positional, keyword);
                        let parsed = <$function>::parse(&mut arguments)?;
                        arguments.finish()?;
                        Ok(Self::$variant(parsed))
                    })+
                    _ => Err(CallError::NotAvailable {
                        function: function.chars().take(120).collect(),
                        near: nearest(function, Self::FUNCTIONS.iter().copied()),
                    }),
                }
            }

            /// What a repetition would do.
            #[must_use]
            pub const fn effect(&self) -> Effect {
                match self {
                    $(Self::$variant(_) => <$function>::EFFECT,)+
                }
            }

            /// How long it may run, given the job's own limit.
            #[must_use]
            pub fn time_limit(&self, of_job: Duration, device: &Device) -> Duration {
                match self {
                    $(Self::$variant(function) => function.time_limit(of_job, device),)+
                }
            }

            /// Does it.
            pub async fn run(self, device: &Device) -> Reply {
                match self {
                    $(Self::$variant(function) => function.run(device).await,)+
                }
            }
        }

        /// What `sys.doc` tells of a function.
        fn documentation(function: &str) -> Option<&'static str> {
            match function {
                $($name => Some(<$function>::DOC),)+
                _ => None,
            }
        }
    };
}

functions! {
    "cmd.retcode" => CmdRetcode(cmd::Retcode),
    "cmd.run" => CmdRun(cmd::Run),
    "cmd.run_all" => CmdRunAll(cmd::RunAll),
    "cmd.run_stdout" => CmdRunStdout(cmd::RunStdout),
    "docker.ps" => DockerPs(docker::Ps),
    "grains.delval" => GrainsDelval(grains::Delval),
    "grains.get" => GrainsGet(grains::Get),
    "grains.item" => GrainsItem(grains::Item),
    "grains.items" => GrainsItems(grains::Items),
    "grains.setval" => GrainsSetval(grains::Setval),
    "pillar.get" => PillarGet(pillar::Get),
    "pillar.items" => PillarItems(pillar::Items),
    "saltutil.refresh_pillar" => SaltutilRefreshPillar(saltutil::RefreshPillar),
    "saltutil.running" => SaltutilRunning(saltutil::Running),
    "state.apply" => StateApply(state::Apply),
    "state.highstate" => StateHighstate(state::Highstate),
    "state.show_highstate" => StateShowHighstate(state::ShowHighstate),
    "state.show_sls" => StateShowSls(state::ShowSls),
    "state.sls" => StateSls(state::Sls),
    "sys.doc" => SysDoc(sys::Doc),
    "sys.list_functions" => SysListFunctions(sys::ListFunctions),
    "test.arg" => TestArg(test::Arg),
    "test.echo" => TestEcho(test::Echo),
    "test.ping" => TestPing(test::Ping),
    "test.sleep" => TestSleep(test::Sleep),
    "test.version" => TestVersion(test::Version),
    "test.versions" => TestVersions(test::Versions),
}

impl Call {
    /// Reads a job that came from the master.
    ///
    /// # Errors
    /// As [`Call::parse`].
    pub fn of_job(job: &Job) -> Result<Self, CallError> {
        Self::parse(&job.fun, job.arg.clone(), job.kwarg.clone())
    }
}

/// A job that cannot even begin. Its return is a failure with this text.
#[derive(Debug, Error)]
pub enum CallError {
    /// There is no such function here.
    #[error("'{function}' is not available.{hint}", hint = hint(.near))]
    NotAvailable {
        /// The name that was asked for.
        function: String,
        /// The nearest one that there is.
        near: Option<&'static str>,
    },
    /// It does not take these arguments.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
}

fn hint(near: &Option<&'static str>) -> String {
    near.map(|near| format!(" Did you mean '{near}'?")).unwrap_or_default()
}

impl CallError {
    /// The return of such a job.
    #[must_use]
    pub fn reply(&self) -> Reply {
        Reply { value: json!(self.to_string()), retcode: 1 }
    }
}

/// A value deep in a map by Salt's path, `a:b:0`: keys, and places in lists.
fn traverse<'a>(root: &'a Value, path: &str, delimiter: &str) -> Option<&'a Value> {
    path.split(delimiter).try_fold(root, |value, part| match value {
        Value::Object(map) => map.get(part),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_function_names_the_nearest_one() {
        let refusal = |name| Call::parse(name, vec![], Map::new()).err().unwrap().to_string();
        assert_eq!(refusal("x.y"), "'x.y' is not available.");
        assert_eq!(refusal("test.pnig"), "'test.pnig' is not available. Did you mean 'test.ping'?");
    }

    #[test]
    fn functions_are_listed_in_order_and_documented() {
        assert!(Call::FUNCTIONS.is_sorted());
        for name in Call::FUNCTIONS {
            let doc = documentation(name).unwrap();
            assert!(doc.contains(&format!("drover '*' {name}")), "{name}");
        }
    }

    #[test]
    fn only_what_may_not_happen_twice_is_journalled() {
        let effect = |name: &str, arg: Vec<Value>| {
            Call::parse(name, arg, Map::new()).unwrap_or_else(|why| panic!("{why}")).effect()
        };
        assert_eq!(effect("test.ping", vec![]), Effect::ReadOnly);
        assert_eq!(effect("cmd.run", vec![json!("true")]), Effect::Changing);
        assert_eq!(effect("state.apply", vec![]), Effect::StateRun);
    }

    #[test]
    fn paths_lead_through_maps_and_lists() {
        let root = json!({"a": [{"b": 7}]});
        assert_eq!(traverse(&root, "a:0:b", ":"), Some(&json!(7)));
        assert_eq!(traverse(&root, "a:1", ":"), None);
    }
}
