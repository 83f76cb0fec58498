//! The verbs by which authorities change: a new root, a list without an old one, a new fleet CA, a station that follows.

use std::path::PathBuf;

use clap::Args;
use drover_pki::PublicKey;
use drover_pki::file;
use drover_pki::passphrase::PassphraseArguments;
use drover_pki::safe::{self, Rotated, Safe, SafeError};
use jiff::Timestamp;

use crate::arguments::keys::{KeyUri, NewPassphrase, Passphrases, RootPassphrase};
use crate::failure::Failure;
use crate::init::warn_unencrypted;
use crate::print;

/// Makes a new root beside the old one and the list that brings it to the fleet, or with --drop the
/// list without an old one. The list is imported by the master, which hands it to its devices, and
/// followed by every station. The old root stays under FLEET/root/previous.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  drover-enrol rotate-root --fleet fleet --out roots-1.json
  drover-enrol rotate-root --fleet fleet --leave-out fleet-ca --out roots-1.json   (it was stolen)
  drover-enrol rotate-root --fleet fleet --drop root --out roots-2.json")]
pub(crate) struct RotateRoot {
    /// The fleet's directory, with its root
    #[arg(long, value_name = "DIR")]
    fleet: PathBuf,
    /// Make no new root, but a list without this one
    #[arg(long, value_name = "NAME", conflicts_with_all = ["leave_out", "authority"])]
    drop: Option<String>,
    /// Do not certify this authority again, such as `factory-line-1`, or one of two that a station
    /// had, by its file's name in FLEET/root/issued; may be given many times
    #[arg(long, value_name = "NAME")]
    leave_out: Vec<String>,
    /// An authority's certificate (ca.crt, fleet-ca.crt) that was made before the fleet's directory
    /// remembered them; may be given many times
    #[arg(long, value_name = "FILE")]
    authority: Vec<PathBuf>,
    /// Where the signed list goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Keep the new root's key in the token that this `pkcs11:` URI names
    #[arg(long, value_name = "URI", conflicts_with = "drop")]
    root_key: Option<KeyUri>,
    #[command(flatten)]
    passphrase: NewPassphrase,
    #[command(flatten)]
    root: RootPassphrase,
}

/// Certifies the key of a new fleet CA, which `drover key authorities request` made on the master;
/// or the key of the present one, for longer.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  drover-enrol certify --fleet fleet --csr fleet-ca.csr --out fleet-ca-2")]
pub(crate) struct Certify {
    /// The fleet's directory, with its root
    #[arg(long, value_name = "DIR")]
    fleet: PathBuf,
    /// The signing request from the master; only the key is taken from it
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// Where fleet-ca.crt goes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

/// Makes a station follow its fleet's root list: new devices are given the roots in it, and the
/// station's own certificate is the one under the newest. Its key and its ledger stay.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  drover-enrol follow-roots --station line-1 --list roots-1.json")]
pub(crate) struct FollowRoots {
    /// The station's directory
    #[arg(long, value_name = "DIR")]
    station: PathBuf,
    /// The list that `rotate-root` made
    #[arg(long, value_name = "FILE")]
    list: PathBuf,
}

pub(crate) fn rotate_root(arguments: &RotateRoot, now: Timestamp) -> Result<(), Failure> {
    let safe = Safe::new(&arguments.fleet);
    let passphrases = arguments.passphrase.sources();
    let root_passphrases = arguments.root.source().map(Passphrases::of);
    let root = root_passphrases.as_ref().map_or(&passphrases.existing, |root| &root.existing);
    let about_root = |error: SafeError| {
        let awaits = matches!(&error, SafeError::KeyFile(key) if key.awaits_passphrase());
        arguments.root.told(error.into(), awaits)
    };
    let out = arguments.out.display();
    if let Some(name) = &arguments.drop {
        let rotated = safe.drop_root(name, &arguments.out, root, now).map_err(about_root)?;
        return print(&format!(
            "made root list {} without `{name}`: {}\nnext:\n  \
             on the master, when no device needs `{name}`:\n    \
             drover key authorities import {out}\n    drover key authorities drop {name}\n  \
             on every station:\n    drover-enrol follow-roots --station DIR --list {out}\n",
            rotated.signed.list.number,
            names(&rotated.roots),
        ));
    }
    for path in &arguments.authority {
        safe.adopt(&file::read_certificates(path)?[0])?;
    }
    let uri = arguments.root_key.as_ref().map(|uri| uri.parse("--root-key")).transpose()?;
    let new_key = passphrases.new_key(uri.as_ref());
    let rotated = safe.rotate(&arguments.leave_out, &arguments.out, root, &new_key, now);
    let rotated = rotated.map_err(about_root)?;
    warn_unencrypted(&arguments.fleet.join("root/root.key"))?;
    print(&told(&rotated, arguments))
}

fn told(rotated: &Rotated, arguments: &RotateRoot) -> String {
    let Rotated { signed, roots, certified, left_out, finished_earlier, .. } = rotated;
    let (newest, before) = roots.split_last().expect("invariant: a list has a root");
    let old = before.last().unwrap_or(newest);
    let verb = if *finished_earlier { "finished the rotation to" } else { "made" };
    let (out, fleet) = (arguments.out.display(), arguments.fleet.display());
    let mut text = format!(
        "{verb} the root `{newest}`; `{old}` is kept in {fleet}/root/previous\n  \
         {out}  root list {}: {}\n  certified again by `{newest}`: {}\n",
        signed.list.number,
        names(roots),
        names(certified),
    );
    if !left_out.is_empty() {
        text += &format!(
            "  not certified again, and worth nothing once `{old}` is dropped: {}\n",
            names(left_out)
        );
    }
    text += &format!(
        "next:\n  on the master:\n    drover key authorities import {out}\n  \
         on every station:\n    drover-enrol follow-roots --station DIR --list {out}\n  \
         put {fleet}/root back into its safe; when `drover key authorities` says that no device needs `{old}`:\n    \
         drover-enrol rotate-root --fleet {fleet} --drop {old} --out FILE\n",
    );
    text
}

pub(crate) fn certify(arguments: &Certify, now: Timestamp) -> Result<(), Failure> {
    let text = file::read(&arguments.csr)?;
    let key = PublicKey::from_csr(&text).map_err(|error| Failure::file(&arguments.csr, error))?;
    let passphrase = arguments.passphrase.source();
    let certified = Safe::new(&arguments.fleet).certify(&key, &arguments.out, &passphrase, now)?;
    let verb = if certified.is_renewed { "certified for longer" } else { "certified" };
    print(&format!(
        "{verb} `{}` by `{}`, until {}\n  {}\nnext, on the master:\n  drover key authorities import {}\n",
        certified.name,
        certified.root,
        certified.not_after,
        certified.path.display(),
        certified.path.display(),
    ))
}

pub(crate) fn follow_roots(arguments: &FollowRoots) -> Result<(), Failure> {
    let followed = safe::follow(&arguments.station, &file::read(&arguments.list)?)?;
    let own = if followed.is_certified_again {
        "its own certificate is under the newest of them"
    } else {
        "its own certificate stays"
    };
    print(&format!(
        "the station follows root list {}: {}; {own}\n",
        followed.number,
        names(&followed.roots)
    ))
}

fn names(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
