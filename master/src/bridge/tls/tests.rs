use std::{net::SocketAddr, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::{ServerConfig, server::WebPkiClientVerifier, version};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A CA, and the files that it makes.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let authority = Self { issuer, directory: tempfile::tempdir().unwrap() };
        authority.write("ca.crt", &authority.issuer.pem());
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A certificate as `change` has it, with its key.
    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, KeyPair) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key)
    }

    fn write_client(&self) {
        let (certificate, key) = self.issue(|_| {});
        self.write("client.crt", &certificate);
        self.write("client.key", &key.serialize_pem());
    }

    /// What a bridge says of this CA, with whatever else.
    fn tls(&self, more: &str) -> TlsConfig {
        let text = format!("ca: ca.crt\n{more}");
        read(&text, self.directory.path()).unwrap().unwrap()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }
}

fn read(text: &str, directory: &Path) -> Result<Option<TlsConfig>, Diagnostic> {
    let root = drover_states::yaml::load_nodes(text).unwrap();
    let mut settings = Settings::new(directory, text, root.as_ref()).unwrap();
    let tls = TlsConfig::read(&mut settings)?;
    settings.finish().map(|()| tls)
}

/// A server that greets whoever gets through; its address.
async fn serve(
    (certificate, key): (String, KeyPair),
    versions: &[&'static rustls::SupportedProtocolVersion],
    clients: Option<RootCertStore>,
) -> SocketAddr {
    let config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions)
        .unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(roots) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&PROVIDER));
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
    let config = config
        .with_single_cert(
            chain.collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(tcp).await {
                let _ = stream.write_all(b"hello").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    address
}

/// The greeting, or the reason why there is none.
async fn greeted(address: SocketAddr, tls: &TlsConfig) -> Result<String, String> {
    let mut stream = match connect("127.0.0.1", address.port(), Some(tls)).await {
        Ok(stream) => stream,
        Err(ConnectError::Handshake { source, .. }) => return Err(source.to_string()),
        Err(other) => return Err(other.to_string()),
    };
    let mut text = String::new();
    let read = stream.read_to_string(&mut text).await;
    read.map(|_| text).map_err(|error| Trouble::of(error).to_string())
}

const BOTH: [&rustls::SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_with_a_ca_of_ones_own() {
    let authority = Authority::new("own");
    for version in BOTH {
        let address = serve(authority.issue(|_| {}), &[version], None).await;
        assert_eq!(greeted(address, &authority.tls("")).await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_servers_certificate_is_said_with_what_to_do() {
    let authority = Authority::new("own");
    let expired = authority.issue(|params| params.not_after = date_time_ymd(2020, 1, 2));
    let address = serve(expired, &BOTH, None).await;
    insta::assert_snapshot!(greeted(address, &authority.tls("")).await.unwrap_err(),
        @"the server's certificate expired on 2020-01-02T00:00:00Z: renew it there");

    let early = authority.issue(|params| {
        params.not_before = date_time_ymd(2199, 1, 1);
        params.not_after = date_time_ymd(2200, 1, 1);
    });
    let address = serve(early, &BOTH, None).await;
    insta::assert_snapshot!(greeted(address, &authority.tls("")).await.unwrap_err(),
        @"the server's certificate is valid from 2199-01-01T00:00:00Z only: set the clock of this machine, or wait");

    // Also one of the same name, with another key.
    for name in ["other", "own"] {
        let address = serve(Authority::new(name).issue(|_| {}), &BOTH, None).await;
        let wrong = greeted(address, &authority.tls("")).await.unwrap_err();
        assert_eq!(
            wrong,
            "the server's certificate is of a CA that is not trusted here: name that CA's file by `ca`"
        );
    }

    let other = authority.issue(|params| {
        params.subject_alt_names = vec![SanType::DnsName("es.example".try_into().unwrap())];
    });
    let address = serve(other, &BOTH, None).await;
    insta::assert_snapshot!(greeted(address, &authority.tls("")).await.unwrap_err(),
        @"the server's certificate is not for this name, but for `es.example`: write such a name into the address, or into `tls_server_name`");
    let tls = authority.tls("tls_server_name: es.example\n");
    assert_eq!(greeted(address, &tls).await.unwrap(), "hello");

    let unnamed = authority.issue(|params| params.subject_alt_names.clear());
    let address = serve(unnamed, &BOTH, None).await;
    let wrong = greeted(address, &authority.tls("")).await.unwrap_err();
    assert!(wrong.contains("none (it has no `subjectAltName`)"), "{wrong}");

    let as_authority = authority.issue(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let address = serve(as_authority, &BOTH, None).await;
    insta::assert_snapshot!(greeted(address, &authority.tls("")).await.unwrap_err(),
        @"the server shows a CA's certificate as its own: make one for it that is no CA (`CA:FALSE`)");
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_taken_up_when_it_changes() {
    let authority = Authority::new("own");
    let clients = Authority::new("clients");
    for version in BOTH {
        let address = serve(authority.issue(|_| {}), &[version], Some(clients.roots())).await;
        let wrong = greeted(address, &authority.tls("")).await.unwrap_err();
        if *version == version::TLS13 {
            assert_eq!(
                wrong,
                "the server wants a client certificate: name its files by `cert` and `key`"
            );
        }
        authority.write_client();
        let tls = authority.tls("cert: client.crt\nkey: client.key\n");
        let wrong = greeted(address, &tls).await.unwrap_err();
        assert!(wrong.starts_with("the server refuses our client certificate ("), "{wrong}");
        let (certificate, key) = clients.issue(|_| {});
        authority.write("client.crt", &certificate);
        authority.write("client.key", &key.serialize_pem());
        assert_eq!(greeted(address, &tls).await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_named_as_such() {
    let authority = Authority::new("own");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    });
    let wrong = greeted(address, &authority.tls("")).await.unwrap_err();
    assert!(wrong.starts_with("the server speaks no TLS on this port"), "{wrong}");
}

#[tokio::test]
async fn files_of_no_use_are_named() {
    let authority = Authority::new("own");
    let wrong = |tls: TlsConfig| tls.connector().unwrap_err().to_string();
    let here = authority.directory.path();
    let cut = |text: String| text.replace(&here.display().to_string(), "/x");

    authority.write("empty", "");
    let tls = read("ca: empty", here).unwrap().unwrap();
    assert_eq!(cut(wrong(tls)), "there is no certificate in PEM in `/x/empty`");
    let tls = read("ca: missing", here).unwrap().unwrap();
    assert_eq!(cut(wrong(tls)), "cannot read `/x/missing`");
    authority.write_client();
    authority.write("other.key", &KeyPair::generate().unwrap().serialize_pem());
    assert_eq!(
        cut(wrong(authority.tls("cert: client.crt\nkey: other.key\n"))),
        "the key in `/x/other.key` does not belong to the certificate in `/x/client.crt`"
    );
}

#[test]
fn a_client_certificate_has_a_key() {
    let text = read("cert: client.crt", "/x".as_ref()).unwrap_err().to_string();
    assert!(text.starts_with("there is `cert`, and no `key`"), "{text}");
    assert!(read("", "/x".as_ref()).unwrap().is_none());
}

#[tokio::test]
async fn a_host_that_refuses_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = connect("127.0.0.1", port, None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot connect to `127.0.0.1:{port}`"));
    assert!(!error.wants_operator());
}
