//! Salt's output of a state run: a block for each state, and a summary.

use serde_json::{Map, Value};

use super::{
    nested,
    style::{Colour, Style},
};

/// What a state run came to.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(in crate::cli) struct Totals {
    pub(in crate::cli) succeeded: usize,
    pub(in crate::cli) failed: usize,
    /// Would change, in a test run.
    pub(in crate::cli) unchanged: usize,
    pub(in crate::cli) changed: usize,
    /// In milliseconds.
    pub(in crate::cli) duration: f64,
}

/// The states of a return, in the order in which they ran; `None` where it is no state run's.
pub(in crate::cli) fn states(value: &Value) -> Option<Vec<(&str, &Map<String, Value>)>> {
    let all = value.as_object().filter(|all| !all.is_empty())?;
    let mut states = Vec::with_capacity(all.len());
    for (key, state) in all {
        let state = state.as_object()?;
        if !key.contains("_|-") || !state.contains_key("result") {
            return None;
        }
        states.push((key.as_str(), state));
    }
    states.sort_by_key(|(_, state)| state.get("__run_num__").and_then(Value::as_u64));
    Some(states)
}

/// The sums below a state run.
pub(in crate::cli) fn totals(states: &[(&str, &Map<String, Value>)]) -> Totals {
    let mut totals = Totals::default();
    for (_, state) in states {
        match state.get("result") {
            Some(Value::Bool(false)) => totals.failed += 1,
            Some(Value::Bool(true)) => totals.succeeded += 1,
            _ => {
                totals.succeeded += 1;
                totals.unchanged += 1;
            }
        }
        totals.changed += usize::from(has_changes(state));
        totals.duration += duration(state).unwrap_or_default();
    }
    totals
}

/// The whole of it.
pub(in crate::cli) fn render(
    minion: &str,
    states: &[(&str, &Map<String, Value>)],
    style: Style,
) -> String {
    let totals = totals(states);
    let heading = if totals.failed > 0 { Colour::Red } else { Colour::Green };
    let mut text = format!("{}\n", style.paint(heading, &format!("{minion}:")));
    for (key, state) in states {
        block(&mut text, key, state, style);
    }
    summary(&mut text, minion, totals, style);
    text
}

fn block(text: &mut String, key: &str, state: &Map<String, Value>, style: Style) {
    // The key is `module_|-id_|-name_|-function`.
    let mut parts = key.splitn(4, "_|-");
    let mut part = || parts.next().unwrap_or_default();
    let (module, id, name, function) = (part(), part(), part(), part());
    let colour = colour(state);
    text.push_str(&style.paint(colour, "----------"));
    text.push('\n');
    let result = match state.get("result") {
        Some(Value::Bool(true)) => "True",
        Some(Value::Bool(false)) => "False",
        _ => "None",
    };
    let mut line = |label: &str, value: &str| {
        let mut lines = value.lines();
        let first =
            style.paint(colour, &format!("{label:>12}: {}", lines.next().unwrap_or_default()));
        text.push_str(first.trim_end());
        text.push('\n');
        for more in lines {
            let more = style.paint(colour, &format!("{:14}{more}", ""));
            text.push_str(more.trim_end());
            text.push('\n');
        }
    };
    let field = |name: &str| state.get(name).map(shown).unwrap_or_default();
    line("ID", id);
    line("Function", &format!("{module}.{function}"));
    if name != id {
        line("Name", name);
    }
    line("Result", result);
    line("Comment", &field("comment"));
    line("Started", &field("start_time"));
    if let Some(duration) = duration(state) {
        line("Duration", &format!("{duration} ms"));
    }
    line("Changes", "");
    if has_changes(state) {
        let changes = nested::render_at(&state["changes"], 14, style);
        text.push_str(&changes);
    }
    for warning in state.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        let warning = style.paint(Colour::Red, &format!("{:>12}: {}", "Warning", shown(warning)));
        text.push_str(&warning);
        text.push('\n');
    }
}

