//! The command line's grammar: Salt's for `drover TARGET FUNCTION`, verbs beside it.

mod backup;
mod bridge;
mod dispatch;
mod key;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use drover_proto::job::TargetType;

use super::value;
use crate::config::DEFAULT_DIRECTORY;

use backup::{BACKUP_EXAMPLES, STATUS_EXIT};
use bridge::BRIDGE_EXAMPLES;

pub(super) use backup::BackupArguments;
pub(super) use bridge::{BridgeVerb, DeadLettersVerb, Letters};
pub(super) use dispatch::{Invocation, parse};
pub(super) use key::{
    AuthoritiesVerb, Chosen, Date, Imported, KeyStatus, KeyVerb, Listed, ManifestOf, Retired,
    Revoked,
};

const USAGE: &str = "drover [OPTIONS] TARGET FUNCTION [ARG…] [KEY=VALUE…]
       drover [OPTIONS] COMMAND …";

const EXAMPLES: &str = "\
Examples:
  drover '*' test.ping                            ask every minion
  drover -G role:rfid state.apply rfid test=True  what would change on the readers
  drover -C 'G@site:bne and not gate-*' cmd.run uptime
  drover rfid-0042 state.apply rfid --pending     when it is back, if it is away
  drover -L key test.ping                         a minion whose id is also a command

Exit status: 0 all succeeded; 1 a minion failed or did not answer; 2 the command line, an
expression or a file is wrong; 3 nothing matched, or there is no such thing.";

const EVENTS_EXAMPLES: &str = "\
Examples:
  drover events --limit 20
  drover events --follow --tag 'drover/beacon/*' -G site=bne
  drover events --minion 'rfid-*' --since 2h --until 1h --out json
  drover events --since 48211
  drover events send site/opened door=3";
const KEY_EXAMPLES: &str = "\
Examples:
  drover key import line-1.manifest              let in what a station has issued
  drover key list --status pending               who waits
  drover key revoke rfid-0042 --reason stolen    cut off within a second, for good
  drover key retire 'rfid-*' --at 2031-06-30     no certificate lasts longer, then they are revoked
  drover key authorities                         what the fleet stands on, and until when";

/// What every verb takes stands below what is its own.
const EVERYWHERE: &str = "Options of every command";

/// Run functions on minions, and see what the master knows.
#[derive(Debug, Parser)]
#[command(name = "drover", version, override_usage = USAGE, after_help = EXAMPLES)]
#[command(subcommand_value_name = "COMMAND", max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Everything {
    #[command(flatten)]
    pub(super) call: Call,
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
}

/// Run a function on minions.
#[derive(Debug, Parser)]
#[command(name = "drover", version, override_usage = USAGE, after_help = EXAMPLES, max_term_width = 100)]
pub(super) struct OnlyCall {
    #[command(flatten)]
    pub(super) call: Call,
    #[command(flatten)]
    pub(super) global: Global,
}

#[derive(Debug, Clone, Args)]
pub(super) struct Global {
    /// The master's configuration directory
    #[arg(short, long = "config-dir", visible_alias = "config", value_name = "DIR", global = true)]
    #[arg(env = "DROVER_CONFIG_DIR")]
    #[arg(default_value = DEFAULT_DIRECTORY, help_heading = EVERYWHERE)]
    pub(super) config: PathBuf,
    /// How to print; json is one value and nothing else
    #[arg(long, visible_alias = "output", value_name = "FORMAT", global = true, help_heading = EVERYWHERE)]
    pub(super) out: Option<Format>,
    /// No colours, also on a terminal (as NO_COLOR)
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(super) no_color: bool,
    /// Colours, also where no terminal is
    #[arg(long, global = true, conflicts_with = "no_color", help_heading = EVERYWHERE)]
    pub(super) force_color: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One JSON value; events: one a line
    Json,
    /// YAML
    Yaml,
    /// Indented, as Salt prints
    Nested,
    /// Columns
    Table,
    /// One line for each minion, or whatever is listed
    Txt,
    /// Nothing: the exit status tells
    Quiet,
}

