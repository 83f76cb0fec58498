//! `drover-enrol`, the enrolment station's program: makes fleets and stations, gives devices their
//! identity, exports manifests. The work is the library's; here are the command line and the clock.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use drover_pki::PublicKey;
use drover_pki::file;
use drover_pki::fleet::FleetDirectory;
use drover_pki::host::Host;
use drover_pki::ledger::{Ledger, RefusalKind};
use drover_pki::passphrase::PassphraseArguments;
use drover_pki::station::{IssueRequest, KeySource, Station};
use jiff::{SignedDuration, Timestamp};

use arguments::{Arguments, Client, Issue, Manifest, Operator, Server, Verb};
use failure::Failure;

mod arguments;
mod batch;
mod check;
mod failure;
mod init;
mod input;
mod label;
mod ledger;
mod line;
mod rotation;
mod screen;
mod show;
mod station;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.verb, now()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("{failure}");
            ExitCode::from(failure.status)
        }
    }
}

/// In whole seconds: nothing here needs more, and people read these times.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn run(verb: Verb, now: Timestamp) -> Result<(), Failure> {
    match verb {
        Verb::InitFleet(arguments) => init::init_fleet(&arguments, now),
        Verb::InitStation(arguments) => {
            let settings = arguments.line.settings()?;
            init::init_station(&arguments, now)?;
            settings.map_or(Ok(()), |settings| Ok(settings.write(&arguments.dir)?))
        }
        Verb::CertifyStation(arguments) => init::certify_station(&arguments, now),
        Verb::Passphrase(arguments) => init::passphrase(&arguments),
        Verb::Issue(arguments) => issue(arguments, now),
        Verb::Batch(arguments) => batch::batch(arguments, now),
        Verb::Station(arguments) => station::station(arguments, now),
        Verb::Label(arguments) => label::label(&arguments),
        Verb::Manifest(arguments) => manifest(&arguments, now),
        Verb::Ledger(arguments) => ledger::ledger(&arguments, now),
        Verb::Revoke(arguments) => ledger::revoke(arguments, now),
        Verb::Crl(arguments) => ledger::crl(arguments, now),
        Verb::Operator(arguments) => operator(&arguments, now),
        Verb::Server(arguments) => server(arguments, now),
        Verb::Client(arguments) => client(&arguments, now),
        Verb::RotateRoot(arguments) => rotation::rotate_root(&arguments, now),
        Verb::Certify(arguments) => rotation::certify(&arguments, now),
        Verb::FollowRoots(arguments) => rotation::follow_roots(&arguments),
        Verb::Show(arguments) => show::show(&arguments),
        Verb::Verify(arguments) => check::verify(&arguments, now),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "drover-enrol", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Opens a station, and says what one waits for where another program has it.
fn open_station(
    station: &Path,
    passphrase: &PassphraseArguments,
    now: Timestamp,
) -> Result<Station, Failure> {
    if Ledger::is_taken(station) {
        eprintln!(
            "waiting: another drover-enrol, perhaps `station`, works with `{}`",
            station.display()
        );
    }
    let station = Station::open(station, &passphrase.source(), now)?;
    if let Some(last) = station.last_deed().filter(|&last| is_odd(last, now)) {
        eprintln!(
            "warning: the clock says {now}, and the station last worked at {last}: put the clock right \
             if it is wrong, because certificates count from the time of issue"
        );
    }
    Ok(station)
}

/// Whether a clock has hardly come from the one time to the other by itself: it went back, or years
/// on.
fn is_odd(last: Timestamp, now: Timestamp) -> bool {
    let passed = now.duration_since(last);
    passed < -SignedDuration::from_mins(5) || passed > SignedDuration::from_hours(2 * 365 * 24)
}

fn issue(arguments: Issue, now: Timestamp) -> Result<(), Failure> {
    let request = arguments.csr.as_ref().map(|path| file::read(path)).transpose()?;
    let settings = arguments.settings()?;
    let id = arguments.id(&settings)?;
    let grains = arguments.grains(&settings)?;
    let mut station = open_station(&arguments.station, &arguments.passphrase, now)?;
    let by = arguments.by.into_actor();
    let key = match request.map(|text| PublicKey::from_csr(&text)) {
        None => KeySource::Station,
        Some(Ok(key)) => KeySource::Device(key),
        Some(Err(error)) => {
            let about = (Some(&id), Some(&arguments.serial));
            station.refuse(about.0, about.1, RefusalKind::Request, &error, &by, now)?;
            return Err(Failure::file(&arguments.csr.unwrap_or_default(), error));
        }
    };
    let before = if arguments.reissue { station.find_id(&id)? } else { None };
    let request = IssueRequest {
        id,
        serial: arguments.serial,
        key,
        grains: grains.of(&BTreeMap::new(), before.as_ref()),
        masters: line::masters(&settings),
        out: arguments.out,
        reissue: arguments.reason.filter(|_| arguments.reissue),
        by,
    };
    let issued = station.issue(&request, now)?;
    if issued.wrote_configuration {
        line::warn_without_master(&settings);
    }
    if issued.key_is_exposed {
        eprintln!(
            "warning: others may read idevid.key, since the file system of {} keeps no modes",
            request.out.display()
        );
    }
    if issued.finished_earlier && issued.entry.grains != request.grains {
        eprintln!(
            "warning: the bundle was begun with other grains, which stay: {}; with --reissue and \
             --grain the device gets others",
            show::grains(&issued.entry.grains)
        );
    }
    let verb = match (issued.finished_earlier, issued.reissued) {
        (true, _) => "finished",
        (false, true) => "re-issued",
        (false, false) => "issued",
    };
    print(&format!(
        "{verb} `{}` with the serial number `{}` in {}\n  SHA-256 {}\n",
        issued.entry.id,
        issued.entry.serial,
        request.out.display(),
        issued.entry.certificate.with_colons(),
    ))?;
    ledger::tell_unfinished(&station, &arguments.station)
}

fn manifest(arguments: &Manifest, now: Timestamp) -> Result<(), Failure> {
    let mut station = open_station(&arguments.station, &arguments.passphrase, now)?;
    let by = arguments.by.clone().into_actor();
    let exported = station.export(arguments.all, &arguments.out, &by, now)?;
    print(&format!(
        "manifest {} of the station `{}`: {} in {}\n  on the master: drover key import {}\n",
        exported.number,
        station.name(),
        show::devices(exported.minions),
        arguments.out.display(),
        arguments.out.display(),
    ))
}

fn operator(arguments: &Operator, now: Timestamp) -> Result<(), Failure> {
    let fleet = FleetDirectory::new(&arguments.fleet);
    let passphrase = arguments.passphrase.source();
    fleet.create_operator(&arguments.name, &passphrase, &arguments.out, now)?;
    print(&format!(
        "made the operator `{}` in {}, valid for a year\n",
        arguments.name,
        arguments.out.display()
    ))
}

fn server(arguments: Server, now: Timestamp) -> Result<(), Failure> {
    let Server { fleet, name, dns, ip, out, passphrase } = arguments;
    let hosts = dns.into_iter().chain(ip.into_iter().map(Host::Address)).collect();
    FleetDirectory::new(&fleet).create_server(&name, hosts, &passphrase.source(), &out, now)?;
    print(&format!("made the server `{name}` in {}, valid for a year\n", out.display()))
}

fn client(arguments: &Client, now: Timestamp) -> Result<(), Failure> {
    let Client { fleet, name, out, passphrase } = arguments;
    FleetDirectory::new(fleet).create_client(name, &passphrase.source(), out, now)?;
    print(&format!("made the client `{name}` in {}, valid for a year\n", out.display()))
}

/// Prints a result. A reader that went away is a failure that the caller should see.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_back_or_years_on_is_odd() {
        let last: Timestamp = "2027-01-15T08:00:00Z".parse().unwrap();
        let is_odd = |now: &str| is_odd(last, now.parse().unwrap());
        for now in ["1970-01-01T00:00:00Z", "2027-01-15T07:50:00Z", "2099-01-01T00:00:00Z"] {
            assert!(is_odd(now), "{now}");
        }
        // A clock is put right by a little, and a line may stand still for a year.
        for now in ["2027-01-15T07:58:00Z", "2027-01-15T08:00:00Z", "2028-06-01T00:00:00Z"] {
            assert!(!is_odd(now), "{now}");
        }
    }
}
