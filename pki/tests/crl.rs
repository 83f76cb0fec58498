//! openssl as the second opinion on revocation lists: it verifies them, reads what stands in them,
//! and refuses the certificate that one takes back.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use drover_pki::certificate::Certificate;
use drover_pki::crl::{RevocationList, RevocationReason, Revocations, Revoked};
use drover_pki::pem_text::encode_certificates;
use drover_pki::{Authority, PrivateKey};
use jiff::Timestamp;

/// Runs openssl, and gives whether it succeeded and what it said.
fn openssl(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn now() -> Timestamp {
    Timestamp::now()
}

#[test]
fn openssl_believes_a_list_and_refuses_what_it_takes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let now = now();
    let fleet = "acme".parse().unwrap();
    let root = Authority::create_root(&fleet, now).unwrap();
    let station = root.create_factory_ca(&"line-1".parse().unwrap(), now).unwrap();
    let issue = |id: &str| {
        let key = PrivateKey::generate().unwrap();
        station.issue_idevid(&id.parse().unwrap(), &"SN 1".parse().unwrap(), &key, now).unwrap()
    };
    let (kept, stolen) = (issue("kept"), issue("stolen"));
    let revoked = Revoked {
        serial: Certificate::read(&stolen).unwrap().serial,
        at: now,
        reason: RevocationReason::KeyCompromise,
    };
    let serial = revoked.serial.to_string().to_uppercase();
    let revocations = |authority: &Authority, revoked| {
        let next_update = now + Duration::from_secs(60);
        let contents = Revocations { number: 258, this_update: now, next_update, revoked };
        RevocationList::sign(authority, &contents).unwrap().to_pem()
    };

    for (name, certificate) in [
        ("root.crt", root.der()),
        ("ca.crt", station.der()),
        ("kept.crt", &kept),
        ("stolen.crt", &stolen),
    ] {
        let text = encode_certificates(std::slice::from_ref(certificate));
        std::fs::write(path.join(name), text).unwrap();
    }
    std::fs::write(path.join("crl.pem"), revocations(&station, vec![revoked])).unwrap();

    let (good, said) = openssl(path, &["crl", "-in", "crl.pem", "-CAfile", "ca.crt", "-noout"]);
    assert!(good && said.contains("verify OK"), "{said}");
    let (_, said) = openssl(path, &["crl", "-in", "crl.pem", "-noout", "-text"]);
    for part in [
        "Version 2 (0x1)",
        "Signature Algorithm: ecdsa-with-SHA256",
        "Issuer: O = acme, OU = Factory CA, CN = line-1",
        "X509v3 CRL Number: \n                258\n",
        "X509v3 Authority Key Identifier",
        &format!("Serial Number: {serial}\n"),
        "X509v3 CRL Reason Code: \n                Key Compromise\n",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    // The list names the authority's key as the certificates do.
    let identifier = |text: &str| {
        let after = text.split("X509v3 Authority Key Identifier: \n").nth(1).unwrap().trim_start();
        after.lines().next().unwrap().to_owned()
    };
    let (_, leaf) = openssl(path, &["x509", "-in", "kept.crt", "-noout", "-text"]);
    assert_eq!(identifier(&said), identifier(&leaf));

    let check = ["verify", "-crl_check", "-CRLfile", "crl.pem", "-CAfile", "root.crt"];
    let verify = |leaf| openssl(path, &[&check[..], &["-untrusted", "ca.crt", leaf]].concat());
    let (good, said) = verify("kept.crt");
    assert!(good, "{said}");
    let (good, said) = verify("stolen.crt");
    assert!(!good && said.contains("certificate revoked"), "{said}");
}
