//! One device over ten years, in virtual time and from a seed: power cuts, months in a drawer, clocks at 1970 and 2099,
//! a dead link, a new fleet CA each year and two new roots. Certificates, files and machines are the real ones; the
//! session between the two ends is what docs/protocol.md says of it. Whenever power and link hold for a day, it ends
//! with a certificate that its master takes.

#![allow(clippy::unwrap_used, reason = "what goes wrong in a test's surroundings ends the test")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use drover_minion::{
    clock_floor::ClockFloor,
    identity::{DeviceIdentity, Kind},
    renewal::{Renewal, Term},
};
use drover_pki::{
    Authority, PrivateKey,
    clock::{DeviceClock, Floor},
    pair::KeyPairFiles,
    pem_text::encode_certificates,
    root_list::RootList,
};
use drover_proto::{message::Scope, session::jitter::Jitter};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
const SEEDS: u64 = 6;
/// A renewal writes a key and a certificate and moves the floor, every twenty days. The rest is for what a power cut
/// repeats, and for new authorities.
const MOST_WRITES_A_YEAR: usize = 90;

/// Everything random comes from here.
struct Chance(Jitter);

impl Chance {
    fn one_in(&mut self, of: u32) -> bool {
        self.0.between(Duration::ZERO, Duration::from_micros(u64::from(of) - 1)).is_zero()
    }

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        self.0.between(least, most)
    }
}

fn born() -> Timestamp {
    "2026-11-23T02:37:05Z".parse().unwrap()
}

fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap()))
}

/// The fleet's safe and its master, whose clock is right.
struct Fleet {
    root: Authority,
    fleet_ca: Authority,
    /// From each root to the next.
    bridges: Vec<CertificateDer<'static>>,
    /// What the master shows, and when it was certified.
    leaf: (CertificateDer<'static>, Timestamp),
    lists: Vec<Vec<u8>>,
    /// The root that is left out of the next list.
    leaving: Option<Authority>,
}

impl Fleet {
    fn new(now: Timestamp) -> Self {
        let root = Authority::create_root(&"acme".parse().unwrap(), now).unwrap();
        let fleet_ca = root.create_fleet_ca(&"acme".parse().unwrap(), now).unwrap();
        let leaf = (Self::certify_master(&fleet_ca, now), now);
        Self { root, fleet_ca, bridges: Vec::new(), leaf, lists: Vec::new(), leaving: None }
    }

    fn certify_master(fleet_ca: &Authority, now: Timestamp) -> CertificateDer<'static> {
        let key = PrivateKey::generate().unwrap();
        fleet_ca.issue_master(&"north".parse().unwrap(), &key, now).unwrap()
    }

    /// What is done in the year that begins now.
    fn rotate(&mut self, year: u32, now: Timestamp) {
        match year {
            3 | 7 => self.add_root(now),
            4 | 8 => self.drop_root(now),
            _ => {}
        }
        self.fleet_ca = self.root.create_fleet_ca(&"acme".parse().unwrap(), now).unwrap();
        self.renew_master(now);
    }

    fn renew_master(&mut self, now: Timestamp) {
        self.leaf = (Self::certify_master(&self.fleet_ca, now), now);
    }

    fn add_root(&mut self, now: Timestamp) {
        let next = self.root.create_next_root(PrivateKey::generate().unwrap(), now).unwrap();
        self.bridges.push(self.root.certify_again(next.der(), now).unwrap());
        let old = std::mem::replace(&mut self.root, next);
        let roots = vec![old.der().clone(), self.root.der().clone()];
        let cross = vec![self.root.certify_again(self.fleet_ca.der(), now).unwrap()];
        self.lists.push(self.list(roots, cross, &old, now));
        self.leaving = Some(old);
    }

    fn drop_root(&mut self, now: Timestamp) {
        let old = self.leaving.take().unwrap();
        let roots = vec![self.root.der().clone()];
        self.lists.push(self.list(roots, Vec::new(), &old, now));
    }

