use insta::assert_snapshot;
use serde_json::json;

use super::*;
use TargetType::{
    Compound, Glob, Grain, GrainPcre, Ipcidr, List, Nodegroup, Pcre, Pillar, PillarPcre,
};

struct Minion {
    id: &'static str,
    grains: Map<String, Value>,
    pillar: Option<Map<String, Value>>,
}

impl Subject for Minion {
    fn id(&self) -> &str {
        self.id
    }

    fn grains(&self) -> &Map<String, Value> {
        &self.grains
    }

    fn pillar(&self) -> Option<&Map<String, Value>> {
        self.pillar.as_ref()
    }
}

fn rfid() -> Minion {
    let grains = json!({
        "role": "rfid",
        "Site": "BNE",
        "roles": ["reader", "gate", 7],
        "armed": true,
        "spare": null,
        "empty": {},
        "load": 1.0,
        "os": { "name": "Debian", "version": { "major": 12, "codename": "bookworm" } },
        "disks": [{ "name": "sda", "size": 8 }, { "name": "sdb" }],
        "mac": "B8:27:EB:00:00:01",
        "ipv4": ["127.0.0.1", "10.1.2.3"],
        "ipv6": ["::1", "fe80::1"],
    });
    let pillar = json!({ "registry": "127.0.0.1:5000", "rfid": { "device": "/dev/ttyUSB0" } });
    Minion {
        id: "rfid-0042",
        grains: grains.as_object().unwrap().clone(),
        pillar: Some(pillar.as_object().unwrap().clone()),
    }
}

fn matches(text: &str, kind: TargetType) -> bool {
    Expression::parse(text, kind).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&rfid())
}

#[track_caller]
fn check(kind: TargetType, yes: &[&str], no: &[&str]) {
    for text in yes {
        assert!(matches(text, kind), "{text} should match");
    }
    for text in no {
        assert!(!matches(text, kind), "{text} should not match");
    }
}

#[test]
fn globs_lists_and_regexes_match_the_id() {
    check(Glob, &["*", "rfid-*", "rfid-00[0-4]?", "rfid-0042"], &["RFID-*", "rfid", "rfid-004"]);
    check(List, &["rfid-0042", "a,rfid-0042", " rfid-0042 , b"], &["rfid-*", "a,b"]);
    // Anchored at the start alone, as re.match.
    check(
        Pcre,
        &["rfid", "rfid-\\d+$", "(a|r)fid", "x|rfid", ""][..4],
        &["fid", "RFID", "0042", "x|42"],
    );
}

#[test]
fn grains_match_as_in_salt() {
    check(
        Grain,
        &[
            "role:rfid",
            "role:RFID",
            "role:r*",
            "role:*",
            "Site:bne",
            "roles:gate",
            "roles:7",
            "armed:true",
            "armed:True",
            "spare:none",
            "load:1.0",
            "os:name:debian",
            "os:*:debian",
            "os:version:major:12",
            "os:version:codename:book*",
            "os:version:*",
            "os:version",
            "*:rfid",
            "disks:name:sdb",
            "disks:0:name:sda",
            "mac:b8:27:*",
        ],
        &[
            "site:bne",
            "role:",
            "role:rfi",
            "roles:gat",
            "os:name:ubuntu",
            "os:*:major:11",
            "empty:*",
            "absent:*",
            "disks:1:name:sda",
            "os:version:major:12:x",
        ],
    );
    check(
        GrainPcre,
        &["role:rf", "role:RF.D$", "roles:(gate|door)", "mac:B8:27:..:"],
        &["role:fid", "x:."],
    );
}

#[test]
fn pillar_matches_only_where_it_is_known() {
    check(Pillar, &["rfid:device:/dev/tty*", "registry:127.0.0.1:5000"], &["role:rfid"]);
    check(PillarPcre, &["rfid:device:/dev/tty(usb|ama)0"], &["rfid:device:ttyUSB0"]);
    let blind = Minion { pillar: None, ..rfid() };
    let expression = Expression::parse("not I@rfid:*", Compound).unwrap();
    assert!(expression.needs_pillar());
    assert!(expression.matches(&blind));
    assert!(!Expression::parse("G@role:rfid", Compound).unwrap().needs_pillar());
}

