//! What an event tells beside its payload: its kind, what was done and how it ended, and the numbers that have fields of
//! their own. By the tags and payloads that the master, its minions and their beacons make; anything else has few facts.

use drover_proto::event::Event;
use serde::Serialize;
use serde_json::{Map, Value};

/// `event.kind` of the Elastic Common Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Event,
    Metric,
    State,
    Alert,
}

/// `event.outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Success,
    Failure,
}

/// An event's tag in its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    /// `minion`, `job`, …: the part after `drover`. Empty for a tag of somebody else.
    pub(super) space: &'a str,
    /// Whom it is about: a minion's, a job's or a bridge's name.
    pub(super) about: &'a str,
    /// What is left: `start`, `ret/rfid-1`, `door/open`.
    pub(super) rest: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn of(tag: &'a str) -> Self {
        let Some(tag) = tag.strip_prefix("drover/") else {
            return Self { space: "", about: "", rest: tag };
        };
        let (space, tag) = tag.split_once('/').unwrap_or((tag, ""));
        match space {
            // Nobody stands between the space and what happened.
            "reactor" | "master" => Self { space, about: "", rest: tag },
            _ => {
                let (about, rest) = tag.split_once('/').unwrap_or((tag, ""));
                Self { space, about, rest }
            }
        }
    }

    /// The last part of the tag that says what happened.
    pub(super) fn action(&self) -> &'a str {
        let last = self.rest.rsplit('/').find(|part| !part.is_empty());
        match self.space {
            "job" => self.rest.split('/').next().unwrap_or_default(),
            "beacon" if !matches!(last, Some("suppressed" | "dropped")) => self.beacon(),
            _ => last.unwrap_or(self.space),
        }
    }

    pub(super) fn beacon(&self) -> &'a str {
        self.rest.split('/').next().unwrap_or_default()
    }

    fn category(&self) -> Option<&'static str> {
        match self.space {
            "minion" | "presence" | "beacon" => Some("host"),
            "key" | "authority" | "station" => Some("iam"),
            "job" | "pending" => Some("process"),
            _ => None,
        }
    }

    fn kind(&self) -> Kind {
        match (self.space, self.action()) {
            ("presence", _) => Kind::State,
            ("key", "clone")
            | ("authority", "expires")
            | ("bridge", "missed" | "dead_letters" | "paused" | "down")
            | ("reactor", "error" | "loop" | "dropped") => Kind::Alert,
            _ => Kind::Event,
        }
    }

    /// `drover.minion` and the like; a tag of somebody else's is `drover.custom`.
    pub(super) fn dataset(&self) -> String {
        let space = if self.space.is_empty() { "custom" } else { self.space };
        format!("drover.{space}")
    }
}

/// Numbers that are known to be such, under `drover.metrics`.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Metrics<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) load: Option<Load>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<Used<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disk: Option<Used<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<Temperature<'a>>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Load {
    #[serde(rename = "1m")]
    pub(super) one: f64,
    #[serde(rename = "5m")]
    pub(super) five: f64,
    #[serde(rename = "15m")]
    pub(super) fifteen: f64,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Used<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mount: Option<&'a str>,
    pub(super) used_percent: f64,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Temperature<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sensor: Option<&'a str>,
    pub(super) celsius: f64,
}

/// `log`: where a line that a device's log shipper sent stood.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Log<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<LogFile<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) flags: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) syslog: Option<Syslog<'a>>,
}

/// What an entry of the journal has beside a line of a file.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Syslog<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) priority: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) appname: Option<&'a str>,
}

/// `process`: who wrote an entry of the journal.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Process<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct LogFile<'a> {
    pub(super) path: &'a str,
}

