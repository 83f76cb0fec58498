//! openssl as the second opinion: every chain that `drover-enrol` makes, verified by the real
//! program, and a signing request that the real program made.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn run(directory: &Path, program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).current_dir(directory).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn openssl(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, "openssl", arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}\n{text}{errors}");
    text
}

fn enrol(directory: &Path, arguments: &[&str]) {
    let output = run(directory, env!("CARGO_BIN_EXE_drover-enrol"), arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn factory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    enrol(path, &["init-fleet", "--name", "acme", "--dir", "fleet", "--master-name", "north"]);
    enrol(path, &["init-station", "--fleet", "fleet", "--name", "line-1", "--dir", "line-1"]);
    directory
}

/// Verifies a file that holds a leaf and its issuer, for a purpose, as a TLS end would.
fn verify(directory: &Path, purpose: &str, file: &str) {
    let arguments =
        ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "fleet/root/root.crt"];
    openssl(directory, &[&arguments[..], &["-untrusted", file, file]].concat());
}

#[test]
fn openssl_accepts_every_chain() {
    let factory = factory();
    let path = factory.path();
    let issue = ["issue", "--station", "line-1", "--id", "rfid_1", "--serial", "SN 1/a"];
    enrol(path, &[&issue[..], &["--out", "device"]].concat());
    enrol(path, &["operator", "--fleet", "fleet", "--name", "ann", "--out", "ann"]);
    verify(path, "sslclient", "device/pki/idevid.crt");
    verify(path, "sslclient", "ann/operator.crt");
    verify(path, "sslserver", "fleet/master/master.crt");
    let server = ["server", "--fleet", "fleet", "--name", "broker", "--dns", "broker.example"];
    enrol(path, &[&server[..], &["--ip", "127.0.0.1", "--out", "broker"]].concat());
    enrol(path, &["client", "--fleet", "fleet", "--name", "bridge", "--out", "broker"]);
    verify(path, "sslserver", "broker/broker.crt");
    verify(path, "sslclient", "broker/bridge.crt");
    let root = ["verify", "-x509_strict", "-CAfile", "fleet/root/root.crt"];
    let authorities = ["fleet/root/root.crt", "fleet/master/fleet-ca.crt", "line-1/ca.crt"];
    openssl(path, &[&root[..], &authorities].concat());
}

#[test]
fn openssl_refuses_a_device_as_a_server() {
    let factory = factory();
    let path = factory.path();
    let issue = ["issue", "--station", "line-1", "--id", "a", "--serial", "1"];
    enrol(path, &[&issue[..], &["--out", "device"]].concat());
    let arguments = ["verify", "-purpose", "sslserver", "-CAfile", "fleet/root/root.crt"];
    let file = "device/pki/idevid.crt";
    let output = run(path, "openssl", &[&arguments[..], &["-untrusted", file, file]].concat());
    assert!(!output.status.success());
}

#[test]
fn certificates_say_what_the_profile_says() {
    let factory = factory();
    let path = factory.path();
    let issue = ["issue", "--station", "line-1", "--id", "rfid-1", "--serial", "SN 1"];
    enrol(path, &[&issue[..], &["--out", "device"]].concat());
    let device = openssl(path, &["x509", "-noout", "-text", "-in", "device/pki/idevid.crt"]);
    for part in [
        "Not After : Dec 31 23:59:59 9999 GMT",
        "Issuer: O = acme, OU = Factory CA, CN = line-1",
        "Subject: CN = rfid-1, serialNumber = SN 1",
        "NIST CURVE: P-256",
        "URI:urn:drover:minion:rfid-1\n",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
        "X509v3 Basic Constraints: critical\n                CA:FALSE\n",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(device.contains(part), "{part} is not in\n{device}");
    }
    let station = openssl(path, &["x509", "-noout", "-text", "-in", "line-1/ca.crt"]);
    for part in [
        "Not After : Dec 31 23:59:59 9999 GMT",
        "URI:urn:drover:ca:factory:line-1\n",
        "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
        "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0\n",
        "X509v3 Key Usage: critical\n                Digital Signature, Certificate Sign, CRL Sign\n",
    ] {
        assert!(station.contains(part), "{part} is not in\n{station}");
    }
    let subject = ["asn1parse", "-in", "device/pki/idevid.crt"];
    assert!(openssl(path, &subject).contains("PRINTABLESTRING   :SN 1\n"));
    let fleet_ca = openssl(path, &["x509", "-noout", "-text", "-in", "fleet/master/fleet-ca.crt"]);
    assert!(fleet_ca.contains("TLS Web Client Authentication, TLS Web Server Authentication"));
}

#[test]
fn a_request_that_openssl_made_is_issued_for_its_key_alone() {
    let factory = factory();
    let path = factory.path();
    let key = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let request = ["req", "-new", "-key", "device.key", "-subj", "/CN=evil"];
    let extension = ["-addext", "subjectAltName=URI:urn:drover:master:evil"];
    for (format, name) in [("PEM", "1"), ("DER", "2")] {
        openssl(path, &[&key[..], &["-out", "device.key"]].concat());
        let out = ["-outform", format, "-out", "device.csr"];
        openssl(path, &[&request[..], &extension, &out].concat());
        let issue = ["issue", "--station", "line-1", "--id", name, "--serial", name];
        enrol(path, &[&issue[..], &["--csr", "device.csr", "--out", name]].concat());
        let file = format!("{name}/pki/idevid.crt");
        verify(path, "sslclient", &file);
        let text = openssl(path, &["x509", "-noout", "-text", "-in", &file]);
        assert!(!text.contains("evil"), "{text}");
        let issued = openssl(path, &["x509", "-noout", "-pubkey", "-in", &file]);
        assert_eq!(issued, openssl(path, &["pkey", "-in", "device.key", "-pubout"]));
        assert!(!path.join(name).join("pki/idevid.key").exists());
    }
}

#[test]
fn openssl_verifies_a_manifests_signature() {
    let factory = factory();
    let path = factory.path();
    enrol(path, &["manifest", "--station", "line-1", "--out", "manifest"]);
    let text = std::fs::read_to_string(path.join("manifest")).unwrap();
    let envelope: serde_json::Value = serde_json::from_str(&text).unwrap();
    let part = |pointer: &str| envelope.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    std::fs::write(path.join("cert.pem"), part("/signatures/0/cert")).unwrap();
    for (name, pointer) in [("payload", "/payload"), ("sig", "/signatures/0/sig")] {
        std::fs::write(path.join(name), part(pointer) + "\n").unwrap();
        openssl(path, &["base64", "-d", "-A", "-in", name, "-out", &format!("{name}.bin")]);
    }
    let payload = std::fs::read(path.join("payload.bin")).unwrap();
    // DSSE's pre-authentication encoding.
    let (kind, length) = (part("/payloadType"), payload.len());
    let head = format!("DSSEv1 {} {kind} {length} ", kind.len());
    std::fs::write(path.join("signed"), [head.as_bytes(), &payload].concat()).unwrap();
    let key = openssl(path, &["x509", "-noout", "-pubkey", "-in", "cert.pem"]);
    std::fs::write(path.join("station.pub"), key).unwrap();
    let check = ["dgst", "-sha256", "-verify", "station.pub", "-signature", "sig.bin", "signed"];
    assert_eq!(openssl(path, &check), "Verified OK\n");
}
