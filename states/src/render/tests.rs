use serde_json::json;

use super::*;
use crate::files::memory::MemoryFiles;

fn renderer(files: &[(&str, &str)]) -> Renderer {
    let object = |value: Value| value.as_object().unwrap().clone();
    let grains =
        object(json!({"id": "d1", "channel": "staging", "ports": [80, 443], "os": {"a": 1}}));
    let pillar = object(json!({"registry": "127.0.0.1:5000", "on": true, "nested": {"key": "v"}}));
    Renderer::new(MemoryFiles::new(files), "base", &Context::new(grains, pillar))
}

fn render(text: &str) -> Result<String, String> {
    let file = SlsFile { sls: "d.s".into(), path: "d/s/init.sls".into() };
    renderer(&[("m.jinja", "{% set port = 80 %}{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}")])
        .sls(&file, text)
        .map(|rendered| rendered.text)
        .map_err(|diagnostic| diagnostic.to_string())
}

#[test]
fn values_print_as_in_python() {
    let cases = [
        ("{{ pillar.on }}", "True"),
        ("{{ none }}", "None"),
        ("{{ grains.ports }}", "[80, 443]"),
        ("{{ {'a': [1, 'x', none]} }}", "{'a': [1, 'x', None]}"),
        (
            "{{ pillar['registry'] ~ '/fleet:' ~ grains['channel'] }}",
            "127.0.0.1:5000/fleet:staging",
        ),
        ("a\n", "a\n"),
    ];
    for (text, wanted) in cases {
        assert_eq!(render(text).as_deref(), Ok(wanted), "{text}");
    }
}

#[test]
fn salts_names_functions_and_filters_are_there() {
    let cases = [
        (
            "{{ sls }} {{ slspath }} {{ tplfile }} {{ tpldir }} {{ tpldot }} {{ sls_path }}",
            "d.s d/s d/s/init.sls d/s d.s d_s",
        ),
        ("{{ salt['grains.get']('os:a') }} {{ salt.pillar.get('nested:key') }}", "1 v"),
        (
            "{{ salt['pillar.get']('absent', 'x') }} {{ salt['pillar.get']('absent', default=5) }}",
            "x 5",
        ),
        ("{% for k, v in pillar.nested.iteritems() %}{{ k }}={{ v }}{% endfor %}", "key=v"),
        (
            "{% from 'm.jinja' import port, twice with context %}{{ port }} {{ twice('a') }}",
            "80 aa",
        ),
        ("{{ 'a-b' | regex_replace('(a)-(b)', '\\\\2-\\\\1') }}", "b-a"),
        ("{{ 'yes' | to_bool }} {{ [3, [4]] | flatten }}", "True [3, 4]"),
        ("{{ {'b': 1, 'a': 'x'} | json }} {{ ['a'] | yaml }}", r#"{"a":"x","b":1} ["a"]"#),
        ("{{ pillar.get('no') }}", "None"),
        ("{{ pillar.absent | default('d') }}{% if pillar.absent is defined %}x{% endif %}", "d"),
    ];
    for (text, wanted) in cases {
        assert_eq!(render(text).as_deref(), Ok(wanted), "{text}");
    }
}

#[test]
fn undefined_name_says_line_and_nearest_key() {
    insta::assert_snapshot!(render("a: 1\nb: {{ grains['chanel'] }}\n").unwrap_err(), @r#"
    d/s/init.sls:2: Jinja variable 'grains' has no attribute 'chanel'
        2 | b: {{ grains['chanel'] }}
    hint: did you mean `channel`? Write `grains.get('chanel', …)` if it may be absent
    "#);
}

#[test]
fn unknown_filter_offers_the_nearest() {
    insta::assert_snapshot!(render("{{ 'x' | regex_replac('a', 'b') }}").unwrap_err(), @r#"
    d/s/init.sls:1: unknown Jinja filter `regex_replac`
        1 | {{ 'x' | regex_replac('a', 'b') }}
    hint: did you mean `regex_replace`?
    "#);
}

#[test]
fn commands_are_refused_in_templates() {
    insta::assert_snapshot!(render("{{ salt['cmd.run']('id') }}").unwrap_err(), @r#"
    d/s/init.sls:1: `cmd.run` is refused: a template must not run commands; use a `cmd.run` state or a grain
        1 | {{ salt['cmd.run']('id') }}
    "#);
}

#[test]
fn unknown_statement_is_explained() {
    insta::assert_snapshot!(render("{% import_yaml 'x' as y %}").unwrap_err(), @r#"
    d/s/init.sls:1: Jinja syntax error: unknown statement import_yaml
        1 | {% import_yaml 'x' as y %}
    hint: `import_yaml` is not supported: put the data into a map with `set` and import it, or use the filters `load_yaml` and `load_json`
    "#);
}

#[test]
fn endless_loop_runs_out_of_fuel() {
    let text = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    assert!(render(text).unwrap_err().contains("too many steps"));
}

#[test]
fn line_of_rendered_text_leads_back_to_the_template() {
    let file = SlsFile { sls: "x".into(), path: "x.sls".into() };
    let text = "{% for i in [1, 2] %}\na{{ i }}: 1\n{% endfor %}\nlast: 2\n";
    let rendered = renderer(&[]).sls(&file, text).unwrap();
    let line = rendered.text.lines().position(|line| line == "last: 2").unwrap() + 1;
    assert_eq!(line, 6);
    assert_eq!(rendered.source(line), ("x.sls", 4));
}

#[test]
fn list_that_is_changed_in_place_is_explained() {
    let error = render("{% set x = [] %}{% do x.append(1) %}").unwrap_err();
    assert!(error.contains("append") && error.contains("x + [item]"), "{error}");
}
