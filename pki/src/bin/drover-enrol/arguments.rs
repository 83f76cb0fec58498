//! The command line, and the help that teaches it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use drover_pki::assembly::{
    GrainName, GrainNameError, GrainValue, GrainValueError, MasterAddress, Settings,
};
use drover_pki::host::Host;
use drover_pki::ledger::{Actor, Reason};
use drover_pki::passphrase::PassphraseArguments;
use drover_pki::{HardwareSerial, MinionId, OperatorName, ServiceName};
use nix::unistd::Uid;

use crate::failure::Failure;
use crate::line::Grains;
use crate::rotation::{Certify, FollowRoots, RotateRoot};

use init::{CertifyStation, InitFleet, InitStation, Passphrase};
use line::{Batch, Label, StationLoop};

pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod line;

const EXAMPLES: &str = "\
Examples, from an empty directory to a device:
  drover-enrol init-fleet   --name acme --dir fleet
  drover-enrol init-station --fleet fleet --name line-1 --dir line-1
  drover-enrol issue        --station line-1 --id rfid-0001 --serial SN0001 \\
                            --grain role=rfid --master 10.0.0.1:4510 --out rfid-0001
  drover-enrol manifest     --station line-1 --out line-1.manifest
  drover key import line-1.manifest                            (on the master)
In place of `issue`, `station` takes what a barcode scanner reads, and `batch` a list in CSV.

Exit status: 0 done, 1 refused or failed, 2 the command line or a file is wrong.";

/// Gives devices their identity: makes a fleet's authorities, issues certificates on the assembly
/// line, and exports signed manifests for the master.
#[derive(Debug, Parser)]
#[command(name = "drover-enrol", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a fleet: its root, and what its master starts from
    InitFleet(InitFleet),
    /// Make an enrolment station: a factory CA under the fleet's root
    InitStation(InitStation),
    /// Certify a new station's request, where the fleet's root is
    CertifyStation(CertifyStation),
    /// Change the passphrase of an authority's key
    Passphrase(Passphrase),
    /// Give one device its identity
    Issue(Issue),
    Batch(Batch),
    Station(StationLoop),
    Label(Label),
    /// Export what was issued, signed, for `drover key import`
    Manifest(Manifest),
    /// List, verify and finish what the station remembers
    Ledger(ledger::Ledger),
    /// Revoke a device's certificate
    Revoke(ledger::Revoke),
    /// Write the station's revocation list
    Crl(ledger::Crl),
    /// Make an operator's certificate
    Operator(Operator),
    /// Make the certificate of a server that is not Drover's, such as a broker
    Server(Server),
    /// Make the certificate of a client of such a server
    Client(Client),
    /// Make a new root for the fleet, or a list of its roots without an old one
    RotateRoot(RotateRoot),
    /// Certify a new fleet CA by the master's signing request
    Certify(Certify),
    /// Make a station follow its fleet's root list
    FollowRoots(FollowRoots),
    /// Show what is in certificates, signing requests, manifests and root lists; nothing is verified
    Show(Show),
    /// Verify certificates, manifests and root lists against a fleet's root
    Verify(Verify),
    /// Print a completion script, as in `drover-enrol completions bash`
    Completions {
        /// The shell that will read it
        shell: clap_complete::Shell,
    },
}

/// Gives one device its identity. OUT becomes its /etc/drover: pki/ with its birth certificate, and
/// a minion.yml where there is none. An id, a serial number and a key are issued once. What is not
/// given comes from the station's settings, as for `batch`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  drover-enrol issue --station line-1 --id rfid-0001 --serial SN0001 --out rfid-0001
  drover-enrol issue --station line-1 --id rfid-0002 --serial SN0002 --csr rfid-0002.csr \\
                     --grain site=bne --grain role=rfid --master 10.0.0.1:4510 --out rfid-0002")]
pub(crate) struct Issue {
    /// The station's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) station: PathBuf,
    /// The minion's id: 1-64 of A-Z a-z 0-9 . _ - [default: by the station's template]
    #[arg(long, value_name = "ID")]
    id: Option<MinionId>,
    /// The device's hardware serial number, which must fit the station's pattern if it has one
    #[arg(long, value_name = "SN")]
    pub(crate) serial: HardwareSerial,
    /// A signing request (PEM or DER) for a key made on the device; only the key is taken from it
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: Option<PathBuf>,
    /// An enrolled grain, which the device cannot change, before the station's own; may be given many
    /// times
    #[arg(long = "grain", value_name = "K=V", num_args = 1..)]
    grains: Vec<Grain>,
    /// The master's address for minion.yml, in place of the station's own; given many times, they are
    /// tried in turn
    #[arg(long, value_name = "ADDR")]
    master: Vec<MasterAddress>,
    /// Where the device's files go
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Issue again for a device that was issued before; its certificate from then is revoked, and it
    /// keeps the grains that are not given anew
    #[arg(long, requires = "reason")]
    pub(crate) reissue: bool,
    /// Why it is issued again, for the ledger and the master
    #[arg(long, value_name = "TEXT", requires = "reissue")]
    pub(crate) reason: Option<Reason>,
    #[command(flatten)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArguments,
}

