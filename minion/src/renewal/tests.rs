use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A device and a master's clock, both in virtual time.
struct Scene {
    renewal: Renewal,
    begin: Instant,
    now: Instant,
}

impl Scene {
    fn new(term: Option<Term>, seed: u64) -> Self {
        let begin = start();
        Self { renewal: Renewal::new(term, seed), begin, now: begin }
    }

    /// The time: the scene begins at `wall(0)`.
    fn wall(&self) -> Timestamp {
        wall(Duration::ZERO) + (self.now - self.begin)
    }

    fn connect(&mut self, scope: Scope) {
        let (wall, retires) = (self.wall(), self.renewal.retires());
        self.renewal.handle_connected(scope, retires, wall, self.now);
    }

    /// Goes on to the next request, if there is one within `bound`: its number, and after how long.
    fn next_request(&mut self, bound: Duration) -> Option<(u64, Duration)> {
        let begin = self.now;
        loop {
            self.renewal.handle_timeout(self.now);
            if let Some(request) = self.renewal.poll_transmit(self.now) {
                return Some((request, self.now - begin));
            }
            let next = self.renewal.poll_timeout()?;
            if next > begin + bound {
                return None;
            }
            self.now = next;
        }
    }

    fn issue(&mut self, life: Duration) {
        let term = Term { issued: self.wall(), expires: self.wall() + life };
        self.renewal.handle_certificate(term, self.now);
    }
}

#[expect(clippy::disallowed_methods, reason = "virtual time begins at some instant")]
fn start() -> Instant {
    Instant::now()
}

fn wall(after: Duration) -> Timestamp {
    "2026-11-23T02:37:05Z".parse::<Timestamp>().unwrap() + after
}

fn term(life: Duration) -> Term {
    Term { issued: wall(Duration::ZERO), expires: wall(life) }
}

fn share(part: Duration, whole: Duration) -> f64 {
    part.as_secs_f64() / whole.as_secs_f64()
}

#[test]
fn a_certificate_is_renewed_at_about_two_thirds_of_its_life_each_device_at_its_own_moment() {
    for life in [30 * DAY, Duration::from_secs(20)] {
        let mut shares = Vec::new();
        for seed in 0..200 {
            let mut scene = Scene::new(Some(term(life)), seed);
            scene.connect(Scope::Full);
            let (_, after) = scene.next_request(life).unwrap();
            shares.push(share(after, life));
        }
        assert!(shares.iter().all(|share| (0.59..0.74).contains(share)), "{shares:?}");
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!((0.65..0.68).contains(&mean), "{mean}");
        shares.sort_by(f64::total_cmp);
        shares.dedup();
        assert!(shares.len() > 190, "they do not come at once");
    }
}

#[test]
fn the_moment_is_kept_over_reconnects_and_what_passed_while_away_counts() {
    let mut scene = Scene::new(Some(term(30 * DAY)), 1);
    scene.connect(Scope::Full);
    let due = scene.renewal.poll_timeout().unwrap();
    for _ in 0..100 {
        scene.now += Duration::from_secs(3_600);
        scene.renewal.handle_disconnected(scene.now);
        assert_eq!(scene.renewal.poll_timeout(), None, "nobody to ask");
        scene.connect(Scope::Full);
        assert_eq!(scene.renewal.poll_timeout(), Some(due));
    }
    scene.now += 29 * DAY;
    scene.connect(Scope::Full);
    assert!(scene.renewal.poll_transmit(scene.now).is_some(), "long due");
}

#[test]
fn a_session_for_renewal_asks_at_once_and_a_birth_certificate_that_suffices_never() {
    let mut scene = Scene::new(None, 1);
    scene.connect(Scope::Full);
    assert_eq!(scene.next_request(400 * DAY), None);
    scene.renewal.handle_renew(MINUTE, scene.now);
    assert_eq!(scene.next_request(400 * DAY), None, "there is nothing to renew");
    scene.connect(Scope::Renewal);
    assert!(scene.renewal.poll_transmit(scene.now).is_some());
    scene.issue(30 * DAY);
    assert_eq!(scene.next_request(DAY), None, "one is enough for one session");
}

