use clap::CommandFactory as _;
use drover_proto::job::TargetType;
use insta::assert_snapshot;

use super::*;
use crate::cli::failure::Failure;

fn read(line: &str) -> Result<Invocation, Failure> {
    let words = std::iter::once("drover").chain(line.split_whitespace());
    parse(words.map(Into::into))
}

fn call(line: &str) -> Call {
    match read(line).unwrap() {
        Invocation::Call(_, call) => *call,
        Invocation::Verb(_, verb) => panic!("{line}: {verb:?}"),
    }
}

fn verb(line: &str) -> Verb {
    match read(line).unwrap() {
        Invocation::Verb(_, verb) => verb,
        Invocation::Call(_, call) => panic!("{line}: {call:?}"),
    }
}

fn refusal(line: &str) -> String {
    match read(line).unwrap_err() {
        Failure::Told(told) => told.to_string(),
        Failure::Usage(error) => error.to_string(),
        Failure::OutputClosed => String::new(),
    }
}

#[test]
fn the_grammar_is_sound() {
    Everything::command().debug_assert();
    OnlyCall::command().debug_assert();
}

#[test]
fn functions_are_called_as_salt_calls_them() {
    let ping = call("* test.ping");
    assert_eq!((ping.target.as_deref(), ping.function.as_deref()), (Some("*"), Some("test.ping")));
    let apply = call("-G role:rfid state.apply rfid test=True");
    assert_eq!(apply.matcher.kind(), TargetType::Grain);
    assert_eq!(apply.arguments, ["rfid", "test=True"]);
    let later = call("rfid-1 state.apply app --pending --ttl 1s");
    assert!(later.pending);
    assert_eq!(later.ttl, Some(Duration::from_secs(1)));
    assert_eq!(call("--out json --timeout 1 rfid-1 test.sleep 3").timeout, Duration::from_secs(1));
    assert_eq!(call("-b 25% * test.ping").batch, Some(Batch::Percent(25.0)));
    assert_eq!(call("rfid-1 test.echo -- -x").arguments, ["-x"]);
    assert_eq!(call("rfid-1 test.echo -1").arguments, ["-1"]);
    assert_eq!(call("-C web-* test.ping").matcher.kind(), TargetType::Compound);
}

#[test]
fn a_minion_whose_id_is_a_verb_is_reached_by_a_list() {
    assert!(matches!(verb("key list"), Verb::Key { verb: KeyVerb::List(_) }));
    assert_eq!(call("-L key test.ping").target.as_deref(), Some("key"));
    assert_eq!(call("-Lt 3 key test.ping").function.as_deref(), Some("test.ping"));
    assert!(matches!(verb("--out json -c dir minions -G role:rfid"), Verb::Minions { .. }));
    assert!(matches!(verb("events --tag a --tag b --follow"), Verb::Events { verb: None, .. }));
    assert!(matches!(verb("events send a/b c=1"), Verb::Events { verb: Some(_), .. }));
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    assert_snapshot!(refusal("minion"), @"
    error: `minion` is no command, and as a target it lacks a function
    hint: did you mean `drover minions`? to ask the minion: `drover minion test.ping`
    ");
    assert_snapshot!(refusal("web-1"), @"
    error: `web-1` is no command, and as a target it lacks a function
    hint: to ask the minion: `drover web-1 test.ping`; `drover --help` lists the commands
    ");
    assert_snapshot!(refusal("web-1 ping"), @"
    error: `ping` is no function
    hint: functions have a module and a name, as test.ping; `drover 'web-1' sys.list_functions` lists them
    ");
    assert_snapshot!(refusal("-R rack1 test.ping"), @"
    error: range expressions (-R) are not supported
    hint: there is no range server; use a list (-L) or a nodegroup (-N)
    ");
    assert_snapshot!(refusal("--out json"), @"
    error: no target and no command
    hint: `drover '*' test.ping` asks every minion; `drover --help` tells the rest
    ");
    assert_snapshot!(refusal("* test.ping --ttl 1d"), @"
    error: the following required arguments were not provided:
      --pending

    Usage: drover [OPTIONS] TARGET FUNCTION [ARG…] [KEY=VALUE…]
           drover [OPTIONS] COMMAND …

    For more information, try '--help'.
    ");
    assert_snapshot!(refusal("-b 0 * test.ping"), @"
    error: invalid value '0' for '--batch <N|N%>': a batch is a number of minions or a share of them, as 10 or 25%

    For more information, try '--help'.
    ");
}

#[test]
fn options_of_salt_key_are_answered_with_the_verb() {
    assert_snapshot!(refusal("key -L"), @"
    error: `-L` is salt-key's: here it is `drover key list`
    hint: `drover key --help` lists the verbs; each has its own help
    ");
    let verbs = [
        ("key -a rfid-1", "accept ID`"),
        ("--out json keys -y -A", "accept --all`"),
        ("key -yd rfid-1", "delete ID`"),
        ("key -D", "delete --all`"),
        ("key -r rfid-1", "reject ID`"),
        ("key -P", "show ID`"),
        ("key --list=acc", "list --status STATUS`"),
        ("key --accept-all", "accept --all`"),
    ];
    for (line, verb) in verbs {
        assert!(
            refusal(line).contains(&format!("`drover key {verb}")),
            "{line}: {}",
            refusal(line)
        );
        assert!(matches!(read(line), Err(Failure::Told(told)) if told.status == 2), "{line}");
    }
    // What is no option of anybody's stays clap's to refuse.
    assert!(matches!(read("key list -L"), Err(Failure::Usage(_))));
    assert!(matches!(read("key -X"), Err(Failure::Usage(_))));
}

#[test]
fn a_batch_is_never_empty() {
    assert_eq!(Batch::Percent(25.0).of(3), 1);
    assert_eq!(Batch::Percent(50.0).of(9), 4);
    assert_eq!(Batch::Count(10).of(3), 10);
}
