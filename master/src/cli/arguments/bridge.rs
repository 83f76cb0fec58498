//! `drover bridge`: the verbs about where events go.

use clap::{Args, Subcommand};

pub(in crate::cli) const BRIDGE_EXAMPLES: &str = "\
Examples:
  drover bridge status                            how far each is behind, and why
  drover bridge test elk                          does the receiver take an event?
  drover bridge dead-letters show elk 48211       what it refused, with the reason
  drover bridge replay elk --since 2h             send the last two hours again

Bridges are set up in master.yml (`bridges:`) and begin with the master.";

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum BridgeVerb {
    /// Where each bridge stands, and what holds it up
    Status {
        /// This bridge; without, all
        bridge: Option<String>,
    },
    /// Send one test event, and say what came back
    Test {
        /// The bridge
        bridge: String,
    },
    /// Send again what the log has from a number or a time on
    Replay {
        /// The bridge
        bridge: String,
        /// A sequence number, a day or time (UTC), or a duration ago (2h)
        #[arg(long, value_name = "T")]
        since: String,
        /// Do not ask; needed where the receiver gets events twice and no terminal is
        #[arg(short, long)]
        yes: bool,
    },
    /// Send nothing until it is resumed, also after the master starts anew; the log keeps what waits
    Pause {
        /// The bridge
        bridge: String,
    },
    /// Go on after a pause, or at once where it waits to try again
    Resume {
        /// The bridge
        bridge: String,
    },
    /// The events that could not be delivered, and why
    #[command(args_conflicts_with_subcommands = true)]
    DeadLetters {
        #[command(subcommand)]
        verb: Option<DeadLettersVerb>,
        /// Of this bridge; without, of all
        bridge: Option<String>,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum DeadLettersVerb {
    /// Their ids, tags and reasons, oldest first
    List {
        /// Of this bridge; without, of all
        bridge: Option<String>,
    },
    /// One of them, with its event
    Show {
        /// The bridge
        bridge: String,
        /// The event's id, or its sequence number
        id: String,
    },
    /// Send them again; each goes once it is delivered, and stays where it is refused again
    Replay(Letters),
    /// Forget them
    Drop(Letters),
}

/// Some of a bridge's dead letters.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Letters {
    /// The bridge
    pub(in crate::cli) bridge: String,
    /// The events' ids, or their sequence numbers
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub(in crate::cli) ids: Vec<String>,
    /// All of the bridge's
    #[arg(long)]
    pub(in crate::cli) all: bool,
    /// Do not ask; needed to forget all where no terminal is
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
}
