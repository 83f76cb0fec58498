//! Any event becomes a document that every server takes, in a mapping that stays as it is, and is found by its fields.

use drover_master::bridge::{Form, Item, Verdict};
use drover_tests::parts::search::on_each;
use serde_json::{Map, Value, json};

use super::sink::{Lone, item};

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn text(&mut self) -> String {
        const ODD: [&str; 14] = [
            "",
            " ",
            ".",
            "..",
            "a.b",
            ".a",
            "a.",
            "_id",
            "@timestamp",
            "\0",
            "x\0y",
            "€",
            "\u{1}\n\"\\",
            "😀",
        ];
        match self.roll(40) {
            0 => "ü".repeat(16_370 + self.roll(30)),
            1 => "x".repeat(32_700 + self.roll(100)),
            2 => "word ".repeat(self.roll(9000)),
            at @ 3..=16 => ODD[at - 3].to_owned(),
            at => format!("k{}", self.roll(at * 10)),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        let most = if depth == 0 { 8 } else { 12 };
        match self.roll(most) {
            0 => Value::Null,
            1 => json!(self.roll(2) == 0),
            2 => json!(i64::MIN + i64::try_from(self.roll(9)).unwrap()),
            3 => json!(u64::MAX - u64::try_from(self.roll(9)).unwrap()),
            4 => json!(f64::from_bits(self.0).clamp(-1e308, 1e308)),
            5 => json!(5e-324),
            6 | 7 => json!(self.text()),
            8 | 9 => (0..self.roll(4)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let entries = 1 + self.roll(3);
                let entry = |_| (self.text(), self.value(depth - 1));
                Value::Object((0..entries).map(entry).collect::<Map<_, _>>())
            }
        }
    }

    fn item(&mut self, seq: u64) -> Item {
        const TAGS: [&str; 12] = [
            "acme/till",
            "drover/app/rfid-1/temperature",
            "drover/beacon/rfid-1/load/",
            "drover/beacon/rfid-1/logfile/",
            "drover/job/20261123023705000123/ret/rfid-1",
            "drover/job/20261123023705000123/prog/rfid-1",
            "drover/key/rfid-1/accepted",
            "drover/presence/rfid-1/back",
            "drover/reactor/ran",
            "drover/bridge/elk/down",
            "drover/app/rfid-1/door/open",
            "drover/",
        ];
        const KEYS: [&str; 14] = [
            "jid", "fun", "retcode", "success", "user", "reason", "count", "message", "log",
            "event", "rule", "celsius", "return", "1m",
        ];
        let mut data = Map::new();
        for _ in 0..self.roll(6) {
            let key = if self.roll(2) == 0 {
                KEYS[self.roll(KEYS.len())].to_owned()
            } else {
                self.text()
            };
            data.insert(key, self.value(30));
        }
        let data = if self.roll(10) == 0 { self.value(3) } else { Value::Object(data) };
        let mut item = item(seq, TAGS[self.roll(TAGS.len())], data);
        if self.roll(20) == 0 {
            item.form = Form::Text;
        }
        item
    }
}

#[test]
fn any_payload_becomes_a_document_that_servers_take() {
    on_each(|server| {
        let lone = Lone::new(
            server,
            "random",
            "fields: {'*': {count: long, reason: keyword}}\ngrains: [role, site]\n",
        );
        lone.deliver(&[item(0, "drover/app/rfid-1/first", json!({"count": 1}))]);
        let mapping = lone.mapping();
        let mut dice = Dice(0x5eed_0b5e_55ed);
        let items: Vec<_> = (1..=2000).map(|seq| dice.item(seq)).collect();
        for batch in items.chunks(200) {
            lone.deliver(batch);
            // Sent again, each is there once.
            lone.deliver(&batch[..10]);
        }
        assert_eq!(lone.count(), 2001);
        assert_eq!(lone.mapping(), mapping, "the mapping changed");
    });
}

#[test]
fn an_event_is_found_by_its_fields() {
    on_each(|server| {
        let lone = Lone::new(
            server,
            "fields",
            "fields: {'drover/app/*/door/*': {count: long, by.badge: keyword}}\ngrains: [role, site]\n",
        );
        let ret = "drover/job/20261123023705000123/ret/rfid-1";
        lone.deliver(&[
            item(1, "drover/beacon/rfid-1/load/", json!({"1m": 0.5, "5m": 0.25, "15m": 0.125})),
            item(
                2,
                "drover/beacon/rfid-1/diskusage/",
                json!({"mount": "/data", "diskusage": 91.5}),
            ),
            item(3, "drover/app/rfid-1/door/open", json!({"count": 7, "by": {"badge": "4711"}})),
            item(4, "drover/app/rfid-1/door/open", json!({"count": "many", "deep": {"er": "x"}})),
            item(
                5,
                ret,
                json!({"fun": "state.apply", "retcode": 2, "success": false, "return": "no"}),
            ),
        ]);
        let one = |query: Value| lone.document(&query)["drover"]["seq"].as_u64().unwrap();
        assert_eq!(one(json!({"range": {"drover.metrics.load.1m": {"gt": 0.4, "lt": 0.6}}})), 1);
        assert_eq!(one(json!({"range": {"drover.metrics.disk.used_percent": {"gt": 91}}})), 2);
        assert_eq!(one(json!({"range": {"drover.fields.count": {"gte": 7}}})), 3);
        assert_eq!(one(json!({"term": {"drover.fields.by.badge": "4711"}})), 3);
        assert_eq!(one(json!({"term": {"drover.data.deep.er": "x"}})), 4);
        assert_eq!(one(json!({"term": {"drover.cut": true}})), 4);
        assert_eq!(one(json!({"term": {"event.outcome": "failure"}})), 5);
        assert_eq!(one(json!({"match": {"message": "failed"}})), 5);
        let site = json!({"bool": {"filter": [{"term": {"labels.site": "syd"}}, {"term": {"drover.seq": 5}}]}});
        assert_eq!(one(site), 5);
    });
}

