//! How fast a station's memory is: what each run of `drover-enrol` waits for once a station has issued
//! 100,000 devices, and what each of them cost it. `DROVER_BENCH_LINES` sets for how many.

use std::time::{Duration, Instant};

use drover_pki::ledger::{Actor, Event, IssuedLine, Ledger};
use drover_pki::manifest::ManifestEntry;
use drover_pki::{Authority, Fingerprint, HardwareSerial, KeyDigest};
use jiff::Timestamp;
use serde_json::{Map, Value};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
/// What opening it may take, in seconds.
const BUDGET: f64 = 1.0;
/// How many lines are appended to it.
const APPENDED: u32 = 200;

fn main() {
    // `cargo test` runs benches too, to see that they start; the measurement is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let lines = std::env::var("DROVER_BENCH_LINES").unwrap_or_else(|_| "100000".to_owned());
    let lines: u64 = lines.parse().expect("a number of lines");
    let root = Authority::create_root(&"acme".parse().expect("a name"), NOW).expect("a root");
    let station = root.create_factory_ca(&"line-1".parse().expect("a name"), NOW).expect("a CA");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let by: Actor = "ann".parse().expect("a name");
    let events = (0..lines).map(issued);
    Ledger::create(directory.path(), &station, events, &by, NOW).expect("a ledger");
    let size = std::fs::metadata(directory.path().join("ledger.ndjson")).expect("a ledger").len();

    println!("{:<58} {:>14}   {:>14}", "", "measured", "budget");
    let (opened, mut ledger) = timed(|| Ledger::open(directory.path(), station.der(), &[]));
    let what = format!("opening and verifying {lines} lines ({} MB)", size / 1_000_000);
    line(&what, &format!("{:.2} s", opened.as_secs_f64()), &format!("≤ {BUDGET} s"));

    let serials: Vec<HardwareSerial> =
        (0..lines).map(|n| serial(n).parse().expect("a serial number")).collect();
    let (found, count) = timed(|| {
        Ok::<_, std::convert::Infallible>(
            serials.iter().filter(|serial| ledger.find_serial(serial).is_some()).count(),
        )
    });
    assert_eq!(count as u64, lines, "each is found");
    let each = found.as_secs_f64() / lines as f64 * 1e9;
    line("  finding a serial number", &format!("{each:.0} ns"), "");

    let (appended, ()) = timed(|| {
        (0..u64::from(APPENDED))
            .try_for_each(|n| ledger.append(&station, &by, NOW, issued(lines + n)))
    });
    let each = appended.as_secs_f64() / f64::from(APPENDED) * 1e3;
    line("  appending a line, signed and synced", &format!("{each:.2} ms"), "");
}

fn issued(n: u64) -> Event {
    let grains = ["site", "role", "batch"].map(|name| (name.to_owned(), Value::from("2027-01")));
    let entry = ManifestEntry {
        id: format!("rfid-{n:06}").parse().expect("an id"),
        serial: serial(n).parse().expect("a serial number"),
        key: KeyDigest::of(&n.to_be_bytes()),
        certificate: Fingerprint::of(&n.to_be_bytes()),
        grains: Map::from_iter(grains),
        issued: NOW,
        reissue: None,
    };
    // As long as a birth certificate.
    Event::Issued(IssuedLine { entry, revokes: None, der: vec![7; 470].into() })
}

fn serial(n: u64) -> String {
    format!("SN{n:06}")
}

fn timed<T, E: std::fmt::Debug>(work: impl FnOnce() -> Result<T, E>) -> (Duration, T) {
    let before = now();
    let done = work().expect("the ledger works");
    (now() - before, done)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn line(what: &str, measured: &str, budget: &str) {
    println!("{what:<58} {measured:>14}   {budget:>14}");
}
