//! Whole schedules against a machine that says what the test wants, in virtual time.
#![expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io;
use std::time::Duration;

use super::*;
use crate::system::{DiskSpace, Memory, Mount, Sensor, SystemError};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A machine made of answers.
#[derive(Default)]
struct Fake {
    load: Cell<[f64; 3]>,
    memory_percent: Cell<u64>,
    disks: RefCell<Vec<(Mount, u64)>>,
    /// By name; those that are switched off have none.
    zones: RefCell<Vec<(&'static str, Option<f64>)>>,
    broken: Cell<bool>,
    asked: Cell<u32>,
}

impl Fake {
    fn mount(&self, point: &str, kind: &str, percent: u64) {
        let mount = Mount { point: point.into(), kind: kind.into() };
        self.disks.borrow_mut().retain(|(old, _)| old.point != point);
        self.disks.borrow_mut().push((mount, percent));
    }

    fn answer<T>(&self, answer: T) -> Result<T, SystemError> {
        self.asked.set(self.asked.get() + 1);
        if self.broken.get() {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            return Err(SystemError::Read { path: "/proc/fake", source });
        }
        Ok(answer)
    }
}

impl System for Fake {
    fn load_averages(&self) -> Result<[f64; 3], SystemError> {
        self.answer(self.load.get())
    }

    fn memory(&self) -> Result<Memory, SystemError> {
        self.answer(Memory { total: 100, available: 100 - self.memory_percent.get() })
    }

    fn mounts(&self) -> Result<Vec<Mount>, SystemError> {
        self.answer(self.disks.borrow().iter().map(|(mount, _)| mount.clone()).collect())
    }

    fn disk_space(&self, point: &str) -> Result<DiskSpace, SystemError> {
        if point == "/broken" {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            return Err(SystemError::DiskSpace { point: point.to_owned(), source });
        }
        let disks = self.disks.borrow();
        let (_, used) = disks.iter().find(|(mount, _)| mount.point == point).unwrap();
        Ok(DiskSpace { used: *used, available: 100 - used })
    }

    fn thermal_zones(&self) -> Result<Vec<Sensor>, SystemError> {
        let sensor = |(name, _): &(&str, _)| Sensor { name: (*name).into(), path: name.into() };
        self.answer(self.zones.borrow().iter().map(sensor).collect())
    }

    fn temperature(&self, sensor: &Sensor) -> Result<f64, SystemError> {
        let zones = self.zones.borrow();
        let zone = zones.iter().find(|(name, _)| sensor.path.ends_with(name)).unwrap();
        zone.1.ok_or_else(|| SystemError::Temperature {
            sensor: sensor.name.clone(),
            path: sensor.path.clone(),
            source: io::Error::from(io::ErrorKind::Unsupported),
        })
    }
}

/// A schedule, its machine and its clock.
struct Bench {
    schedule: BeaconSchedule,
    system: Fake,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new(config: Value) -> Self {
        let start = Instant::now();
        let schedule = BeaconSchedule::from_config(&config, start).unwrap();
        Self { schedule, system: Fake::default(), start, now: start }
    }

    /// Wakes the schedule whenever it asks, up to `span` after the start, and gives its events
    /// with the second they came at.
    fn run_to(&mut self, span: Duration) -> Vec<(u64, BeaconEvent)> {
        let end = self.start + span;
        let mut events = Vec::new();
        while let Some(due) = self.schedule.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.schedule.handle_timeout(self.now, &self.system, usize::MAX);
            let second = (self.now - self.start).as_secs();
            events.extend(std::iter::from_fn(|| self.schedule.poll_event()).map(|e| (second, e)));
        }
        self.now = end;
        events
    }

    fn seconds_to(&mut self, span: Duration) -> Vec<u64> {
        self.run_to(span).into_iter().map(|(second, _)| second).collect()
    }
}

fn refusal(config: Value) -> String {
    BeaconSchedule::from_config(&config, Instant::now()).unwrap_err().to_string()
}

