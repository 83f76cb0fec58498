//! The real parts do what scenarios rely on: so a broken part is not taken for a broken Drover.

#![allow(clippy::unwrap_used, reason = "a part that cannot be set up has failed")]

use std::{net::TcpListener, path::Path, thread};

use drover_tests::{
    fleet::{Outcome, PATIENCE, run},
    parts::{
        certificates::Authority,
        lumberjack::{LumberjackReceiver, Reception},
        mosquitto::{BrokerTls, Mosquitto},
        nginx::{Front, Nginx},
        promtool,
        proxy::{Line, Proxy},
    },
    wait,
};

fn curl(arguments: &[&str]) -> Outcome {
    let fixed = ["--silent", "--show-error", "--max-time", "10"];
    run(Path::new("/usr/bin/curl"), &[&fixed[..], arguments].concat())
}

fn status(arguments: &[&str]) -> String {
    curl(&[&["--output", "/dev/null", "--write-out", "%{http_code}"], arguments].concat()).stdout
}

#[test]
fn nginx_wants_a_client_certificate_and_a_password_and_answers_502_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    let (server, client) = (authority.server("server"), authority.client("client"));
    let front = Front {
        tls: Some(server),
        client_ca: Some(authority.file()),
        longest_body: Some("1k".to_owned()),
        ..Front::default()
    };
    // A port that nothing listens on, and that is not given away meanwhile.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let upstream = listener.local_addr().unwrap().port();
    drop(listener);
    let front = front.with_password("drover", "secret");
    let mut nginx = Nginx::start(dir.path().join("nginx"), upstream, front);
    let url = nginx.url();
    let file = authority.file();
    let ca = ["--cacert", file.to_str().unwrap()];
    let shown = ["--cert", client.cert.to_str().unwrap(), "--key", client.key.to_str().unwrap()];
    assert_eq!(status(&[&ca[..], &[&url]].concat()), "400", "no certificate");
    assert_eq!(status(&[&ca[..], &shown, &[&url]].concat()), "401", "no password");
    let all = [&ca[..], &shown, &["--user", "drover:secret", &url]].concat();
    assert_eq!(status(&all), "502", "no server");
    assert!(curl(&all).stdout.contains("<html>"));
    let long = "x".repeat(2000);
    assert_eq!(status(&[&all[..], &["--data-binary", &long]].concat()), "413", "too long");

    let expired = Front { tls: Some(authority.expired_server("server")), ..Front::default() };
    nginx.change(expired);
    let refused = curl(&[&ca[..], &[&url]].concat());
    assert!(refused.stderr.contains("expired"), "{refused:?}");
}

#[test]
fn a_message_goes_through_mosquitto_over_tls_with_client_certificates_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    let (certificate, client) = (authority.server("server"), authority.client("client"));
    let tls = BrokerTls { certificate, client_ca: Some(authority.file()) };
    let mut broker = Mosquitto::start(dir.path().join("mosquitto"), Some(&tls), "");
    let file = authority.file();
    let options = [
        "--cafile",
        file.to_str().unwrap(),
        "--cert",
        client.cert.to_str().unwrap(),
        "--key",
        client.key.to_str().unwrap(),
        "-t",
        "door/open",
        "-q",
        "1",
    ];
    let _ = broker.publish(&[&options[..], &["-r", "-m", "kept"]].concat()).ok();
    broker.stop();
    broker.start_again();
    let subscriber = broker.subscribe("subscriber", &options);
    wait::until("the retained message arrives", PATIENCE, || {
        subscriber.log().contains("door/open kept")
    });
    assert_ne!(broker.publish(&["-t", "door/open", "-m", "plain"]).status, 0, "TLS is wanted");
}

#[test]
fn a_receiver_of_lumberjack_listens() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = LumberjackReceiver::start(dir.path().to_owned(), Reception::default());
    wait::until("it says so", PATIENCE, || receiver.log().contains("listening"));
    assert!(receiver.events().is_empty());
}

#[test]
fn promtool_complains_of_metrics_that_are_none() {
    let page = "# HELP drover_sessions Connected minions.\n# TYPE drover_sessions gauge\ndrover_sessions 3\n";
    assert_eq!(promtool::complaints(page), "");
    assert!(!promtool::complaints("drover sessions: three\n").is_empty());
}

#[test]
fn a_bad_line_loses_answers_or_answers_itself() {
    // A server that answers every connection with one line.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let upstream = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let mut first = [0; 1];
            let _ = std::io::Read::read(&mut &connection, &mut first);
            let _ = std::io::Write::write_all(&mut &connection, answer);
        }
    });
    let proxy = Proxy::start(upstream);
    assert_eq!(curl(&[&proxy.url()]).stdout, "ok");
    proxy.turn(Line::Html);
    assert!(curl(&[&proxy.url()]).stdout.contains("Please log in"));
    proxy.turn(Line::LosesAnswers);
    assert_eq!(curl(&[&proxy.url()]).stdout, "ok");
    assert_eq!(curl(&["--data", "x", &proxy.url()]).stdout, "");
    assert_eq!(proxy.lost(), 1);
    proxy.turn(Line::Closes);
    assert_ne!(curl(&[&proxy.url()]).status, 0);
}