#[test]
fn what_a_server_refuses_goes_as_text_and_is_taken() {
    on_each(|server| {
        let lone = Lone::new(server, "text", "");
        // A mapping that somebody broke: their index has another type where the sentence goes.
        let mut refused = item(1, "drover/app/rfid-1/door", json!({"open": true}));
        refused.form = Form::Text;
        lone.deliver(&[refused]);
        let document = lone.document(&json!({"term": {"drover.seq": 1}}));
        assert_eq!(document["drover"]["data_text"], r#"{"open":true}"#);
        assert_eq!(document["drover"]["cut"], true);
    });
}

#[test]
fn somebody_elses_index_is_not_written_to() {
    on_each(|server| {
        let lone = Lone::new(server, "foreign", "");
        let name = if server.kind().has_data_streams() {
            lone.index.clone()
        } else {
            format!("{}-{}", lone.index, super::sink::now().strftime("%Y.%m.%d"))
        };
        let _ = server.request("PUT", &format!("/{name}"), &Value::Null).ok();
        let error = lone.try_deliver(&[item(1, "a", Value::Null)]).unwrap_err();
        assert_eq!(error.failure(), drover_master::bridge::Failure::Denied);
        assert!(error.to_string().contains("is not this bridge's"), "{error}");
        let _ = server.request("DELETE", &format!("/{name}"), &Value::Null).ok();
        lone.deliver(&[item(1, "a", Value::Null)]);
    });
}

#[test]
fn a_newer_masters_template_is_left_as_it_is() {
    on_each(|server| {
        let lone = Lone::new(server, "newer", "");
        lone.deliver(&[item(1, "a", Value::Null)]);
        let daily = if server.kind().has_data_streams() { "" } else { "-daily" };
        let path = format!("/_index_template/drover-{}{daily}", lone.index);
        let mut template = server.get(&path)["index_templates"][0]["index_template"].take();
        template["_meta"]["drover_template"] = json!(99);
        if !template["data_stream"].is_null() {
            template["data_stream"] = json!({});
        }
        // Elasticsearch 9 tells when it was made, and does not want to be told.
        let parts = template.as_object_mut().unwrap();
        parts.retain(|part, _| !part.contains("_date"));
        let _ = server.request("PUT", &path, &template).ok();
        let again = Lone::on(server, lone.index.clone(), "");
        again.deliver(&[item(2, "a", Value::Null)]);
        let kept = &server.get(&path)["index_templates"][0]["index_template"];
        assert_eq!(kept["_meta"]["drover_template"], 99);
        let told: Vec<_> = again.keep().into_iter().map(|news| news.what).collect();
        assert!(told.contains(&"template_is_newer"), "{told:?}");
        assert_eq!(again.count(), 2);
    });
}

#[test]
fn a_label_that_is_configured_later_is_found_at_once() {
    on_each(|server| {
        let lone = Lone::new(server, "later", "");
        lone.deliver(&[item(1, "a", Value::Null)]);
        let again =
            Lone::on(server, lone.index.clone(), "grains: [role]\nfields: {'*': {n: long}}\n");
        again.deliver(&[item(2, "a", json!({"n": 5}))]);
        let query = json!({"bool": {"filter": [{"term": {"labels.role": "rfid"}}, {"term": {"drover.fields.n": 5}}]}});
        assert_eq!(again.document(&query)["drover"]["seq"], 2);
    });
}

#[test]
fn what_the_server_can_is_found_out_and_shown() {
    on_each(|server| {
        let lone = Lone::new(server, "shown", "");
        let verdicts = lone.try_deliver(&[item(1, "a", Value::Null)]).unwrap();
        assert_eq!(verdicts, [Verdict::Done]);
        let version = server.get("/")["version"]["number"].as_str().unwrap().to_owned();
        let told: Vec<_> = lone.keep().into_iter().map(|news| news.what).collect();
        if server.kind().has_data_streams() {
            assert!(
                lone.shown().ends_with(&format!("{version}, data streams")),
                "{}",
                lone.shown()
            );
            assert_eq!(told, [""; 0]);
        } else {
            let shown =
                format!("Elasticsearch {version}, daily indices since it has no data streams");
            assert_eq!(lone.shown(), shown);
            assert_eq!(told, ["server"]);
        }
        let daily = Lone::new(server, "daily", "daily: true\n");
        daily.deliver(&[item(1, "a", Value::Null)]);
        let day = format!("{}-{}", daily.index, super::sink::now().strftime("%Y.%m.%d"));
        assert_eq!(server.count(&day), 1);
    });
}