#[test]
fn load_without_averages_reports_at_every_interval() {
    let mut bench = Bench::new(json!({"load": [{"interval": 60}]}));
    bench.system.load.set([0.2, 0.18, 0.12]);
    let events = bench.run_to(MINUTE * 3);
    assert_eq!(events.iter().map(|(second, _)| *second).collect::<Vec<_>>(), [0, 60, 120, 180]);
    let (_, event) = &events[0];
    assert_eq!(event.path(), "load/");
    assert_eq!(event.data, json!({"1m": 0.2, "5m": 0.18, "15m": 0.12}));
}

#[test]
fn load_that_need_not_emit_at_startup_begins_one_interval_later() {
    let mut bench = Bench::new(json!({"load": [{"emitatstartup": false}]}));
    assert_eq!(bench.seconds_to(MINUTE * 2), [60, 120]);
}

#[test]
fn load_that_stays_high_does_not_flood() {
    let config = json!({"load": [{"averages": {"1m": [0.0, 2.0]}}, {"interval": 1}]});
    let mut bench = Bench::new(config);
    bench.system.load.set([3.0, 0.0, 0.0]);
    assert_eq!(bench.seconds_to(MINUTE * 11), [0, 300, 600]);
}

#[test]
fn load_on_change_only_tells_the_crossing() {
    let config = json!({"load": [
        {"averages": {"1m": [0.0, 2.0], "15m": [0.1, 1.0]}}, {"onchangeonly": true},
    ]});
    let mut bench = Bench::new(config);
    bench.system.load.set([1.0, 1.0, 0.5]);
    assert!(bench.run_to(MINUTE * 5).is_empty());
    bench.system.load.set([1.0, 1.0, 1.5]);
    assert_eq!(bench.seconds_to(MINUTE * 60), [360]);
    bench.system.load.set([2.5, 1.0, 1.5]);
    assert_eq!(bench.seconds_to(MINUTE * 90), [3660]);
}

#[test]
fn a_written_onchangeonly_false_is_salts_every_interval() {
    let config = json!({"memusage": [{"percent": "63%"}, {"onchangeonly": false}]});
    let mut bench = Bench::new(config);
    bench.system.memory_percent.set(63);
    assert_eq!(bench.seconds_to(MINUTE * 3), [0, 60, 120, 180]);
}

#[test]
fn memory_is_told_when_it_reaches_the_share() {
    let mut bench = Bench::new(json!({"memusage": [{"percent": "63%"}]}));
    bench.system.memory_percent.set(62);
    assert!(bench.run_to(MINUTE).is_empty());
    bench.system.memory_percent.set(64);
    let events = bench.run_to(MINUTE * 2);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].1.path(), "memusage/");
    assert_eq!(events[0].1.data, json!({"memusage": 64.0}));
}

#[test]
fn a_condition_known_at_startup_can_be_left_out() {
    let config = json!({"memusage": {"percent": 63, "onchangeonly": true, "emitatstartup": false}});
    let mut bench = Bench::new(config);
    bench.system.memory_percent.set(90);
    assert!(bench.run_to(MINUTE * 60).is_empty());
}

#[test]
fn each_file_system_is_told_for_itself() {
    let config = json!({"diskusage": [{"/": "63%"}, {"^/media/.*$": 90}, {"interval": 120}]});
    let mut bench = Bench::new(config);
    bench.system.mount("/", "ext4", 70);
    bench.system.mount("/media/stick", "vfat", 50);
    bench.system.mount("/mediaserver", "ext4", 99);
    let events = bench.run_to(Duration::ZERO);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].1.path(), "diskusage/");
    assert_eq!(events[0].1.data, json!({"mount": "/", "diskusage": 70.0}));

    bench.system.mount("/media/stick", "vfat", 95);
    let events = bench.run_to(MINUTE * 2);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].1.data, json!({"mount": "/media/stick", "diskusage": 95.0}));
}

