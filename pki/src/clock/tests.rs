use jiff::{Timestamp, ToSpan as _};

use super::*;
use crate::authority::Authority;
use crate::key::PrivateKey;
use crate::profile::{Profile, Validity, YEAR};

fn day(text: &str) -> Timestamp {
    format!("{text}T12:00:00Z").parse().unwrap()
}

fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap()))
}

/// A fleet whose root was made in 2026.
struct Fleet {
    root: Authority,
    anchors: TrustAnchors,
}

impl Fleet {
    fn new() -> Self {
        let root = Authority::create_root(&"acme".parse().unwrap(), day("2026-01-01")).unwrap();
        let anchors = TrustAnchors::new(vec![root.der().clone()]).unwrap();
        Self { root, anchors }
    }

    fn fleet_ca(&self, made: &str) -> Authority {
        self.root.create_fleet_ca(&"acme".parse().unwrap(), day(made)).unwrap()
    }
}

/// What a master shows that was certified on that day, for a year.
fn master(fleet_ca: &Authority, certified: &str) -> [CertificateDer<'static>; 2] {
    let now = day(certified);
    let name = "north".parse().unwrap();
    let validity = Validity::Between(now, now + jiff::SignedDuration::try_from(YEAR).unwrap());
    let profile = Profile { validity, ..Profile::master(&name) };
    let leaf = fleet_ca.issue(&profile, &PrivateKey::generate().unwrap(), now).unwrap();
    [leaf, fleet_ca.der().clone()]
}

/// A device: its clock, and what it makes of masters.
struct Device<'a> {
    fleet: &'a Fleet,
    clock: DeviceClock,
}

impl<'a> Device<'a> {
    fn born(fleet: &'a Fleet, birth: &str) -> Self {
        let floor = Some(Floor::of_birth(unix(day(birth))));
        let mut device =
            Self { fleet, clock: DeviceClock { system: unix(day("1970-01-01")), floor } };
        device.wake("1970-01-01");
        device
    }

    fn wake(&mut self, system: &str) {
        self.clock.system = unix(day(system));
    }

