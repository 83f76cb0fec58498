//! `drover status`: how the master is doing, what is wrong first.

use serde_json::Value;

use super::{
    Outcome,
    arguments::Format,
    client::Client,
    failure::Failure,
    output::{
        Printer,
        style::{Colour, Style},
        table::{cell, time},
    },
};

pub(super) async fn run(mut client: Client, printer: &Printer) -> Result<Outcome, Failure> {
    let status = client.get("/v1/status").await?;
    printer.print(&status, Format::Table, text)?;
    let is_healthy = status["healthy"] == Value::Bool(true);
    Ok(if is_healthy { Outcome::Success } else { Outcome::Failed })
}

fn text(status: &Value, style: Style) -> String {
    let mut lines = Vec::new();
    for problem in status["problems"].as_array().into_iter().flatten() {
        let colour = if problem["severity"] == "down" { Colour::Red } else { Colour::Yellow };
        let mark = if problem["severity"] == "down" { "down: " } else { "warning: " };
        lines.push(style.paint(colour, &format!("{mark}{}", cell(&problem["message"]))));
    }
    if lines.is_empty() {
        lines.push(style.paint(Colour::Green, "all is well"));
    }
    let mut row = |name: &str, value: String| {
        lines.push(format!(
            "{} {}",
            style.paint(Colour::Dim, &format!("{name:<13}")),
            style.clean(&value)
        ));
    };
    let title = format!(
        "{} {}, up {}",
        cell(&status["name"]),
        cell(&status["version"]),
        age(&status["uptime"])
    );
    row("master", title);
    row(
        "listens",
        format!("{} for minions, {} for operators", cell(&status["listen"]), cell(&status["api"])),
    );
    let minions = &status["minions"];
    row(
        "minions",
        with_zeros_left_out(
            format!("{} connected of {} accepted", minions["connected"], minions["accepted"]),
            minions,
            &["stale", "lost", "pending", "rejected", "revoked"],
        ),
    );
    let store = &status["store"];
    row(
        "store",
        format!(
            "{}: events {} to {}, {} on the disk, {} free",
            cell(&store["state"]),
            store["first_seq"],
            store["last_seq"],
            size(&store["bytes"]),
            size(&store["disk_free"]),
        ),
    );
    row(
        "jobs",
        format!(
            "{} under way, {} kept for minions that are away",
            status["jobs"]["active"], status["jobs"]["pending"]
        ),
    );
    let reactor = status["reactor"].as_object().map(|reactor| behind(&reactor["lag"]));
    row("reactor", reactor.unwrap_or_else(|| "no rules".to_owned()));
    for (name, bridge) in status["bridges"].as_object().into_iter().flatten() {
        row("bridge", format!("{name}: {}, {}", cell(&bridge["state"]), behind(&bridge["lag"])));
    }
    for certificate in status["certificates"].as_array().into_iter().flatten() {
        let end = &certificate["not_after"];
        let end = if end.is_null() {
            "does not end".to_owned()
        } else {
            format!("until {}, {} days", time(end), certificate["days"])
        };
        row("certificate", format!("{}: {end}", cell(&certificate["name"])));
    }
    lines.join("\n")
}

fn with_zeros_left_out(mut text: String, counts: &Value, names: &[&str]) -> String {
    for name in names.iter().filter(|name| counts[**name].as_u64() > Some(0)) {
        text.push_str(&format!(", {} {name}", counts[*name]));
    }
    text
}

fn behind(lag: &Value) -> String {
    match lag["events"].as_u64().unwrap_or(0) {
        0 => "nothing waits".to_owned(),
        events => format!(
            "{events} {}, {}, the oldest for {}",
            if events == 1 { "event waits" } else { "events wait" },
            size(&lag["bytes"]),
            age(&lag["seconds"])
        ),
    }
}

fn size(bytes: &Value) -> String {
    let bytes = bytes.as_f64().unwrap_or_default();
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, power)| bytes >= f64::from(1_u32 << power));
    match unit {
        Some((unit, power)) => format!("{:.1} {unit}", bytes / f64::from(1_u32 << power)),
        None => format!("{bytes} bytes"),
    }
}

fn age(seconds: &Value) -> String {
    let seconds = seconds.as_f64().unwrap_or_default();
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        120.0..7200.0 => format!("{:.0} min", seconds / 60.0),
        7200.0..172_800.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    fn status() -> Value {
        json!({
            "name": "acme", "version": "0.1.0", "started": "2026-11-23T02:37:05Z", "uptime": 93_784,
            "listen": "0.0.0.0:4510", "api": "/run/drover/master/api.sock",
            "healthy": true, "problems": [],
            "minions": { "connected": 1200, "stale": 0, "lost": 4, "accepted": 1204, "pending": 1, "rejected": 0, "revoked": 0 },
            "store": { "state": "ok", "first_seq": 100, "last_seq": 4711, "event_bytes": 900_000, "bytes": 4_194_304, "disk_free": 21_474_836_480_u64 },
            "jobs": { "active": 1, "pending": 3 },
            "reactor": { "lag": { "events": 0, "bytes": 0, "seconds": 0.0 } },
            "bridges": { "elk": { "state": "up", "lag": { "events": 30, "bytes": 9000, "seconds": 1.25 } } },
            "certificates": [
                { "name": "master", "kind": "master", "not_after": "2027-11-23T02:37:05Z", "days": 364 },
                { "name": "root", "kind": "root", "not_after": null, "days": null },
            ],
        })
    }

    #[test]
    fn a_master_that_is_well_is_told_at_a_glance() {
        assert_snapshot!(text(&status(), Style::default()), @"
        all is well
        master        acme 0.1.0, up 26 h
        listens       0.0.0.0:4510 for minions, /run/drover/master/api.sock for operators
        minions       1200 connected of 1204 accepted, 4 lost, 1 pending
        store         ok: events 100 to 4711, 4.0 MiB on the disk, 20.0 GiB free
        jobs          1 under way, 3 kept for minions that are away
        reactor       nothing waits
        bridge        elk: up, 30 events wait, 8.8 KiB, the oldest for 1 s
        certificate   master: until 2027-11-23 02:37:05Z, 364 days
        certificate   root: does not end
        ");
    }

    #[test]
    fn what_is_wrong_stands_first() {
        let mut status = status();
        status["problems"] = json!([
            { "severity": "down", "part": "store", "message": "the store is full" },
            { "severity": "warning", "part": "certificate/master", "message": "master ends in 3 days" },
        ]);
        let text = text(&status, Style::default());
        let first: Vec<_> = text.lines().take(2).collect();
        assert_eq!(first, ["down: the store is full", "warning: master ends in 3 days"]);
    }
}