#[test]
fn every_thermal_zone_is_told_at_every_interval() {
    let mut bench = Bench::new(json!({"temperature": [{"interval": 60}]}));
    *bench.system.zones.borrow_mut() =
        vec![("cpu", Some(51.2)), ("off", None), ("gpu", Some(48.0))];
    let events = bench.run_to(MINUTE);
    assert_eq!(events.len(), 4);
    assert_eq!(events[0].1.path(), "temperature/");
    assert_eq!(events[0].1.data, json!({"sensor": "cpu", "celsius": 51.2}));
    assert_eq!(events[1].1.data, json!({"sensor": "gpu", "celsius": 48.0}));
}

#[test]
fn a_sensor_is_told_when_it_leaves_its_limits() {
    let sensors = json!({"board": "/sys/board", "case": "/sys/case"});
    let config = json!({"temperature": [{"celsius": [-10, 80]}, {"sensors": sensors}]});
    let mut bench = Bench::new(config);
    *bench.system.zones.borrow_mut() = vec![("board", Some(80.0)), ("case", Some(-10.0))];
    assert!(bench.run_to(MINUTE).is_empty());
    *bench.system.zones.borrow_mut() = vec![("board", Some(80.1)), ("case", Some(-10.1))];
    let events = bench.run_to(MINUTE * 2);
    let told: Vec<_> = events.iter().map(|(_, event)| &event.data["sensor"]).collect();
    assert_eq!(told, ["board", "case"]);
    assert!(bench.run_to(MINUTE * 4).is_empty());
}

#[test]
fn wrong_temperatures_and_sensors_are_refused() {
    let refused = refusal(json!({"temperature": [{"celsius": "hot"}]}));
    assert!(refused.contains("a temperature such as `80`"), "{refused}");
    let refused = refusal(json!({"temperature": [{"sensors": {"board": "temp1_input"}}]}));
    assert!(refused.contains("a map of names and files"), "{refused}");
}

#[test]
fn remote_file_systems_are_asked_only_by_name() {
    let mut bench = Bench::new(json!({"diskusage": [{"/.*": "50%"}]}));
    bench.system.mount("/srv/nfs", "nfs4", 99);
    assert!(bench.run_to(Duration::ZERO).is_empty());

    let mut bench = Bench::new(json!({"diskusage": [{"/srv/nfs": "50%"}]}));
    bench.system.mount("/srv/nfs", "nfs4", 99);
    assert_eq!(bench.run_to(Duration::ZERO).len(), 1);
}

#[test]
fn a_broken_file_system_does_not_hide_the_others() {
    let config = json!({"diskusage": [{"/.*": 90}, {"emitatstartup": false}]});
    let mut bench = Bench::new(config);
    bench.system.mount("/broken", "ext4", 0);
    bench.system.mount("/data", "ext4", 50);
    assert!(bench.run_to(MINUTE).is_empty());
    bench.system.mount("/data", "ext4", 95);
    assert_eq!(bench.seconds_to(MINUTE * 2), [120]);
}

#[test]
fn a_stick_that_was_pulled_and_put_back_is_told_again() {
    let mut bench = Bench::new(json!({"diskusage": [{"/stick": 90}, {"onchangeonly": true}]}));
    bench.system.mount("/stick", "vfat", 95);
    assert_eq!(bench.seconds_to(MINUTE), [0]);
    bench.system.disks.borrow_mut().clear();
    assert!(bench.run_to(MINUTE * 2).is_empty());
    bench.system.mount("/stick", "vfat", 95);
    assert_eq!(bench.seconds_to(MINUTE * 4), [180]);
}

