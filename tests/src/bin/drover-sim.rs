//! `drover-sim`: a fleet of simulated minions in one process, for trying out and measuring a master.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Parser;
use drover_proto::tunnel::descriptors;
use drover_tests::simulator::{self, Issuer, Simulation};

/// Runs many simulated minions against a master.
///
/// Each has a certificate of its own, issued in memory, a TLS connection, a ZeroMQ DEALER and a session; it answers
/// every job at once and sends heartbeats. The master needs `acceptance: auto`.
///
/// With `--fleet-ca` they have operational certificates, as a fleet that has worked for a while, and connect in one
/// handshake. With `--station` they have birth certificates, and get operational ones from the master first.
///
/// Prints `connected N of COUNT after S s` each time all are connected, and `lost` when one no longer is. Ends with
/// SIGTERM, SIGINT or after `--seconds`.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example:\n  drover-sim --fleet-ca /etc/drover/pki --root /etc/drover/pki/root.crt \\\n      --master 127.0.0.1:4510 --count 1000"
)]
struct Arguments {
    #[command(flatten)]
    issuer: IssuerArguments,
    /// The fleet's root certificate.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// The master's address.
    #[arg(long, value_name = "HOST:PORT")]
    master: String,
    /// How many minions.
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// What their ids begin with.
    #[arg(long, default_value = "sim-")]
    prefix: String,
    /// Seconds between heartbeats.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    heartbeat: f64,
    /// How many application events each sends, as fast as the master takes them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    events: u64,
    /// Milliseconds between attempts to connect; without it the sessions back off as real ones do.
    #[arg(long, value_name = "MS")]
    retry: Option<u64>,
    /// End after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct IssuerArguments {
    /// The master's `pki_dir` (fleet-ca.crt, fleet-ca.key).
    #[arg(long, value_name = "DIR")]
    fleet_ca: Option<PathBuf>,
    /// The directory of an enrolment station of the master's fleet (ca.crt, ca.key).
    #[arg(long, value_name = "DIR")]
    station: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let allowed = descriptors::raise_limit();
    if let Some(most) = allowed.connections().filter(|most| *most < arguments.count as u64) {
        anyhow::bail!("the limit of open files allows {most} minions: raise it with `ulimit -n`");
    }
    let count = arguments.count;
    let issuer = match (arguments.issuer.fleet_ca, arguments.issuer.station) {
        (Some(directory), _) => Issuer::FleetCa(directory),
        (None, Some(directory)) => Issuer::Station(directory),
        (None, None) => anyhow::bail!("no --fleet-ca and no --station"),
    };
    let simulation = Simulation {
        issuer,
        root: arguments.root,
        master: arguments.master,
        count,
        prefix: arguments.prefix,
        heartbeat: Duration::try_from_secs_f64(arguments.heartbeat).context("--heartbeat")?,
        events: arguments.events,
        retry: arguments.retry.map(Duration::from_millis),
    };
    let (tally, mut connected) = simulator::start(&simulation)?;
    let began = now();
    let report = async {
        let mut complete = false;
        while connected.changed().await.is_ok() {
            let now_connected = *connected.borrow_and_update();
            if now_connected == count && !complete {
                let seconds = began.elapsed().as_secs_f64();
                println!("connected {count} of {count} after {seconds:.2} s");
                let issued = tally.issued();
                if issued > 0 {
                    let rate = issued as f64 / seconds;
                    println!("issued {issued} operational certificates, {rate:.0} a second");
                }
            } else if now_connected < count && complete {
                println!("lost");
            }
            complete = now_connected == count;
        }
    };
    tokio::select! {
        () = report => {}
        result = ended(arguments.seconds) => result?,
    }
    println!("answered {} jobs, {} connected at the end", tally.answered(), tally.connected());
    Ok(())
}

async fn ended(seconds: Option<u64>) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let limit = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = limit => {}
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it tells how long it took")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
