//! Whether a container that was just started stays up: the gate before the one that it replaces is
//! removed. Decides from inspections; the time is an argument.

use std::time::{Duration, Instant};

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, Health, HealthStatusEnum,
};

/// How long a container without a health check must stay up when the state does not say (`settle`).
pub(super) const DEFAULT: Duration = Duration::from_secs(3);
/// How often a container is looked at meanwhile.
const INTERVAL: Duration = Duration::from_millis(200);
/// The engine's own defaults for a health check that names no interval, timeout or retries.
const PROBE: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
/// No health check is waited for longer than this.
const AT_LONGEST: Duration = Duration::from_secs(600);

/// What is to be done after a look at the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again at this time.
    LookAgain(Instant),
    /// It is up, and healthy where it has a health check.
    Up,
    /// It does not come up, for this reason.
    Down(String),
}

/// The watch over one container from its start until it is known to be up or down.
#[derive(Debug)]
pub(super) struct Settling {
    since: Instant,
    settle: Duration,
    /// When it was started, by the engine's clock, to notice another start.
    started_at: Option<String>,
}

impl Settling {
    pub(super) fn new(settle: Duration, now: Instant) -> Self {
        Self { since: now, settle, started_at: None }
    }

    /// Takes one look at the container; `None` when it has disappeared.
    pub(super) fn handle_inspection(
        &mut self,
        container: Option<&ContainerInspectResponse>,
        now: Instant,
    ) -> Verdict {
        let Some((container, state)) = container.and_then(|c| Some((c, c.state.as_ref()?))) else {
            return Verdict::Down("it has disappeared".to_owned());
        };
        let restarted = container.restart_count.unwrap_or(0) > 0
            || state.restarting == Some(true)
            || (self.started_at.is_some() && self.started_at != state.started_at);
        if restarted {
            return Verdict::Down(format!("it keeps restarting ({})", exit(state)));
        }
        if state.running != Some(true) {
            return match state.status {
                Some(ContainerStateStatusEnum::CREATED) if now < self.since + self.settle => {
                    Verdict::LookAgain(now + INTERVAL)
                }
                _ => Verdict::Down(exit(state)),
            };
        }
        self.started_at.clone_from(&state.started_at);
        match state.health.as_ref().map(|health| (health, health.status)) {
            Some((_, Some(HealthStatusEnum::HEALTHY))) => Verdict::Up,
            Some((health, Some(HealthStatusEnum::UNHEALTHY))) => {
                Verdict::Down(format!("it turned unhealthy{}", last_probe(health)))
            }
            Some((health, Some(HealthStatusEnum::STARTING))) => {
                let bound = health_bound(container);
                if now >= self.since + bound {
                    let seconds = bound.as_secs();
                    return Verdict::Down(format!(
                        "it was not healthy after {seconds} s{}",
                        last_probe(health)
                    ));
                }
                Verdict::LookAgain(now + INTERVAL)
            }
            None | Some((_, None | Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY))) => {
                let until = self.since + self.settle;
                if now >= until {
                    return Verdict::Up;
                }
                Verdict::LookAgain(until.min(now + INTERVAL))
            }
        }
    }
}

/// The time by which the engine itself must have made up its mind about a container's health.
fn health_bound(container: &ContainerInspectResponse) -> Duration {
    let check = container.config.as_ref().and_then(|config| config.healthcheck.as_ref());
    let nanoseconds = |value: Option<i64>| {
        value.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).map(Duration::from_nanos)
    };
    let interval = nanoseconds(check.and_then(|check| check.interval)).unwrap_or(PROBE);
    let timeout = nanoseconds(check.and_then(|check| check.timeout)).unwrap_or(PROBE);
    let start = nanoseconds(check.and_then(|check| check.start_period)).unwrap_or_default();
    let retries = check.and_then(|check| check.retries).and_then(|n| u32::try_from(n).ok());
    let probes = retries.filter(|n| *n > 0).unwrap_or(RETRIES) + 1;
    start.saturating_add((interval.saturating_add(timeout)).saturating_mul(probes)).min(AT_LONGEST)
}