#[test]
fn more_events_than_the_cap_are_counted_instead() {
    let mut bench = Bench::new(json!({"diskusage": [{"/.*": 0}, {"onchangeonly": true}]}));
    for disk in 0..100 {
        bench.system.mount(&format!("/{disk}"), "ext4", 50);
    }
    assert_eq!(bench.run_to(Duration::ZERO).len(), 60);
    let events = bench.run_to(MINUTE);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].1.path(), "diskusage/suppressed");
    assert_eq!(events[0].1.data, json!({"suppressed": 40}));
}

#[test]
fn equal_intervals_share_a_wake_up_and_idle_time_asks_nothing() {
    let config = json!({"load": [{"interval": 60}], "memusage": [{"interval": 30}]});
    let mut bench = Bench::new(config);
    bench.run_to(Duration::ZERO);
    assert_eq!(bench.schedule.poll_timeout(), Some(bench.start + MINUTE / 2));
    let asked = bench.system.asked.get();
    bench.schedule.handle_timeout(bench.start + SECOND * 29, &bench.system, usize::MAX);
    assert_eq!(bench.system.asked.get(), asked);
    bench.run_to(MINUTE);
    assert_eq!(bench.schedule.poll_timeout(), Some(bench.start + MINUTE * 3 / 2));
}

#[test]
fn looks_that_a_sleeping_device_missed_are_left_out() {
    let mut bench = Bench::new(json!({"load": [{"interval": 60}]}));
    bench.run_to(Duration::ZERO);
    bench.now = bench.start + MINUTE * 10 + SECOND * 5;
    assert_eq!(bench.seconds_to(MINUTE * 12), [605, 660, 720]);
}

#[test]
fn a_look_during_a_state_run_waits_for_its_end() {
    let config = json!({"load": [{"disable_during_state_run": true}], "memusage": []});
    let mut bench = Bench::new(config);
    bench.schedule.handle_state_run(true);
    assert!(bench.run_to(SECOND * 90).iter().all(|(_, event)| event.beacon == "memusage"));
    bench.schedule.handle_state_run(false);
    let load = bench.run_to(SECOND * 100).into_iter().filter(|(_, event)| event.beacon == "load");
    assert_eq!(load.map(|(second, _)| second).collect::<Vec<_>>(), [90]);
}

#[test]
fn a_beacon_that_runs_once_is_done() {
    let mut bench = Bench::new(json!({"load": [{"run_once": true}]}));
    assert_eq!(bench.seconds_to(MINUTE * 5), [0]);
    assert_eq!(bench.schedule.poll_timeout(), None);
}

#[test]
fn what_is_not_enabled_never_wakes() {
    for config in [
        json!(null),
        json!({}),
        json!({"load": [{"enabled": false}]}),
        json!({"load": [], "enabled": false}),
    ] {
        assert_eq!(Bench::new(config).schedule.poll_timeout(), None);
    }
}

#[test]
fn one_beacon_can_be_had_twice() {
    let config = json!({
        "load": [{"interval": 600}],
        "load_fast": [{"beacon_module": "load"}, {"interval": 30}],
    });
    let mut bench = Bench::new(config);
    let tags: Vec<_> = bench.run_to(SECOND * 30).iter().map(|(_, e)| e.path()).collect();
    let fast = "load_fast/";
    assert_eq!(tags, ["load/", fast, fast]);
}

#[test]
fn a_machine_that_does_not_answer_is_asked_again() {
    let mut bench = Bench::new(json!({"load": []}));
    bench.system.broken.set(true);
    assert!(bench.run_to(MINUTE).is_empty());
    bench.system.broken.set(false);
    assert_eq!(bench.seconds_to(MINUTE * 2), [120]);
}