/// What an event tells.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) kind: Kind,
    pub(super) category: Option<&'static str>,
    pub(super) outcome: Option<Outcome>,
    /// In nanoseconds.
    pub(super) duration: Option<i64>,
    pub(super) user: Option<&'a str>,
    /// Of the agent that a minion came with.
    pub(super) agent_version: Option<&'a str>,
    pub(super) jid: Option<&'a str>,
    pub(super) fun: Option<&'a str>,
    pub(super) retcode: Option<i64>,
    pub(super) success: Option<bool>,
    /// The event that led to this one.
    pub(super) cause: Option<&'a str>,
    pub(super) rule: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    pub(super) count: Option<i64>,
    /// Where a line of a log stood.
    pub(super) log: Option<Log<'a>>,
    /// Who wrote it.
    pub(super) process: Option<Process<'a>>,
    pub(super) metrics: Option<Metrics<'a>>,
    /// Keys of the payload that need not be repeated.
    pub(super) taken: Vec<&'a str>,
}

/// The longest text that a keyword takes here; what is longer stays in the payload.
const KEYWORD: usize = 1024;

/// Reads the payload of an event, and takes what has a field of its own.
pub(super) fn facts<'a>(
    event: &'a Event,
    parts: &Parts<'a>,
    data: &'a Map<String, Value>,
) -> Facts<'a> {
    let mut reader = Reader { data, taken: Vec::new() };
    let mut facts = Facts {
        kind: parts.kind(),
        category: parts.category(),
        outcome: None,
        duration: None,
        user: None,
        agent_version: None,
        jid: None,
        fun: None,
        retcode: None,
        success: None,
        cause: None,
        rule: None,
        reason: None,
        count: None,
        log: None,
        process: None,
        metrics: None,
        taken: Vec::new(),
    };
    // Payloads of the device's programs and of others mean what their makers want; the master's own are known.
    if !matches!(parts.space, "app" | "beacon" | "") {
        if let Some(minion) = &event.minion
            && data.get("id").and_then(Value::as_str) == Some(minion.as_str())
        {
            reader.taken.push("id");
        }
        facts.jid = reader.text("jid");
        facts.reason = reader.text("reason");
        facts.count = reader.integer("count");
    }
    match parts.space {
        "minion" if parts.action() == "start" => facts.agent_version = reader.text("version"),
        "job" => {
            facts.jid = Some(parts.about);
            facts.fun = reader.text("fun");
            facts.user = reader.text("user");
            facts.retcode = reader.integer("retcode");
            facts.success = reader.truth("success");
            facts.outcome = facts
                .success
                .map(|success| if success { Outcome::Success } else { Outcome::Failure });
            facts.duration = data.get("return").and_then(duration_of_states);
        }
        "pending" => facts.fun = reader.text("fun"),
        "presence" => {
            // Counted in whole seconds; it stays in the payload for who reads that.
            let away = data.get("away").and_then(Value::as_i64);
            facts.duration = away.and_then(|seconds| seconds.checked_mul(1_000_000_000));
        }
        "reactor" => {
            facts.rule = reader.text("rule");
            facts.cause = data
                .get("event")
                .and_then(|event| event["id"].as_str())
                .filter(|id| id.len() <= KEYWORD);
        }
        "beacon" | "app" => {
            facts.log = log(&mut reader);
            facts.process = facts.log.as_ref().and_then(|_| process(&mut reader));
            facts.metrics = metrics(&mut reader, parts);
            if facts.metrics.is_some() {
                facts.kind = Kind::Metric;
            }
            facts.count = match parts.action() {
                "suppressed" if parts.space == "beacon" => reader.integer("suppressed"),
                _ => None,
            };
        }
        _ => {}
    }
    facts.taken = reader.taken;
    facts
}