fn summary(text: &mut String, minion: &str, totals: Totals, style: Style) {
    let Totals { succeeded, failed, unchanged, changed, duration } = totals;
    let heading = format!("Summary for {minion}");
    let rule = "-".repeat(heading.chars().count().min(78));
    let mut notes = Vec::new();
    if unchanged > 0 {
        notes.push(format!("unchanged={unchanged}"));
    }
    if changed > 0 {
        notes.push(format!("changed={changed}"));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    let failed_colour = if failed > 0 { Colour::Red } else { Colour::Cyan };
    let total = succeeded + failed;
    for line in [
        String::new(),
        style.paint(Colour::Cyan, &heading),
        style.paint(Colour::Cyan, &rule),
        style.paint(Colour::Green, &format!("Succeeded: {succeeded}{notes}")),
        style.paint(failed_colour, &format!("Failed:    {failed}")),
        style.paint(Colour::Cyan, &rule),
        style.paint(Colour::Cyan, &format!("Total states run:     {total}")),
        style.paint(Colour::Cyan, &format!("Total run time: {duration:>7.3} ms")),
    ] {
        text.push_str(&line);
        text.push('\n');
    }
}

fn colour(state: &Map<String, Value>) -> Colour {
    match state.get("result") {
        Some(Value::Bool(false)) => Colour::Red,
        Some(Value::Bool(true)) if has_changes(state) => Colour::Cyan,
        Some(Value::Bool(true)) => Colour::Green,
        _ => Colour::Yellow,
    }
}

fn has_changes(state: &Map<String, Value>) -> bool {
    match state.get("changes") {
        Some(Value::Object(changes)) => !changes.is_empty(),
        Some(Value::Null) | None => false,
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => true,
    }
}

fn duration(state: &Map<String, Value>) -> Option<f64> {
    state.get("duration")?.as_f64()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().map(shown).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_run_looks_as_salts_does() {
        let value = json!({
            "docker_container_|-rfid_|-rfid_|-running": {
                "result": false,
                "comment": "One or more requisite failed: rfid.image",
                "changes": {},
                "__run_num__": 1,
            },
            "docker_image_|-image_|-127.0.0.1:5000/rfid:live_|-present": {
                "result": true,
                "comment": "Image was pulled\nin two layers",
                "changes": { "Layers": { "Pulled": ["a", "b"] } },
                "start_time": "10:11:12.131415",
                "duration": 812.25,
                "__run_num__": 0,
            },
            "file_|-/etc/x_|-/etc/x_|-managed": {
                "result": null,
                "comment": "would be written",
                "changes": { "diff": "-a\n+b" },
                "start_time": "10:11:13.0",
                "duration": 2.5,
                "__run_num__": 2,
            },
        });
        let states = states(&value).unwrap();
        assert_snapshot!(render("rfid-1", &states, Style::default()), @"
        rfid-1:
        ----------
                  ID: image
            Function: docker_image.present
                Name: 127.0.0.1:5000/rfid:live
              Result: True
             Comment: Image was pulled
                      in two layers
             Started: 10:11:12.131415
            Duration: 812.25 ms
             Changes:
                      ----------
                      Layers:
                          ----------
                          Pulled:
                              - a
                              - b
        ----------
                  ID: rfid
            Function: docker_container.running
              Result: False
             Comment: One or more requisite failed: rfid.image
             Started:
             Changes:
        ----------
                  ID: /etc/x
            Function: file.managed
              Result: None
             Comment: would be written
             Started: 10:11:13.0
            Duration: 2.5 ms
             Changes:
                      ----------
                      diff:
                          -a
                          +b

        Summary for rfid-1
        ------------------
        Succeeded: 2 (unchanged=1, changed=2)
        Failed:    1
        ------------------
        Total states run:     3
        Total run time: 814.750 ms
        ");
    }

    #[test]
    fn other_returns_are_not_taken_for_state_runs() {
        for value in
            [json!({}), json!(true), json!({ "a": { "result": true } }), json!(["No matching sls"])]
        {
            assert!(states(&value).is_none(), "{value}");
        }
    }
}
