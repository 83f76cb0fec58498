//! The profile, linted: pkilint finds no error in any certificate or revocation list that we issue, and openssl takes
//! each for what it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use drover_pki::{
    Authority, PrivateKey, Profile,
    certificate::Certificate,
    crl::{RevocationList, RevocationReason, Revocations, Revoked},
    pem_text::encode_certificates,
};
use drover_tests::parts::script;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

/// Names at their longest, with every character that they may have.
const LONGEST: &str = "a.B_c-9-a.B_c-9-a.B_c-9-a.B_c-9-a.B_c-9-a.B_c-9-a.B_c-9-a.B_c-9-";
const SERIAL: &str = "SN 1'(2)+,-./:=3-SN 1'(2)+,-./:=3-SN 1'(2)+,-./:=3-SN 1'(2)+,-./";

/// RFC 5280 §4.2.1.6 permits a URI without an authority, which a URN is; pkilint reads it otherwise.
const PERMITTED: &str = "pkix.invalid_uri_syntax";

/// Everything that we issue, in files.
struct Issued {
    dir: TempDir,
    now: Timestamp,
}

impl Issued {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, der: &CertificateDer<'_>) {
        fs::write(self.path(name), encode_certificates(std::slice::from_ref(der))).unwrap();
    }

    /// Has an authority issue a certificate for a key of its own.
    fn issue(&self, name: &str, authority: &Authority, profile: &Profile) {
        let key = PrivateKey::generate().unwrap();
        self.write(name, &authority.issue(profile, &key, self.now).unwrap());
    }
}

/// Where pkilint's programs are.
fn linter(name: &str) -> PathBuf {
    Path::new(&script("python", &[])).with_file_name(name)
}

/// The errors that a linter finds in a file, one a line.
fn errors(program: &str, arguments: &[&str], file: &Path) -> Vec<String> {
    let output = Command::new(linter(program))
        .args(["lint", "-s", "ERROR", "-f", "CSV"])
        .args(arguments)
        .arg(file)
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("node_path,validator,severity,code,message"), "{stdout}{stderr}");
    let permitted = |line: &str| line.contains(PERMITTED) && line.contains("urn:drover:");
    lines.filter(|line| !line.is_empty() && !permitted(line)).map(str::to_owned).collect()
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_linter_and_openssl_find_no_error_in_anything_that_we_issue() {
    let issued = Issued { dir: tempfile::tempdir().unwrap(), now: Timestamp::now() };
    let now = issued.now;
    let (fleet, name) = (LONGEST.parse().unwrap(), LONGEST.parse().unwrap());
    let (id, serial) = (LONGEST.parse().unwrap(), SERIAL.parse().unwrap());
    let root = Authority::create_root(&fleet, now).unwrap();
    let factory_ca = root.create_factory_ca(&name, now).unwrap();
    let fleet_ca = root.create_fleet_ca(&fleet, now).unwrap();

    // One line for each kind: who issues it, and what openssl verifies it for.
    issued.write("root.crt", root.der());
    issued.write("factory-ca.crt", factory_ca.der());
    issued.write("fleet-ca.crt", fleet_ca.der());
    let day = Duration::from_secs(86_400);
    issued.issue("idevid.crt", &factory_ca, &Profile::idevid(&id, &serial));
    issued.issue("ldevid.crt", &fleet_ca, &Profile::ldevid(&id, Some(&serial), day));
    issued.issue("ldevid-without-serial.crt", &fleet_ca, &Profile::ldevid(&id, None, day));
    issued.issue("master.crt", &fleet_ca, &Profile::master(&LONGEST.parse().unwrap()));
    issued.issue("operator.crt", &fleet_ca, &Profile::operator(&LONGEST.parse().unwrap()));
    let hosts = ["est.example", "192.0.2.1", "2001:db8::1"].map(|host| host.parse().unwrap());
    issued.issue("est.crt", &fleet_ca, &Profile::est_server(hosts.to_vec(), day));
    // What a rotation makes: the next root, what it certifies again, and the next fleet CA.
    let next_root = root.create_next_root(PrivateKey::generate().unwrap(), now).unwrap();
    issued.write("next-root.crt", next_root.der());
    issued.write("cross-root.crt", &root.certify_again(next_root.der(), now).unwrap());
    issued.write("cross-fleet-ca.crt", &next_root.certify_again(fleet_ca.der(), now).unwrap());
    issued.write("cross-factory-ca.crt", &next_root.certify_again(factory_ca.der(), now).unwrap());
    issued.issue("next-fleet-ca.crt", &root, &Profile::next_fleet_ca(&fleet, 12));

    let certificates = [
        ("root.crt", "root.crt", "any"),
        ("factory-ca.crt", "root.crt", "any"),
        ("fleet-ca.crt", "root.crt", "any"),
        ("idevid.crt", "factory-ca.crt", "sslclient"),
        ("ldevid.crt", "fleet-ca.crt", "sslclient"),
        ("ldevid-without-serial.crt", "fleet-ca.crt", "sslclient"),
        ("master.crt", "fleet-ca.crt", "sslserver"),
        ("operator.crt", "fleet-ca.crt", "sslclient"),
        ("est.crt", "fleet-ca.crt", "sslserver"),
        ("next-root.crt", "next-root.crt", "any"),
        ("cross-root.crt", "root.crt", "any"),
        ("cross-fleet-ca.crt", "next-root.crt", "any"),
        ("cross-factory-ca.crt", "next-root.crt", "any"),
        ("next-fleet-ca.crt", "root.crt", "any"),
    ];
    for (file, issuer, purpose) in certificates {
        let (path, issuer) = (issued.path(file), issued.path(issuer));
        assert_eq!(errors("lint_pkix_cert", &[], &path), [""; 0], "{file}");
        check_profile(&fs::read(&path).unwrap(), now, file);
        // What the next root signed leads to it, and everything else to the first one.
        let root = if issuer.ends_with("next-root.crt") { "next-root.crt" } else { "root.crt" };
        let root = issued.path(root);
        let [path, issuer, root] =
            [&path, &issuer, &root].map(|path| path.to_str().unwrap().to_owned());
        let verify = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &root];
        let _ = openssl(&[&verify[..], &["-untrusted", &issuer, &path]].concat());
        let text = openssl(&["x509", "-noout", "-text", "-in", &path]);
        assert!(text.contains("ecdsa-with-SHA256") && text.contains("Version: 3"), "{text}");
    }
}

