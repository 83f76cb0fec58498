//! The grammar of `drover key`: which devices may connect.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use jiff::{Timestamp, tz::TimeZone};

use super::Matcher;
use crate::cli::value;

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum KeyVerb {
    /// Ids by their status
    List(Listed),
    /// One key: its fingerprint, station, manifest and status
    Show {
        /// The minion's id
        id: String,
    },
    /// Let minions in: those that wait, and those that were rejected
    ///
    /// A glob reaches keys that are pending or rejected, --all those that are pending, as `salt-key -A`.
    Accept(Chosen),
    /// Turn minions away until they are accepted again; open connections are cut
    ///
    /// A glob reaches keys that are pending or accepted, --all those that are pending, as `salt-key -R`.
    Reject(Chosen),
    /// Never let these devices in again, whatever certificates they have; open connections are cut
    ///
    /// There is no way back: the device is enrolled again with a new key, and its id deleted before. A glob and --all reach
    /// every key that is not revoked.
    ///
    /// With --station, refuse what a stolen enrolment station signs: its manifests, and its devices that are not registered.
    Revoke(Revoked),
    /// Forget minions; no manifest known so far brings them back
    ///
    /// A glob and --all reach every key but the revoked ones, which are deleted by their whole id alone.
    Delete(Chosen),
    /// The certificate revocation list (RFC 5280), in PEM: what this master's fleet CA has taken back
    ///
    /// Lists of fleet CAs before this one follow it, while certificates of theirs live. Made anew at every revocation.
    Crl {
        /// A station's list, as its newest manifest brought it
        #[arg(long, value_name = "NAME")]
        station: Option<String>,
        /// Write it there [default: standard output]
        #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// The roots and fleet CAs that the fleet stands on, and how many devices depend on each
    Authorities {
        #[command(subcommand)]
        verb: Option<AuthoritiesVerb>,
    },
    /// Register the devices of a station's signed manifest
    Import(Imported),
    /// End devices' service on a date: nothing is renewed after it, a last act is run, then they are revoked
    ///
    /// A device that is away on the date does its last act when it is back, within the grace.
    Retire(Retired),
    /// The enrolment stations that are known: their devices, their last manifest, and whether they are revoked
    Stations,
    /// Write the manifests that were imported from a station, to make the station again
    Manifest(ManifestOf),
}

/// What is done with authorities; without a verb they are listed.
#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum AuthoritiesVerb {
    /// Make a key for a new fleet CA, and give its signing request, for `drover-enrol certify`
    Request {
        /// Write it there [default: standard output]
        #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Take a signed root list, or the certificate of a fleet CA
    ///
    /// A list that leaves a root out waits until that root is dropped.
    Import {
        /// What `drover-enrol rotate-root` or `drover-enrol certify` wrote
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
        /// After a new fleet CA: in what time the connected devices renew [default: 1h]
        #[arg(long, value_name = "D", value_parser = value::duration)]
        within: Option<Duration>,
    },
    /// Trust a root no more, or accept nothing more from a former fleet CA
    ///
    /// Refused while devices need it: which, and for what, is said. With --force it is done, and said what becomes of them.
    Drop {
        /// Its name, as listed
        name: String,
        /// Also where devices need it
        #[arg(long)]
        force: bool,
    },
}

/// What is revoked.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Revoked {
    #[command(flatten)]
    pub(in crate::cli) chosen: Chosen,
    /// A stolen station: its new devices and its manifests are refused from now on
    #[arg(long, value_name = "NAME", group = "which")]
    pub(in crate::cli) station: Option<String>,
    /// Also the devices of the station that are registered
    #[arg(long, requires = "station")]
    pub(in crate::cli) devices: bool,
}

/// What is imported.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Imported {
    /// The file that `drover-enrol manifest` wrote
    pub(in crate::cli) file: PathBuf,
    /// Show what would come of it, with the ids, and change nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Also where lines were cut off the station's ledger
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// Take these devices of it alone: ids, or globs on ids; the rest may be imported later
    #[arg(long, value_name = "GLOB", num_args = 1.., value_delimiter = ',')]
    pub(in crate::cli) only: Vec<String>,
}

