//! What the master does with peers that lie, flood or stall, with `openssl s_client` as the peer that is not ours:
//! a certificate that is not good enough gets no ZMTP byte, an authenticated peer that misbehaves is cut off, and
//! through all of it the honest minion is served and the master does not swell.

#![allow(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::{
    fs::{self, File},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    wait,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, date_time_ymd,
};

/// ZMTP 3.0's greeting with the NULL mechanism (RFC 23).
fn greeting() -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    bytes
}

/// A READY command for a DEALER that would like to be `identity`.
fn ready(identity: &str) -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity".to_vec();
    body.extend(u32::try_from(identity.len()).unwrap().to_be_bytes());
    body.extend(identity.as_bytes());
    let mut frame = vec![4, u8::try_from(body.len()).unwrap()];
    frame.extend(body);
    frame
}

struct Site {
    fleet: Fleet,
}

impl Site {
    /// A master that takes any authentic device, and one honest minion that is connected.
    fn new() -> Self {
        let mut fleet = Fleet::new();
        fleet.configure_master("acceptance: auto\n");
        fleet.enrol("honest-1", &[]);
        fleet.enrol("liar-1", &[]);
        fleet.start_master();
        fleet.start_minion("honest-1");
        fleet.wait_connected(&["honest-1"]);
        Self { fleet }
    }

    /// Starts a TLS client that is not ours, with this certificate and key, and gives it these bytes to send.
    fn client(&self, name: &str, certificate: &str, key: &str, bytes: &[u8]) -> Client {
        self.client_of("-tls1_3", name, certificate, key, bytes)
    }

    /// The same with a version of TLS.
    fn client_of(
        &self,
        version: &str,
        name: &str,
        certificate: &str,
        key: &str,
        bytes: &[u8],
    ) -> Client {
        let dir = self.fleet.path(&format!("clients/{name}"));
        fs::create_dir_all(&dir).unwrap();
        let (input, output) = (dir.join("input"), dir.join("output"));
        fs::write(&input, bytes).unwrap();
        fs::write(dir.join("client.crt"), certificate).unwrap();
        fs::write(dir.join("client.key"), key).unwrap();
        let child = Command::new("openssl")
            .args(["s_client", "-quiet", version, "-connect", &self.fleet.master_address()])
            .args(["-cert", "client.crt", "-cert_chain", "client.crt", "-key", "client.key"])
            .current_dir(&dir)
            .stdin(File::open(input).unwrap())
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(dir.join("errors")).unwrap())
            .spawn()
            .expect("openssl is installed");
        Client { child, output }
    }

    /// One with the identity that the station gave `liar-1`.
    fn liar(&self, name: &str, bytes: &[u8]) -> Client {
        self.liar_of("-tls1_3", name, bytes)
    }

    fn liar_of(&self, version: &str, name: &str, bytes: &[u8]) -> Client {
        let pki = self.fleet.minion_dir("liar-1").join("pki");
        let certificate = fs::read_to_string(pki.join("idevid.crt")).unwrap();
        let key = fs::read_to_string(pki.join("idevid.key")).unwrap();
        self.client_of(version, name, &certificate, &key, bytes)
    }

    /// The station's CA, stolen.
    fn station(&self) -> (String, Issuer<'static, KeyPair>) {
        let dir = self.fleet.path("stations/line-1");
        let certificate = fs::read_to_string(dir.join("ca.crt")).unwrap();
        let key = KeyPair::from_pem(&fs::read_to_string(dir.join("ca.key")).unwrap()).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).unwrap();
        (certificate, issuer)
    }

    fn honest_minion_is_served(&self) {
        let outcome = self.fleet.drover(&["--out", "json", "honest-1", "test.ping"]);
        assert_eq!(outcome.status, 0, "{}\n{}", outcome.stderr, self.fleet.logs());
    }
}

struct Client {
    child: Child,
    output: PathBuf,
}

