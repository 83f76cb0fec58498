//! Connections of bridges to other systems, over TCP or TLS 1.2 and 1.3: whom we trust, what we show of ourselves, and
//! what an operator is told when the two sides do not like each other's certificates.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use drover_states::{diagnostic::Diagnostic, settings::Settings};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName,
    pem::{self, PemObject},
};
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

mod address;
mod stream;
mod trouble;

pub use address::Address;
pub use stream::Stream;
pub use trouble::Trouble;

/// Time to reach a host, and to agree on TLS with it.
const CONNECT: Duration = Duration::from_secs(10);

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// How a bridge speaks TLS: `ca`, `cert`, `key` and `tls_server_name`.
#[derive(Debug, Default)]
pub struct TlsConfig {
    /// Who may have issued the other side's certificate; without it, whom the system trusts.
    ca: Option<PathBuf>,
    /// Our certificate with its chain, and its key.
    identity: Option<(PathBuf, PathBuf)>,
    /// The name that must be in the other side's certificate, where it is not the host's.
    name: Option<ServerName<'static>>,
    made: Mutex<Option<Made>>,
}

/// What was made of the files, as long as they stay the same.
#[derive(Debug)]
struct Made {
    of: Vec<Version>,
    config: Arc<ClientConfig>,
}

/// A file's time and size: another one is there when they differ.
type Version = Option<(SystemTime, u64)>;

/// Why the files of the configuration make no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// There is no certificate in it.
    #[error("there is no certificate in PEM in `{}`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate that nobody can be trusted by.
    #[error("a certificate in `{}` cannot be used as a CA", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The key is of another certificate, or of an unknown kind.
    #[error("the key in `{}` does not belong to the certificate in `{}`", key.display(), certificate.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The system trusts nobody.
    #[error(
        "the system trusts no CA: install `ca-certificates`, or name the server's own CA by `ca`"
    )]
    NoStore,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The host has no such name, or refuses, or is not reached.
    #[error("cannot connect to `{address}`")]
    Tcp {
        /// Where to.
        address: Address,
        /// Why not.
        source: io::Error,
    },
    /// Nothing came back.
    #[error("`{address}` does not answer within {} s", CONNECT.as_secs())]
    Silent {
        /// Where to.
        address: Address,
    },
    /// Our own files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The two sides do not agree.
    #[error("no TLS with `{address}`")]
    Handshake {
        /// Where to.
        address: Address,
        /// Why not, and what to do.
        source: Trouble,
    },
}

impl ConnectError {
    /// Whether somebody must change a file or a setting before it can succeed.
    #[must_use]
    pub const fn wants_operator(&self) -> bool {
        match self {
            Self::Tcp { .. } | Self::Silent { .. } => false,
            Self::Tls(_) => true,
            Self::Handshake { source, .. } => source.wants_operator(),
        }
    }
}

impl TlsConfig {
    /// Takes the keys, if any of them is there.
    ///
    /// # Errors
    /// With the place, when one is wrong, or `cert` or `key` stands alone.
    pub fn read(settings: &mut Settings<'_>) -> Result<Option<Self>, Diagnostic> {
        let ca = settings.path("ca")?;
        let certificate = settings.path("cert")?;
        let key = settings.path("key")?;
        let name = settings.take("tls_server_name", |node| {
            let name = node.as_str().unwrap_or_default().to_owned();
            ServerName::try_from(name).map_err(|_| "a DNS name or an IP address")
        })?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (certificate, _) => {
                let (there, missing) =
                    if certificate.is_some() { ("cert", "key") } else { ("key", "cert") };
                return Err(Diagnostic::new(format!("there is `{there}`, and no `{missing}`"))
                    .hint("a client certificate needs both, each the path of a PEM file"));
            }
        };
        let is_given = ca.is_some() || identity.is_some() || name.is_some();
        Ok(is_given.then(|| Self { ca, identity, name, made: Mutex::default() }))
    }

    /// What rustls needs. The files are read anew when they have changed since the last time, and after
    /// [`Self::handle_failure`].
    ///
    /// # Errors
    /// When they are of no use.
    pub fn connector(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let versions = self.versions();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*made
            && made.of == versions
        {
            return Ok(Arc::clone(&made.config));
        }
        let config = Arc::new(self.make()?);
        *made = Some(Made { of: versions, config: Arc::clone(&config) });
        Ok(config)
    }

    /// A connection did not come about: the system's store may have changed too.
    pub fn handle_failure(&self) {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn versions(&self) -> Vec<Version> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        let version = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        self.ca.iter().chain(identity).map(version).collect()
    }

    fn make(&self) -> Result<ClientConfig, TlsError> {
        let config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("aws-lc-rs has cipher suites for both")
            .with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|source| TlsError::Read { path: key.clone(), source })?;
                config.with_client_auth_cert(chain, private).map_err(|source| TlsError::Pair {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    source,
                })?
            }
        };
        // Connections are few and long; each proves its certificate anew.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots
                        .add(certificate)
                        .map_err(|source| TlsError::Authority { path: path.clone(), source })?;
                }
            }
            None => {
                let (_, _) =
                    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoStore);
                }
            }
        }
        Ok(roots)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if found.is_empty() { Err(TlsError::Empty { path: path.to_owned() }) } else { Ok(found) }
}

/// Connects to a host by name or address (IPv6 without brackets), and agrees on TLS where there is a configuration.
///
/// # Errors
/// With what to do about it, where that is known.
pub async fn connect(
    host: &str,
    port: u16,
    tls: Option<&TlsConfig>,
) -> Result<Stream, ConnectError> {
    let address = Address { host: host.to_owned(), port };
    let connected = timeout(CONNECT, handshake(&address, tls)).await;
    let connected = connected.unwrap_or_else(|_| Err(ConnectError::Silent { address }));
    if let (Err(_), Some(tls)) = (&connected, tls) {
        tls.handle_failure();
    }
    connected
}

async fn handshake(address: &Address, tls: Option<&TlsConfig>) -> Result<Stream, ConnectError> {
    let failed = |source| ConnectError::Tcp { address: address.clone(), source };
    let tcp = TcpStream::connect((&*address.host, address.port)).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let Some(tls) = tls else { return Ok(Stream::Tcp(tcp)) };
    let name = match &tls.name {
        Some(name) => name.clone(),
        None => ServerName::try_from(address.host.clone()).map_err(|_| {
            ConnectError::Handshake { address: address.clone(), source: Trouble::NoName }
        })?,
    };
    let connector = TlsConnector::from(tls.connector()?);
    let stream = connector.connect(name, tcp).await.map_err(|error| ConnectError::Handshake {
        address: address.clone(),
        source: Trouble::of(error),
    })?;
    Ok(Stream::Tls(Box::new(stream)))
}

#[cfg(test)]
mod tests;