#[test]
fn addresses_match_by_network() {
    check(
        Ipcidr,
        &["10.1.2.3", "10.1.0.0/16", "0.0.0.0/0", "fe80::/10", "::/0", "fe80::1"],
        &["10.1.2.4", "10.2.0.0/16", "2001:db8::/32"],
    );
    for wrong in ["10.1.2", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "10.0.0.0/"] {
        assert!(Expression::parse(wrong, Ipcidr).is_err(), "{wrong}");
    }
}

#[test]
fn compound_has_pythons_precedence() {
    check(
        Compound,
        &[
            "rfid-*",
            "G@role:rfid and rfid-*",
            "not web-*",
            "web-* or rfid-* and G@role:rfid",
            "rfid-* or rfid-* and web-*",
            "not web-* and G@role:rfid",
            "not ( web-* or db-* )",
            "( ( rfid-* ) )",
            "not not rfid-*",
            "G@role:rfid and not E@web and L@a,rfid-0042 and S@10.0.0.0/8 and I@rfid:*",
            "G|@role|rfid",
            "J|@rfid|device|^/dev",
            "P@role:^rf",
            "  rfid-*\t",
            "E@(rfid|web)-\\d+",
        ],
        &["( rfid-* or rfid-* ) and web-*", "not rfid-*", "not rfid-* or web-*", "N* and rfid-*"],
    );
}

#[test]
fn nodegroups_nest_and_a_circle_is_refused() {
    let groups = |name: &str| {
        let text = match name {
            "pilot" => "G@Site:bne and N@readers",
            "readers" => "rfid-* or gate-*",
            "one" => "N@two",
            "two" => "web-* or N@one",
            "broken" => "web-* and",
            _ => return None,
        };
        Some(text.to_owned())
    };
    let parse = |text, kind| Expression::parse_with(text, kind, &groups);
    assert!(parse("pilot", Nodegroup).unwrap().matches(&rfid()));
    assert!(parse("N@readers and N@readers", Compound).unwrap().matches(&rfid()));
    assert_snapshot!(parse("one", Nodegroup).unwrap_err(), @"in the nodegroup `one`: in the nodegroup `two`: the nodegroup `one` contains itself: `one` → `two` → `one`");
    assert_snapshot!(parse("a or N@broken", Compound).unwrap_err(), @"in the nodegroup `broken`: expected a matcher, but here the target ends");
    let absent = parse("a or N@absent", Compound).unwrap_err();
    assert_eq!(absent.position, 7);
    assert_snapshot!(absent, @"there is no nodegroup `absent`");
}

/// The text, a mark below the position, what is wrong and what to do.
fn shown(text: &str, kind: TargetType) -> String {
    let error = Expression::parse(text, kind).unwrap_err();
    let mark = " ".repeat(error.position);
    format!("{text}\n{mark}^ {error}\nhint: {}", error.hint)
}

