//! `cmd.*`: a shell command and what came of it.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use drover_states::{
    accounts::Account,
    process::{Finished, ShellCommand, Stderr},
};
use serde_json::{Value, json};

use super::{ArgumentError, Arguments, Effect, ExecutionFunction, Reply};
use crate::{device::Device, error_chain};

/// The arguments that all of `cmd.*` have.
struct Command {
    command: String,
    shell: PathBuf,
    cwd: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<String>,
    runas: Option<String>,
    timeout: Option<Duration>,
    ignore_retcode: bool,
}

impl Command {
    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        let command = arguments.required_text("cmd", "the command to run")?;
        let env = arguments.keyword_value("env").unwrap_or_default();
        let env = environment(&env)
            .ok_or_else(|| arguments.kind("env", "a map of names and values", &env))?;
        // Salt's; a shell is always used here, and output is always logged the same.
        arguments.keyword_flag("python_shell")?;
        arguments.keyword_text("output_loglevel")?;
        Ok(Self {
            command,
            env,
            shell: arguments.keyword_text("shell")?.unwrap_or_else(|| "/bin/sh".into()).into(),
            cwd: arguments.keyword_text("cwd")?.map(Into::into),
            stdin: arguments.keyword_text("stdin")?,
            runas: arguments.keyword_text("runas")?,
            timeout: arguments.keyword_seconds("timeout")?,
            ignore_retcode: arguments.keyword_flag("ignore_retcode")?.unwrap_or(false),
        })
    }

    /// An operator who names a time for the command means it, also where it is longer than the job's.
    fn time_limit(&self, of_job: Duration, of_device: Duration) -> Duration {
        match self.timeout {
            None if of_job < of_device => of_job,
            // The command's own end comes first, so that its output is kept.
            own => own.unwrap_or(of_job).saturating_add(Duration::from_secs(5)),
        }
    }

    async fn run(
        self,
        device: &Device,
        stderr: Stderr,
        value: impl FnOnce(&mut Finished) -> Value,
    ) -> Reply {
        let account = match self.runas.as_deref().map(Account::find).transpose() {
            Ok(account) => account,
            Err(why) => return Reply::failed(error_chain(&why)),
        };
        let command = ShellCommand {
            cwd: self.cwd,
            time: self.timeout.unwrap_or_else(|| device.config().job_timeout),
            output_limit: device.config().output_limit,
            command: self.command,
            shell: self.shell,
            env: self.env,
            stdin: self.stdin,
            account,
        };
        let time = command.time;
        match command.run(stderr).await {
            Err(why) => Reply::failed(error_chain(&why)),
            Ok(mut finished) => {
                if finished.timed_out {
                    let ended = format!("[timed out after {} s and was ended]", time.as_secs_f64());
                    finished.stdout =
                        format!("{}\n{ended}", finished.stdout).trim_start().to_owned();
                }
                let retcode = match finished.retcode {
                    _ if self.ignore_retcode => 0,
                    0 if finished.timed_out => 1,
                    retcode => retcode,
                };
                Reply { value: value(&mut finished), retcode }
            }
        }
    }
}

/// Salt takes a map, or a list of maps; values are written as they are in YAML.
fn environment(value: &Value) -> Option<Vec<(OsString, OsString)>> {
    let maps = match value {
        Value::Null => return Some(Vec::new()),
        Value::Object(map) => vec![map],
        Value::Array(items) => items.iter().map(Value::as_object).collect::<Option<_>>()?,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    maps.into_iter()
        .flatten()
        .map(|(name, value)| {
            let value = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Array(_) | Value::Object(_) => return None,
            };
            let is_name = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
            is_name.then(|| (name.into(), value.into()))
        })
        .collect()
}

macro_rules! command_function {
    ($(#[$doc:meta])* $name:ident, $stderr:expr, $about:literal, $value:expr) => {
        $(#[$doc])*
        pub struct $name(Command);

        impl ExecutionFunction for $name {
            const EFFECT: Effect = Effect::Changing;
            const DOC: &'static str = concat!(
                $about,
                "\nArguments: cwd, env, shell, stdin, runas, timeout (seconds), ignore_retcode.",
            );

            fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
                Command::parse(arguments).map(Self)
            }

            fn time_limit(&self, of_job: Duration, device: &Device) -> Duration {
                self.0.time_limit(of_job, device.config().job_timeout)
            }

            async fn run(self, device: &Device) -> Reply {
                self.0.run(device, $stderr, $value).await
            }
        }
    };
}

command_function! {
    /// `cmd.run COMMAND`: its output, error output included.
    Run, Stderr::Merged,
    "Runs a shell command and returns its output, error output included.\n\n    \
     drover '*' cmd.run 'ls -l | head' cwd=/tmp\n",
    |finished| json!(std::mem::take(&mut finished.stdout))
}

command_function! {
    /// `cmd.run_stdout COMMAND`: its output alone.
    RunStdout, Stderr::Apart,
    "Runs a shell command and returns its standard output.\n\n    drover '*' cmd.run_stdout 'ls -l'\n",
    |finished| json!(std::mem::take(&mut finished.stdout))
}

command_function! {
    /// `cmd.run_all COMMAND`: everything about it.
    RunAll, Stderr::Apart,
    "Runs a shell command and returns its pid, retcode, stdout and stderr.\n\n    \
     drover '*' cmd.run_all 'ls -l'\n",
    |finished| json!({
        "pid": finished.pid,
        "retcode": finished.retcode,
        "stdout": finished.stdout,
        "stderr": finished.stderr,
    })
}

command_function! {
    /// `cmd.retcode COMMAND`: its exit status.
    Retcode, Stderr::Merged,
    "Runs a shell command and returns its exit status.\n\n    drover '*' cmd.retcode 'test -e /etc/hosts'\n",
    |finished| json!(finished.retcode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_ends_in_its_own_time_unless_the_command_names_another() {
        let limit = |keyword: Value, of_job| {
            let keyword = keyword.as_object().unwrap().clone();
            let mut arguments = Arguments::new("cmd.run", vec![json!("true")], keyword);
            let command = Command::parse(&mut arguments).unwrap();
            let of_device = Duration::from_secs(300);
            command.time_limit(Duration::from_secs(of_job), of_device).as_secs()
        };
        assert_eq!(limit(json!({}), 2), 2);
        assert_eq!(limit(json!({"timeout": 10}), 2), 15);
        // The device's own limit ends the command first, and its output is kept.
        assert_eq!(limit(json!({}), 300), 305);
    }

    #[test]
    fn the_environment_is_a_map_or_a_list_of_maps() {
        let pairs = |value| environment(&value);
        assert_eq!(pairs(json!({"A": 1})), Some(vec![("A".into(), "1".into())]));
        assert_eq!(pairs(json!([{"A": "x"}, {"B": null}])).unwrap().len(), 2);
        assert_eq!(pairs(json!({"A=": 1})), None);
        assert_eq!(pairs(json!("A=1")), None);
    }
}