    /// The next list, signed by the root in use and by the one before it.
    fn list(
        &self,
        roots: Vec<CertificateDer<'static>>,
        cross: Vec<CertificateDer<'static>>,
        old: &Authority,
        now: Timestamp,
    ) -> Vec<u8> {
        let number = self.lists.len() as u64 + 1;
        let list = RootList::new("acme".parse().unwrap(), number, now, roots, cross);
        list.sign(&[old, &self.root]).unwrap().text
    }

    fn shown(&self) -> Vec<CertificateDer<'static>> {
        let mut shown = vec![self.leaf.0.clone(), self.fleet_ca.der().clone()];
        shown.extend(self.bridges.iter().rev().cloned());
        shown
    }

    /// A device's chain for a new key.
    fn issue(&self, key: &PrivateKey, now: Timestamp) -> Vec<CertificateDer<'static>> {
        let id = "rfid-1".parse().unwrap();
        let leaf = self.fleet_ca.issue_ldevid(&id, None, key, 30 * DAY, now).unwrap();
        vec![leaf, self.fleet_ca.der().clone()]
    }
}

/// What the device's clock says when it wakes.
#[derive(Debug, Clone, Copy)]
enum Clock {
    Right,
    In1970,
    In2099,
    YearsBehind,
    DaysAhead,
}

impl Clock {
    fn draw(chance: &mut Chance) -> Self {
        let all = [Self::Right, Self::In1970, Self::In2099, Self::YearsBehind, Self::DaysAhead];
        all.into_iter().find(|_| chance.one_in(4)).unwrap_or(Self::In1970)
    }

    fn at(self, now: Timestamp) -> UnixTime {
        let right = unix(now).as_secs();
        let years = |count: u64| count * YEAR.as_secs();
        UnixTime::since_unix_epoch(Duration::from_secs(match self {
            Self::Right => right,
            Self::In1970 => right - years(57).min(right),
            Self::In2099 => right + years(70),
            Self::YearsBehind => right - years(3),
            Self::DaysAhead => right + 20 * DAY.as_secs(),
        }))
    }
}

/// The agent, from one start to the next.
struct Agent {
    identity: DeviceIdentity,
    floor: ClockFloor,
    renewal: Renewal,
    clock: Clock,
}

struct Scene {
    chance: Chance,
    fleet: Fleet,
    disk: TempDir,
    agent: Agent,
    begin: Instant,
    now: Timestamp,
    /// The year whose rotation was done.
    year: u32,
    log: Vec<String>,
    /// What the files had in them when they were last looked at, and how many were written in each year.
    files: BTreeSet<Vec<u8>>,
    writes: [usize; 11],
    renewals: usize,
}

impl Scene {
    #[expect(clippy::disallowed_methods, reason = "virtual time begins at some instant")]
    fn new(seed: u64) -> Self {
        let now = born();
        let fleet = Fleet::new(now);
        let station = fleet.root.create_factory_ca(&"line-1".parse().unwrap(), now).unwrap();
        let disk = tempfile::tempdir().unwrap();
        let key = PrivateKey::generate().unwrap();
        let (id, serial) = ("rfid-1".parse().unwrap(), "SN-1".parse().unwrap());
        let leaf = station.issue_idevid(&id, &serial, &key, now).unwrap();
        let file = |name: &str, text: &[u8]| fs::write(disk.path().join(name), text).unwrap();
        file("root.crt", encode_certificates(&[fleet.root.der().clone()]).as_bytes());
        file("idevid.crt", encode_certificates(&[leaf, station.der().clone()]).as_bytes());
        file("idevid.key", key.to_pem().as_bytes());
        let mut chance = Chance(Jitter::new(seed));
        let agent = start(disk.path(), &mut chance);
        let mut scene = Self {
            chance,
            fleet,
            disk,
            agent,
            begin: Instant::now(),
            now,
            year: 0,
            log: Vec::new(),
            files: BTreeSet::new(),
            writes: [0; 11],
            renewals: 0,
        };
        scene.note_writes();
        scene.writes = [0; 11];
        scene
    }

    fn instant(&self) -> Instant {
        self.begin + Duration::try_from(born().duration_until(self.now)).unwrap()
    }

    fn clock(&self) -> DeviceClock {
        let system = self.agent.clock.at(self.now);
        DeviceClock { system, floor: Some(self.agent.floor.get()) }
    }