#[test]
fn what_is_not_understood_is_pointed_at() {
    assert_snapshot!(shown("G@role:rfid and Q@x", Compound), @"
    G@role:rfid and Q@x
                    ^ `Q@` is no matcher
    hint: G@ grain, P@ grain regex, I@ pillar, J@ pillar regex, E@ regex on the id, L@ list, S@ subnet, N@ nodegroup; a word without a letter is a glob on the id
    ");
    assert_snapshot!(shown("web-* and ( rfid-* or db-*", Compound), @"
    web-* and ( rfid-* or db-*
              ^ this parenthesis is never closed
    hint: add a `)`, with a blank before it
    ");
    assert_snapshot!(shown("web-* and ( rfid-* db-* )", Compound), @"
    web-* and ( rfid-* db-* )
                       ^ expected `and`, `or` or `)` before `db-*`
    hint: join matchers with `and` or `or`
    ");
    assert_snapshot!(shown("web-* ) and rfid-*", Compound), @"
    web-* ) and rfid-*
          ^ this parenthesis was never opened
    hint: take it away, or put a `(` before
    ");
    assert_snapshot!(shown("(web-* or db-*)", Compound), @"
    (web-* or db-*)
    ^ no minion id has a parenthesis, as in `(web-*`
    hint: put blanks around parentheses
    ");
    assert_snapshot!(shown("web-* and", Compound), @"
    web-* and
             ^ expected a matcher, but here the target ends
    hint: a matcher is a glob on the id, or as `G@role:rfid`
    ");
    assert_snapshot!(shown("web-* rfid-*", Compound), @"
    web-* rfid-*
          ^ expected `and` or `or` before `rfid-*`
    hint: join matchers with `and` or `or`; ids without -C and with commas: -L
    ");
    assert_snapshot!(shown("and web-*", Compound), @"
    and web-*
    ^ expected a matcher, not `and`
    hint: a matcher is a glob on the id, or as `G@role:rfid`
    ");
    assert_snapshot!(shown("R@%rack1", Compound), @"
    R@%rack1
    ^ range expressions (R@) are not supported
    hint: there is no range server; use a list (L@) or a nodegroup (N@)
    ");
    assert_snapshot!(shown("ü and G@role", Compound), @"
    ü and G@role
                ^ `role` has no `:` between key and value
    hint: write `role:value`, or `role:*` for any value
    ");
    assert_snapshot!(shown("L|@a", Compound), @"
    L|@a
     ^ `L@` takes no delimiter
    hint: only G, P, I and J take one, as in `G|@key|value`
    ");
    assert_snapshot!(shown("G@ role:rfid", Compound), @"
    G@ role:rfid
      ^ nothing follows `G@`
    hint: write the pattern right after the `@`, without a blank
    ");
    assert_snapshot!(shown("a or E@web-(", Compound), @"
    a or E@web-(
           ^ `web-(` is no regular expression: unclosed group
    hint: globs such as `web-*` need no -E; in a regular expression write `web-.*`
    ");
    assert_snapshot!(shown("E@(?!web)", Compound), @"
    E@(?!web)
      ^ `(?!web)` is no regular expression: look-around is not supported
    hint: combine expressions with `and not` by -C instead
    ");
    assert_snapshot!(shown("a{1000000}", Pcre), @"
    a{1000000}
    ^ `a{1000000}` is no regular expression: it takes more than 262144 bytes of memory
    hint: use smaller repetition counts
    ");
    assert_snapshot!(shown("G@role:rfid", Glob), @"
    G@role:rfid
     ^ no minion id has an `@`, so `G@role:rfid` matches nothing
    hint: for `G@key:value`, `and`, `or`, `not` use -C (compound); for a single grain -G
    ");
    assert_snapshot!(shown("role", Grain), @"
    role
        ^ `role` has no `:` between key and value
    hint: write `role:value`, or `role:*` for any value
    ");
    assert_snapshot!(shown("", Glob).trim_start(), @"
    ^ the target is empty
    hint: `*` means every minion
    ");
    assert_snapshot!(shown(",", List), @"
    ,
    ^ the list has no ids
    hint: write ids with commas between: `a,b`
    ");
    assert_snapshot!(shown("host", Ipcidr), @"
    host
    ^ `host` is no address and no network
    hint: write `10.1.2.3`, `10.1.0.0/16` or `2001:db8::/32`
    ");
    let deep = format!("{}web-*{}", "( ".repeat(70), " )".repeat(70));
    assert!(Expression::parse(&deep, Compound).is_err());
    assert!(Expression::parse(&"not ".repeat(100_000), Compound).is_err());
    assert!(Expression::parse(&"a:".repeat(40), Grain).is_err());
}

#[test]
fn plain_ids_are_known_without_looking_at_everyone() {
    let ids = |text, kind| Expression::parse(text, kind).unwrap().literal_ids().map(<[_]>::to_vec);
    assert_eq!(ids("b,a,b", List), Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(ids("rfid-1", Glob), Some(vec!["rfid-1".to_owned()]));
    assert_eq!(ids("rfid-1", Compound), Some(vec!["rfid-1".to_owned()]));
    assert_eq!(ids("rfid-*", Glob), None);
    assert_eq!(ids("a or b", Compound), None);
}