#[test]
fn there_is_one_request_at_a_time_and_a_late_answer_is_nobodys() {
    let mut scene = Scene::new(None, 1);
    scene.connect(Scope::Renewal);
    let first = scene.renewal.poll_transmit(scene.now).unwrap();
    assert!(first >= NUMBERS);
    assert_eq!(scene.renewal.poll_transmit(scene.now), None);
    scene.renewal.handle_renew(Duration::ZERO, scene.now);
    assert_eq!(scene.renewal.poll_transmit(scene.now), None);
    let (second, after) = scene.next_request(DAY).unwrap();
    assert!(after > PATIENCE && second != first, "{after:?}");
    assert!(!scene.renewal.is_open(first) && scene.renewal.is_open(second));
    scene.renewal.handle_failure(first, scene.now);
    assert!(scene.renewal.is_open(second), "the first one's failure came too late");
}

#[test]
fn waits_after_failures_grow_from_a_minute_to_an_hour_and_shrink_with_the_validity() {
    let hour = 60 * MINUTE;
    let second = Duration::from_secs(1);
    for (life, first, most) in [
        (30 * DAY, MINUTE, hour),
        (20 * second, second / 2, 2 * second),
        (hour, MINUTE, 6 * MINUTE),
    ] {
        let mut scene = Scene::new(Some(term(life)), 3);
        scene.connect(Scope::Full);
        let (mut request, _) = scene.next_request(life).unwrap();
        for attempt in 0..20 {
            scene.renewal.handle_failure(request, scene.now);
            let (next, after) = scene.next_request(2 * hour).unwrap();
            let wait = first.saturating_mul(1 << attempt).min(most);
            assert!(after >= wait / 2 && after <= wait, "{life:?}, attempt {attempt}: {after:?}");
            request = next;
        }
    }
}

#[test]
fn a_device_that_can_do_nothing_else_tries_again_within_a_minute_also_over_reconnects() {
    let mut scene = Scene::new(Some(term(30 * DAY)), 3);
    let mut attempts = 0;
    let end = scene.now + 60 * MINUTE;
    while scene.now < end {
        scene.connect(Scope::Renewal);
        let (request, after) = scene.next_request(DAY).unwrap();
        assert!(after <= MINUTE);
        attempts += 1;
        if attempts % 2 == 0 {
            scene.renewal.handle_failure(request, scene.now);
        }
        scene.renewal.handle_disconnected(scene.now);
    }
    assert!((60..150).contains(&attempts), "{attempts} in an hour");
}

#[test]
fn a_certificate_that_leads_back_to_its_renewal_does_not_become_a_loop() {
    let mut scene = Scene::new(None, 5);
    let mut issued = 0;
    let end = scene.now + 60 * MINUTE;
    while scene.now < end {
        // Shown, refused, and back with the birth certificate.
        scene.connect(Scope::Renewal);
        scene.next_request(DAY).unwrap();
        scene.issue(30 * DAY);
        scene.renewal.handle_disconnected(scene.now);
        issued += 1;
    }
    assert!((8..20).contains(&issued), "{issued} certificates in an hour");
    // Once is an accident, and costs no wait.
    scene.connect(Scope::Full);
    scene.issue(30 * DAY);
    scene.connect(Scope::Renewal);
    assert!(scene.renewal.poll_transmit(scene.now).is_some());
}

#[test]
fn a_master_that_asks_on_and_on_gets_a_few_requests_a_day() {
    let mut scene = Scene::new(Some(term(30 * DAY)), 4);
    scene.connect(Scope::Full);
    let (mut requests, end) = (0, scene.now + 10 * DAY);
    while scene.now < end {
        scene.renewal.handle_renew(Duration::ZERO, scene.now);
        if scene.next_request(MINUTE).is_some() {
            requests += 1;
            scene.issue(30 * DAY);
            scene.renewal.handle_disconnected(scene.now);
            scene.connect(Scope::Full);
        }
        scene.now += MINUTE;
    }
    assert!((10..=24).contains(&requests), "{requests} in ten days");
}