#[test]
fn a_linter_finds_no_error_in_a_revocation_list() {
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let root = Authority::create_root(&LONGEST.parse().unwrap(), now).unwrap();
    let fleet_ca = root.create_fleet_ca(&LONGEST.parse().unwrap(), now).unwrap();
    let factory_ca = root.create_factory_ca(&LONGEST.parse().unwrap(), now).unwrap();
    let revoked = |reason| {
        let key = PrivateKey::generate().unwrap();
        let leaf = fleet_ca.issue(&Profile::operator(&"ann".parse().unwrap()), &key, now).unwrap();
        Revoked { serial: Certificate::read(&leaf).unwrap().serial, at: now, reason }
    };
    let reasons = [
        RevocationReason::Unspecified,
        RevocationReason::KeyCompromise,
        RevocationReason::AffiliationChanged,
        RevocationReason::Superseded,
        RevocationReason::CessationOfOperation,
        RevocationReason::PrivilegeWithdrawn,
    ];
    for (number, reasons) in [(1, &reasons[..0]), (2, &reasons[..])] {
        let contents = Revocations {
            number,
            this_update: now,
            next_update: now + Duration::from_secs(7 * 86_400),
            revoked: reasons.iter().copied().map(revoked).collect(),
        };
        for authority in [&fleet_ca, &factory_ca, &root] {
            let list = RevocationList::sign(authority, &contents).unwrap();
            let path = dir.path().join("crl.pem");
            fs::write(&path, list.to_pem()).unwrap();
            assert_eq!(errors("lint_crl", &["-t", "CRL", "-p", "PKIX"], &path), [""; 0]);
        }
    }
}

/// The design's own rules: a random serial number of 128 bits, and five minutes of backdating.
fn check_profile(pem: &[u8], now: Timestamp, file: &str) {
    let der = drover_pki::pem_text::decode_certificates(pem).unwrap();
    let certificate = Certificate::read(&der[0]).unwrap();
    let bits = certificate.serial.as_bytes().len();
    // One in 256 begins with a zero, which DER leaves out.
    assert!((14..=16).contains(&bits), "{file}: {bits}");
    let start = i64::try_from(certificate.not_before.as_secs()).unwrap();
    assert_eq!(start, now.as_second() - 300, "{file}");
}
