//! An authority of its own for the servers that stand around Drover, and certificates from it, in files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// How long certificates are valid that are valid.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// An authority.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one; its certificate is `NAME.crt` in `dir`.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = params(name, &[], Timestamp::now() - DAY, Timestamp::now() + DAY);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::create_dir_all(dir).expect("the test's directory is writable");
        fs::write(dir.join(format!("{name}.crt")), certificate.pem()).expect("it is writable");
        Self { dir: dir.to_owned(), name: name.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// Its certificate's file, as a bridge's `ca` takes it.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.dir.join(format!("{}.crt", self.name))
    }

    /// A certificate for a server on loopback, `127.0.0.1` and `localhost`.
    #[must_use]
    pub fn server(&self, name: &str) -> Certificate {
        let now = Timestamp::now();
        let names = ["127.0.0.1", "localhost"];
        self.issue(name, &names, ExtendedKeyUsagePurpose::ServerAuth, now - DAY, now + DAY)
    }

    /// The same, which expired a minute ago.
    #[must_use]
    pub fn expired_server(&self, name: &str) -> Certificate {
        let now = Timestamp::now();
        let end = now - SignedDuration::from_mins(1);
        let names = ["127.0.0.1", "localhost"];
        self.issue(name, &names, ExtendedKeyUsagePurpose::ServerAuth, now - DAY, end)
    }

    /// A certificate for a client.
    #[must_use]
    pub fn client(&self, name: &str) -> Certificate {
        let now = Timestamp::now();
        self.issue(name, &[], ExtendedKeyUsagePurpose::ClientAuth, now - DAY, now + DAY)
    }

    /// Writes `NAME.crt` and `NAME.key`, over older ones of that name.
    fn issue(
        &self,
        name: &str,
        names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
        begin: Timestamp,
        end: Timestamp,
    ) -> Certificate {
        let mut params = params(name, names, begin, end);
        params.extended_key_usages = vec![purpose];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = Certificate {
            cert: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
        };
        fs::write(&files.cert, certificate.pem()).expect("the test's directory is writable");
        fs::write(&files.key, key.serialize_pem()).expect("the test's directory is writable");
        files
    }
}

fn params(name: &str, names: &[&str], begin: Timestamp, end: Timestamp) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names of loopback");
    let at = |time: Timestamp| {
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(time.as_second() as u64)
    };
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = at(begin);
    params.not_after = at(end);
    params
}
