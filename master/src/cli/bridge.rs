//! `drover bridge`: where the master sends events, whether they get there, and what it could not deliver.

use serde_json::{Value, json};

mod tables;

use super::{
    Outcome,
    arguments::{BridgeVerb, DeadLettersVerb, Format, Letters},
    client::{Client, segment},
    confirm::{ask, is_attended},
    events::point,
    failure::Failure,
    output::{Printer, nested, table::cell},
};
use tables::{letters_table, sentence, status_table};

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    verb: &BridgeVerb,
) -> Result<Outcome, Failure> {
    match verb {
        BridgeVerb::Status { bridge } => {
            let path = bridge.as_deref().map_or_else(|| "/v1/bridges".to_owned(), path);
            let bridges = client.get(&path).await?;
            printer.print(&bridges, Format::Table, status_table)?;
            Ok(Outcome::Success)
        }
        BridgeVerb::Test { bridge } => {
            let tested = client.post(&format!("{}/test", path(bridge)), &json!({})).await?;
            printer.print(&tested, Format::Table, |tested, _| sentence(tested))?;
            let is_there = tested["verdict"] == "done";
            Ok(if is_there { Outcome::Success } else { Outcome::Failed })
        }
        BridgeVerb::Replay { bridge, since, yes } => {
            replay(&mut client, printer, bridge, since, *yes).await
        }
        BridgeVerb::Pause { bridge } => steer(&mut client, printer, bridge, "pause").await,
        BridgeVerb::Resume { bridge } => steer(&mut client, printer, bridge, "resume").await,
        BridgeVerb::DeadLetters { verb, bridge } => match verb {
            None => list(&mut client, printer, bridge.as_deref()).await,
            Some(DeadLettersVerb::List { bridge }) => {
                list(&mut client, printer, bridge.as_deref()).await
            }
            Some(DeadLettersVerb::Show { bridge, id }) => {
                let letter = client.get(&format!("{}/{}", letters_of(bridge), segment(id))).await?;
                printer.print(&letter, Format::Nested, |letter, style| {
                    nested::render(letter, style)
                })?;
                Ok(Outcome::Success)
            }
            Some(DeadLettersVerb::Replay(letters)) => revive(&mut client, printer, letters).await,
            Some(DeadLettersVerb::Drop(letters)) => forget(&mut client, printer, letters).await,
        },
    }
}

async fn steer(
    client: &mut Client,
    printer: &Printer,
    bridge: &str,
    what: &str,
) -> Result<Outcome, Failure> {
    let status = client.post(&format!("{}/{what}", path(bridge)), &json!({})).await?;
    printer.print(&status, Format::Table, status_table)?;
    Ok(Outcome::Success)
}

async fn replay(
    client: &mut Client,
    printer: &Printer,
    bridge: &str,
    since: &str,
    yes: bool,
) -> Result<Outcome, Failure> {
    let since = point(since)?;
    let since = since.parse::<u64>().map_or_else(|_| Value::from(since), Value::from);
    let mut duplicates = yes;
    let kind = client.get(&path(bridge)).await?[bridge]["type"].clone();
    // The master refuses it where nobody said so; here somebody can.
    if !duplicates && kind != "elasticsearch" && is_attended() {
        printer.note(&format!("{} gets again what it has had since then", cell(&kind)));
        if !ask()? {
            printer.note("nothing was sent again");
            return Ok(Outcome::Failed);
        }
        duplicates = true;
    }
    let wanted = json!({"since": since, "duplicates": duplicates});
    let told = client.post(&format!("{}/replay", path(bridge)), &wanted).await?;
    printer.print(&told, Format::Table, |told, _| match told["events"].as_u64() {
        Some(1) => format!("{bridge} goes back by one event\n"),
        _ => format!("{bridge} goes back by {} events\n", told["events"]),
    })?;
    Ok(Outcome::Success)
}

async fn list(
    client: &mut Client,
    printer: &Printer,
    bridge: Option<&str>,
) -> Result<Outcome, Failure> {
    let names = match bridge {
        Some(name) => vec![name.to_owned()],
        None => names(&client.get("/v1/bridges").await?),
    };
    let mut letters = Vec::new();
    for name in names {
        if let Value::Array(mut more) = client.get(&letters_of(&name)).await? {
            letters.append(&mut more);
        }
    }
    printer.print(&Value::Array(letters), Format::Table, letters_table)?;
    Ok(Outcome::Success)
}

async fn revive(
    client: &mut Client,
    printer: &Printer,
    letters: &Letters,
) -> Result<Outcome, Failure> {
    let path = format!("{}/replay", letters_of(&letters.bridge));
    let told = client.post(&path, &chosen(letters)).await?;
    printer.print(&told, Format::Table, |told, _| {
        format!("{} dead letters are sent again; what is refused again stays\n", told["replaying"])
    })?;
    let gone: Vec<_> =
        told["gone"].as_array().into_iter().flatten().map(ToString::to_string).collect();
    if gone.is_empty() {
        return Ok(Outcome::Success);
    }
    printer.note(&format!(
        "the log has forgotten these events, which an earlier version did not copy: {}",
        gone.join(", ")
    ));
    Ok(Outcome::Failed)
}

async fn forget(
    client: &mut Client,
    printer: &Printer,
    letters: &Letters,
) -> Result<Outcome, Failure> {
    if letters.all && !letters.yes {
        if !is_attended() {
            let message = format!("nothing was forgotten: all of `{}` would be", letters.bridge);
            return Err(Failure::wrong(message).hint("-y goes ahead without a question"));
        }
        printer.note(&format!("all dead letters of `{}` are forgotten, for good", letters.bridge));
        if !ask()? {
            printer.note("nothing was forgotten");
            return Ok(Outcome::Failed);
        }
    }
    let path = format!("{}/drop", letters_of(&letters.bridge));
    let told = client.post(&path, &chosen(letters)).await?;
    printer.print(&told, Format::Table, |told, _| {
        format!("{} dead letters are forgotten\n", told["dropped"])
    })?;
    Ok(Outcome::Success)
}

fn chosen(letters: &Letters) -> Value {
    if letters.all { json!({"all": true}) } else { json!({"ids": letters.ids}) }
}

fn names(bridges: &Value) -> Vec<String> {
    bridges.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn path(bridge: &str) -> String {
    format!("/v1/bridges/{}", segment(bridge))
}

fn letters_of(bridge: &str) -> String {
    format!("{}/dead-letters", path(bridge))
}
