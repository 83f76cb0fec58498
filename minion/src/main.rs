//! `drover-minion`: the agent as a daemon, and `call` for one function by hand.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use drover_minion::{
    agent::Agent,
    call::{self, Output},
    config::{Config, log_level},
    error_chain,
    identity::DeviceIdentity,
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

/// Drover's agent on the device.
#[derive(Parser)]
#[command(name = "drover-minion", version, args_conflicts_with_subcommands = false)]
struct Cli {
    /// The directory that holds minion.yml.
    #[arg(
        short,
        long = "config-dir",
        value_name = "DIR",
        env = "DROVER_CONFIG_DIR",
        global = true
    )]
    config_dir: Option<PathBuf>,
    /// How much is logged: error, warn, info, debug, trace.
    #[arg(short, long, value_name = "LEVEL", global = true, value_parser = log_level)]
    log_level: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run one function here, and print what it returns.
    Call(CallArguments),
}

#[derive(Args)]
struct CallArguments {
    /// Take states and pillar from `file_roots` and `pillar_roots` of minion.yml, without a master.
    #[arg(long)]
    local: bool,
    /// json, yaml or nested.
    #[arg(long, visible_alias = "output", value_name = "FORM", default_value = "nested")]
    out: Output,
    /// The function, such as `test.ping`.
    function: String,
    /// Its arguments; `KEY=VALUE` by name.
    #[arg(allow_negative_numbers = true, value_name = "ARG")]
    arguments: Vec<String>,
}

/// The command line, a configuration or a file is wrong.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(status) => status,
        Err(why) => {
            eprintln!("error: {why}");
            for cause in why.chain().skip(1) {
                eprintln!("  caused by: {cause}");
            }
            ExitCode::from(WRONG)
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = Config::load(&call::directory(cli.config_dir))?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    match cli.command {
        Some(Command::Call(arguments)) => {
            // Only what is wrong, unless it was asked for: the return goes to a person or a program.
            log(cli.log_level.as_deref().unwrap_or("warn"))?;
            call(&runtime, config, arguments)
        }
        None => {
            log(cli.log_level.as_deref().unwrap_or(&config.log_level))?;
            let identity = DeviceIdentity::load(&config.pki_dir)?;
            daemon(&runtime, config, identity)
        }
    }
}

fn call(runtime: &Runtime, config: Config, arguments: CallArguments) -> anyhow::Result<ExitCode> {
    let CallArguments { local, out, function, arguments } = arguments;
    let reply =
        runtime.block_on(call::run(config, call::Request { local, function, arguments }))?;
    print!("{}", out.show(&reply.value));
    Ok(if reply.retcode == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn daemon(runtime: &Runtime, config: Config, identity: DeviceIdentity) -> anyhow::Result<ExitCode> {
    tracing::info!(version = drover_minion::VERSION, id = %identity.id, "starting");
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let agent = Agent::start(config, identity).await?;
        agent
            .run(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
            .await;
        anyhow::Ok(())
    })?;
    // Without dropping the runtime: what jobs have started goes on, and dropping would kill it.
    std::process::exit(0)
}

fn log(level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level)
        .map_err(|why| anyhow::anyhow!("`{level}` is no log level: {}", error_chain(&why)))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    Ok(())
}
