//! `drover-enrol init-fleet`, `init-station`, `certify-station` and `passphrase`: authorities, and
//! how their keys are kept.

use std::path::Path;

use drover_pki::MasterName;
use drover_pki::authority::AuthorityKey;
use drover_pki::file::{self, Access};
use drover_pki::fleet::{FleetDirectory, FleetError, FleetKeys};
use drover_pki::key_file::{self, Protection};
use drover_pki::new_station::{self, Founding, NewStationError};
use drover_pki::passphrase::PassphraseSource;
use drover_pki::safe::Safe;
use jiff::Timestamp;

use crate::arguments::init::{CertifyStation, InitFleet, InitStation, Passphrase};
use crate::arguments::keys::Passphrases;
use crate::failure::Failure;

pub(crate) fn init_fleet(arguments: &InitFleet, now: Timestamp) -> Result<(), Failure> {
    let named_for_fleet = || {
        let name = arguments.name.as_str().parse::<MasterName>();
        name.expect("invariant: masters and fleets are named by one grammar")
    };
    let master = arguments.master_name.clone().unwrap_or_else(named_for_fleet);
    let root_uri = arguments.root_key.as_ref().map(|uri| uri.parse("--root-key")).transpose()?;
    let online_uri =
        arguments.fleet_ca_key.as_ref().map(|uri| uri.parse("--fleet-ca-key")).transpose()?;
    let passphrases = arguments.passphrase.sources();
    let root_passphrases = arguments.root.source().map(Passphrases::of);
    let keys = FleetKeys {
        root: root_passphrases.as_ref().unwrap_or(&passphrases).new_key(root_uri.as_ref()),
        fleet_ca: passphrases.new_key(online_uri.as_ref()),
    };
    let fleet = FleetDirectory::create(&arguments.dir, &arguments.name, &master, &keys, now)?;
    warn_unencrypted(&fleet.root_dir().join("root.key"))?;
    warn_unencrypted(&fleet.master_dir().join("fleet-ca.key"))?;
    crate::print(&format!(
        "made the fleet `{}`\n  {}  the root: put it in a safe, it makes authorities alone\n  \
         {}  the pki_dir of the master `{master}`\n",
        arguments.name,
        fleet.root_dir().display(),
        fleet.master_dir().display(),
    ))
}

pub(crate) fn init_station(arguments: &InitStation, now: Timestamp) -> Result<(), Failure> {
    let dir = &arguments.dir;
    let passphrases = arguments.passphrase.sources();
    let uri = arguments.ca_key.as_ref().map(|uri| uri.parse("--ca-key")).transpose()?;
    let key = passphrases.new_key(uri.as_ref());
    let own_key = dir.join("ca.key");
    let by = arguments.by.clone().into_actor();
    let manifests = arguments.replace.iter().map(|path| file::read(path));
    let manifests = manifests.collect::<Result<Vec<_>, _>>()?;
    let founding = Founding { by: &by, manifests: &manifests };
    match (&arguments.complete, &arguments.name, &arguments.fleet) {
        (Some(path), _, _) => {
            let text = file::read(path)?;
            let done = new_station::complete(dir, &text, &passphrases.existing, &founding, now)?;
            let made = if done.made_earlier { "was complete before" } else { "is complete" };
            crate::print(&format!(
                "the station `{}` in {} {made}\n  it trusts the root with the SHA-256 {}\n",
                done.station,
                dir.display(),
                done.root.with_colons(),
            ))?;
            tell_known(arguments, done.devices)
        }
        (None, Some(name), None) => {
            let requested = new_station::request(name, &key, dir)?;
            warn_unencrypted(&own_key)?;
            let made = if requested.made_earlier { "is there already" } else { "is made" };
            crate::print(&format!(
                "the request of the station `{name}` {made}: {}\n  for the key {}\n  where the \
                 root is: drover-enrol certify-station --fleet DIR --csr {} --name {name} --out \
                 {name}.crt.pem\n",
                requested.request.display(),
                requested.key,
                new_station::REQUEST,
            ))
        }
        (None, Some(name), Some(fleet_dir)) => {
            let root = arguments.root.source();
            let root = root.as_ref().unwrap_or(&passphrases.existing);
            let fleet = FleetDirectory::new(fleet_dir);
            // Of a root that cannot be read the next step tells.
            let known = Safe::new(fleet_dir).has_station(name);
            let is_twin = arguments.replace.is_empty() && known.unwrap_or(false);
            let made = new_station::create(&fleet, root, name, &key, &founding, dir, now);
            let devices = made.map_err(|error| {
                let awaits = matches!(
                    &error,
                    NewStationError::Fleet(FleetError::KeyFile(key)) if key.awaits_passphrase()
                );
                arguments.root.told(error.into(), awaits)
            })?;
            warn_unencrypted(&own_key)?;
            if is_twin {
                eprintln!(
                    "warning: the root certified a station `{name}` before: give two lines two names, and \
                     make one that died again with --replace, so that it knows its devices"
                );
            }
            crate::print(&format!("made the station `{name}` in {}\n", dir.display()))?;
            tell_known(arguments, devices)
        }
        (None, None, _) => Err(Failure::usage("a new station needs a --name".to_owned())),
    }
}

