//! openssl as the second opinion, and as the peer that is not ours: it verifies what an authority made, a hostile one
//! too, and shows it to a real master (`s_client`) and to a real minion (`s_server`).

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use drover_pki::{Authority, PrivateKey, Profile, file, pem_text::encode_certificates};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use crate::{
    fleet::{Fleet, PATIENCE, run},
    wait,
};

/// What an end of ZMTP says first, with the NULL mechanism (RFC 23).
#[must_use]
pub fn zmtp_greeting() -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    bytes
}

/// What a DEALER says next.
///
/// # Panics
/// When the name is longer than a frame's short form has room for.
#[must_use]
pub fn zmtp_ready(identity: &str) -> Vec<u8> {
    let mut body =
        b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00".to_vec();
    body.push(u8::try_from(identity.len()).expect("a short name"));
    body.extend(identity.as_bytes());
    let length = u8::try_from(body.len()).expect("a short name");
    [&[4, length], &body[..]].concat()
}

/// An authority of a fleet, stolen with its key: `factory/root/root`, `master/pki/fleet-ca`, `stations/line-1/ca`.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn authority(fleet: &Fleet, name: &str) -> Authority {
    let file = |kind: &str| fleet.path(&format!("{name}.{kind}"));
    let certificate = file::read_certificates(&file("crt")).expect("a certificate").swap_remove(0);
    let key = file::read_key(&file("key")).expect("a key");
    Authority::new(certificate, key).expect("an authority")
}

/// How a handshake went, for whoever was judged in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// It was accepted: ZMTP began.
    Greeted,
    /// Its certificate was taken, and the connection closed without a byte of ZMTP.
    Closed,
    /// It was refused with this TLS alert, in openssl's words.
    Alert(String),
}

impl Contact {
    /// Refused with this alert.
    #[must_use]
    pub fn alert(name: &str) -> Self {
        Self::Alert(name.to_owned())
    }
}

/// A certificate with its key, in files, and what is shown with it.
#[derive(Debug, Clone)]
pub struct Shown {
    root: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

impl Shown {
    /// Has an authority issue a certificate of this profile for a new key; the authority's own is shown with it.
    ///
    /// # Panics
    /// When it cannot be issued or written.
    #[must_use]
    pub fn issued(fleet: &Fleet, name: &str, issuer: &Authority, profile: &Profile) -> Self {
        let key = PrivateKey::generate().expect("a key");
        let leaf = issuer.issue(profile, key.public(), Timestamp::now()).expect("a certificate");
        Self::written(fleet, name, &[leaf, issuer.der().clone()], &key.to_pem())
    }

    /// A chain, and the leaf's key in PEM.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn written(fleet: &Fleet, name: &str, chain: &[CertificateDer<'_>], key: &str) -> Self {
        let file = |kind: &str| format!("shown/{name}.{kind}");
        fleet.write(&file("crt"), &encode_certificates(chain));
        fleet.write(&file("key"), key);
        Self::files(fleet, &fleet.path(&file("crt")), &fleet.path(&file("key")))
    }

    /// A device's own, `idevid` or `ldevid`.
    #[must_use]
    pub fn of_device(fleet: &Fleet, id: &str, kind: &str) -> Self {
        let file = |end: &str| fleet.minion_dir(id).join(format!("pki/{kind}.{end}"));
        Self::files(fleet, &file("crt"), &file("key"))
    }

    /// What is in these files.
    #[must_use]
    pub fn files(fleet: &Fleet, chain: &Path, key: &Path) -> Self {
        let root = fleet.path("factory/root/root.crt");
        Self { root, chain: chain.to_owned(), key: key.to_owned() }
    }

