//! The command lines of an assembly line: `batch`, `station`, `label`, and what a station is told once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use drover_pki::MinionId;
use drover_pki::assembly::{
    GrainName, GrainValue, IdTemplate, MasterAddress, OutPath, SerialPattern, Settings,
};
use drover_pki::ledger::Reason;
use drover_pki::passphrase::PassphraseArguments;

use super::{By, Grain};
use crate::failure::Failure;
use crate::line::Grains;

/// What is kept in the station's directory, in `station.json`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings, kept in DIR/station.json for issue, batch and station")]
pub(crate) struct LineSettings {
    /// What ids are made from where none is given, such as rfid-{serial}
    #[arg(long, value_name = "TEMPLATE")]
    id_template: Option<IdTemplate>,
    /// A regular expression that whole serial numbers fit, such as SN[0-9]{4}; others are refused
    #[arg(long, value_name = "REGEX")]
    serial_pattern: Option<SerialPattern>,
    /// The address of the devices' master; given many times, they are tried in turn
    #[arg(long, value_name = "ADDR")]
    master: Vec<MasterAddress>,
    /// An enrolled grain of each device; may be given many times
    #[arg(long = "grain", value_name = "K=V", num_args = 1..)]
    grains: Vec<Grain>,
}

impl LineSettings {
    /// The settings given; none if there are none.
    pub(crate) fn settings(&self) -> Result<Option<Settings>, Failure> {
        let grains = grains(&self.grains)?;
        let mut settings = Settings::new(self.id_template.clone(), self.master.clone(), grains);
        settings.serial_pattern.clone_from(&self.serial_pattern);
        Ok((settings != Settings::default()).then_some(settings))
    }
}

/// What `batch` and `station` share.
#[derive(Debug, Args)]
pub(crate) struct Line {
    /// The station's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) station: PathBuf,
    /// Where bundles go, each into OUT/ID, or where {id} and {serial} say
    #[arg(long, value_name = "OUT")]
    pub(crate) out: OutPath,
    /// An enrolled grain of each device, before the station's own; may be given many times
    #[arg(long = "grain", value_name = "K=V", num_args = 1..)]
    grains: Vec<Grain>,
    /// The master's address for minion.yml, in place of the station's own; may be given many times
    #[arg(long, value_name = "ADDR")]
    master: Vec<MasterAddress>,
    /// Where labels go [default: labels in the station's directory]
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArguments,
}

impl Line {
    /// The station's settings, with the masters that the command line names.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        settings(&self.station, &self.master)
    }

    /// The grains of these settings and of the command line.
    pub(crate) fn grains(&self, settings: &Settings) -> Result<Grains, Failure> {
        Ok(Grains::new(settings, grains(&self.grains)?))
    }

    /// OUT as it is, for a card.
    pub(crate) fn card(&self) -> Result<PathBuf, Failure> {
        let plain = self.out.plain().map(ToOwned::to_owned);
        plain.ok_or_else(|| {
            Failure::usage(
                "with --card, OUT is one directory for all, without {id} or {serial}".into(),
            )
        })
    }

    pub(crate) fn labels(&self) -> PathBuf {
        self.labels.clone().unwrap_or_else(|| self.station.join("labels"))
    }
}

/// Give every device in a list its identity
///
/// The whole list is checked first: if a line is wrong, each wrong line is told and nothing is issued
/// (status 2). Devices that were issued alike are skipped, so it can be stopped, with Ctrl-C or a
/// power cut, and run again.
///
/// FILE is CSV in UTF-8. Its header is `serial,id` and the names of grains; `id` may be left out, or
/// empty, where the station has a template for ids. A serial number that does not fit the station's
/// pattern is wrong. A column `csr` names signing requests of keys
/// that devices made, beside FILE.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  drover-enrol batch --station line-1 --csv devices.csv --out bundles
  drover-enrol batch --station line-1 --csv devices.csv --out '/srv/cards/{serial}/etc/drover'

  devices.csv:  serial,id,site,model
                SN0001,rfid-0001,bne,R2
                SN0002,rfid-0002,bne,R2")]
pub(crate) struct Batch {
    #[command(flatten)]
    pub(crate) line: Line,
    /// The list of devices
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: PathBuf,
    /// Issue devices again that have a certificate, which is then revoked; they keep the grains that
    /// are not given anew
    #[arg(long, requires = "reason")]
    pub(crate) reissue: bool,
    /// Why, for the ledger
    #[arg(long, value_name = "TEXT", requires = "reissue")]
    pub(crate) reason: Option<Reason>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Scan serial numbers, and give each device its identity
///
/// The prompt loop of an assembly line: scan a serial number, see OK or what is wrong, next. The id
/// comes from the station's template, and a code that does not fit its pattern for serial numbers is a
/// STOP. `reprint` prints the last label again; `reissue REASON` gives
/// the device that is scanned next another certificate; `quit`, the end of the input or Ctrl-C ends
/// the loop, after the device at hand.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  drover-enrol station --station line-1 --out bundles
  drover-enrol station --station line-1 --out /media/card/etc/drover --card")]
pub(crate) struct StationLoop {
    #[command(flatten)]
    pub(crate) line: Line,
    /// OUT itself is the device's /etc/drover, on a card that is changed for each device
    #[arg(long)]
    pub(crate) card: bool,
}

/// Print a device's label again
///
/// Its text is printed here, and ID.txt, ID.svg and ID.png are written. They are made from the ledger
/// alone: the station's key is not needed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  drover-enrol label --station line-1 --id rfid-0001")]
pub(crate) struct Label {
    /// The station's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) station: PathBuf,
    /// The minion's id
    #[arg(long, value_name = "ID")]
    pub(crate) id: MinionId,
    /// Where labels go [default: labels in the station's directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) labels: Option<PathBuf>,
}

/// The station's settings, with the masters that a command line names.
pub(super) fn settings(station: &Path, masters: &[MasterAddress]) -> Result<Settings, Failure> {
    let mut settings = Settings::read(station)?;
    if !masters.is_empty() {
        masters.clone_into(&mut settings.masters);
    }
    Ok(settings)
}

pub(super) fn grains(given: &[Grain]) -> Result<BTreeMap<GrainName, GrainValue>, Failure> {
    let mut grains = BTreeMap::new();
    for Grain { key, value } in given {
        if grains.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::usage(format!("the grain `{}` is given twice", key.as_str())));
        }
    }
    Ok(grains)
}