impl Client {
    /// Waits until the master has closed the connection and gives what it had sent.
    fn cut_off(mut self, what: &str) -> Vec<u8> {
        wait::until(&format!("{what} is cut off"), PATIENCE, || {
            matches!(self.child.try_wait(), Ok(Some(_)))
        });
        fs::read(&self.output).unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A device's certificate as a station makes it, for a test to spoil.
fn device(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, id);
    params.subject_alt_names =
        vec![SanType::URI(format!("urn:drover:minion:{id}").try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params.use_authority_key_identifier_extension = true;
    params
}

#[test]
fn a_certificate_that_is_not_good_enough_gets_no_zmtp_byte() {
    let mut site = Site::new();
    let (ca, issuer) = site.station();
    let spoiled: [(&str, CertificateParams); 7] = [
        ("expired", {
            let mut params = device("liar-2");
            params.not_after = date_time_ymd(2025, 1, 1);
            params
        }),
        ("not-yet-valid", {
            let mut params = device("liar-2");
            params.not_before = date_time_ymd(9998, 1, 1);
            params
        }),
        ("server-eku", {
            let mut params = device("liar-2");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params
        }),
        ("no-eku", {
            let mut params = device("liar-2");
            params.extended_key_usages = Vec::new();
            params
        }),
        ("no-drover-san", {
            let mut params = device("liar-2");
            params.subject_alt_names = vec![SanType::DnsName("liar-2".try_into().unwrap())];
            params
        }),
        ("ca-as-leaf", {
            let mut params = device("liar-2");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params
        }),
        ("operator-from-a-station", {
            let mut params = device("liar-2");
            params.subject_alt_names =
                vec![SanType::URI("urn:drover:operator:liar".try_into().unwrap())];
            params
        }),
    ];
    for (name, params) in spoiled {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let chain = format!("{}{ca}", leaf.pem());
        let client = site.client(name, &chain, &key.serialize_pem(), &greeting());
        assert_eq!(client.cut_off(name), b"", "{name} was answered");
    }
    // Somebody's own authority, again and again: one line, in which its name cannot write another.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Foreign\nCA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let foreign = Issuer::new(params, key);
    for round in 0..3 {
        let (name, key) = (format!("foreign-{round}"), KeyPair::generate().unwrap());
        let leaf = device("liar-3").signed_by(&key, &foreign).unwrap();
        let client = site.client(&name, &leaf.pem(), &key.serialize_pem(), &greeting());
        assert_eq!(client.cut_off(&name), b"", "{name} was answered");
    }
    let log = site.fleet.master().log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("certificate refused")).collect();
    let of = |what: &str| told.iter().filter(|line| line.contains(what)).count();
    assert!(told.iter().all(|line| line.contains(" WARN ")), "{log}");
    assert_eq!((of("Foreign"), of("expired at"), of("not valid before")), (1, 1, 0), "{log}");
    assert!(told.len() < 6, "{log}");
    // The same certificate unspoiled gets the master's greeting: it is not the test that is refused.
    let key = KeyPair::generate().unwrap();
    let leaf = device("good-2").signed_by(&key, &issuer).unwrap();
    let client =
        site.client("good", &format!("{}{ca}", leaf.pem()), &key.serialize_pem(), &greeting());
    wait::until("an unspoiled one is answered", PATIENCE, || {
        fs::read(&client.output).unwrap().starts_with(&[0xff])
    });
    let known = site.fleet.json(&["minions"]);
    assert!(known.get("liar-2").is_none(), "{known}");
    site.honest_minion_is_served();
}

#[test]
fn a_plain_tcp_client_gets_no_zmtp_byte() {
    use std::io::{Read, Write};
    let site = Site::new();
    let mut stream = TcpStream::connect(site.fleet.master_address()).unwrap();
    stream.write_all(&greeting()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    // The TLS layer may say `alert` before it closes; a greeting would begin with 0xff.
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.contains(&0xff), "{answer:?}");
    site.honest_minion_is_served();
}

#[test]
fn tunnels_speak_no_tls_1_2() {
    // The same program speaks it to other people's servers.
    let site = Site::new();
    assert!(site.liar_of("-tls1_2", "old", &greeting()).cut_off("an old client").is_empty());
    let errors = fs::read_to_string(site.fleet.path("clients/old/errors")).unwrap();
    assert!(errors.contains("alert protocol version"), "{errors}");
    site.honest_minion_is_served();
}

#[test]
fn an_authenticated_peer_that_misbehaves_is_cut_off_and_the_master_does_not_swell() {
    let mut site = Site::new();
    let before = site.fleet.master().own_memory();
    let session = |tail: &[u8]| [greeting(), ready("honest-1"), tail.to_vec()].concat();
    let huge = [&[2_u8][..], &(1_u64 << 62).to_be_bytes()].concat();
    let cases: [(&str, Vec<u8>); 6] = [
        ("a header that claims 2^62 bytes", session(&huge)),
        ("half a frame for ever", session(&[2, 0, 0, 0, 0, 0, 0, 4, 0, b'x'])),
        ("a ZMTP command after READY", session(b"\x04\x05\x04PING")),
        ("random bytes after READY", session(&[0xa5; 4096])),
        ("a frame that is no message", session(b"\x00\x04junk")),
        ("random bytes for a greeting", vec![0x5a; 4096]),
    ];
    for (name, bytes) in &cases {
        let client = site.liar(&name.replace([' ', '^'], "-"), bytes);
        client.cut_off(name);
        site.honest_minion_is_served();
    }
    let grown = site.fleet.master().own_memory().saturating_sub(before);
    assert!(grown < 16 << 20, "the master grew by {grown} bytes");
    assert!(site.fleet.master().runs());
    // The liar asked to be called `honest-1`; whatever it said was said as itself.
    let starts = site.fleet.events("drover/minion/honest-1/start");
    assert_eq!(starts.len(), 1, "{starts:?}");
}

#[test]
fn a_thousand_half_open_handshakes_keep_nobody_out() {
    let mut site = Site::new();
    let before = site.fleet.master().own_memory();
    let stalled: Vec<TcpStream> = (0..1_000)
        .map(|_| TcpStream::connect(site.fleet.master_address()).expect("the master listens"))
        .collect();
    site.fleet.enrol("honest-2", &[]);
    site.fleet.start_minion("honest-2");
    site.fleet.wait_connected(&["honest-1", "honest-2"]);
    let grown = site.fleet.master().own_memory().saturating_sub(before);
    assert!(grown < 32 << 20, "the master grew by {grown} bytes");
    drop(stalled);
    site.honest_minion_is_served();
    // They are let go of: the next thousand find room as well.
    let again: Vec<TcpStream> = (0..1_000)
        .map(|_| TcpStream::connect(site.fleet.master_address()).expect("the master listens"))
        .collect();
    wait::until("the honest minion is served meanwhile", Duration::from_secs(10), || {
        site.fleet.drover(&["honest-2", "test.ping"]).status == 0
    });
    drop(again);
}
