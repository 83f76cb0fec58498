//! What an idle connection costs the master: `cargo run --release -p drover-proto --example
//! idle_connections [COUNT]`. The minions are in a process of their own, so that they are not counted.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drover_pki::verify::{MinionCertificate, TrustAnchors};
use drover_pki::{Authority, PrivateKey, pem_text};
use drover_proto::tunnel::{
    Admission, Gateway, GatewayConfig, GatewayLimits, Identity, Refusal, Tunnel, TunnelConfig,
    TunnelLimits, connect, descriptors, socket,
};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use zeromq::{RouterSocket, Socket, SocketRecv};

/// What design and benchmarks allow for one idle minion, session and registry included.
const BUDGET: usize = 40_000;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [side, address, count, directory] if side == "minions" => {
            minions(address, count.parse()?, Path::new(directory)).await
        }
        [] => master(1000).await,
        [count, ..] => master(count.parse()?).await,
    }
}

struct Everybody;

impl Admission for Everybody {
    fn admit(&self, _: &MinionCertificate, _: SocketAddr) -> Result<(), Refusal> {
        Ok(())
    }
}

async fn master(count: usize) -> Result<(), Failure> {
    let fits = descriptors::raise_limit().connections();
    println!("file descriptors allow {fits:?} connections");
    let directory = tempfile::tempdir()?;
    let files = directory.path();
    let anchors = make_fleet(files)?;
    let path = files.join("run/router.ipc");
    let mut router = RouterSocket::new();
    router.bind_listener(socket::listen(&path)?).await?;
    let config = GatewayConfig {
        listen: "127.0.0.1:0".parse()?,
        router: path,
        identity: read_identity(files, "master")?,
        anchors,
        limits: GatewayLimits {
            connections_per_minion: count,
            first_message: Duration::from_secs(60),
            ..GatewayLimits::default()
        },
    };
    let (handle, mut events) = Gateway::bind(config, Arc::new(Everybody))?.start();
    tokio::spawn(async move { while events.recv().await.is_some() {} });

    // The first few pay for what all share.
    let warm = hear(&mut router, &handle.local_addr(), 20, files).await?;
    let before = resident()?;
    let start = Instant::now();
    let minions = hear(&mut router, &handle.local_addr(), count, files).await?;
    let elapsed = start.elapsed();
    let each = (resident()? - before) / count;
    println!(
        "{count} connections in {elapsed:.2?}, both sides on this machine: {:.0} a second",
        count as f64 / elapsed.as_secs_f64()
    );
    println!("{each} bytes of the master's memory for each idle connection (budget {BUDGET})");
    for mut side in [warm, minions] {
        side.kill()?;
        side.wait()?;
    }
    Ok(())
}

/// Starts `count` minions and waits for the first message of each.
async fn hear(
    router: &mut RouterSocket,
    address: &SocketAddr,
    count: usize,
    files: &Path,
) -> Result<Child, Failure> {
    let mut minions = Command::new(std::env::current_exe()?)
        .args(["minions", &address.to_string(), &count.to_string()])
        .arg(files)
        .stdout(Stdio::piped())
        .spawn()?;
    for _ in 0..count {
        router.recv().await?;
    }
    let mut line = String::new();
    BufReader::new(minions.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    Ok(minions)
}

async fn minions(address: &str, count: usize, files: &Path) -> Result<(), Failure> {
    let _ = descriptors::raise_limit();
    let config = TunnelConfig {
        masters: vec![address.to_owned()],
        identity: read_identity(files, "minion")?,
        anchors: Arc::new(TrustAnchors::from_pem(&std::fs::read(files.join("root.crt"))?)?),
        clock_floor: None,
        limits: TunnelLimits::default(),
    };
    let tunnels: Vec<Tunnel> = stream::iter(0..count)
        .map(|_| async {
            let mut tunnel = connect(&config).await?;
            tunnel.send(Bytes::from_static(b"hello")).await?;
            Ok::<_, Failure>(tunnel)
        })
        .buffer_unordered(64)
        .try_collect()
        .await?;
    println!("connected");
    std::future::pending::<()>().await;
    drop(tunnels);
    Ok(())
}

fn make_fleet(files: &Path) -> Result<TrustAnchors, Failure> {
    let (fleet, now) = ("bench".parse()?, Timestamp::now());
    let root = Authority::create_root(&fleet, now)?;
    let factory = root.create_factory_ca(&"line-1".parse()?, now)?;
    let fleet_ca = root.create_fleet_ca(&fleet, now)?;
    let key = PrivateKey::generate()?;
    let leaf = factory.issue_idevid(&"m".parse()?, &"SN-1".parse()?, &key, now)?;
    write_identity(files, "minion", &[leaf, factory.der().clone()], &key)?;
    let key = PrivateKey::generate()?;
    let leaf = fleet_ca.issue_master(&"north".parse()?, &key, now)?;
    write_identity(files, "master", &[leaf, fleet_ca.der().clone()], &key)?;
    let roots = vec![root.der().clone()];
    std::fs::write(files.join("root.crt"), pem_text::encode_certificates(&roots))?;
    Ok(TrustAnchors::new(roots)?)
}

fn write_identity(
    files: &Path,
    name: &str,
    chain: &[CertificateDer<'_>],
    key: &PrivateKey,
) -> Result<(), Failure> {
    std::fs::write(files.join(format!("{name}.crt")), pem_text::encode_certificates(chain))?;
    std::fs::write(files.join(format!("{name}.key")), key.to_pem().as_bytes())?;
    Ok(())
}

fn read_identity(files: &Path, name: &str) -> Result<Identity, Failure> {
    let certificate = std::fs::read(files.join(format!("{name}.crt")))?;
    let key = std::fs::read(files.join(format!("{name}.key")))?;
    Ok(Identity::from_pem(&certificate, &key)?)
}

/// Resident memory of this process in bytes.
fn resident() -> Result<usize, Failure> {
    let status = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = status.split(' ').nth(1).ok_or("no resident size")?.parse()?;
    Ok(pages * 4096)
}