    /// The same with other certificates behind the leaf.
    ///
    /// # Panics
    /// When it cannot be read or written.
    #[must_use]
    pub fn with(&self, fleet: &Fleet, name: &str, others: &[CertificateDer<'_>]) -> Self {
        let leaf = file::read_certificates(&self.chain).expect("a chain").swap_remove(0);
        let key = fs::read_to_string(&self.key).expect("a key");
        Self::written(fleet, name, &[&[leaf], others].concat(), &key)
    }

    /// The fleet's root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The leaf, and what is shown with it.
    #[must_use]
    pub fn chain(&self) -> &Path {
        &self.chain
    }

    /// What `openssl verify` says that trusts the fleet's root alone: its errors, none where it finds nothing wrong.
    #[must_use]
    pub fn openssl_finds(&self, options: &[&str]) -> String {
        let [root, chain] = [&self.root, &self.chain].map(|path| text(path));
        let files = ["-CAfile", root, "-untrusted", chain, chain];
        let outcome = run(Path::new("openssl"), &[&["verify"], options, &files].concat());
        if outcome.status == 0 { String::new() } else { outcome.stdout + &outcome.stderr }
    }

    /// Shows it to the master.
    #[must_use]
    pub fn to_master(&self, fleet: &Fleet) -> Contact {
        self.dial(fleet).contact()
    }

    /// A connection to the master, which stays open for as long as the master leaves it so.
    #[must_use]
    pub fn dial(&self, fleet: &Fleet) -> Stranger {
        let arguments = ["s_client", "-connect", &fleet.master_address(), "-quiet", "-CAfile"];
        let verified = [text(&self.root), "-verify_return_error"];
        Stranger::start(&self.chain, &self.key, &[&arguments[..], &verified].concat())
    }

    /// Shows it to the next minion that dials, in the master's place, where no master may run.
    #[must_use]
    pub fn in_the_masters_place(&self, fleet: &Fleet) -> Stranger {
        let arguments = ["s_server", "-accept", &fleet.master_address(), "-naccept", "1"];
        let asked = ["-Verify", "2", "-CAfile", text(&self.root)];
        let mut server =
            Stranger::start(&self.chain, &self.key, &[&arguments[..], &asked].concat());
        wait::until_some(
            "s_server listens",
            PATIENCE,
            || server.output().windows(6).any(|bytes| bytes == b"ACCEPT").then_some(()),
            || server.errors(),
        );
        // The minion is silent until it is greeted.
        server.say(&zmtp_greeting());
        server
    }
}

/// A process of openssl at one end of a connection; dropped, it is killed.
#[derive(Debug)]
pub struct Stranger {
    child: Child,
    input: ChildStdin,
    output: PathBuf,
    errors: PathBuf,
    _dir: tempfile::TempDir,
}

impl Stranger {
    fn start(chain: &Path, key: &Path, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (output, errors) = (dir.path().join("output"), dir.path().join("errors"));
        let file = |path: &Path| File::create(path).expect("a file");
        let mut child = Command::new("openssl")
            .args(arguments)
            .args(["-tls1_3", "-cert", text(chain), "-cert_chain", text(chain), "-key", text(key)])
            .stdin(Stdio::piped())
            .stdout(file(&output))
            .stderr(file(&errors))
            .spawn()
            .expect("openssl is installed");
        // Kept open: at the end of its input openssl is busy reading that.
        let input = child.stdin.take().expect("it was asked for");
        Self { child, input, output, errors, _dir: dir }
    }

    /// Sends bytes to the other end.
    ///
    /// # Panics
    /// When openssl has ended.
    pub fn say(&mut self, bytes: &[u8]) {
        self.input.write_all(bytes).and_then(|()| self.input.flush()).expect("openssl listens");
    }

    /// What the other end has sent so far, and for `s_server` openssl's own words.
    #[must_use]
    pub fn output(&self) -> Vec<u8> {
        fs::read(&self.output).unwrap_or_default()
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Whether the other end has said what ZMTP begins with, which has the mechanism's name in it.
    #[must_use]
    pub fn is_greeted(&self) -> bool {
        self.output().windows(5).any(|bytes| bytes == b"NULL\0")
    }

    /// Whether the connection is open.
    pub fn is_open(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until the other end has greeted or refused this one.
    ///
    /// # Panics
    /// When it does neither.
    pub fn contact(&mut self) -> Contact {
        let errors = self.errors.clone();
        let answer = || {
            // Asked first: what it has written before its end is then there.
            let is_open = self.is_open();
            match alert(&self.errors()) {
                _ if self.is_greeted() => Some(Contact::Greeted),
                _ if is_open => None,
                Some(alert) => Some(Contact::Alert(alert)),
                None => Some(Contact::Closed),
            }
        };
        let state = || fs::read_to_string(&errors).unwrap_or_default();
        wait::until_some("an answer to a stranger", PATIENCE, answer, state)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The alert in openssl's `…:error:0A000415:SSL routines:ssl3_read_bytes:sslv3 alert certificate expired:…`.
fn alert(errors: &str) -> Option<String> {
    let (_, rest) = errors.split_once(" alert ")?;
    rest.split(':').next().map(str::to_owned)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the harness's paths are text")
}