#[derive(Debug, Clone, Args)]
pub(super) struct Call {
    #[command(flatten)]
    pub(super) matcher: Matcher,
    /// Which minions: a glob on the id, unless an option says otherwise
    pub(super) target: Option<String>,
    /// What to run there: module.function
    pub(super) function: Option<String>,
    /// Its arguments, each read as YAML; KEY=VALUE is a keyword
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    pub(super) arguments: Vec<String>,
    /// How long to wait for a minion that is silent (one that says the job runs is waited for)
    #[arg(short, long, value_name = "S", value_parser = value::duration, default_value = "5")]
    #[arg(help_heading = "Running a function")]
    pub(super) timeout: Duration,
    /// How long the function may run on a minion, as 90s or 15m [default: the master's job_timeout]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    #[arg(help_heading = "Running a function")]
    pub(super) job_timeout: Option<Duration>,
    /// So many minions at a time, as 10 or 25%
    #[arg(short, long, value_name = "N|N%", value_parser = Batch::parse)]
    #[arg(conflicts_with_all = ["run_async", "pending"], help_heading = "Running a function")]
    pub(super) batch: Option<Batch>,
    /// Print the job's id and do not wait
    #[arg(long = "async", help_heading = "Running a function")]
    pub(super) run_async: bool,
    /// Keep the job for minions that are away, until they are back
    #[arg(long, help_heading = "Running a function")]
    pub(super) pending: bool,
    /// How long to keep it, as 12h or 7d [default: the master's pending_ttl]
    #[arg(long, value_name = "D", value_parser = value::duration, requires = "pending")]
    #[arg(help_heading = "Running a function")]
    pub(super) ttl: Option<Duration>,
}

/// Which matcher the target is for. The letters are Salt's.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub(super) struct Matcher {
    /// The target is a grain: key:glob
    #[arg(short = 'G', long, help_heading = "Target")]
    grain: bool,
    /// A list of ids: a,b
    #[arg(short = 'L', long, help_heading = "Target")]
    list: bool,
    /// A regular expression on the id
    #[arg(short = 'E', long, help_heading = "Target")]
    pcre: bool,
    /// A grain by regular expression: key:regex
    #[arg(short = 'P', long, help_heading = "Target")]
    grain_pcre: bool,
    /// A pillar value: key:glob
    #[arg(short = 'I', long, help_heading = "Target")]
    pillar: bool,
    /// A pillar value by regular expression: key:regex
    #[arg(short = 'J', long, help_heading = "Target")]
    pillar_pcre: bool,
    /// An address or network: 10.1.0.0/16
    #[arg(short = 'S', long, help_heading = "Target")]
    ipcidr: bool,
    /// Not supported: there is no range server
    #[arg(short = 'R', long, help_heading = "Target", hide = true)]
    pub(super) range: bool,
    /// A nodegroup of the master's configuration
    #[arg(short = 'N', long, help_heading = "Target")]
    nodegroup: bool,
    /// A compound: 'G@role:rfid and not ( web-* or E@db\d )'
    #[arg(short = 'C', long, help_heading = "Target")]
    compound: bool,
}

impl Matcher {
    pub(super) const fn kind(&self) -> TargetType {
        match self {
            Self { grain: true, .. } => TargetType::Grain,
            Self { list: true, .. } => TargetType::List,
            Self { pcre: true, .. } => TargetType::Pcre,
            Self { grain_pcre: true, .. } => TargetType::GrainPcre,
            Self { pillar: true, .. } => TargetType::Pillar,
            Self { pillar_pcre: true, .. } => TargetType::PillarPcre,
            Self { ipcidr: true, .. } => TargetType::Ipcidr,
            Self { nodegroup: true, .. } => TargetType::Nodegroup,
            Self { compound: true, .. } => TargetType::Compound,
            Self { .. } => TargetType::Glob,
        }
    }
}

/// How many minions at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Batch {
    Count(usize),
    Percent(f64),
}

