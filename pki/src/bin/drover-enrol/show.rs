//! `drover-enrol show`: what is in a file, for people. It proves nothing.

use std::fmt::Write as _;
use std::path::Path;

use drover_pki::PublicKey;
use drover_pki::certificate::{Certificate, NO_EXPIRY, Unreadable};
use drover_pki::file;
use drover_pki::manifest::Manifest;
use drover_pki::pem_text::decode_certificates;
use drover_pki::root_list::{RootList, RootListError, SignedRootList};
use drover_pki::rotation::name_of;
use jiff::Timestamp;
use rustls_pki_types::UnixTime;
use serde_json::{Map, Value};

use crate::arguments::Show;
use crate::failure::Failure;

pub(crate) fn show(arguments: &Show) -> Result<(), Failure> {
    for path in &arguments.files {
        let bytes = file::read(path)?;
        let described = describe(path, &bytes).map_err(Failure::not_shown)?;
        crate::print(&format!("{}:\n{described}", path.display()))?;
    }
    Ok(())
}

fn describe(path: &Path, bytes: &[u8]) -> Result<String, Failure> {
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        match SignedRootList::read(bytes) {
            Err(RootListError::Envelope(_)) => {}
            list => {
                return describe_root_list(&list.map_err(|error| Failure::file(path, error))?.list)
                    .map_err(|error| Failure::file(path, error));
            }
        }
        let manifest = Manifest::read_unverified(bytes);
        return Ok(describe_manifest(&manifest.map_err(|error| Failure::file(path, error))?));
    }
    if let Ok(key) = PublicKey::from_csr(bytes) {
        return Ok(format!("  signing request, key {}\n", key.digest()));
    }
    let certificates = match bytes.first() {
        Some(0x30) => vec![bytes.to_vec().into()],
        _ => decode_certificates(bytes).map_err(|error| Failure::file(path, error))?,
    };
    let mut text = String::new();
    for der in certificates {
        let certificate = Certificate::read(&der).map_err(|error| Failure::file(path, error))?;
        text.push_str(&describe_certificate(&certificate));
    }
    Ok(text)
}

fn describe_certificate(certificate: &Certificate) -> String {
    let name = certificate.uris.join(", ");
    let purposes = certificate.purposes.map(|purposes| purposes.to_string());
    let rows = [
        ("subject", certificate.subject.clone()),
        ("issuer", certificate.issuer.clone()),
        ("speaks for", if name.is_empty() { "nobody".to_owned() } else { name }),
        ("purpose", purposes.unwrap_or_else(|| "not limited".to_owned())),
        ("authority", if certificate.is_ca { "yes" } else { "no" }.to_owned()),
        ("valid from", time(certificate.not_before.as_secs())),
        ("valid until", time(certificate.not_after.as_secs())),
        ("serial", certificate.serial.to_string()),
        ("SHA-256", certificate.fingerprint.with_colons()),
        ("key", certificate.key.to_string()),
    ];
    let mut text = String::from("  certificate\n");
    for (label, value) in rows {
        row(&mut text, label, &value);
    }
    text
}

fn describe_manifest(manifest: &Manifest) -> String {
    let mut text = String::from("  manifest\n");
    row(&mut text, "station", manifest.station.as_str());
    row(&mut text, "number", &manifest.number.to_string());
    row(&mut text, "created", &manifest.created.to_string());
    let ledger = manifest.ledger.head;
    let lines = format!("{}, the last one {}", crate::ledger::lines(ledger.count), ledger.head);
    row(&mut text, "ledger", &lines);
    row(&mut text, "devices", &manifest.minions.len().to_string());
    for entry in &manifest.minions {
        let mut line = format!("serial {}, key {}", entry.serial, entry.key);
        for (key, value) in &entry.grains {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            line.push_str(&format!(", {key}={}", value.escape_debug()));
        }
        if let Some(reissue) = &entry.reissue {
            line.push_str(&format!(", re-issued: {}", reissue.reason));
        }
        row(&mut text, entry.id.as_str(), &line);
    }
    if !manifest.revoked.is_empty() {
        row(&mut text, "revoked", &manifest.revoked.len().to_string());
        for revoked in &manifest.revoked {
            row(&mut text, revoked.id.as_str(), revoked.reason.as_str());
        }
    }
    text
}

fn describe_root_list(list: &RootList) -> Result<String, Unreadable> {
    let mut text = String::from("  root list\n");
    row(&mut text, "fleet", list.fleet.as_str());
    row(&mut text, "number", &list.number.to_string());
    row(&mut text, "created", &list.created.to_string());
    for (label, certificates) in [("trusts", &list.roots), ("certifies", &list.cross)] {
        for der in certificates {
            let certificate = Certificate::read(der)?;
            let name = name_of(&certificate);
            row(&mut text, label, &format!("{name}, SHA-256 {}", certificate.fingerprint));
        }
    }
    Ok(text)
}

/// The roots of a list, by name, the newest last.
pub(crate) fn roots(list: &RootList) -> Result<String, Unreadable> {
    let names: Result<Vec<_>, _> =
        list.roots.iter().map(|root| Certificate::read(root).map(|root| name_of(&root))).collect();
    Ok(names?.join(", "))
}

fn row(text: &mut String, label: &str, value: &str) {
    let written = writeln!(text, "    {label:<12} {value}");
    debug_assert!(written.is_ok(), "a String takes everything");
}

/// `1 device`, `2 devices`.
pub(crate) fn devices(count: usize) -> String {
    if count == 1 { "1 device".to_owned() } else { format!("{count} devices") }
}

/// `no expiry`, `until 2027-…`.
pub(crate) fn until(not_after: UnixTime) -> String {
    match not_after.as_secs() {
        NO_EXPIRY => "no expiry".to_owned(),
        seconds => format!("until {}", time(seconds)),
    }
}

fn time(seconds: u64) -> String {
    if seconds == NO_EXPIRY {
        return "no expiry".to_owned();
    }
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| format!("{seconds} s after 1970"), |time| time.to_string())
}

/// Enrolled grains in a line.
pub(crate) fn grains(grains: &Map<String, Value>) -> String {
    if grains.is_empty() {
        return "none".to_owned();
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = grains.iter().map(|(name, value)| format!("{name}={}", text(value).escape_debug()));
    pairs.collect::<Vec<_>>().join(" ")
}