#[test]
fn unknown_names_offer_the_nearest() {
    assert_eq!(refusal(json!({"lod": []})), "unknown beacon `lod`, did you mean `load`?");
    assert_eq!(
        refusal(json!({"ps": []})),
        "unknown beacon `ps`, known are `diskusage`, `journald`, `load`, `log`, `logfile`, `memusage`, `temperature`"
    );
    assert_eq!(
        refusal(json!({"load": [{"intervall": 5}]})),
        "beacon `load` has no option `intervall`, did you mean `interval`?"
    );
    assert_eq!(
        refusal(json!({"diskusage": [{"intervall": 5}]})),
        "beacon `diskusage` has no option `intervall`, did you mean `interval`?"
    );
    assert_eq!(
        refusal(json!({"memusage": [{"averages": {}}]})),
        "beacon `memusage` has no option `averages`, known are `beacon_module`, `percent`, \
         `onchangeonly`, `repeat`, `emitatstartup`, `interval`, `enabled`, \
         `disable_during_state_run`, `run_once`"
    );
}

#[test]
fn wrong_values_say_what_is_right() {
    assert_eq!(
        refusal(json!({"load": [{"interval": 0}]})),
        "option `interval` of beacon `load` must be a number of seconds, at least 1, but is `0`"
    );
    assert_eq!(
        refusal(json!({"memusage": [{"percent": "lots"}]})),
        "option `percent` of beacon `memusage` must be a percentage like `63%`, but is `\"lots\"`"
    );
    assert_eq!(
        refusal(json!({"load": [{"averages": {"1m": [2.0, 1.0]}}]})),
        "option `averages` of beacon `load` must be a map like `{1m: [0.0, 2.0]}` with `1m`, `5m` \
         or `15m`, low before high, but is `{\"1m\":[2.0,1.0]}`"
    );
    assert_eq!(
        refusal(json!({"load": [{"onchangeonly": "yes"}]})),
        "option `onchangeonly` of beacon `load` must be `True` or `False`, but is `\"yes\"`"
    );
}

#[test]
fn wrong_shapes_say_what_is_right() {
    assert_eq!(
        refusal(json!(["load"])),
        "`beacons` must be a map of beacons by name, but is a list"
    );
    assert_eq!(
        refusal(json!({"load": 60})),
        "the options of beacon `load` must be a list like `[{interval: 60}]`, but are a number"
    );
    assert_eq!(
        refusal(json!({"load": [{"interval": 60}, {"interval": 30}]})),
        "option `interval` of beacon `load` is given twice, remove one"
    );
    assert_eq!(
        refusal(json!({"a/b": []})),
        "`a/b` cannot name a beacon, use letters, digits, `_`, `-` and `.`"
    );
    assert_eq!(
        refusal(json!({"diskusage": [{"interval": 60}]})),
        "beacon `diskusage` does not say what to watch, add a mount point like `/: 90%`"
    );
    assert_eq!(
        refusal(json!({"load": [{"onchangeonly": true}, {"repeat": 60}]})),
        "beacon `load` has both `onchangeonly: True` and `repeat`, remove one"
    );
}

#[test]
fn an_expression_that_is_none_says_where() {
    let config = json!({"diskusage": [{"^/(?!home).*$": 90}]});
    let error = BeaconSchedule::from_config(&config, Instant::now()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`^/(?!home).*$` in beacon `diskusage` is not a regular expression"
    );
    assert!(error.source().unwrap().to_string().contains("look-around"));
}

#[test]
fn a_log_that_found_too_little_room_goes_on_when_there_is_some_and_looks_no_more_than_that() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = json!({"logfile": [{"files": file.path(), "from": "start"}, {"interval": 60}]});
    let mut bench = Bench::new(config);
    std::fs::write(file.path(), "a line\n".repeat(100)).unwrap();
    let told = |bench: &mut Bench| std::iter::from_fn(|| bench.schedule.poll_event()).count();
    bench.schedule.handle_timeout(bench.now, &bench.system, 0);
    assert_eq!(told(&mut bench), 0);
    let due = bench.schedule.poll_timeout();
    while bench.schedule.wants_room() {
        bench.schedule.handle_room(bench.now, &bench.system, 8 << 10);
    }
    assert_eq!(told(&mut bench), 100);
    assert_eq!(bench.schedule.poll_timeout(), due, "its interval is as it was");
}
