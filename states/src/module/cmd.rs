//! `cmd.run` and `cmd.wait`: a command of the operator's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Arguments, Failure, Outcome, StateModule, scalar_text};
use crate::accounts::Account;
use crate::host::Host;
use crate::process::{self, CommandError, Finished, ShellCommand, Stderr};

/// `cmd.run`
///
/// *Condition:* none: whether the command is needed only its author knows, who says so by `creates`,
/// `unless` or `onlyif`. *Effect:* what the command does. *Action:* runs it.
#[derive(Debug, Default)]
pub struct Run {
    command: String,
    shell: Option<String>,
    cwd: Option<String>,
    runas: Option<String>,
    env: BTreeMap<String, String>,
    prepend_path: Option<String>,
    hide_output: bool,
    timeout: Option<Duration>,
    success: Vec<i64>,
}

/// The command that would run.
#[derive(Debug)]
pub struct Execute(String);

impl fmt::Display for Execute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Command \"{}\" would have been executed", self.0)
    }
}

impl StateModule for Run {
    type Observed = ();
    type Step = Execute;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        arguments.unsupported(
            &[
                "root",
                "password",
                "runas_password",
                "stateful",
                "use_vt",
                "ignore_timeout",
                "umask",
                "success_stdout",
                "success_stderr",
                "bg",
            ],
            "",
        );
        // Salt's log level of the output: the output is in the return and in no log.
        arguments.string("output_loglevel");
        let timeout = arguments.number("timeout");
        if timeout.is_some_and(|seconds| !(seconds > 0.0 && seconds < 1e9)) {
            arguments.error("timeout", "`timeout` must be a number of seconds", None);
        }
        let codes = arguments.value("success_retcodes").cloned().unwrap_or_default();
        let success = match &codes {
            Value::Null => Some(vec![0]),
            Value::Array(codes) => codes.iter().map(Value::as_i64).collect(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                codes.as_i64().map(|code| vec![code])
            }
        };
        if success.is_none() {
            arguments.refuse_value("success_retcodes", &codes, "a list of numbers");
        }
        let env = arguments.map("env").unwrap_or_default();
        Self {
            command: arguments.name().to_owned(),
            shell: arguments.string("shell"),
            cwd: arguments.string("cwd"),
            runas: arguments.string("runas"),
            env: env.iter().filter_map(|(k, v)| Some((k.clone(), scalar_text(v)?))).collect(),
            prepend_path: arguments.string("prepend_path"),
            hide_output: arguments.bool("hide_output", false),
            timeout: timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            success: success.unwrap_or_default(),
        }
    }

    async fn observe(&self, _host: &Host) -> Result<(), Failure> {
        match &self.cwd {
            Some(cwd) if !std::path::Path::new(cwd).is_dir() => {
                Err(Failure::new(format!("Desired working directory \"{cwd}\" is not available")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn diff(&self, (): &()) -> Result<Vec<Execute>, Failure> {
        Ok(vec![Execute(self.command.clone())])
    }

    async fn apply(&self, _host: &Host, (): (), _steps: Vec<Execute>) -> Outcome {
        let command = match self.shell_command() {
            Ok(command) => command,
            Err(failure) => return failure.into(),
        };
        match command.run(Stderr::Apart).await {
            Ok(finished) => self.outcome(finished),
            Err(error) => {
                let (CommandError::Spawn { source, .. } | CommandError::Follow(source)) = &error;
                Outcome::failed(format!("{error}: {source}"))
            }
        }
    }

    fn unchanged(&self, (): &()) -> String {
        String::new()
    }

    async fn watched(&self, host: &Host, test: bool) -> Option<Outcome> {
        Some(super::run(self, host, test).await)
    }
}

impl Run {
    fn shell_command(&self) -> Result<ShellCommand, Failure> {
        let mut command = ShellCommand::new(&self.command);
        if let Some(shell) = &self.shell {
            command.shell = PathBuf::from(shell);
        }
        command.cwd = self.cwd.as_ref().map(PathBuf::from);
        command.env = self.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        if let Some(first) = &self.prepend_path {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env.push(("PATH".into(), format!("{first}:{path}").into()));
        }
        command.account = self.runas.as_deref().map(Account::find).transpose()?;
        command.time = self.time();
        Ok(command)
    }

    fn time(&self) -> Duration {
        self.timeout.unwrap_or(process::TIME)
    }

    fn outcome(&self, finished: Finished) -> Outcome {
        let succeeded = !finished.timed_out && self.success.contains(&finished.retcode.into());
        let shown = |text: String| if self.hide_output { String::new() } else { text };
        let changes = json!({
            "pid": finished.pid,
            "retcode": finished.retcode,
            "stdout": shown(finished.stdout),
            "stderr": shown(finished.stderr),
        });
        let comment = if finished.timed_out {
            format!("Command \"{}\" timed out after {:?}", self.command, self.time())
        } else {
            format!("Command \"{}\" run", self.command)
        };
        let changes = changes.as_object().cloned().unwrap_or_default();
        Outcome { result: Some(succeeded), changes, comment }
    }
}

/// `cmd.wait`: `cmd.run` that only runs when a watched state has changed.
#[derive(Debug)]
pub struct Wait(Run);

impl StateModule for Wait {
    type Observed = ();
    type Step = Execute;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        Self(Run::parse(arguments))
    }

    async fn observe(&self, _host: &Host) -> Result<(), Failure> {
        Ok(())
    }

    fn diff(&self, (): &()) -> Result<Vec<Execute>, Failure> {
        Ok(Vec::new())
    }

    async fn apply(&self, _host: &Host, (): (), _steps: Vec<Execute>) -> Outcome {
        Outcome::changed(String::new(), Map::new())
    }

    fn unchanged(&self, (): &()) -> String {
        String::new()
    }

    async fn watched(&self, host: &Host, test: bool) -> Option<Outcome> {
        self.0.watched(host, test).await
    }
}
