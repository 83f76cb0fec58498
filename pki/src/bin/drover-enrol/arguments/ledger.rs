//! The command line of the station's memory: its ledger, revocations and their list.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use drover_pki::ledger::Reason;
use drover_pki::passphrase::PassphraseArguments;
use drover_pki::{HardwareSerial, MinionId};

use super::By;

/// Looks at the station's ledger: what was issued, refused, re-issued, revoked and exported, by whom
/// and when.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  drover-enrol ledger verify     --station line-1
  drover-enrol ledger show       --station line-1 --serial SN0001
  drover-enrol ledger unfinished --station line-1 --finish")]
pub(crate) struct Ledger {
    #[command(subcommand)]
    pub(crate) verb: LedgerVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerVerb {
    /// Find every line that was changed, removed, added or moved, and a cut end; status 1 if there is any
    Verify(LedgerVerify),
    /// List its lines
    Show(LedgerShow),
    /// List bundles that were begun and are not known to be whole, or finish them
    Unfinished(LedgerUnfinished),
}

/// Verifies the chain of lines, their signed head, and that the station's manifests agree with them.
/// Needs no private key, and changes nothing.
#[derive(Debug, Args)]
pub(crate) struct LedgerVerify {
    /// The station's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) station: PathBuf,
    /// Print one JSON value
    #[arg(long)]
    pub(crate) json: bool,
}

/// Lists the ledger's lines, whether they verify or not. Status 3 where none is about the device that
/// was asked for.
#[derive(Debug, Args)]
pub(crate) struct LedgerShow {
    /// The station's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) station: PathBuf,
    /// Only what is about this minion
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<MinionId>,
    /// Only what is about this hardware serial number
    #[arg(long, value_name = "SN")]
    pub(crate) serial: Option<HardwareSerial>,
    /// Print a JSON array of the lines, whole
    #[arg(long)]
    pub(crate) json: bool,
}

/// Lists bundles whose certificate is in the ledger, and that a power cut or a card that was pulled
/// out may have left in part. Listing them needs no private key.
#[derive(Debug, Args)]
pub(crate) struct LedgerUnfinished {
    /// The station's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) station: PathBuf,
    /// Finish each where it was begun
    #[arg(long)]
    pub(crate) finish: bool,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArguments,
}

/// Revokes a device's certificate: in the ledger, in the station's revocation list, and on the master
/// with the next manifest. On the master itself `drover key revoke` takes effect at once.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  drover-enrol revoke --station line-1 --serial SN0001 --reason 'key compromise'"
)]
pub(crate) struct Revoke {
    /// The station's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) station: PathBuf,
    /// The minion
    #[arg(long, value_name = "ID", required_unless_present = "serial", conflicts_with = "serial")]
    pub(crate) id: Option<MinionId>,
    /// Its hardware serial number
    #[arg(long, value_name = "SN")]
    pub(crate) serial: Option<HardwareSerial>,
    /// Why; the words of RFC 5280, such as `key compromise`, get their code in the list
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Reason,
    #[command(flatten)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArguments,
}

/// Writes the station's revocation list (RFC 5280), in PEM. Each manifest has it too.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  drover-enrol crl --station line-1 --out line-1.crl")]
pub(crate) struct Crl {
    /// The station's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) station: PathBuf,
    /// The file to write, in the place of one that is there
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArguments,
}