/// What a station that took another one's place begins with.
fn tell_known(arguments: &InitStation, devices: usize) -> Result<(), Failure> {
    if arguments.replace.is_empty() {
        return Ok(());
    }
    crate::print(&format!(
        "  it knows {} of the station before it\n",
        crate::show::devices(devices)
    ))
}

pub(crate) fn certify_station(arguments: &CertifyStation, now: Timestamp) -> Result<(), Failure> {
    let fleet = FleetDirectory::new(&arguments.fleet);
    let request = file::read(&arguments.csr)?;
    let (root, name) = (arguments.passphrase.source(), &arguments.name);
    let certified = new_station::certify(&fleet, &root, name, &request, now)?;
    file::create(&arguments.out, certified.text.as_bytes(), Access::Public)?;
    crate::print(&format!(
        "certified the station `{name}` in {}\n  for the key {}\n  under the root with the SHA-256 \
         {}\n  at the station: drover-enrol init-station --complete {} --dir DIR\n",
        arguments.out.display(),
        certified.key,
        certified.root.with_colons(),
        arguments.out.display(),
    ))
}

pub(crate) fn passphrase(arguments: &Passphrase) -> Result<(), Failure> {
    let path = &arguments.key;
    if key_file::protection(path)? == Protection::Token {
        return Err(Failure::in_token(path));
    }
    let new = match (arguments.new_passphrase_fd, &arguments.new_passphrase_file) {
        _ if arguments.no_passphrase => PassphraseSource::nowhere(),
        (Some(number), _) => PassphraseSource::descriptor(number),
        (None, Some(path)) => PassphraseSource::file(path),
        (None, None) => PassphraseSource::terminal(),
    };
    let key = match key_file::read_key(path, &arguments.old.source())? {
        AuthorityKey::File(key) => key,
        AuthorityKey::Token(_) => return Err(Failure::in_token(path)),
    };
    let chosen = new.chosen(&format!("`{}`", path.display()))?;
    if chosen.is_none() && new.is_nowhere() && !arguments.no_passphrase {
        return Err(Failure::usage(
            "no new passphrase was given: name --new-passphrase-file, --new-passphrase-fd or \
             --no-passphrase"
                .to_owned(),
        ));
    }
    let text =
        key_file::encode(&key, chosen.as_ref()).map_err(|error| Failure::file(path, error))?;
    file::replace(path, text.as_bytes(), Access::Private)?;
    warn_unencrypted(path)?;
    crate::print(&format!("changed the passphrase of {}\n", path.display()))
}

/// Says so where who reads a file has the key.
pub(crate) fn warn_unencrypted(path: &Path) -> Result<(), Failure> {
    if key_file::protection(path)? == Protection::None {
        eprintln!(
            "warning: `{}` is not encrypted; who reads it can issue certificates",
            path.display()
        );
    }
    Ok(())
}
