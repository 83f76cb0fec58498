//! `drover TARGET FUNCTION`: asks for a job and shows what comes back.

mod report;

use std::time::Duration;

use drover_proto::{job::TargetType, target::Expression};
use serde_json::{Map, Value, json};

use super::{
    Outcome,
    arguments::{Batch, Call, Format},
    client::{Client, Query},
    failure::Failure,
    output::{Printer, nested, table::cell},
    value,
};

pub(super) use report::{Report, follow};

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    call: &Call,
) -> Result<Outcome, Failure> {
    let target = call.target.as_deref().unwrap_or_default();
    let kind = call.matcher.kind();
    check_target(target, kind)?;
    let request = request(call);
    if let Some(batch) = call.batch {
        return in_batches(client, printer, call, request, batch).await;
    }
    let ask = |mut request: Map<String, Value>| {
        request.insert("tgt".to_owned(), target.into());
        request.insert("tgt_type".to_owned(), json!(kind));
        Value::Object(request)
    };
    if call.run_async {
        let ticket = client.post("/v1/jobs", &ask(request)).await?;
        return started(printer, &ticket);
    }
    let path = following(call.timeout);
    let mut lines = client.post_lines(path.as_str(), &ask(request)).await?;
    let ticket = lines.next().await?.unwrap_or_default();
    if ticket["jid"].is_null() {
        return nothing_matched(printer, &ticket);
    }
    let queued = ids(&ticket["queued"]);
    if !queued.is_empty() && queued.len() == ids(&ticket["minions"]).len() {
        return kept(printer, &ticket, &queued);
    }
    let mut report = Report::new(printer);
    report.ticket(&ticket);
    follow(&mut lines, &mut report).await?;
    report.finish()
}

/// An expression that is wrong is refused here, with its place; a nodegroup is the master's to know.
pub(super) fn check_target(target: &str, kind: TargetType) -> Result<(), Failure> {
    Expression::parse_with(target, kind, &|_| Some("*".to_owned()))
        .map(drop)
        .map_err(|error| Failure::target(target, &error))
}

fn request(call: &Call) -> Map<String, Value> {
    let (arg, kwarg) = value::arguments(&call.arguments);
    let mut request = Map::new();
    request.insert("fun".to_owned(), json!(call.function));
    request.insert("arg".to_owned(), arg.into());
    request.insert("kwarg".to_owned(), kwarg.into());
    request.insert("user".to_owned(), user().into());
    request.insert("pending".to_owned(), call.pending.into());
    if let Some(ttl) = call.ttl {
        request.insert("ttl".to_owned(), seconds(ttl).into());
    }
    if let Some(job_timeout) = call.job_timeout {
        request.insert("job_timeout".to_owned(), seconds(job_timeout).into());
    }
    request
}

/// Whole seconds, and not none of them.
fn seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

/// For the job's record; who may open the socket is trusted to say who he is.
fn user() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    named.unwrap_or_else(|| match rustix::process::getuid() {
        uid if uid.is_root() => "root".to_owned(),
        uid => format!("uid {}", uid.as_raw()),
    })
}

fn following(timeout: Duration) -> Query {
    Query::new("/v1/jobs")
        .with("follow", "true")
        .with("timeout", &timeout.as_secs_f64().to_string())
}

fn nothing_matched(printer: &Printer, ticket: &Value) -> Result<Outcome, Failure> {
    match printer.format_or(Format::Nested) {
        Format::Json | Format::Yaml => printer.text("{}")?,
        Format::Nested | Format::Table | Format::Txt | Format::Quiet => {}
    }
    for (id, reason) in passed_over(ticket) {
        printer.note(&format!("{id}: {reason}"));
    }
    printer.note(
        "no minion matched the target; nothing was sent\nhint: `drover minions` lists them all",
    );
    Ok(Outcome::NothingMatched)
}

/// Ids of a list that the job is not for, each with why.
fn passed_over(ticket: &Value) -> Vec<(String, String)> {
    let unknown = ids(&ticket["unknown"]).into_iter();
    let unknown = unknown.map(|id| (id, "no such minion is known".to_owned()));
    let others = ticket["not_accepted"].as_object().into_iter().flatten();
    let others =
        others.map(|(id, status)| (id.clone(), format!("not accepted ({})", cell(status))));
    unknown.chain(others).collect()
}