/// Where a line of a log stood. What has more to it than that stays in the payload.
fn log<'a>(reader: &mut Reader<'a>) -> Option<Log<'a>> {
    let mut log = Log::default();
    for (key, value) in reader.data.get("log")?.as_object()? {
        match key.as_str() {
            "level" => log.level = Some(short(value)?),
            "offset" => log.offset = Some(value.as_i64()?),
            "file" => {
                let path = value.as_object().filter(|file| file.len() == 1)?.get("path")?;
                log.file = Some(LogFile { path: short(path)? });
            }
            "flags" => log.flags = value.as_array()?.iter().map(short).collect::<Option<_>>()?,
            "syslog" => {
                let mut syslog = Syslog::default();
                for (key, value) in value.as_object()? {
                    match key.as_str() {
                        "priority" => syslog.priority = Some(value.as_i64()?),
                        "appname" => syslog.appname = Some(short(value)?),
                        _ => return None,
                    }
                }
                log.syslog = Some(syslog);
            }
            _ => return None,
        }
    }
    reader.taken.push("log");
    Some(log)
}

fn process<'a>(reader: &mut Reader<'a>) -> Option<Process<'a>> {
    let mut process = Process::default();
    for (key, value) in reader.data.get("process")?.as_object()? {
        match key.as_str() {
            "pid" => process.pid = Some(value.as_i64()?),
            "name" => process.name = Some(short(value)?),
            _ => return None,
        }
    }
    reader.taken.push("process");
    Some(process)
}

fn short(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| text.len() <= KEYWORD)
}

/// How long the states of a run took, which a return has in milliseconds.
fn duration_of_states(value: &Value) -> Option<i64> {
    let states = value.as_object()?;
    let mut sum = None;
    for state in states.values() {
        state.get("__run_num__")?;
        let milliseconds = state.get("duration")?.as_f64()?;
        *sum.get_or_insert(0.0) += milliseconds;
    }
    let nanoseconds = sum? * 1_000_000.0;
    // Some 290 years fit.
    #[expect(clippy::cast_possible_truncation, reason = "it was compared")]
    (0.0..9e18).contains(&nanoseconds).then_some(nanoseconds as i64)
}

/// By the names of what they measure: a beacon may be called anything in a minion's configuration.
fn metrics<'a>(reader: &mut Reader<'a>, parts: &Parts<'a>) -> Option<Metrics<'a>> {
    let mut metrics = Metrics::default();
    let is_beacon = parts.space == "beacon";
    if let (true, Some(one), Some(five), Some(fifteen)) =
        (is_beacon, reader.seen("1m"), reader.seen("5m"), reader.seen("15m"))
    {
        reader.taken.extend(["1m", "5m", "15m"]);
        metrics.load = Some(Load { one, five, fifteen });
    }
    if let (true, Some(used_percent)) = (is_beacon, reader.seen("memusage")) {
        reader.taken.push("memusage");
        metrics.memory = Some(Used { mount: None, used_percent });
    }
    if let (true, Some(used_percent)) = (is_beacon, reader.seen("diskusage")) {
        reader.taken.push("diskusage");
        metrics.disk = Some(Used { mount: reader.text("mount"), used_percent });
    }
    if (is_beacon || parts.rest.split('/').any(|part| part == "temperature"))
        && let Some(celsius) = reader.seen("celsius")
    {
        reader.taken.push("celsius");
        metrics.temperature = Some(Temperature { sensor: reader.text("sensor"), celsius });
    }
    (metrics != Metrics::default()).then_some(metrics)
}

/// Takes known keys out of a payload, where they hold what they should.
struct Reader<'a> {
    data: &'a Map<String, Value>,
    taken: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let text = self.data.get(key)?.as_str().filter(|text| text.len() <= KEYWORD)?;
        self.taken.push(key);
        Some(text)
    }

    fn integer(&mut self, key: &'static str) -> Option<i64> {
        let number = self.data.get(key)?.as_i64()?;
        self.taken.push(key);
        Some(number)
    }

    fn truth(&mut self, key: &'static str) -> Option<bool> {
        let truth = self.data.get(key)?.as_bool()?;
        self.taken.push(key);
        Some(truth)
    }

    /// A number that is not taken yet.
    fn seen(&self, key: &str) -> Option<f64> {
        self.data.get(key)?.as_f64()
    }
}
