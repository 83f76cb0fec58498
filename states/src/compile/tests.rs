use serde_json::{Value, json};

use super::*;
use crate::files::memory::MemoryFiles;
use crate::low::{Join, RequisiteKind};

const TOP: &str = "base:
  'G@role:rfid':
    - rfid
";

const RFID: &str = "{% set image = pillar['registry'] ~ '/fleet/rfid:' ~ grains['channel'] %}
{{ image }}:
  docker_image.present:
    - force: True
rfid:
  docker_container.running:
    - image: {{ image }}
    - binds:
      - {{ pillar['rfid_device'] }}:{{ pillar['rfid_device'] }}
    - environment:
      - RCAGGREGATOR: aggregator:9091
      - POWER_API: power:80
    - restart_policy: unless-stopped
    - require:
      - docker_image: {{ image }}
";

fn compiler(files: &[(&str, &str)]) -> Compiler {
    let object = |value: Value| value.as_object().unwrap().clone();
    let grains = object(json!({"id": "d1", "role": "rfid", "channel": "live"}));
    let pillar = object(json!({"registry": "127.0.0.1:5000", "rfid_device": "/dev/ttyUSB0"}));
    Compiler::new(MemoryFiles::new(files), Context::new(grains, pillar))
}

fn compile(files: &[(&str, &str)]) -> Result<LowState, CompileErrors> {
    compiler(files).sls("base", &["a"])
}

fn ids(low: &LowState) -> Vec<&str> {
    low.chunks.iter().map(|chunk| chunk.name.as_str()).collect()
}

fn errors(text: &str) -> String {
    compile(&[("a.sls", text)]).err().map(|errors| errors.to_string()).unwrap_or_default()
}

#[test]
fn container_states_of_a_fleet_compile_as_written() {
    let matcher = |target: &str, kind: &str| Ok(target == "G@role:rfid" && kind == "compound");
    let low =
        compiler(&[("top.sls", TOP), ("rfid.sls", RFID)]).highstate("base", &matcher).unwrap();
    assert_eq!(
        low.to_value(),
        json!([
            {
                "state": "docker_image", "fun": "present", "order": 10000, "__env__": "base",
                "name": "127.0.0.1:5000/fleet/rfid:live", "__sls__": "rfid",
                "__id__": "127.0.0.1:5000/fleet/rfid:live", "force": true,
            },
            {
                "state": "docker_container", "fun": "running", "name": "rfid", "__id__": "rfid",
                "__sls__": "rfid", "__env__": "base", "order": 10001,
                "image": "127.0.0.1:5000/fleet/rfid:live",
                "binds": ["/dev/ttyUSB0:/dev/ttyUSB0"],
                "environment": [
                    {"RCAGGREGATOR": "aggregator:9091"},
                    {"POWER_API": "power:80"},
                ],
                "restart_policy": "unless-stopped",
            },
        ])
    );
    let requisite = &low.chunks[1].requisites[0];
    assert_eq!((requisite.kind, requisite.join), (RequisiteKind::Require, Join::All));
    assert_eq!(requisite.targets, [0]);
}

