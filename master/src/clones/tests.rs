use uuid::Uuid;

use super::*;

struct Site {
    clones: Clones,
    now: Instant,
    number: u64,
}

impl Site {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary moment to count from")]
    fn new(policy: ClonePolicy) -> Self {
        Self { clones: Clones::new(policy), now: Instant::now(), number: 0 }
    }

    /// The machine connects: whether it is welcomed, and what is found out.
    fn connects(&mut self, name: u8) -> (bool, Option<TwoMachines>) {
        self.number += 1;
        self.now += Duration::from_secs(1);
        let (verdict, found) =
            self.clones.handle_hello(&minion(), self.number, machine(name), self.now);
        (verdict == Verdict::Welcome, found)
    }

    fn leaves(&mut self, number: u64) {
        self.clones.handle_closed(&minion(), number);
    }
}

fn minion() -> MinionId {
    "rfid-1".parse().unwrap()
}

fn boot(name: u8) -> BootId {
    BootId::new(Uuid::from_bytes([name; 16]))
}

fn machine(name: u8) -> Machine {
    let address = IpAddr::from([10, 0, 0, name]);
    Machine::new(boot(name), address, &Fingerprint::of(&[name]), Timestamp::UNIX_EPOCH)
}

#[test]
fn an_agent_that_restarts_is_one_machine() {
    let mut site = Site::new(ClonePolicy::First);
    for name in [1, 1, 2, 2, 3, 4, 5, 6, 7] {
        assert_eq!(site.connects(name), (true, None), "{name}");
    }
}

#[test]
fn who_makes_up_runs_without_end_is_told_of_a_few_times() {
    let mut site = Site::new(ClonePolicy::First);
    let mut told = 0;
    for name in 2..100 {
        for name in [1, name] {
            let (_, found) = site.connects(name);
            told += usize::from(found.is_some_and(|found| found.is_news));
            site.leaves(site.number);
        }
    }
    assert_eq!(told, MOST_TOLD);
}

#[test]
fn a_second_machine_does_not_push_out_the_first_by_beginning_again() {
    let mut site = Site::new(ClonePolicy::First);
    assert!(site.connects(1).0 && site.connects(2).0);
    assert!(site.connects(1).1.is_some());
    for name in 3..9 {
        assert_eq!(site.connects(name), (false, None), "the first is there");
    }
    site.leaves(3);
    assert_eq!(site.connects(9), (true, None), "the first has gone");
    site.now += QUIET;
    assert_eq!(site.connects(10), (true, None), "an agent that starts anew");
}

#[test]
fn a_superseded_certificate_is_told_of_once_also_where_its_device_is_away() {
    let mut site = Site::new(ClonePolicy::First);
    let mut told = 0;
    for _ in 0..10 {
        let found = site.clones.handle_superseded(&minion(), machine(1), machine(2), site.now);
        told += usize::from(found.is_some());
    }
    assert_eq!(told, 1);
}

#[test]
fn a_run_that_comes_back_is_a_second_machine_and_the_first_stays() {
    let mut site = Site::new(ClonePolicy::First);
    assert!(site.connects(1).0 && site.connects(2).0);
    let (is_welcome, found) = site.connects(1);
    let found = found.unwrap();
    assert!(is_welcome && found.is_news && !found.rejects);
    assert_eq!(found.machines, [machine(1), machine(2)]);
    assert_eq!((found.sign, found.cut, found.kept), (Sign::TwoBoots, vec![1], Some(0)));
    assert_eq!(site.connects(2), (false, None), "while the first is there");
    assert!(site.clones.refuses(&minion(), boot(2)));
    site.leaves(3);
    assert_eq!(site.connects(2), (true, None), "the first has gone");
    let (is_welcome, found) = site.connects(1);
    assert!(is_welcome && !found.unwrap().is_news, "the same two, within the hour");
    site.now += QUIET;
    site.leaves(6);
    assert!(site.connects(2).0);
    assert!(site.connects(1).1.unwrap().is_news);
}

#[test]
fn the_last_one_stays_where_the_policy_says_so() {
    let mut site = Site::new(ClonePolicy::Last);
    assert!(site.connects(1).0 && site.connects(2).0);
    let (is_welcome, found) = site.connects(1);
    let found = found.unwrap();
    assert_eq!((is_welcome, found.cut, found.kept), (false, vec![0], Some(1)));
    assert_eq!(site.connects(1), (false, None));
    assert_eq!(site.connects(2), (true, None), "it comes back as it was");
    site.leaves(5);
    assert_eq!(site.connects(1), (true, None));
}

#[test]
fn both_are_cut_and_the_id_waits_for_an_operator() {
    let mut site = Site::new(ClonePolicy::Both);
    assert!(site.connects(1).0 && site.connects(2).0);
    let (is_welcome, found) = site.connects(1);
    let found = found.unwrap();
    assert!(!is_welcome && found.rejects);
    assert_eq!((found.cut, found.kept), (vec![0, 1], None));
    assert_eq!(site.connects(1), (true, None), "accepted again, it begins anew");
}

#[test]
fn a_connection_that_began_before_proves_nothing() {
    let mut site = Site::new(ClonePolicy::First);
    assert!(site.connects(1).0);
    site.number = 10;
    assert!(site.connects(2).0);
    let (verdict, found) = site.clones.handle_hello(&minion(), 5, machine(1), site.now);
    assert_eq!((verdict, found), (Verdict::Refuse, None));
    assert_eq!(site.connects(2), (true, None));
}

#[test]
fn a_third_machine_is_found_as_well() {
    let mut site = Site::new(ClonePolicy::First);
    assert!(site.connects(1).0 && site.connects(2).0 && site.connects(3).0);
    let (_, found) = site.connects(1);
    assert_eq!(found.unwrap().machines, [machine(1), machine(3)]);
    assert!(site.connects(2).1.is_some());
}

#[test]
fn a_superseded_certificate_is_told_once_an_hour() {
    let mut site = Site::new(ClonePolicy::First);
    assert!(site.connects(1).0);
    let shown = || Machine { boot: None, ..machine(2) };
    let other = || Machine { boot: None, ..machine(1) };
    let found = site.clones.handle_superseded(&minion(), shown(), other(), site.now).unwrap();
    assert_eq!(found.sign, Sign::SupersededCertificate);
    assert_eq!(found.machines, [shown(), machine(1)]);
    assert_eq!((found.cut, found.kept), (vec![0], Some(1)));
    assert_eq!(site.clones.handle_superseded(&minion(), shown(), other(), site.now), None);
    site.now += QUIET;
    assert!(site.clones.handle_superseded(&minion(), shown(), other(), site.now).is_some());
}

#[test]
fn most_minions_cost_a_few_dozen_bytes() {
    assert!(size_of::<Seen>() <= 48, "{}", size_of::<Seen>());
}