    fn meets(&mut self, shown: &[CertificateDer<'_>]) -> Result<(), CertificateError> {
        let met = self.clock.verify_master(&self.fleet.anchors, &shown[0], &shown[1..])?;
        let proved = Floor::of_master(&met);
        self.clock.floor = Some(self.clock.floor.map_or(proved, |floor| floor.raised(proved)));
        Ok(())
    }
}

fn is_expired(met: Result<(), CertificateError>) -> bool {
    matches!(met, Err(CertificateError::Expired { .. }))
}

#[test]
fn a_clock_at_1970_validates_at_the_latest_not_before_shown() {
    let fleet = Fleet::new();
    let fleet_ca = fleet.fleet_ca("2026-02-01");
    let (first, later) = (master(&fleet_ca, "2026-03-01"), master(&fleet_ca, "2029-03-01"));
    let mut device = Device::born(&fleet, "2026-02-02");
    device.meets(&first).unwrap();
    assert_eq!(device.clock.floor.unwrap().time(), unix(day("2026-03-01")));
    // It slept, and the master was certified again.
    device.meets(&later).unwrap();
    let floor = device.clock.floor.unwrap();
    assert_eq!(floor.time(), unix(day("2029-03-01")));
    // Who has the old key is late, and the floor does not fall for what was true before.
    assert!(is_expired(device.meets(&first)));
    assert_eq!(floor.raised(Floor { latest: 0, ..floor }), floor);
    // A clock that is ahead counts.
    device.wake("2030-04-01");
    assert!(is_expired(device.meets(&later)));
}

#[test]
fn a_master_whose_clock_was_years_ahead_does_not_lock_its_devices_out_for_ever() {
    let fleet = Fleet::new();
    let fleet_ca = fleet.fleet_ca("2026-02-01");
    let (right, wrong) = (master(&fleet_ca, "2026-03-01"), master(&fleet_ca, "2034-03-01"));
    let mut device = Device::born(&fleet, "2026-02-02");
    device.meets(&wrong).unwrap();
    // By the rule, the one whose clock was put right is an old one now, whatever the device's own clock says.
    for system in ["1970-01-01", "2026-04-01"] {
        device.wake(system);
        assert!(is_expired(device.meets(&right)));
    }
    // A new fleet CA is a root's word, and ends it.
    let next = fleet.fleet_ca("2026-05-01");
    device.meets(&master(&next, "2026-05-02")).unwrap();
    assert_eq!(device.clock.floor.unwrap().time(), unix(day("2026-05-02")));
    // The old one cannot do it again, not even to those that meet it once more.
    device.meets(&wrong).unwrap();
    device.meets(&master(&next, "2026-05-02")).unwrap();
}

#[test]
fn an_old_masters_key_gains_nothing_by_a_new_fleet_ca() {
    let fleet = Fleet::new();
    let (old, new) = (fleet.fleet_ca("2026-02-01"), fleet.fleet_ca("2028-02-01"));
    let stolen = master(&old, "2026-03-01");
    let mut device = Device::born(&fleet, "2026-02-02");
    device.meets(&master(&new, "2028-02-02")).unwrap();
    assert!(is_expired(device.meets(&stolen)));
    // Also not with the new authority beside it, or with a certificate of the new one that expired.
    let beside = [stolen[0].clone(), stolen[1].clone(), new.der().clone()];
    assert!(is_expired(device.meets(&beside)));
    device.meets(&master(&new, "2029-06-01")).unwrap();
    assert!(is_expired(device.meets(&master(&new, "2028-02-02"))));
    // And a device that has not met the new authority goes by what it has.
    let mut other = Device::born(&fleet, "2026-02-02");
    other.meets(&master(&old, "2027-06-01")).unwrap();
    assert!(is_expired(other.meets(&stolen)));
}

#[test]
fn a_clock_that_no_battery_keeps_may_wake_in_2099_as_well_as_in_1970() {
    let fleet = Fleet::new();
    let fleet_ca = fleet.fleet_ca("2026-02-01");
    let shown = master(&fleet_ca, "2026-03-01");
    for system in ["2038-01-19", "2099-12-31", "2106-02-07"] {
        let mut device = Device::born(&fleet, "2026-02-02");
        device.wake(system);
        device.meets(&shown).unwrap();
        device.meets(&shown).unwrap();
    }
    // A clock that may be right is believed: this one lay in a drawer for nine years.
    let mut device = Device::born(&fleet, "2026-02-02");
    device.wake("2035-01-01");
    assert!(is_expired(device.meets(&shown)));
    // Without any floor it is believed in any case.
    device.clock.floor = None;
    device.wake("2099-12-31");
    assert!(is_expired(device.meets(&shown)));
}

#[test]
fn what_a_device_was_issued_itself_raises_the_floor_of_the_same_authority() {
    let fleet = Fleet::new();
    let fleet_ca = fleet.fleet_ca("2026-02-01");
    let mut device = Device::born(&fleet, "2026-02-02");
    device.meets(&master(&fleet_ca, "2026-03-01")).unwrap();
    let (id, key) = ("rfid-1".parse().unwrap(), PrivateKey::generate().unwrap());
    let month = Duration::from_secs(30 * 86_400);
    let issued = day("2026-09-01");
    let leaf = fleet_ca.issue_ldevid(&id, None, &key, month, issued).unwrap();
    let issuers = [fleet_ca.der().clone()];
    let own = crate::verify::verify_minion(&fleet.anchors, &leaf, &issuers, unix(issued)).unwrap();
    let floor = device.clock.floor.unwrap().raised(Floor::of_minion(&own));
    assert_eq!(floor.time(), unix(issued - 5.minutes()));
}

#[test]
fn what_was_good_when_it_was_shown_is_judged_as_of_then_however_the_clock_jumps() {
    let fleet = Fleet::new();
    let shown = master(&fleet.fleet_ca("2026-02-01"), "2026-03-01");
    for system in ["1970-01-01", "2026-05-01", "2031-01-01", "2100-01-01"] {
        let clock = DeviceClock { system: unix(day(system)), floor: None };
        let at = clock.time_within(&shown);
        verify_master(&fleet.anchors, &shown[0], &shown[1..], at).unwrap();
    }
}
