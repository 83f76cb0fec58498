//! `state.*`: compiles states with this device's grains and pillar, and carries them out. Each run has a thread of its
//! own: rendering, reading and waiting for files never hold up the agent's heartbeat.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use drover_states::{
    CompileErrors, Compiler, Context, Host, LowState, Run, RunOptions, compile::TargetMatcher,
};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::{ArgumentError, Arguments, Effect, ExecutionFunction, Reply};
use crate::{device::Device, error_chain, targets::TopMatcher};

/// A state that takes so many milliseconds is heard of when it has ended.
const LONG: f64 = 5_000.0;

/// What all of `state.*` take beside the names of SLS files.
struct Options {
    test: bool,
    saltenv: String,
    /// Pillar given with the job, over the minion's own.
    pillar: Map<String, Value>,
}

impl Options {
    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        // Salt's: runs wait for their turn here in any case.
        arguments.keyword_value("queue");
        Ok(Self {
            test: arguments.keyword_flag("test")?.unwrap_or(false),
            saltenv: arguments.keyword_text("saltenv")?.unwrap_or_else(|| "base".to_owned()),
            pillar: arguments.keyword_map("pillar")?.unwrap_or_default(),
        })
    }

    async fn run(self, device: &Device, what: What) -> Reply {
        // Held by the thread until it has really ended, so that two runs never overlap.
        let turn = device.state_turn().await;
        let stopped = StopOnDrop::default();
        let (device, flag) = (device.clone(), Arc::clone(&stopped.flag));
        let (cancelled, cancel) = oneshot::channel::<()>();
        let (reply, replied) = oneshot::channel();
        let spawned = std::thread::Builder::new().name("state-run".to_owned()).spawn(move || {
            let given = run_in_thread(&device, &self, &what, flag, cancel);
            drop(turn);
            // Nobody waits for a run that was stopped.
            let _ = reply.send(given);
        });
        if let Err(why) = spawned {
            return Reply::failed(format!("cannot start a thread for the run: {why}"));
        }
        let given = replied.await;
        drop(cancelled);
        given.unwrap_or_else(|_| {
            Reply::failed("the run panicked, which is a bug in a state; the agent's log has more")
        })
    }
}

/// Tells the thread of a run that was dropped.
#[derive(Default)]
struct StopOnDrop {
    flag: Arc<AtomicBool>,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

enum What {
    Highstate,
    Sls(Vec<String>),
    ShowSls(Vec<String>),
    ShowHighstate,
}

fn run_in_thread(
    device: &Device,
    options: &Options,
    what: &What,
    stopped: Arc<AtomicBool>,
    cancel: oneshot::Receiver<()>,
) -> Reply {
    let library = device.library();
    let mut pillar = match library.pillar_blocking(device, &options.saltenv, &stopped) {
        Ok(pillar) => pillar,
        Err(why) => return Reply::failed(error_chain(&why)),
    };
    pillar.extend(options.pillar.clone());
    let files = library.files(device, stopped);
    let grains = device.grains();
    let matcher = TopMatcher::new(grains.clone(), Some(pillar.clone()));
    let compiler = Compiler::new(files.source(), Context::new(grains.clone(), pillar.clone()));
    let low = compile(&compiler, &options.saltenv, what, &matcher);
    let reply = match low {
        Err(errors) => Reply { value: errors.to_return(), retcode: 1 },
        Ok(low) => match what {
            What::ShowSls(_) | What::ShowHighstate => Reply::done(low.to_value()),
            What::Highstate | What::Sls(_) => {
                let host = Host::new(files.source(), grains, pillar)
                    .with_engine(Arc::new(device.engine()));
                carry_out(low, options.test, &host, device, cancel)
            }
        },
    };
    files.finish();
    reply
}

fn compile(
    compiler: &Compiler,
    saltenv: &str,
    what: &What,
    matcher: &dyn TargetMatcher,
) -> Result<LowState, CompileErrors> {
    match what {
        What::Highstate | What::ShowHighstate => compiler.highstate(saltenv, matcher),
        What::Sls(names) | What::ShowSls(names) => compiler.sls(saltenv, names),
    }
}

/// Runs what was compiled, on a runtime of this thread's own, until its end or until it is stopped.
fn carry_out(
    low: LowState,
    test: bool,
    host: &Host,
    device: &Device,
    cancel: oneshot::Receiver<()>,
) -> Reply {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(why) => return Reply::failed(format!("cannot start the run: {why}")),
    };
    let run = Run::new(low, RunOptions { test, failhard: false });
    let tell = |_: &str, returned: &Value| {
        if !test && is_news(returned) {
            device.report(|| step(returned));
        }
    };
    let returned = runtime.block_on(async {
        tokio::select! {
            returned = run.execute(host, tell) => Some(returned),
            _ = cancel => None,
        }
    });
    // Whatever a state left to the runtime's blocking threads must not hold this one.
    runtime.shutdown_background();
    match returned {
        Some(returned) => {
            let retcode = returned.retcode();
            Reply { value: Value::Object(returned.0), retcode }
        }
        None => Reply::failed("stopped"),
    }
}

/// Whether a state that has ended is worth a message before the run's return: it changed something, failed or took
/// long. A run that finds everything in place says so once.
fn is_news(returned: &Value) -> bool {
    let has_changes = returned["changes"].as_object().is_some_and(|changes| !changes.is_empty());
    let took_long = returned["duration"].as_f64().is_some_and(|duration| duration >= LONG);
    has_changes || took_long || returned["result"] == Value::Bool(false)
}

