use super::*;
use crate::registry::LastAct;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn minion() -> MinionId {
    "rfid-1".parse().unwrap()
}

fn jid() -> JobId {
    JobId::next(at(10), None)
}

/// To retire ten seconds after the start, with a hundred seconds for the last act.
fn retirement(has_last_act: bool) -> Retirement {
    let act = LastAct { fun: "cmd.run".into(), arg: Vec::new(), kwarg: serde_json::Map::new() };
    Retirement { at: at(10), last_act: has_last_act.then_some(act), grace: 100, jid: None }
}

fn machine(retirement: Retirement) -> Retirements {
    let mut machine = Retirements::default();
    machine.handle_registry(vec![(minion(), retirement)]);
    machine
}

fn actions(machine: &mut Retirements, now: i64) -> Vec<Action> {
    machine.handle_timeout(at(now));
    std::iter::from_fn(|| machine.poll_action()).collect()
}

#[test]
fn a_device_without_a_last_act_ends_on_its_day() {
    let mut machine = machine(retirement(false));
    assert_eq!(machine.poll_timeout(), Some(at(10)));
    assert_eq!(actions(&mut machine, 9), []);
    assert_eq!(actions(&mut machine, 10), [Action::End(minion(), LastActEnd::None)]);
    assert_eq!(actions(&mut machine, 99), []);
}

#[test]
fn a_last_act_begins_on_the_day_and_ends_the_service_as_it_returns() {
    let mut machine = machine(retirement(true));
    assert_eq!(actions(&mut machine, 10), [Action::Begin(minion())]);
    assert!(machine.is_acting());
    machine.handle_begun(&minion(), jid());
    machine.handle_connected(&minion());
    assert_eq!(actions(&mut machine, 50), [Action::Deliver(minion())]);
    machine.handle_returned(&minion(), &JobId::next(at(11), None), true);
    assert_eq!(actions(&mut machine, 51), [], "another job");
    machine.handle_returned(&minion(), &jid(), false);
    assert_eq!(actions(&mut machine, 52), [Action::End(minion(), LastActEnd::Failed)]);
    assert_eq!(machine.poll_timeout(), None);
}

#[test]
fn who_does_not_come_for_its_last_act_ends_with_its_grace() {
    let mut machine = machine(retirement(true));
    assert_eq!(actions(&mut machine, 10), [Action::Begin(minion())]);
    machine.handle_begun(&minion(), jid());
    assert_eq!(machine.poll_timeout(), Some(at(110)));
    assert_eq!(actions(&mut machine, 110), [Action::End(minion(), LastActEnd::Missed)]);
}

#[test]
fn a_master_that_starts_again_goes_on_where_it_was() {
    let mut before = machine(Retirement { jid: Some(jid()), ..retirement(true) });
    assert_eq!(before.awaited().next(), Some((&minion(), &jid())));
    assert_eq!(actions(&mut before, 20), [], "it has begun already");
    let mut late = machine(retirement(true));
    assert_eq!(actions(&mut late, 500), [Action::End(minion(), LastActEnd::Missed)]);
}

#[test]
fn what_is_taken_back_does_not_happen() {
    let mut machine = machine(retirement(true));
    machine.handle_registry(Vec::new());
    assert_eq!(actions(&mut machine, 500), []);
    machine.handle_registry(vec![(minion(), Retirement { at: at(900), ..retirement(true) })]);
    assert_eq!(machine.poll_timeout(), Some(at(900)));
}

#[test]
fn a_look_at_the_registry_does_not_begin_a_last_act_twice() {
    let mut machine = machine(retirement(true));
    assert_eq!(actions(&mut machine, 10), [Action::Begin(minion())]);
    machine.handle_registry(vec![(minion(), retirement(true))]);
    assert_eq!(actions(&mut machine, 11), []);
}
