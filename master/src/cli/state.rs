//! `drover state`: what the master would send.

use serde_json::{Map, Value, json};

use super::{
    Outcome,
    arguments::{Format, StateVerb},
    client::Client,
    failure::Failure,
    job::check_target,
    output::{
        Printer,
        style::Style,
        table::{cell, render},
    },
};

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    verb: &StateVerb,
) -> Result<Outcome, Failure> {
    let StateVerb::Show { matcher, target, sls } = verb;
    let kind = matcher.kind();
    check_target(target, kind)?;
    let mut request = Map::new();
    request.insert("tgt".to_owned(), json!(target));
    request.insert("tgt_type".to_owned(), json!(kind));
    if !sls.is_empty() {
        request.insert("sls".to_owned(), json!(sls));
    }
    let preview = client.post("/v1/states/preview", &Value::Object(request)).await?;
    printer.print(&preview, Format::Nested, preview_table)?;
    let minions = preview.as_object();
    if minions.is_none_or(Map::is_empty) {
        printer.note("no minion matched the target");
        return Ok(Outcome::NothingMatched);
    }
    let has_errors =
        minions.into_iter().flatten().any(|(_, minion)| minion.get("errors").is_some());
    Ok(if has_errors { Outcome::Failed } else { Outcome::Success })
}

fn preview_table(preview: &Value, style: Style) -> String {
    let rows = preview.as_object().into_iter().flatten().flat_map(|(id, minion)| {
        let states = minion["states"].as_array().into_iter().flatten();
        let states = states.map(|state| {
            let function = format!("{}.{}", cell(&state["state"]), cell(&state["fun"]));
            vec![id.clone(), cell(&state["__id__"]), function, cell(&state["name"])]
        });
        let errors = minion["errors"].as_array().into_iter().flatten();
        let errors = errors.map(|error| {
            vec![id.clone(), "error".to_owned(), cell(&error["message"]), String::new()]
        });
        states.chain(errors).collect::<Vec<_>>()
    });
    render(&["minion", "id", "function", "name"], rows, style)
}