/// A state's return without its changes, which may be long and come with the run's return.
fn step(returned: &Value) -> Value {
    let mut step = returned.clone();
    if let Some(step) = step.as_object_mut() {
        step.shift_remove("changes");
    }
    step
}

/// `state.apply [SLS…]`: those that are named, or the highstate.
pub struct Apply {
    sls: Vec<String>,
    options: Options,
}

impl ExecutionFunction for Apply {
    const EFFECT: Effect = Effect::StateRun;
    const DOC: &'static str = "Applies the SLS files that are named, or what the top file says. With `test=True` it only \
                               says what would change. Arguments: test, saltenv, pillar.\n\n    \
                               drover '*' state.apply\n    drover '*' state.apply rfid,network test=True";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        Ok(Self { sls: arguments.names("mods")?, options: Options::parse(arguments)? })
    }

    fn time_limit(&self, of_job: Duration, device: &Device) -> Duration {
        of_job.max(device.config().state_timeout)
    }

    async fn run(self, device: &Device) -> Reply {
        let what = if self.sls.is_empty() { What::Highstate } else { What::Sls(self.sls) };
        self.options.run(device, what).await
    }
}

/// `state.sls SLS…`: those that are named.
pub struct Sls {
    sls: Vec<String>,
    options: Options,
}

impl ExecutionFunction for Sls {
    const EFFECT: Effect = Effect::StateRun;
    const DOC: &'static str = "Applies the SLS files that are named. Arguments: test, saltenv, pillar.\n\n    \
                               drover '*' state.sls rfid test=True";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        let sls = needed(arguments.names("mods")?, "state.sls")?;
        Ok(Self { sls, options: Options::parse(arguments)? })
    }

    fn time_limit(&self, of_job: Duration, device: &Device) -> Duration {
        of_job.max(device.config().state_timeout)
    }

    async fn run(self, device: &Device) -> Reply {
        self.options.run(device, What::Sls(self.sls)).await
    }
}

/// `state.highstate`: what the top file says.
pub struct Highstate(Options);

impl ExecutionFunction for Highstate {
    const EFFECT: Effect = Effect::StateRun;
    const DOC: &'static str = "Applies what the top file gives this minion. Arguments: test, saltenv, pillar.\n\n    \
                               drover '*' state.highstate test=True";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        Options::parse(arguments).map(Self)
    }

    fn time_limit(&self, of_job: Duration, device: &Device) -> Duration {
        of_job.max(device.config().state_timeout)
    }

    async fn run(self, device: &Device) -> Reply {
        self.0.run(device, What::Highstate).await
    }
}

/// `state.show_sls SLS…`: what those would run, in order.
pub struct ShowSls {
    sls: Vec<String>,
    options: Options,
}

impl ExecutionFunction for ShowSls {
    const EFFECT: Effect = Effect::StateRun;
    const DOC: &'static str = "Compiles the SLS files that are named, and lists what would run, in order. Runs nothing.\
                               \n\n    drover '*' state.show_sls rfid";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        let sls = needed(arguments.names("mods")?, "state.show_sls")?;
        Ok(Self { sls, options: Options::parse(arguments)? })
    }

    async fn run(self, device: &Device) -> Reply {
        self.options.run(device, What::ShowSls(self.sls)).await
    }
}

/// `state.show_highstate`: what the top file's states would run, in order.
pub struct ShowHighstate(Options);

impl ExecutionFunction for ShowHighstate {
    const EFFECT: Effect = Effect::StateRun;
    const DOC: &'static str = "Compiles what the top file gives this minion, and lists what would run, in order. Runs \
                               nothing.\n\n    drover '*' state.show_highstate";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        Options::parse(arguments).map(Self)
    }

    async fn run(self, device: &Device) -> Reply {
        self.0.run(device, What::ShowHighstate).await
    }
}

fn needed(names: Vec<String>, function: &'static str) -> Result<Vec<String>, ArgumentError> {
    if names.is_empty() {
        let meaning = "the SLS files, with commas between";
        return Err(ArgumentError::Missing { function, name: "mods", meaning });
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_return_of_a_dry_run_is_asked_for_by_test() {
        let mut arguments = Arguments::new(
            "state.apply",
            vec![json!("a,b")],
            Map::from_iter([("test".into(), json!(true))]),
        );
        let apply = Apply::parse(&mut arguments).unwrap();
        assert_eq!(apply.sls, ["a", "b"]);
        assert!(apply.options.test);
        arguments.finish().unwrap();
    }

    #[test]
    fn a_state_is_news_when_it_changed_failed_or_took_long() {
        let state = |result: Value, changes: Value, duration: f64| {
            is_news(&json!({"result": result, "changes": changes, "duration": duration}))
        };
        assert!(!state(json!(true), json!({}), 12.0));
        assert!(state(json!(true), json!({"diff": "+x"}), 12.0));
        assert!(state(json!(false), json!({}), 12.0));
        assert!(state(json!(true), json!({}), 61_000.0));
    }

    #[test]
    fn state_sls_needs_a_name() {
        let refused =
            Sls::parse(&mut Arguments::new("state.sls", vec![], Map::new())).err().unwrap();
        assert_eq!(
            refused.to_string(),
            "`state.sls` needs `mods`: the SLS files, with commas between"
        );
    }
}
