//! TLS, client certificates, passwords and keys: nginx stands before the server, since most of these servers have no
//! security here.

use std::fs;

use drover_tests::{
    parts::{
        certificates::Authority,
        nginx::{Front, Nginx},
        search::{Kind, Server, on_any},
    },
    wait,
};
use serde_json::{Value, json};

use super::pipeline::{ARRIVAL, Pipeline};

fn arrives(pipeline: &Pipeline, server: &Server) {
    pipeline.send("access/one", "n=1");
    wait::until("an event arrives", ARRIVAL, || server.count(&pipeline.pattern()) > 0);
}

fn directory(pipeline: &Pipeline, name: &str) -> std::path::PathBuf {
    pipeline.fleet.path(name)
}

#[test]
fn a_wrong_password_pauses_the_bridge_until_its_file_is_right() {
    on_any(|server| {
        let mut pipeline = Pipeline::new(&[], "password", "");
        let front = Front::default().with_password("drover", "correct horse");
        let nginx = Nginx::start(directory(&pipeline, "nginx"), server.port(), front);
        pipeline.fleet.write("master/elk.password", "wrong one\n");
        let keys = ", username: drover, password_file: elk.password, batch_delay: 50ms";
        pipeline.configure(&[nginx.url()], keys);
        pipeline.fleet.start_master();
        pipeline.send("access/one", "n=1");
        let status =
            pipeline.wait_status("the bridge is paused", |status| status["state"] == "paused");
        let said = status["last_error"].as_str().unwrap();
        assert!(said.contains("401"), "{said}");
        assert!(!status.to_string().contains("wrong one"), "{status}");
        assert!(!pipeline.fleet.master().log().contains("wrong one"), "no secret in the log");
        assert_eq!(pipeline.fleet.events("drover/bridge/elk/paused").len(), 1);

        pipeline.fleet.write("master/elk.password", "correct horse\n");
        let _ = pipeline.fleet.drover(&["bridge", "resume", "elk"]).ok();
        let _ = pipeline.every_event_is_there_once(server);
    });
}

#[test]
fn an_api_key_and_a_bearer_token_are_sent_as_they_are() {
    on_any(|server| {
        for (name, keys, wanted) in [
            ("apikey", ", api_key: 'aWQ6c2VjcmV0'", "ApiKey aWQ6c2VjcmV0"),
            ("bearer", ", bearer: 'AAEAAWVsYXN0aWM'", "Bearer AAEAAWVsYXN0aWM"),
        ] {
            let mut pipeline = Pipeline::new(&[], name, "");
            let front = Front { authorization: Some(wanted.to_owned()), ..Front::default() };
            let nginx = Nginx::start(directory(&pipeline, "nginx"), server.port(), front);
            pipeline.configure(&[nginx.url()], keys);
            pipeline.fleet.start_master();
            arrives(&pipeline, server);
        }
    });
}

#[test]
fn an_api_key_of_elasticsearch_itself_is_enough_for_everything_that_the_bridge_does() {
    if !Kind::chosen().contains(&Kind::Elasticsearch8) {
        return;
    }
    let mut pipeline = Pipeline::new(&[], "own-key", "");
    let dir = directory(&pipeline, "elasticsearch");
    let server = Server::start_with_password(Kind::Elasticsearch8, dir, "correct horse");
    let privileges = json!({"name": "drover", "role_descriptors": {"drover": {
        "cluster": ["monitor", "manage_index_templates"],
        "index": [{
            "names": ["drover-*", ".ds-drover-*"],
            "privileges": ["create_doc", "create_index", "auto_configure", "view_index_metadata", "manage", "read"],
        }],
    }}});
    let made = server.request("POST", "/_security/api_key", &privileges).ok();
    let key = made["encoded"].as_str().unwrap();
    pipeline.fleet.write("master/elk.key", key);
    pipeline.configure(&[server.url()], ", api_key_file: elk.key, batch_delay: 50ms");
    pipeline.fleet.start_master();
    let _ = pipeline.every_event_is_there_once(&server);

    // The key is taken back, and another stands in the file.
    let id = made["id"].clone();
    let _ = server.request("DELETE", "/_security/api_key", &json!({"ids": [id]})).ok();
    pipeline.send("access/later", "n=1");
    let _ = pipeline.wait_status("the bridge is paused", |status| status["state"] == "paused");
    let made = server.request("POST", "/_security/api_key", &privileges).ok();
    pipeline.fleet.write("master/elk.key", made["encoded"].as_str().unwrap());
    let _ = pipeline.fleet.drover(&["bridge", "resume", "elk"]).ok();
    let _ = pipeline.every_event_is_there_once(&server);
}