    fn note(&mut self, what: impl Into<String>) {
        self.log.push(format!("{} {}", self.now, what.into()));
    }

    fn note_writes(&mut self) {
        // A rename is not counted twice: no two files are alike.
        let files = fs::read_dir(self.disk.path()).unwrap();
        let files: BTreeSet<_> =
            files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
        let written = files.difference(&self.files).count();
        let year = usize::try_from(born().duration_until(self.now).as_secs() / 31_536_000).unwrap();
        self.writes[year.min(10)] += written;
        self.files = files;
    }

    /// Time passes, for the fleet too.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, year)) = self.next_rotation().filter(|(at, _)| *at <= end) {
            self.now = at;
            self.fleet.rotate(year, at);
            self.year = year;
            self.note(format!("authorities of year {year}"));
        }
        self.now = end;
        if self.fleet.leaf.1.duration_until(end).as_secs() > 240 * 86_400 {
            self.fleet.renew_master(end);
        }
    }

    fn next_rotation(&self) -> Option<(Timestamp, u32)> {
        let year = self.year + 1;
        (year < 10).then(|| (born() + YEAR * year, year))
    }

    /// The power goes, somewhere within a renewal or not, and comes back.
    fn cut(&mut self) {
        let files = KeyPairFiles::new(self.disk.path(), "ldevid");
        let staged = self.disk.path().join("ldevid.next.key");
        match self.chance.between(Duration::ZERO, Duration::from_micros(3)).as_micros() {
            0 => files.stage(&PrivateKey::generate().unwrap()).unwrap(),
            1 => fs::write(&staged, "-----BEGIN PRIV").unwrap(),
            2 => fs::write(self.disk.path().join("clock-floor.json"), "").unwrap(),
            _ => {}
        }
        self.agent = start(self.disk.path(), &mut self.chance);
        self.note(format!("power cut; the clock is {:?}", self.agent.clock));
        self.note_writes();
    }

    /// Power and link hold for so long.
    fn hold(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let Some(scope) = self.connect() else {
                self.pass(MINUTE);
                continue;
            };
            self.converse(scope, end);
            let now = self.instant();
            self.agent.renewal.handle_disconnected(now);
        }
    }

    /// The handshake, as far as both ends take the other.
    fn connect(&mut self) -> Option<Scope> {
        let shown = self.fleet.shown();
        let anchors = self.agent.identity.roots.anchors().clone();
        let master = self.clock().verify_master(&anchors, &shown[0], &shown[1..]);
        match master {
            Ok(master) => self.agent.floor.raise(Floor::of_master(&master)),
            Err(why) => {
                self.note(format!("master refused: {why}"));
                return None;
            }
        }
        self.note_writes();
        match self.agent.identity.shows() {
            Kind::Birth => Some(Scope::Renewal),
            Kind::Operational if self.is_good() => Some(Scope::Full),
            Kind::Operational => {
                self.agent.identity.show_other();
                None
            }
        }
    }

    fn is_good(&self) -> bool {
        self.agent
            .identity
            .term()
            .is_some_and(|Term { issued, expires }| issued <= self.now && self.now < expires)
    }

    /// A session, until the link is cut, there is a new certificate, or there are new authorities.
    fn converse(&mut self, scope: Scope, end: Timestamp) {
        let now = self.instant();
        self.agent.renewal.handle_connected(scope, None, self.now, now);
        self.follow_roots();
        let rotation = self.next_rotation().map_or(end, |(at, _)| at.min(end));
        let drops_after = self.chance.between(MINUTE, 20 * DAY);
        let until = rotation.min(self.now + drops_after).max(self.now);
        loop {
            let now = self.instant();
            self.agent.renewal.handle_timeout(now);
            if self.agent.renewal.poll_transmit(now).is_some() {
                return self.renew();
            }
            let due = self.agent.renewal.poll_timeout().map(|at| self.now + (at - now));
            match due.filter(|due| *due < until) {
                Some(due) => self.pass(Duration::try_from(self.now.duration_until(due)).unwrap()),
                None => break,
            }
        }
        let year = self.year;
        self.pass(Duration::try_from(self.now.duration_until(until)).unwrap());
        if self.year != year {
            let now = self.instant();
            self.agent.renewal.handle_renew(7 * DAY, now);
        }
    }

    /// The lists that it missed, oldest first.
    fn follow_roots(&mut self) {
        let known = usize::try_from(self.agent.identity.roots.told().root_list).unwrap();
        let shown = self.fleet.shown();
        let missed = self.fleet.lists[known..].to_vec();
        for list in missed {
            let at = self.clock().time_within(&shown);
            self.agent.identity.roots.follow(&list, &shown, at).unwrap().unwrap();
            self.note("follows other roots");
            self.note_writes();
        }
    }

    fn renew(&mut self) {
        self.pass(Duration::from_secs(1));
        if self.chance.one_in(8) {
            return self.note("the link was cut before the answer");
        }
        let key = PrivateKey::generate().unwrap();
        let chain = self.fleet.issue(&key, self.now);
        if self.chance.one_in(16) {
            return self.note("the answer was lost");
        }
        let at = self.clock().time_within(&chain);
        let renewed = self.agent.identity.renew(&key, chain, at, true).unwrap();
        renewed.stored.unwrap();
        self.renewals += 1;
        if self.chance.one_in(16) {
            self.note("cut between the certificate and the floor");
            self.note_writes();
            return self.cut();
        }
        self.agent.floor.raise(renewed.proved);
        let now = self.instant();
        self.agent.renewal.handle_certificate(renewed.term, now);
        self.note("renewed");
        self.note_writes();
    }

    fn live(&mut self) {
        while self.now < born() + YEAR * 10 {
            match self.chance.between(Duration::ZERO, Duration::from_micros(9)).as_micros() {
                0 => {
                    let asleep = self.chance.between(DAY, 14 * 30 * DAY);
                    self.note(format!("asleep for {} days", asleep.as_secs() / 86_400));
                    self.pass(asleep);
                    self.cut();
                }
                1 | 2 => self.cut(),
                3 => {
                    let alone = self.chance.between(MINUTE, 60 * DAY);
                    self.note("no link");
                    self.pass(alone);
                }
                4 => {
                    let clock = Clock::draw(&mut self.chance);
                    self.note(format!("the clock jumps: {clock:?}"));
                    self.agent.clock = clock;
                }
                5 => {
                    let short = self.chance.between(MINUTE, DAY);
                    self.hold(short);
                }
                _ => {
                    let long = self.chance.between(DAY, 90 * DAY);
                    self.hold(long);
                    let shows = self.agent.identity.shows();
                    let log = &self.log[self.log.len().saturating_sub(30)..];
                    let is_well = self.is_good() && shows == Kind::Operational;
                    assert!(is_well, "{} shows {shows:?}:\n{}", self.now, log.join("\n"));
                }
            }
        }
    }
}

