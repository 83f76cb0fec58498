//! The command lines that make fleets and stations, and what changes a passphrase.

use std::path::PathBuf;

use clap::Args;
use drover_pki::passphrase::PassphraseArguments;
use drover_pki::{FleetName, MasterName, StationName};

use super::By;
use super::keys::{KeyUri, NewPassphrase, RootPassphrase};
use super::line::LineSettings;

/// Makes DIR/root, which goes to a safe, and DIR/master, which is the master's `pki_dir`.
/// Nothing that exists is overwritten. Keys are encrypted if a passphrase is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  drover-enrol init-fleet --name acme --dir fleet
  drover-enrol init-fleet --name acme --dir fleet --passphrase-file fleet-ca.pass \\
                          --root-passphrase-file root.pass")]
pub(crate) struct InitFleet {
    /// The fleet's name
    #[arg(long, value_name = "FLEET")]
    pub(crate) name: FleetName,
    /// Where to make it
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The name in the master's certificate, a label [default: the fleet's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) master_name: Option<MasterName>,
    /// Make the root's key in a PKCS#11 token, or use it where it is there
    #[arg(long, value_name = "URI")]
    pub(crate) root_key: Option<KeyUri>,
    /// Likewise the fleet CA's key, the one that is online
    #[arg(long, value_name = "URI")]
    pub(crate) fleet_ca_key: Option<KeyUri>,
    #[command(flatten)]
    pub(crate) passphrase: NewPassphrase,
    #[command(flatten)]
    pub(crate) root: RootPassphrase,
}

/// Makes a station's directory: its own authority, which can speak for devices alone, and in time
/// its ledger. The fleet's root is needed for this, and never again on the assembly line; where it
/// must not leave its safe, --request and --complete are done at the station, and `certify-station`
/// where the root is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples, at once and in two halves:
  drover-enrol init-station    --fleet fleet --name line-1 --dir line-1 \\
                               --id-template 'rfid-{serial}' --serial-pattern 'SN[0-9]{4}' \\
                               --master 10.0.0.1:4510

  drover-enrol init-station    --request --name line-1 --dir line-1
  drover-enrol certify-station --fleet fleet --csr ca.csr --name line-1 --out line-1.crt.pem
  drover-enrol init-station    --complete line-1.crt.pem --dir line-1

With the key in a token, made there and never to leave it:
  drover-enrol init-station --fleet fleet --name line-1 --dir line-1 \\
      --ca-key 'pkcs11:token=factory;object=line-1?module-path=/usr/lib/softhsm/libsofthsm2.so'")]
pub(crate) struct InitStation {
    /// The fleet's directory, with its root
    #[arg(long, value_name = "DIR", required_unless_present_any = ["request", "complete"])]
    pub(crate) fleet: Option<PathBuf>,
    /// Make the key and a request for its certificate, DIR/ca.csr
    #[arg(long, conflicts_with = "fleet")]
    pub(crate) request: bool,
    /// Take the certificate that came back for the request
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fleet", "request", "name", "ca_key"])]
    pub(crate) complete: Option<PathBuf>,
    /// The station's name
    #[arg(long, value_name = "STATION", required_unless_present = "complete")]
    pub(crate) name: Option<StationName>,
    /// Take the place of a station that is gone: every manifest that it made, or those from its last
    /// --all one on
    #[arg(long, value_name = "MANIFEST", num_args = 1.., conflicts_with = "request")]
    pub(crate) replace: Vec<PathBuf>,
    /// Where to make it
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Make the station's key in a PKCS#11 token (RFC 7512), or use it where it is there
    #[arg(long, value_name = "URI")]
    pub(crate) ca_key: Option<KeyUri>,
    #[command(flatten)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) passphrase: NewPassphrase,
    #[command(flatten)]
    pub(crate) root: RootPassphrase,
    #[command(flatten)]
    pub(crate) line: LineSettings,
}

/// Certifies a station's key where the root is. The request proves that the station has the key,
/// and nothing else is taken from it. Compare the key's digest with the one that the station showed.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  drover-enrol certify-station --fleet fleet --csr ca.csr --name line-1 --out line-1.crt.pem")]
pub(crate) struct CertifyStation {
    /// The fleet's directory, with its root
    #[arg(long, value_name = "DIR")]
    pub(crate) fleet: PathBuf,
    /// The station's request (PEM or DER)
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: PathBuf,
    /// The station's name
    #[arg(long, value_name = "STATION")]
    pub(crate) name: StationName,
    /// The file to write, for `init-station --complete`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArguments,
}

/// Changes the passphrase of an authority's key. At any moment the file holds the key under the old
/// passphrase or under the new one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  drover-enrol passphrase line-1/ca.key                      (asks for the old and the new)
  drover-enrol passphrase fleet/master/fleet-ca.key --passphrase-file old --new-passphrase-file new
  drover-enrol passphrase line-1/ca.key --no-passphrase      (takes the encryption away)")]
pub(crate) struct Passphrase {
    /// The key: root.key, ca.key or fleet-ca.key
    #[arg(value_name = "FILE")]
    pub(crate) key: PathBuf,
    #[command(flatten)]
    pub(crate) old: PassphraseArguments,
    /// Read the new passphrase from the first line of file descriptor N
    #[arg(long, value_name = "N", conflicts_with = "new_passphrase_file")]
    pub(crate) new_passphrase_fd: Option<u32>,
    /// Read the new passphrase from the first line of FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Take the encryption away
    #[arg(long, conflicts_with_all = ["new_passphrase_fd", "new_passphrase_file"])]
    pub(crate) no_passphrase: bool,
}
