use super::*;

const GRACE: Duration = Duration::from_secs(300);

/// A presence machine in virtual time: seconds since its start.
struct Virtual {
    presence: Presence,
    start: Instant,
}

impl Virtual {
    fn new(entries: &[(&str, PresenceState)], alive: Option<u64>) -> Self {
        let start = Now::read().instant;
        let entries = entries.iter().map(|(minion, presence)| {
            let entry = PresenceEntry { presence: *presence, since: wall(0), last_seen: wall(0) };
            (id(minion), entry)
        });
        Self { presence: Presence::restore(GRACE, entries, alive.map(wall), start), start }
    }

    fn sign(&mut self, minion: &str, sign: Sign, second: u64) {
        self.run(second);
        let now = self.start + Duration::from_secs(second);
        self.presence.handle_sign(&SignOf { minion: id(minion), sign, at: wall(second) }, now);
    }

    /// Lets time pass as the task does: every timer at its moment.
    fn run(&mut self, second: u64) {
        let until = self.start + Duration::from_secs(second);
        while let Some(due) = self.presence.poll_timeout().filter(|due| *due <= until) {
            let wall = wall((due - self.start).as_secs());
            self.presence.handle_timeout(Now { instant: due, wall });
        }
    }

    /// The tags of what was told since the last call.
    fn told(&mut self) -> Vec<String> {
        let changes = std::iter::from_fn(|| self.presence.poll_event());
        changes.filter_map(|change| change.event()).map(|event| event.tag.to_string()).collect()
    }

    fn entry(&self, minion: &str) -> PresenceEntry {
        self.presence.entry(&id(minion)).unwrap()
    }
}

fn id(text: &str) -> MinionId {
    text.parse().unwrap()
}

fn wall(second: u64) -> Timestamp {
    Timestamp::from_second(1_763_865_425 + i64::try_from(second).unwrap()).unwrap()
}

#[test]
fn a_minion_that_goes_is_stale_then_lost_then_back() {
    let mut fleet = Virtual::new(&[], None);
    fleet.sign("a", Sign::Connected, 0);
    assert!(fleet.told().is_empty(), "the hub tells the start");
    fleet.sign("a", Sign::Disconnected, 10);
    assert_eq!(fleet.told(), ["drover/presence/a/stale"]);
    fleet.run(309);
    assert_eq!(fleet.entry("a").presence, PresenceState::Stale);
    fleet.run(310);
    assert_eq!(fleet.told(), ["drover/presence/a/lost"]);
    fleet.run(100_000);
    assert!(fleet.told().is_empty(), "lost is told once");
    fleet.sign("a", Sign::Connected, 100_001);
    let back = fleet.presence.poll_event().unwrap().event().unwrap();
    assert_eq!(back.tag.as_str(), "drover/presence/a/back");
    assert_eq!(back.data["from"], "lost");
    assert_eq!(back.data["away"], 99_991);
    assert_eq!(fleet.entry("a").since, wall(100_001));
}

#[test]
fn one_that_returns_within_the_grace_is_not_lost_later() {
    let mut fleet = Virtual::new(&[], None);
    fleet.sign("a", Sign::Connected, 0);
    fleet.sign("a", Sign::Disconnected, 10);
    fleet.sign("a", Sign::Connected, 11);
    assert_eq!(fleet.told(), ["drover/presence/a/stale", "drover/presence/a/back"]);
    fleet.run(10_000);
    assert!(fleet.told().is_empty());
}

#[test]
fn a_hanging_minion_is_connected_again_by_its_next_heartbeat() {
    let mut fleet = Virtual::new(&[], None);
    fleet.sign("a", Sign::Connected, 0);
    fleet.sign("a", Sign::Stale, 90);
    assert_eq!(fleet.told(), ["drover/presence/a/stale"]);
    fleet.sign("a", Sign::Heard, 100);
    assert_eq!(fleet.told(), ["drover/presence/a/back"]);
    assert_eq!(fleet.entry("a").presence, PresenceState::Connected);
}

#[test]
fn a_silent_minion_whose_connection_ends_is_told_once() {
    let mut fleet = Virtual::new(&[], None);
    fleet.sign("a", Sign::Connected, 0);
    fleet.sign("a", Sign::Stale, 90);
    fleet.sign("a", Sign::Disconnected, 120);
    assert_eq!(fleet.told(), ["drover/presence/a/stale"]);
    fleet.run(390);
    assert_eq!(fleet.told(), ["drover/presence/a/lost"], "the grace began with the silence");
}

#[test]
fn a_newer_connection_in_the_place_of_an_older_one_is_no_change() {
    let mut fleet = Virtual::new(&[], None);
    fleet.sign("a", Sign::Connected, 0);
    fleet.sign("a", Sign::Connected, 5);
    assert!(fleet.told().is_empty());
    assert_eq!(fleet.entry("a").since, wall(0));
}

#[test]
fn minions_that_return_after_a_restart_are_not_told() {
    let connected = PresenceState::Connected;
    let mut fleet = Virtual::new(&[("a", connected), ("b", connected)], Some(50));
    assert_eq!(fleet.entry("a").presence, PresenceState::Stale, "it has no connection yet");
    fleet.sign("a", Sign::Connected, 60);
    assert!(fleet.presence.poll_event().is_none(), "nothing to tell, nothing to write");
    assert_eq!(fleet.entry("a").since, wall(0), "as far as anybody was told it never was away");
    fleet.run(10_000);
    assert_eq!(fleet.told(), ["drover/presence/b/lost"]);
    assert_eq!(
        fleet.entry("b").last_seen,
        wall(50),
        "when the master before was last known to run"
    );
    assert_eq!(fleet.entry("b").since, wall(300));
}

#[test]
fn who_was_away_before_a_restart_is_told_as_before() {
    let mut fleet = Virtual::new(&[("a", PresenceState::Stale), ("b", PresenceState::Lost)], None);
    fleet.run(299);
    assert!(fleet.told().is_empty(), "the grace begins again with the master");
    fleet.run(300);
    assert_eq!(fleet.told(), ["drover/presence/a/lost"]);
    fleet.sign("b", Sign::Connected, 301);
    assert_eq!(fleet.told(), ["drover/presence/b/back"]);
}

#[test]
fn the_masters_own_end_is_nobodys_absence() {
    let mut fleet = Virtual::new(&[], None);
    fleet.sign("a", Sign::Connected, 0);
    fleet.presence.handle_end();
    fleet.sign("a", Sign::Disconnected, 10);
    assert!(fleet.told().is_empty());
    assert_eq!(fleet.entry("a").presence, PresenceState::Connected);
}

#[test]
fn a_deleted_minion_is_forgotten() {
    let mut fleet = Virtual::new(&[], None);
    fleet.sign("a", Sign::Connected, 0);
    fleet.sign("a", Sign::Disconnected, 1);
    fleet.presence.handle_deleted(&id("a"));
    assert!(fleet.presence.poll_timeout().is_none());
    assert!(fleet.presence.entry(&id("a")).is_none());
    fleet.sign("a", Sign::Disconnected, 2);
    assert!(fleet.presence.entry(&id("a")).is_none());
}

#[test]
fn a_fleet_that_is_there_has_no_timers() {
    let mut fleet = Virtual::new(&[], None);
    for number in 0..5_000 {
        fleet.sign(&format!("m{number}"), Sign::Connected, 0);
    }
    assert_eq!(fleet.presence.poll_timeout(), None);
}