fn start(disk: &Path, chance: &mut Chance) -> Agent {
    let identity = DeviceIdentity::load(disk).unwrap();
    let floor = ClockFloor::load(disk, identity.born());
    let seed = u64::try_from(chance.between(Duration::ZERO, DAY).as_micros()).unwrap();
    let renewal = Renewal::new(identity.term(), seed);
    Agent { identity, floor, renewal, clock: Clock::draw(chance) }
}

#[test]
fn a_device_lives_ten_years_whatever_happens_to_power_link_clock_and_authorities() {
    let mut most = 0;
    for seed in 0..SEEDS {
        let mut scene = Scene::new(seed);
        scene.live();
        let writes = scene.writes;
        let most_of_seed = writes.into_iter().max().unwrap();
        eprintln!(
            "seed {seed}: {} renewals, files written in each year: {writes:?}",
            scene.renewals
        );
        most = most.max(most_of_seed);
        assert_eq!(scene.agent.identity.roots.told().root_list, 4, "seed {seed}");
    }
    assert!(most <= MOST_WRITES_A_YEAR, "{most} files written in one year");
}

#[test]
fn ten_years_replay_from_their_seed() {
    let lived = |seed| {
        let mut scene = Scene::new(seed);
        scene.live();
        (scene.log, scene.writes)
    };
    assert_eq!(lived(5), lived(5));
}