impl Issue {
    /// The station's settings, with the masters that the command line names.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        line::settings(&self.station, &self.master)
    }

    /// The grains of these settings and of the command line.
    pub(crate) fn grains(&self, settings: &Settings) -> Result<Grains, Failure> {
        Ok(Grains::new(settings, line::grains(&self.grains)?))
    }

    /// The id given, else the template's, for a serial number that fits the station's pattern.
    pub(crate) fn id(&self, settings: &Settings) -> Result<MinionId, Failure> {
        settings.check_serial(&self.serial).map_err(Failure::not_of_pattern)?;
        match (&self.id, &settings.id_template) {
            (Some(id), _) => Ok(id.clone()),
            (None, Some(template)) => template.id(&self.serial).map_err(Failure::unfit_serial),
            (None, None) => Err(Failure::no_id(&self.station)),
        }
    }
}

/// Who does it, for the ledger.
#[derive(Debug, Clone, Args)]
pub(crate) struct By {
    /// Who does it, for the ledger [default: $SUDO_USER, $USER or $LOGNAME, else the user's number]
    #[arg(long, value_name = "NAME")]
    by: Option<Actor>,
}

impl By {
    /// Who was named, else who is logged in, else as whom this runs. Nothing proves any of it.
    pub(crate) fn into_actor(self) -> Actor {
        let logged_in = || {
            let names = ["SUDO_USER", "USER", "LOGNAME"].into_iter();
            names.filter_map(|name| std::env::var(name).ok()).find_map(|name| name.parse().ok())
        };
        let number = || {
            let actor = format!("uid {}", Uid::current());
            actor.parse().expect("invariant: a word and a number are an actor")
        };
        self.by.or_else(logged_in).unwrap_or_else(number)
    }
}

/// Exports the devices issued since the last manifest. Manifests are numbered, and signed with the
/// station's authority; the station keeps a copy of each under manifests/.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  drover-enrol manifest --station line-1 --out line-1.manifest")]
pub(crate) struct Manifest {
    /// The station's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) station: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Everything the station ever issued, not what is new alone
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArguments,
}

/// Makes operator.crt, operator.key and root.crt in OUT, with the fleet CA. Valid for a year.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  drover-enrol operator --fleet fleet --name ann --out ann")]
pub(crate) struct Operator {
    /// The fleet's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) fleet: PathBuf,
    /// The operator's name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: OperatorName,
    /// Where the files go
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArguments,
}

/// Makes NAME.crt, NAME.key and root.crt in OUT, with the fleet CA: for an MQTT broker, Elasticsearch, Logstash. Valid for
/// a year. To minions and masters it is nobody.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  drover-enrol server --fleet fleet --name broker --dns broker.example --ip 10.0.0.2 --out broker")]
pub(crate) struct Server {
    /// The fleet's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) fleet: PathBuf,
    /// What the files are called, and its common name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: ServiceName,
    /// A name by which clients find it; may be given several times
    #[arg(long, value_name = "NAME", required_unless_present = "ip")]
    pub(crate) dns: Vec<Host>,
    /// An address by which clients find it; may be given several times
    #[arg(long, value_name = "ADDR")]
    pub(crate) ip: Vec<IpAddr>,
    /// Where the files go
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArguments,
}

/// Makes NAME.crt, NAME.key and root.crt in OUT, with the fleet CA: for a bridge, or a program that logs in to such a
/// server. Valid for a year. To minions and masters it is nobody.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  drover-enrol client --fleet fleet --name drover-bridge --out bridge"
)]
pub(crate) struct Client {
    /// The fleet's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) fleet: PathBuf,
    /// What the files are called, and its common name: by which a broker may know it. No device may have it as its id
    #[arg(long, value_name = "NAME")]
    pub(crate) name: ServiceName,
    /// Where the files go
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArguments,
}

/// Shows what is in files, without verifying anything.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  drover-enrol show rfid-0001/pki/idevid.crt line-1.manifest")]
pub(crate) struct Show {
    /// Certificates (PEM or DER), signing requests, manifests
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Verifies files against a fleet's root, as the master and the minions do.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  drover-enrol verify rfid-0001/pki/idevid.crt          (root.crt lies beside it)
  drover-enrol verify --root fleet/master/root.crt line-1.manifest")]
pub(crate) struct Verify {
    /// The fleet's root [default: root.crt beside each file]
    #[arg(long, value_name = "FILE")]
    pub(crate) root: Option<PathBuf>,
    /// Certificates with their issuers (PEM), a station's ca.crt, manifests
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// `K=V`.
#[derive(Debug, Clone)]
pub(crate) struct Grain {
    pub(crate) key: GrainName,
    pub(crate) value: GrainValue,
}

impl FromStr for Grain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("a grain is given as KEY=VALUE")?;
        let key = key.parse().map_err(|error: GrainNameError| error.to_string())?;
        let value = value.parse().map_err(|error: GrainValueError| error.to_string())?;
        Ok(Self { key, value })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn grains_are_text_and_given_once() {
        let grain = |text: &str| text.parse::<Grain>();
        let read = line::grains(&[grain("serial=0012").unwrap(), grain("a=b=c").unwrap()]).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"{"a":"b=c","serial":"0012"}"#);
        assert!(line::grains(&[grain("a=1").unwrap(), grain("a=2").unwrap()]).is_err());
        for wrong in ["a", "=b", "a b=c", "id=x", "a=\x1b[31m", "a=b\n"] {
            grain(wrong).unwrap_err();
        }
    }
}
