//! `drover-enrol verify`: what the master and the minions would say to a file.

use std::path::Path;
use std::time::Duration;

use drover_pki::certificate::Certificate;
use drover_pki::file;
use drover_pki::manifest::Manifest;
use drover_pki::root_list::{RootListError, SignedRootList};
use drover_pki::urn::DroverUrn;
use drover_pki::verify::{
    CertificateError, MinionCertificateKind, TrustAnchors, verify_factory_authority,
    verify_fleet_authority, verify_master, verify_minion, verify_operator,
};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::arguments::Verify;
use crate::failure::{Failure, with_causes};
use crate::show::{devices, roots, until};

pub(crate) fn verify(arguments: &Verify, now: Timestamp) -> Result<(), Failure> {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let mut refused = 0;
    for path in &arguments.files {
        let root = match &arguments.root {
            Some(root) => root.clone(),
            None => path.with_file_name("root.crt"),
        };
        let anchors = file::read_anchors(&root).map_err(Failure::root)?;
        match verify_file(path, &anchors, now)? {
            Ok(found) => crate::print(&format!("{}: OK, {found}\n", path.display()))?,
            Err(reason) => {
                refused += 1;
                eprintln!("{}: refused: {reason}", path.display());
            }
        }
    }
    match refused {
        0 => Ok(()),
        1 => Err(Failure::refused("one file does not verify".to_owned())),
        several => Err(Failure::refused(format!("{several} files do not verify"))),
    }
}

/// What a file is, or why it is refused; a failure where it cannot even be read.
fn verify_file(
    path: &Path,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<Result<String, String>, Failure> {
    let bytes = file::read(path)?;
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        match SignedRootList::read(&bytes) {
            Err(RootListError::Envelope(_)) => {}
            list => return Ok(verify_root_list(list, anchors)),
        }
        return Ok(Manifest::verify(&bytes, anchors, now)
            .map(|verified| {
                let manifest = verified.manifest;
                format!(
                    "manifest {} of the station `{}`, {}",
                    manifest.number,
                    manifest.station,
                    devices(manifest.minions.len())
                )
            })
            .map_err(|error| with_causes(&error)));
    }
    let chain = file::read_certificates(path)?;
    let leaf = Certificate::read(&chain[0]).map_err(|error| Failure::file(path, error))?;
    let found = verify_chain(&leaf, &chain, anchors, now);
    Ok(found.map_err(|error| format!("{}\nhint: {}", with_causes(&error), error.hint())))
}

/// Whether who trusts these roots follows the list, as far as its number allows.
fn verify_root_list(
    list: Result<SignedRootList, RootListError>,
    anchors: &TrustAnchors,
) -> Result<String, String> {
    let told = |error: RootListError| match error.hint() {
        Some(hint) => format!("{}\nhint: {hint}", with_causes(&error)),
        None => with_causes(&error),
    };
    let signed = list.map_err(told)?;
    signed.check_follows(anchors, 0).map_err(told)?;
    let list = &signed.list;
    let roots = roots(list).map_err(|error| with_causes(&error))?;
    Ok(format!("root list {} of the fleet `{}`: {roots}", list.number, list.fleet))
}

fn verify_chain(
    certificate: &Certificate,
    chain: &[CertificateDer<'_>],
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<String, CertificateError> {
    let (leaf, rest) = (&chain[0], &chain[1..]);
    if certificate.is_ca {
        return verify_authority(certificate, leaf, anchors, now);
    }
    let until = until(certificate.not_after);
    // Who it claims to speak for says which of the checks it must pass.
    let claimed = certificate.uris.iter().find_map(|uri| uri.parse::<DroverUrn>().ok());
    match claimed {
        Some(DroverUrn::Master(_)) => {
            let master = verify_master(anchors, leaf, rest, now)?;
            Ok(format!("the master `{}`, {until}", master.name))
        }
        Some(DroverUrn::Operator(_)) => {
            let operator = verify_operator(anchors, leaf, rest, now)?;
            Ok(format!("the operator `{}`, {until}", operator.name))
        }
        Some(DroverUrn::Minion(_) | DroverUrn::FactoryCa(_) | DroverUrn::FleetCa(_)) | None => {
            let minion = verify_minion(anchors, leaf, rest, now)?;
            let kind = match minion.kind {
                MinionCertificateKind::IDevId { station, .. } => format!("IDevID of `{station}`"),
                MinionCertificateKind::LDevId { fleet, .. } => format!("LDevID of `{fleet}`"),
            };
            Ok(format!("the minion `{}`, {kind}, {until}", minion.id))
        }
    }
}

fn verify_authority(
    certificate: &Certificate,
    authority: &CertificateDer<'_>,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<String, CertificateError> {
    if anchors.certificates().contains(authority) {
        return Ok("a root that is trusted".to_owned());
    }
    let is_fleet = |uri: &String| matches!(uri.parse(), Ok(DroverUrn::FleetCa(_)));
    if certificate.uris.iter().any(is_fleet) {
        let fleet = verify_fleet_authority(anchors, authority, now)?;
        let until = until(certificate.not_after);
        return Ok(format!("the fleet CA of `{fleet}`, {until}"));
    }
    let station = verify_factory_authority(anchors, authority, now)?.station;
    Ok(format!("the factory CA of the station `{station}`"))
}
