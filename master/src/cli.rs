//! The operator's command line: a client of the master's API on its unix socket, and nothing else. It reads the
//! configuration only to find the socket.

mod arguments;
mod authorities;
mod backup;
mod bridge;
mod client;
mod confirm;
mod crl;
mod events;
mod failure;
mod job;
mod jobs;
mod key;
mod minions;
mod output;
mod pending;
mod state;
mod status;
mod value;

use std::{ffi::OsString, process::ExitCode};

use clap::CommandFactory as _;

use arguments::{Everything, Invocation, Verb};
use client::Client;
use failure::Failure;
use output::Printer;

/// How a command ended that did not fail altogether: the exit statuses that scripts go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// 0: all succeeded.
    Success,
    /// 1: a minion failed or did not answer.
    Failed,
    /// 3: nothing matched.
    NothingMatched,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::SUCCESS,
            Outcome::Failed => Self::FAILURE,
            Outcome::NothingMatched => Self::from(3),
        }
    }
}

/// Runs the command line, whose first argument is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let invocation = match arguments::parse(arguments) {
        Ok(invocation) => invocation,
        Err(failure) => return failure.report(),
    };
    match run(&invocation) {
        Ok(outcome) => outcome.into(),
        Err(failure) => failure.report(),
    }
}

fn run(invocation: &Invocation) -> Result<Outcome, Failure> {
    if let Invocation::Verb(_, Verb::Completions { shell }) = invocation {
        clap_complete::generate(
            *shell,
            &mut Everything::command(),
            "drover",
            &mut std::io::stdout(),
        );
        return Ok(Outcome::Success);
    }
    if let Invocation::Verb(global, Verb::Backup(arguments)) = invocation
        && arguments.check
    {
        return backup::check(&Printer::new(global), &arguments.file);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(dispatch(invocation))
}

async fn dispatch(invocation: &Invocation) -> Result<Outcome, Failure> {
    let global = invocation.global();
    let client = Client::connect(&global.config).await?;
    let printer = Printer::new(global);
    match invocation {
        Invocation::Call(_, call) => job::run(client, &printer, call).await,
        Invocation::Verb(_, verb) => match verb {
            Verb::Key { verb } => key::run(client, &printer, verb).await,
            Verb::Minions { target } => minions::minions(client, &printer, target).await,
            Verb::Presence { target } => minions::presence(client, &printer, target).await,
            Verb::Jobs { verb } => jobs::run(client, &printer, verb).await,
            Verb::Pending { verb } => pending::run(client, &printer, verb).await,
            Verb::Events { verb, filter } => {
                events::run(client, &printer, verb.as_ref(), filter).await
            }
            Verb::State { verb } => state::run(client, &printer, verb).await,
            Verb::Bridge { verb } => bridge::run(client, &printer, verb).await,
            Verb::Status => status::run(client, &printer).await,
            Verb::Backup(arguments) => backup::run(client, &printer, arguments).await,
            Verb::Completions { .. } => Ok(Outcome::Success),
        },
    }
}