#[test]
fn a_master_that_issues_what_has_expired_already_gets_a_few_requests_a_day() {
    let mut scene = Scene::new(None, 4);
    scene.connect(Scope::Renewal);
    let (mut requests, end) = (0, scene.now + 10 * DAY);
    while scene.now < end {
        scene.next_request(2 * DAY).unwrap();
        requests += 1;
        let expires = scene.wall() - 60 * DAY;
        let over = Term { issued: expires - 30 * DAY, expires };
        scene.renewal.handle_certificate(over, scene.now);
        scene.connect(Scope::Full);
    }
    assert!((10..=24).contains(&requests), "{requests} in ten days");
}

#[test]
fn a_master_that_asks_is_obeyed_within_its_time_and_once() {
    let mut moments = Vec::new();
    for seed in 0..100 {
        let mut scene = Scene::new(Some(term(30 * DAY)), seed);
        scene.connect(Scope::Full);
        scene.renewal.handle_renew(DAY, scene.now);
        // It holds over a reconnect.
        scene.renewal.handle_disconnected(scene.now);
        scene.connect(Scope::Full);
        let (_, after) = scene.next_request(DAY).unwrap();
        moments.push(share(after, DAY));
        scene.issue(30 * DAY);
        scene.connect(Scope::Full);
        assert_eq!(scene.next_request(17 * DAY), None);
    }
    let mean = moments.iter().sum::<f64>() / moments.len() as f64;
    assert!((0.4..0.6).contains(&mean), "{mean}");
}

#[test]
fn nothing_is_renewed_past_the_devices_end_and_a_day_that_is_taken_back_is_forgotten() {
    let mut scene = Scene::new(Some(term(30 * DAY)), 1);
    scene.renewal.handle_retirement(Some(wall(10 * DAY)));
    scene.connect(Scope::Full);
    assert_eq!(scene.next_request(400 * DAY), None);
    scene.renewal.handle_retirement(Some(wall(25 * DAY)));
    assert!(scene.next_request(30 * DAY).is_some(), "before its end it is renewed");
    scene.now = scene.begin + 26 * DAY;
    scene.connect(Scope::Renewal);
    assert_eq!(scene.next_request(DAY), None, "it has ended");
    scene.renewal.handle_retirement(None);
    assert!(scene.next_request(DAY).is_some());
}

#[test]
fn a_clock_that_was_put_right_by_years_renews_when_it_should() {
    // The certificate was issued later than this device thinks that it is.
    let later = Term { issued: wall(DAY), expires: wall(31 * DAY) };
    let mut scene = Scene::new(Some(later), 1);
    scene.connect(Scope::Full);
    let (_, after) = scene.next_request(31 * DAY).unwrap();
    assert!((0.59..0.74).contains(&share(after - DAY, 30 * DAY)));
    // And one that it should have renewed a year ago.
    scene.now = scene.begin + 400 * DAY;
    scene.renewal.handle_disconnected(scene.now);
    scene.connect(Scope::Full);
    scene.now += 60 * MINUTE;
    assert!(scene.renewal.poll_transmit(scene.now).is_some());
}

#[test]
fn ten_years_of_renewals_never_let_a_certificate_expire() {
    let mut scene = Scene::new(None, 9);
    scene.connect(Scope::Renewal);
    let mut renewals = 0;
    let mut expires = None;
    while scene.now < scene.begin + 3_653 * DAY {
        let (request, _) = scene.next_request(31 * DAY).unwrap();
        assert!(expires.is_none_or(|expires| scene.wall() < expires));
        renewals += 1;
        if renewals % 3 == 0 {
            scene.renewal.handle_failure(request, scene.now);
            continue;
        }
        scene.issue(30 * DAY);
        expires = Some(scene.wall() + 30 * DAY);
        scene.renewal.handle_disconnected(scene.now);
        scene.connect(Scope::Full);
    }
    // 183 of them, and each failure in between.
    assert!((250..300).contains(&renewals), "{renewals}");
}
