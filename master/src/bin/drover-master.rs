//! The master daemon. Everything it is told stands in its configuration directory.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use drover_master::{
    config::{Config, DEFAULT_DIRECTORY, log_level},
    daemon::{self, Plan},
    restore::Restore,
};
use drover_pki::passphrase::PassphraseArguments;
use tracing_subscriber::EnvFilter;

const RESTORE_EXAMPLES: &str = "\
Examples:
  drover backup --check master.backup                           is it whole?
  runuser -u drover -- drover-master -c /etc/drover restore master.backup

It says what it cannot know: devices that were revoked since the backup have to be revoked again.";

/// Drover's master: minions connect to it, operators drive it with `drover`.
#[derive(Parser)]
#[command(name = "drover-master", version)]
struct Arguments {
    /// The directory that holds master.yml
    #[arg(short = 'c', long, value_name = "DIR", env = "DROVER_CONFIG_DIR", default_value = DEFAULT_DIRECTORY)]
    config_dir: PathBuf,
    /// error, warn, info, debug or trace; also by module, as `info,drover_proto=debug`
    #[arg(short, long, value_name = "LEVEL", value_parser = log_level)]
    log_level: Option<String>,
    // The fleet CA's; where none is given, `passphrase_file` in master.yml, then the terminal.
    #[command(flatten)]
    passphrase: PassphraseArguments,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Make this master what it was when `drover backup` took FILE; the master must not run
    ///
    /// All of FILE is verified before anything changes. Where there is no master.yml, it takes the backup's.
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore {
        /// The backup
        file: PathBuf,
        /// Also over a data directory and keys that are there: they are moved aside and kept
        #[arg(long)]
        force: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Verb::Restore { file, force }) = arguments.verb {
        return restore(&Restore { config_dir: arguments.config_dir, file, force });
    }
    let config = match Config::load(&arguments.config_dir) {
        Ok(config) => config,
        Err(error) => return fail(&anyhow::Error::new(error), 2),
    };
    let log_level = arguments.log_level.unwrap_or_else(|| config.log_level.clone());
    let passphrase = arguments.passphrase.source_or(config.passphrase_file.as_deref());
    let passphrase = passphrase.for_all_keys();
    let plan = match Plan::of(config, passphrase) {
        Ok(plan) => plan,
        Err(wrong) => return fail(&anyhow::Error::msg(wrong), 2),
    };
    let filter = match EnvFilter::try_new(log_level) {
        Ok(filter) => filter,
        Err(error) => return fail(&anyhow::Error::new(error).context("read the log level"), 2),
    };
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ran = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let ran = runtime.block_on(daemon::run(plan));
        // A reader of files that hangs on a dead disk does not hold up the end.
        runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        ran
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn restore(restore: &Restore) -> ExitCode {
    match restore.run() {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let hint = error.hint();
            let status = fail(&anyhow::Error::new(error), 1);
            eprintln!("hint: {hint}");
            status
        }
    }
}

fn fail(error: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("drover-master: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  caused by: {cause}");
    }
    ExitCode::from(status)
}