fn exit(state: &ContainerState) -> String {
    let status = state.exit_code.unwrap_or(0);
    match state.error.as_deref().filter(|error| !error.is_empty()) {
        Some(error) => format!("it ended: {error}"),
        None if state.oom_killed == Some(true) => "it was killed for lack of memory".to_owned(),
        None => format!("it ended with status {status}"),
    }
}

fn last_probe(health: &Health) -> String {
    let output = health.log.iter().flatten().last().and_then(|probe| probe.output.as_deref());
    match output.map(str::trim).filter(|output| !output.is_empty()) {
        Some(output) => format!(" (the last probe said: {output})"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn inspection(value: Value) -> ContainerInspectResponse {
        serde_json::from_value(value).unwrap()
    }

    fn running() -> ContainerInspectResponse {
        inspection(json!({"State": {"Status": "running", "Running": true, "StartedAt": "t1"}}))
    }

    fn settling(now: Instant) -> Settling {
        Settling::new(Duration::from_secs(3), now)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do as the origin of virtual time"
    )]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn container_that_stays_up_for_the_settle_time_is_up() {
        let mut now = origin();
        let mut settling = settling(now);
        let end = now + Duration::from_secs(3);
        loop {
            match settling.handle_inspection(Some(&running()), now) {
                Verdict::LookAgain(at) => {
                    assert!(now < at && at <= end);
                    now = at;
                }
                Verdict::Up => break,
                Verdict::Down(reason) => panic!("{reason}"),
            }
        }
        assert_eq!(now, end);
    }

    #[test]
    fn container_that_ends_is_down_with_its_status() {
        let now = origin();
        let ended =
            inspection(json!({"State": {"Status": "exited", "Running": false, "ExitCode": 3}}));
        let verdict = settling(now).handle_inspection(Some(&ended), now);
        assert_eq!(verdict, Verdict::Down("it ended with status 3".to_owned()));
    }

    #[test]
    fn container_that_was_started_again_is_down_though_it_runs() {
        let now = origin();
        let mut settling = settling(now);
        settling.handle_inspection(Some(&running()), now);
        let again = inspection(
            json!({"State": {"Status": "running", "Running": true, "StartedAt": "t2", "ExitCode": 1}}),
        );
        let verdict = settling.handle_inspection(Some(&again), now);
        assert_eq!(
            verdict,
            Verdict::Down("it keeps restarting (it ended with status 1)".to_owned())
        );
    }

    #[test]
    fn healthy_container_is_up_at_once_and_unhealthy_one_down() {
        let now = origin();
        let with_health = |status: &str| {
            inspection(json!({"State": {"Status": "running", "Running": true,
                "Health": {"Status": status, "Log": [{"Output": "refused\n"}]}}}))
        };
        assert_eq!(
            settling(now).handle_inspection(Some(&with_health("healthy")), now),
            Verdict::Up
        );
        assert_eq!(
            settling(now).handle_inspection(Some(&with_health("unhealthy")), now),
            Verdict::Down("it turned unhealthy (the last probe said: refused)".to_owned())
        );
    }

    #[test]
    fn health_is_waited_for_as_long_as_the_check_may_take_and_no_longer() {
        let now = origin();
        let starting = inspection(json!({
            "Config": {"Healthcheck": {"Interval": 1_000_000_000, "Timeout": 1_000_000_000, "Retries": 1}},
            "State": {"Status": "running", "Running": true, "Health": {"Status": "starting"}}}));
        let mut settling = settling(now);
        let mut look = |seconds| {
            settling.handle_inspection(Some(&starting), now + Duration::from_secs(seconds))
        };
        assert!(matches!(look(3), Verdict::LookAgain(_)));
        assert_eq!(look(4), Verdict::Down("it was not healthy after 4 s".to_owned()));
    }

    #[test]
    fn container_that_disappears_is_down() {
        let now = origin();
        let verdict = settling(now).handle_inspection(None, now);
        assert_eq!(verdict, Verdict::Down("it has disappeared".to_owned()));
    }
}
