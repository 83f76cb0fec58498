use serde_json::json;

use super::*;

#[test]
fn scalars_are_read_as_salt_reads_them() {
    let cases = [
        ("yes", json!(true)),
        ("On", json!(true)),
        ("off", json!(false)),
        ("y", json!("y")),
        ("0644", json!(644)),
        ("0899", json!("0899")),
        ("'0644'", json!("0644")),
        ("00", json!(0)),
        ("1_000", json!(1000)),
        ("0x1F", json!(31)),
        ("12:30", json!(750)),
        ("8080:80", json!("8080:80")),
        ("1.10", json!(1.1)),
        ("1.2.3", json!("1.2.3")),
        ("1e5", json!("1e5")),
        ("~", json!(null)),
        ("2024-01-31", json!("2024-01-31")),
        ("20240131120000123456", json!("20240131120000123456")),
        ("-5", json!(-5)),
        ("-", json!([null])),
        ("!!str 5", json!("5")),
        ("/dev/ttyUSB0:/dev/ttyUSB0", json!("/dev/ttyUSB0:/dev/ttyUSB0")),
        ("aggregator:9091", json!("aggregator:9091")),
    ];
    for (text, wanted) in cases {
        assert_eq!(load(text).unwrap(), wanted, "{text}");
    }
}

#[test]
fn key_may_hold_colons() {
    let value = load("127.0.0.1:5000/fleet/rfid:live:\n  docker_image.present:\n    - force: True")
        .unwrap();
    assert_eq!(
        value,
        json!({"127.0.0.1:5000/fleet/rfid:live": {"docker_image.present": [{"force": true}]}})
    );
}

#[test]
fn keys_that_are_not_text_become_text() {
    assert_eq!(
        load("{80: a, yes: b, ~: c}").unwrap(),
        json!({"80": "a", "True": "b", "None": "c"})
    );
}

#[test]
fn duplicate_key_is_an_error_that_names_both_lines() {
    let error = load("a: 1\nb: 2\na: 3\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 3: found conflicting ID 'a'\n    3 | a: 3\nhint: it is already on line 1"
    );
}

#[test]
fn merge_keys_yield_to_ones_own() {
    let value = load("base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  y: 3\n").unwrap();
    assert_eq!(value, json!({"base": {"x": 1, "y": 2}, "mine": {"x": 1, "y": 3}}));
}

#[test]
fn alias_bomb_is_refused() {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (new, old) in ('b'..='i').zip('a'..) {
        text += &format!("{new}: &{new} [{}]\n", vec![format!("*{old}"); 9].join(","));
    }
    let error = load(&text).unwrap_err();
    assert!(error.message.starts_with("more than 200000 values"), "{error}");
}

#[test]
fn deep_nesting_is_refused() {
    let error = load(&("[".repeat(100) + &"]".repeat(100))).unwrap_err();
    assert_eq!(error.message, "nested deeper than 64 levels");
    load(&"[".repeat(10_000)).unwrap_err();
}

#[test]
fn syntax_error_shows_its_line_and_advice() {
    let error = load("a:\n  b: c: d\n").unwrap_err();
    assert_eq!(error.line, Some(2));
    assert_eq!(error.shown.as_deref(), Some("  b: c: d"));
    assert!(error.hint.is_some(), "{error}");
}

#[test]
fn empty_document_is_null() {
    assert_eq!(load("# nothing\n").unwrap(), Value::Null);
    assert_eq!(load_map("").unwrap(), Map::new());
}

/// What `salt-call --local state.show_low_sls` of Salt 3008.3 made of the same list.
#[test]
fn list_that_salt_has_read_is_read_the_same() {
    let text = "[0644, 0899, 12:30, 8080:80, 1_000, 1e5, .5, -.5, 2024-01-31, 0x1F, 0o17, 00, +5, 1., \
                0b11, y, 1:2:3, 08, 0_7, 1.5e+3]";
    let salts = json!([
        644,
        "0899",
        750,
        "8080:80",
        1000,
        "1e5",
        0.5,
        "-.5",
        "2024-01-31",
        31,
        "0o17",
        0,
        5,
        1.0,
        3,
        "y",
        3723,
        "08",
        7,
        1500.0
    ]);
    assert_eq!(load(text).unwrap(), salts);
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_a_line(text in "[-a-z0-9:{}\\[\\]&*<>!|'\"#% \\n]{0,80}") {
        if let Err(error) = load(&text) {
            proptest::prop_assert!(error.line.is_some());
        }
    }

    #[test]
    fn json_is_read_as_itself(text in "[ -~]{0,20}", number in proptest::num::i64::ANY) {
        let value = json!({"text": text, "list": [number, null, true]});
        proptest::prop_assert_eq!(load(&value.to_string()).unwrap(), value);
    }
}