/// `--async`: the job's id, for later.
fn started(printer: &Printer, ticket: &Value) -> Result<Outcome, Failure> {
    if ticket["jid"].is_null() {
        return nothing_matched(printer, ticket);
    }
    let (minions, queued) = (ids(&ticket["minions"]), ids(&ticket["queued"]));
    if queued.len() == minions.len() {
        return kept(printer, ticket, &queued);
    }
    let jid = ticket["jid"].as_str().unwrap_or_default();
    let value = json!({ "jid": jid, "minions": minions });
    print_ticket(printer, &value, || on_its_way(ticket))?;
    for id in ids(&ticket["away"]) {
        let what = if queued.contains(&id) {
            "is away; kept until it is back"
        } else {
            "is away and will not get it; --pending keeps a job for minions that are away"
        };
        printer.note(&format!("{id}: {what}"));
    }
    Ok(Outcome::Success)
}

fn on_its_way(ticket: &Value) -> String {
    let jid = ticket["jid"].as_str().unwrap_or_default();
    match ids(&ticket["minions"]).len().saturating_sub(ids(&ticket["away"]).len()) {
        0 => format!("job {jid} went to nobody"),
        there => format!(
            "job {jid} is on its way to {}; `drover jobs wait {jid}` waits for it",
            count(there)
        ),
    }
}

/// `--pending`, and all that are meant are away.
fn kept(printer: &Printer, ticket: &Value, queued: &[String]) -> Result<Outcome, Failure> {
    let jid = ticket["jid"].as_str().unwrap_or_default();
    let value = json!({ "jid": jid, "minions": queued });
    print_ticket(printer, &value, || {
        format!(
            "job {jid} is kept until they are back: {}\n`drover pending list` shows what waits, `drover pending cancel {jid}` takes it back",
            queued.join(", ")
        )
    })?;
    Ok(Outcome::Success)
}

fn print_ticket(
    printer: &Printer,
    value: &Value,
    sentence: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match printer.format_or(Format::Nested) {
        Format::Nested => printer.text(&sentence()),
        Format::Json | Format::Yaml | Format::Table | Format::Txt | Format::Quiet => {
            printer.print(value, Format::Json, nested::render)
        }
    }
}

async fn in_batches(
    mut client: Client,
    printer: &Printer,
    call: &Call,
    request: Map<String, Value>,
    batch: Batch,
) -> Result<Outcome, Failure> {
    let target = call.target.as_deref().unwrap_or_default();
    let query = Query::new("/v1/targets")
        .with("tgt", target)
        .with("tgt_type", kind_name(call.matcher.kind()));
    let matched = client.get(query.as_str()).await?;
    let minions = ids(&matched["minions"]);
    if minions.is_empty() {
        return nothing_matched(printer, &matched);
    }
    let mut report = Report::new(printer);
    report.ticket(&matched);
    for some in minions.chunks(batch.of(minions.len())) {
        let mut request = request.clone();
        request.insert("tgt".to_owned(), some.join(",").into());
        request.insert("tgt_type".to_owned(), json!(TargetType::List));
        let path = following(call.timeout);
        let mut lines = client.post_lines(path.as_str(), &Value::Object(request)).await?;
        let ticket = lines.next().await?.unwrap_or_default();
        report.batch(&ticket);
        follow(&mut lines, &mut report).await?;
    }
    report.finish()
}

/// As the API writes it.
pub(super) const fn kind_name(kind: TargetType) -> &'static str {
    match kind {
        TargetType::Glob => "glob",
        TargetType::Pcre => "pcre",
        TargetType::List => "list",
        TargetType::Grain => "grain",
        TargetType::GrainPcre => "grain_pcre",
        TargetType::Pillar => "pillar",
        TargetType::PillarPcre => "pillar_pcre",
        TargetType::Ipcidr => "ipcidr",
        TargetType::Nodegroup => "nodegroup",
        TargetType::Compound => "compound",
    }
}

pub(super) fn ids(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(super) fn count(minions: usize) -> String {
    if minions == 1 { "1 minion".to_owned() } else { format!("{minions} minions") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_out_counts_only_who_is_there() {
        let ticket = |away: &[&str]| json!({ "jid": "7", "minions": ["a", "b"], "away": away });
        assert!(on_its_way(&ticket(&["a"])).starts_with("job 7 is on its way to 1 minion;"));
        assert_eq!(on_its_way(&ticket(&["a", "b"])), "job 7 went to nobody");
    }

    #[test]
    fn a_minion_that_is_not_accepted_is_not_called_unknown() {
        let ticket = json!({ "unknown": ["x"], "not_accepted": { "rfid-1": "rejected" } });
        let told: Vec<_> =
            passed_over(&ticket).into_iter().map(|(id, why)| id + ": " + &why).collect();
        assert_eq!(told, ["x: no such minion is known", "rfid-1: not accepted (rejected)"]);
    }
}