#[test]
fn an_expired_certificate_is_refused_until_a_new_one_is_there() {
    on_any(|server| {
        let mut pipeline = Pipeline::new(&[], "expired", "");
        let authority = Authority::new(&directory(&pipeline, "tls"), "authority");
        let front = |tls| Front { tls: Some(tls), ..Front::default() };
        let expired = front(authority.expired_server("server"));
        let mut nginx = Nginx::start(directory(&pipeline, "nginx"), server.port(), expired);
        let keys = format!(", ca: {}, batch_delay: 50ms", authority.file().display());
        pipeline.configure(&[nginx.url()], &keys);
        pipeline.fleet.start_master();
        pipeline.send("access/one", "n=1");
        let _ = pipeline.wait_status("the status says that the certificate expired", |status| {
            status["last_error"].as_str().is_some_and(|said| said.contains("expired"))
        });
        assert_eq!(server.count(&pipeline.pattern()), 0);

        nginx.change(front(authority.server("server")));
        let _ = pipeline.fleet.drover(&["bridge", "resume", "elk"]).ok();
        let _ = pipeline.every_event_is_there_once(server);
    });
}

#[test]
fn a_server_of_another_authority_gets_nothing() {
    on_any(|server| {
        let mut pipeline = Pipeline::new(&[], "stranger", "");
        let ours = Authority::new(&directory(&pipeline, "tls"), "ours");
        let another = Authority::new(&directory(&pipeline, "other"), "another");
        let front = Front { tls: Some(another.server("server")), ..Front::default() };
        let nginx = Nginx::start(directory(&pipeline, "nginx"), server.port(), front);
        let keys = format!(", ca: {}, username: drover, password: secret", ours.file().display());
        pipeline.configure(&[nginx.url()], &keys);
        pipeline.fleet.start_master();
        pipeline.send("access/one", "n=1");
        let _ = pipeline.wait_status("the status says why", |status| {
            status["last_error"].as_str().is_some_and(|said| said.contains("certificate"))
        });
        assert_eq!(server.count(&pipeline.pattern()), 0);
    });
}

#[test]
fn a_client_certificate_is_shown_and_a_renewed_one_is_taken_while_the_master_runs() {
    on_any(|server| {
        let mut pipeline = Pipeline::new(&[], "client", "");
        let authority = Authority::new(&directory(&pipeline, "tls"), "authority");
        let another = Authority::new(&directory(&pipeline, "other"), "another");
        let front = Front {
            tls: Some(authority.server("server")),
            client_ca: Some(authority.file()),
            ..Front::default()
        };
        let nginx = Nginx::start(directory(&pipeline, "nginx"), server.port(), front);
        let wrong = another.client("client");
        let keys = format!(
            ", ca: {}, cert: {}, key: {}, batch_delay: 50ms",
            authority.file().display(),
            wrong.cert.display(),
            wrong.key.display()
        );
        pipeline.configure(&[nginx.url()], &keys);
        pipeline.fleet.start_master();
        pipeline.send("access/one", "n=1");
        let refused = |status: &Value| status["last_error"].is_string();
        let _ = pipeline.wait_status("the certificate is refused", refused);
        assert_eq!(server.count(&pipeline.pattern()), 0);

        let right = authority.client("client");
        fs::rename(right.key, wrong.key).unwrap();
        fs::rename(right.cert, wrong.cert).unwrap();
        let _ = pipeline.fleet.drover(&["bridge", "resume", "elk"]).ok();
        let _ = pipeline.every_event_is_there_once(server);
    });
}

#[test]
fn a_batch_that_is_too_large_for_what_stands_before_the_server_goes_in_pieces() {
    on_any(|server| {
        let mut pipeline = Pipeline::new(&[], "large", "");
        let front = Front { longest_body: Some("16k".to_owned()), ..Front::default() };
        let nginx = Nginx::start(directory(&pipeline, "nginx"), server.port(), front);
        pipeline.configure(&[nginx.url()], "");
        pipeline.fleet.start_master();
        let mut program = pipeline.program();
        // Text that gzip does not make small.
        for number in 0..200 {
            let text: String = (0..8).map(|_| uuid::Uuid::new_v4().to_string()).collect();
            program.send("large/many", &json!({"n": number, "text": text}));
        }
        let _ = pipeline.fleet.wait_events("large/many", 200);
        let _ = pipeline.every_event_is_there_once(server);
        // One that is too large by itself does not hold up the others.
        let text: String = (0..2000).map(|_| uuid::Uuid::new_v4().to_string()).collect();
        program.send("large/one", &json!({ "text": text }));
        program.send("large/after", &json!({}));
        let _ = pipeline.fleet.wait_events("large/after", 1);
        wait::until("the next event arrives", ARRIVAL, || {
            let query = json!({"query_string": {"query": "\"large/after\""}});
            !server.documents(&pipeline.pattern(), &query).is_empty()
        });
        let letters = pipeline.fleet.json(&["bridge", "dead-letters", "list", "elk"]);
        let letter = letters.as_array().unwrap().iter().find(|letter| letter["tag"] == "large/one");
        let letter = letter.unwrap_or_else(|| panic!("{letters}"));
        assert!(letter["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{letter}");
    });
}