#[test]
fn minion_without_a_target_in_the_top_file_is_told() {
    let compiler = compiler(&[("top.sls", TOP), ("rfid.sls", RFID)]);
    let errors = compiler.highstate("base", &|_: &str, _: &str| Ok(false)).err().unwrap();
    insta::assert_snapshot!(errors, @r#"
    top.sls: No Top file or master_tops data matches found.
    hint: no target in the top file means this minion
    "#);
}

#[test]
fn includes_come_first_and_only_once() {
    let low = compile(&[
        ("a.sls", "include:\n  - d\n  - b\nlast:\n  test.nop: []\n"),
        ("b.sls", "include: [d.inner]\nsecond:\n  test.nop\n"),
        ("d/init.sls", "include:\n  - .inner\nfirst:\n  test:\n    - nop\n"),
        ("d/inner.sls", "inner: test.nop\n"),
    ]);
    // `second` has a text where a dictionary of arguments is expected, as Salt allows.
    assert_eq!(ids(&low.unwrap()), ["inner", "first", "second", "last"]);
}

#[test]
fn extend_replaces_arguments_and_appends_requisites() {
    let low = compile(&[
        (
            "a.sls",
            "include: [b]\nextend:\n  f:\n    file.managed:\n      - mode: 600\n      - require:\n        - test: y\ny: test.nop\n",
        ),
        (
            "b.sls",
            "x: test.nop\nf:\n  file.managed:\n    - name: /tmp/f\n    - mode: 644\n    - require:\n      - test: x\n",
        ),
    ])
    .unwrap();
    assert_eq!(ids(&low), ["x", "y", "/tmp/f"]);
    assert_eq!(low.chunks[2].arguments["mode"], 600);
    assert_eq!(low.chunks[2].requisites[0].targets, [0, 1]);
}

#[test]
fn exclude_takes_ids_and_whole_files_away() {
    let low = compile(&[
        ("a.sls", "include: [b, c]\nexclude:\n  - sls: b\n  - id: gone\nkept: test.nop\n"),
        ("b.sls", "b: test.nop\n"),
        ("c.sls", "gone: test.nop\nstays: test.nop\n"),
    ]);
    assert_eq!(ids(&low.unwrap()), ["stays", "kept"]);
}

#[test]
fn order_names_and_inverted_requisites_shape_the_run() {
    let low = compile(&[(
        "a.sls",
        "end:\n  test.nop:\n    - order: last\nmany:\n  test.nop:\n    - names:\n      - one\n      - two\nfirst:\n  test.nop:\n    - order: 1\nbefore:\n  test.nop:\n    - require_in:\n      - test: one\n",
    )])
    .unwrap();
    assert_eq!(ids(&low), ["first", "before", "one", "two", "end"]);
}

#[test]
fn globs_and_whole_files_are_requisites() {
    let low = compile(&[
        ("a.sls", "include: [b]\nx:\n  test.nop:\n    - require:\n      - sls: b\n    - watch:\n      - test: 'b*'\n"),
        ("b.sls", "b1: test.nop\nb2: test.nop\n"),
    ])
    .unwrap();
    assert_eq!(low.chunks[2].requisites[0].targets, [0, 1]);
    assert_eq!(low.chunks[2].requisites[1].targets, [0, 1]);
}

#[test]
fn unknown_function_and_argument_offer_the_nearest() {
    insta::assert_snapshot!(errors(
        "f:\n  file.manged:\n    - name: /tmp/x\ng:\n  file.managed:\n    - name: /tmp/x\n    - contnets: x\n"
    ), @r#"
    a.sls:2: State 'file.manged' was not found in SLS 'a'
        2 |   file.manged:
    hint: did you mean `file.managed`?
    a.sls:7: State 'g' in SLS 'a': `file.managed` has no argument `contnets`
        7 |     - contnets: x
    hint: did you mean `contents`?
    "#);
}

#[test]
fn every_problem_is_told_at_once() {
    insta::assert_snapshot!(errors(
        "a:\n  test.nop:\n    - require:\n      - test: missing\n    - prereq:\n      - test: b\n    - order: soon\nb:\n  docker.made: []\n"
    ), @r#"
    a.sls:3: Referenced state does not exist for requisite [require: (test: missing)] in state [a] in SLS [a]
        3 |     - require:
    hint: include the SLS that declares it
    a.sls:5: State 'a' in SLS 'a': `prereq` is not supported: use `onchanges`, or `require` in the other direction
        5 |     - prereq:
    a.sls:7: State 'a' in SLS 'a': `order` must be a number, `first` or `last`, not `"soon"`
        7 |     - order: soon
    a.sls:9: State 'docker.made' was not found in SLS 'a'
        9 |   docker.made: []
    hint: there are docker_container.absent, docker_container.running, docker_container.stopped, docker_image.absent, docker_image.present
    "#);
}

#[test]
fn text_that_is_no_sls_name_is_told_what_one_is() {
    for name in ["../../etc", "/etc", "top.level.sls"] {
        let files = MemoryFiles::new(&[("apps/rfid.sls", "")]);
        let compiler =
            Compiler::new(files as _, Context::new(serde_json::Map::new(), serde_json::Map::new()));
        let errors = compiler.sls("base", &[name]).map(drop).unwrap_err().to_string();
        assert!(errors.contains("hint: an SLS is named by its path"), "{errors}");
    }
}

#[test]
fn circle_of_requisites_is_named() {
    insta::assert_snapshot!(errors(
        "a:\n  test.nop:\n    - require:\n      - test: b\nb:\n  test.nop:\n    - require:\n      - test: a\n"
    ), @r#"
    a.sls:3: Recursive requisites were found: test: a (SLS a) needs test: b (SLS a) needs test: a (SLS a)
        3 |     - require:
    hint: remove one of these requisites
    "#);
}

#[test]
fn conflicting_ids_are_named_with_both_files() {
    let files = [("a.sls", "include: [b]\nx: test.nop\n"), ("b.sls", "x: test.nop\n")];
    insta::assert_snapshot!(compile(&files).err().unwrap(), @r#"
    a.sls:2: Detected conflicting IDs, SLS IDs need to be globally unique.
        The conflicting ID is 'x' and is found in SLS 'base:b' and SLS 'base:a'
        2 | x: test.nop
    "#);
}

#[test]
fn missing_include_says_where_it_is_included() {
    let files = [("a.sls", "x: test.nop\ninclude:\n  - rfdi\n"), ("rfid.sls", "y: test.nop\n")];
    insta::assert_snapshot!(compile(&files).err().unwrap(), @r#"
    a.sls:3: No matching sls found for 'rfdi' in env 'base'
        3 |   - rfdi
    hint: did you mean `rfid`?
    "#);
}

#[test]
fn yaml_error_is_told_with_the_template_line() {
    insta::assert_snapshot!(errors(
        "{% for i in range(3) %}\nx{{ i }}:\n  test.nop: []\n{% endfor %}\ny:\n  test.nop: a: b\n"
    ), @r#"
    a.sls:6:14: Rendering SLS 'base:a' failed: mapping values are not allowed in this context
        6 |   test.nop: a: b
    hint: quote a value that contains `: `, and put each `key: value` on a line of its own
    "#);
}

#[test]
fn context_indented_like_its_key_is_explained() {
    insta::assert_snapshot!(errors(
        "/tmp/x:\n  file.managed:\n    - source: salt://x\n    - context:\n      a: 1\n"
    ), @r#"
    a.sls:4: one argument holds several keys, beginning with `context`
        4 |     - context:
    hint: begin each argument with `- `, and indent a map by four blanks beneath its key
    "#);
}

#[test]
fn wrong_top_file_says_what_is_wrong() {
    let compiler = compiler(&[("top.sls", "base:\n  '*':\n    - match: compuond\n    - x\n")]);
    let errors = compiler.highstate("base", &|_: &str, _: &str| Ok(true)).err().unwrap();
    insta::assert_snapshot!(errors, @r#"
    top.sls:3: unknown match type `compuond`
        3 |     - match: compuond
    hint: did you mean `compound`?
    "#);
}

/// The order in which Salt 3008.3 ran the same file.
#[test]
fn run_order_is_salts() {
    let low = compile(&[(
        "a.sls",
        "many:
  test.nop:
    - order: last
o1:
  test.nop:
    - names: [one, two]
before:
  test.nop:
    - require_in:
      - test: o1
neg:
  test.nop:
    - order: -1
on-same:
  test.succeed_with_changes:
    - onfail_any:
      - test: many
changes: test.succeed_with_changes
w:
  test.nop:
    - watch:
      - test: changes
",
    )]);
    let salts = ["before", "one", "two", "many", "on-same", "changes", "w", "neg"];
    assert_eq!(ids(&low.unwrap()), salts);
}

proptest::proptest! {
    #[test]
    fn damaged_file_compiles_or_is_refused(at in 0..RFID.len(), cut in 0..40_usize, put in "[-:{}%\\[\\] \\n'a]{0,3}") {
        let end = (at + cut).min(RFID.len());
        let text = format!("{}{put}{}", &RFID[..at], &RFID[end..]);
        if let Err(errors) = compile(&[("a.sls", &text)]) {
            proptest::prop_assert!(!errors.to_string().is_empty());
        }
    }
}