impl Batch {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "a batch is a number of minions or a share of them, as 10 or 25%".to_owned();
        match text.strip_suffix('%') {
            Some(share) => match share.parse() {
                Ok(share) if 0.0 < share && share <= 100.0 => Ok(Self::Percent(share)),
                Ok(_) | Err(_) => Err(wrong()),
            },
            None => match text.parse() {
                Ok(count) if count > 0 => Ok(Self::Count(count)),
                Ok(_) | Err(_) => Err(wrong()),
            },
        }
    }

    /// Of so many; never 0.
    #[expect(clippy::cast_precision_loss, reason = "no fleet has 2^52 minions")]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and `all`"
    )]
    pub(super) fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(share) => ((all as f64 * share / 100.0) as usize).max(1),
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(super) struct Target {
    #[command(flatten)]
    pub(super) matcher: Matcher,
    /// Which minions: a glob on the id, unless an option says otherwise [default: all]
    pub(super) target: Option<String>,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum Verb {
    /// Which devices may connect, and the authorities behind them: accept, revoke, import, retire
    #[command(visible_alias = "keys", after_help = KEY_EXAMPLES)]
    Key {
        #[command(subcommand)]
        verb: KeyVerb,
    },
    /// What the registry knows of minions, also of those that are away
    Minions {
        #[command(flatten)]
        target: Target,
    },
    /// Which accepted minions are connected, stale or lost, and since when
    Presence {
        #[command(flatten)]
        target: Target,
    },
    /// Jobs and their returns
    #[command(visible_alias = "job")]
    Jobs {
        #[command(subcommand)]
        verb: JobsVerb,
    },
    /// Jobs that wait for minions that are away
    Pending {
        #[command(subcommand)]
        verb: PendingVerb,
    },
    /// What has happened, and what happens; `send` adds an event
    #[command(
        visible_alias = "event",
        args_conflicts_with_subcommands = true,
        after_help = EVENTS_EXAMPLES
    )]
    Events {
        #[command(subcommand)]
        verb: Option<EventsVerb>,
        #[command(flatten)]
        filter: EventFilter,
    },
    /// States, compiled on the master
    State {
        #[command(subcommand)]
        verb: StateVerb,
    },
    /// Where events go: status, test, pause, replay, dead letters
    #[command(after_help = BRIDGE_EXAMPLES)]
    Bridge {
        #[command(subcommand)]
        verb: BridgeVerb,
    },
    /// How the master is doing, and what is wrong
    #[command(after_help = STATUS_EXIT)]
    Status,
    /// Copy the whole master into a file while it runs, or verify such a file
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup(BackupArguments),
    /// Completions for a shell: drover completions bash > /etc/bash_completion.d/drover
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: Shell,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum JobsVerb {
    /// The newest jobs
    List {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// A job, and where it stands on each minion
    Show {
        /// The job's id
        jid: String,
    },
    /// Wait until a job is over on every minion, and print the returns
    Wait {
        /// The job's id
        jid: String,
    },
    /// End a job on every minion
    Kill {
        /// The job's id
        jid: String,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum PendingVerb {
    /// What waits for whom
    List {
        #[command(flatten)]
        target: Target,
    },
    /// What waits of one job, or for one minion
    Show {
        /// A job's id or a minion's
        id: String,
    },
    /// Take it back
    Cancel {
        /// A job's id or a minion's
        id: String,
    },
}

#[derive(Debug, Clone, Args)]
pub(super) struct EventFilter {
    /// Only tags that match; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub(super) tag: Vec<String>,
    /// Only events of these minions; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub(super) minion: Vec<String>,
    /// Only events of minions with this grain now; where given several times, with all of these
    #[arg(short = 'G', long, value_name = "KEY=GLOB")]
    pub(super) grain: Vec<String>,
    /// Only events since then: a day or time (UTC), a duration ago (15m), or a sequence number
    #[arg(long, value_name = "T")]
    pub(super) since: Option<String>,
    /// Only events before then, written the same way
    #[arg(long, value_name = "T", conflicts_with = "follow")]
    pub(super) until: Option<String>,
    /// Go on with what happens
    #[arg(short, long)]
    pub(super) follow: bool,
    /// At most so many: the newest, or with --since or --follow the first
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum EventsVerb {
    /// Add an event of your own
    Send {
        /// What happened, as site/opened
        tag: String,
        /// The event's data
        #[arg(value_name = "KEY=VALUE")]
        data: Vec<String>,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum StateVerb {
    /// What a minion would be given, compiled without contacting it
    Show {
        #[command(flatten)]
        matcher: Matcher,
        /// Which minions
        target: String,
        /// These SLS; without, the highstate
        sls: Vec<String>,
    },
}

#[cfg(test)]
mod tests;