/// Whose service ends, and how.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Retired {
    #[command(flatten)]
    pub(in crate::cli) matcher: Matcher,
    /// Which minions: ids or globs on ids; with an option that says otherwise, one expression
    #[arg(required = true)]
    pub(in crate::cli) target: Vec<String>,
    /// When: 2031-06-30, 2031-06-30T12:00:00Z, or so long from now: +30d
    #[arg(long, value_name = "DATE", value_parser = date, required_unless_present = "cancel")]
    pub(in crate::cli) at: Option<Date>,
    /// What the device does last, as `cmd.run "rm -r /srv/app"`; quotes as in a shell
    #[arg(long, value_name = "FUN ARG…", requires = "at")]
    pub(in crate::cli) last_act: Option<String>,
    /// How long it may take to come for its last act, before it is revoked all the same [default: 7d]
    #[arg(long, value_name = "D", value_parser = value::duration, requires = "last_act")]
    pub(in crate::cli) grace: Option<Duration>,
    /// Take it back, as long as the date has not come
    #[arg(long, conflicts_with_all = ["at", "last_act", "grace"])]
    pub(in crate::cli) cancel: bool,
    /// Do not ask; needed for several minions where no terminal is
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
    /// Show whom it would be, and change nothing
    #[arg(long, conflicts_with = "yes")]
    pub(in crate::cli) dry_run: bool,
}

/// A moment, or so long from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Date {
    At(Timestamp),
    In(Duration),
}

fn date(text: &str) -> Result<Date, String> {
    if let Some(span) = text.strip_prefix('+') {
        return value::duration(span).map(Date::In);
    }
    let day = |text: &str| {
        let day: jiff::civil::Date = text.parse().ok()?;
        Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let moment = text.parse().ok().or_else(|| day(text));
    moment.map(Date::At).ok_or_else(|| {
        "a date is 2031-06-30, 2031-06-30T12:00:00Z, or so long from now: +30d".to_owned()
    })
}

/// Which manifests are written.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ManifestOf {
    /// The station
    pub(in crate::cli) station: String,
    /// The manifest's number [default: the last one]
    #[arg(value_name = "N", conflicts_with = "all")]
    pub(in crate::cli) number: Option<u64>,
    /// All of them
    #[arg(short, long)]
    pub(in crate::cli) all: bool,
    /// The directory to write to
    #[arg(short = 'o', long = "dir", value_name = "DIR")]
    pub(in crate::cli) directory: PathBuf,
}

/// Which keys are listed.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Listed {
    /// Ids, or globs on ids [default: all]
    #[arg(value_name = "ID")]
    pub(in crate::cli) ids: Vec<String>,
    /// Only keys with this status; may be given several times
    #[arg(short, long, value_name = "STATUS")]
    pub(in crate::cli) status: Vec<KeyStatus>,
}

/// A key's status, also by the words that `salt-key --list` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum KeyStatus {
    /// May connect
    #[value(alias = "acc")]
    Accepted,
    /// Waits for a manifest or an operator
    #[value(aliases = ["pre", "un", "unaccepted"])]
    Pending,
    /// Turned away
    #[value(alias = "rej")]
    Rejected,
    /// Never again
    #[value(alias = "rev")]
    Revoked,
}

impl KeyStatus {
    pub(in crate::cli) const ALL: [Self; 4] =
        [Self::Accepted, Self::Pending, Self::Rejected, Self::Revoked];

    /// As the API writes it.
    pub(in crate::cli) const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
            Self::Revoked => "revoked",
        }
    }
}

/// Which keys something is done to.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("which").required(true)))]
pub(in crate::cli) struct Chosen {
    /// Ids, or globs on ids
    #[arg(value_name = "ID", group = "which")]
    pub(in crate::cli) ids: Vec<String>,
    /// All of them; which those are is said above
    #[arg(short, long, group = "which")]
    pub(in crate::cli) all: bool,
    /// Do not ask; needed for several keys where no terminal is
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
    /// Why: kept with the key, and in the event
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
    /// Show what would be changed, and change nothing
    #[arg(long, conflicts_with = "yes")]
    pub(in crate::cli) dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_a_day_a_moment_or_a_span() {
        let at = |text: &str| Ok(Date::At(text.parse().unwrap()));
        assert_eq!(date("2031-06-30"), at("2031-06-30T00:00:00Z"));
        assert_eq!(date("2031-06-30T12:00:00+10:00"), at("2031-06-30T02:00:00Z"));
        assert_eq!(date("+30d"), Ok(Date::In(Duration::from_secs(30 * 86_400))));
        assert!(date("soon").is_err() && date("+x").is_err());
    }
}
