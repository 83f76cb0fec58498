//! `drover backup`.

use std::path::PathBuf;

use clap::Args;

pub(in crate::cli) const BACKUP_EXAMPLES: &str = "\
A backup is all that the master knows and is: its store, manifests, pki_dir with the fleet CA's key
(encrypted if it is there) and master.yml. Keep it as safe as that key.

Examples:
  drover backup master.backup                     while the master runs
  drover backup - | zstd > master.backup.zst      to somewhere else
  drover backup --check master.backup             is it whole? needs no master
  drover-master -c /etc/drover restore master.backup     the master must not run";

pub(in crate::cli) const STATUS_EXIT: &str = "\
Exit status: 0 nothing is down; 1 something is down (the store, a bridge, a certificate), or the
master does not answer.";

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct BackupArguments {
    /// Where to (mode 0600), `-` for standard output; with --check, the file to verify
    pub(in crate::cli) file: PathBuf,
    /// Overwrite the file if it is there
    #[arg(long, conflicts_with = "check")]
    pub(in crate::cli) force: bool,
    /// Only verify the file
    #[arg(long)]
    pub(in crate::cli) check: bool,
}
