use std::path::Path;

use drover_states::yaml;
use serde_json::json;
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::TcpListener};

use super::*;
use crate::bridge::sink::item;

fn read(text: &str) -> Result<SyslogSink, Diagnostic> {
    let root = yaml::load_nodes(text)?;
    let mut settings = Settings::new(Path::new("/x"), text, root.as_ref())?;
    let sink = SyslogSink::read(&mut settings)?;
    settings.finish()?;
    Ok(sink)
}

fn items() -> [Item; 2] {
    [1, 2].map(|seq| item(seq, "drover/minion/a/start", json!({"n": seq})))
}

#[tokio::test]
async fn a_stream_has_frames_with_their_lengths() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let reading = tokio::spawn(async move {
        let mut text = String::new();
        listener.accept().await.unwrap().0.read_to_string(&mut text).await.unwrap();
        text
    });
    let text = format!(
        "{{transport: tcp, hosts: '{address}', facility: local0, template: 'n {{{{ event.data.n }}}}'}}"
    );
    let sink = read(&text).unwrap();
    assert_eq!(sink.deliver(&items()).await.unwrap(), [Verdict::Done, Verdict::Done]);
    let text = reading.await.unwrap();
    let mut rest = text.as_str();
    for end in ["] n 1", "] n 2"] {
        let (length, after) = rest.split_once(' ').unwrap();
        let (message, after) = after.split_at(length.parse().unwrap());
        assert!(message.starts_with("<134>1 2026-11-23T02:37:05.123456Z "), "{message}");
        assert!(message.ends_with(end), "{message}");
        rest = after;
    }
    assert_eq!(rest, "");
}

#[tokio::test]
async fn a_datagram_is_one_message() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let unix = format!("{{transport: unix, socket: {}, template: hello}}", path.display());
    let port = udp.local_addr().unwrap().port();
    let over_udp = format!("{{transport: udp, hosts: '127.0.0.1:{port}', template: hello}}");
    read(&unix).unwrap().deliver(&items()).await.unwrap();
    read(&over_udp).unwrap().deliver(&items()).await.unwrap();
    let mut bytes = [0; 4096];
    for _ in items() {
        let count = daemon.recv(&mut bytes).await.unwrap();
        assert!(bytes[..count].starts_with(b"<30>1 ") && bytes[..count].ends_with(b"] hello"));
        let count = udp.recv(&mut bytes).await.unwrap();
        assert!(bytes[..count].starts_with(b"<30>1 ") && bytes[..count].ends_with(b"] hello"));
    }
    drop(daemon);
    let error = read(&unix).unwrap().deliver(&items()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot send to `{}`", path.display()));
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    assert_eq!(read("{hosts: logs.example}").unwrap().server(), "logs.example:6514, TLS");
    let wrong = |text| read(text).err().unwrap().to_string();
    insta::assert_snapshot!(wrong("{transport: smoke}"), @r"
        line 1: `transport` must be `tls`, `tcp`, `udp` or `unix`
            1 | {transport: smoke}
    ");
    insta::assert_snapshot!(wrong("{transport: udp, hosts: [a, b]}"), @r"
        line 1: over UDP there is one host: nobody can tell whether another is needed
            1 | {transport: udp, hosts: [a, b]}
        hint: several `hosts` take turns over `transport: tls` or `tcp`
    ");
    insta::assert_snapshot!(wrong("{hosts: a, facility: local8}"), @r"
        line 1: `facility` must be one of syslog's facilities, such as `daemon` or `local0`
            1 | {hosts: a, facility: local8}
    ");
    insta::assert_snapshot!(wrong("{hosts: a, max_length: 100}"), @r"
        line 1: `max_length` must be a number of bytes: 2048 or more, and in a datagram up to 65507
            1 | {hosts: a, max_length: 100}
    ");
    insta::assert_snapshot!(wrong("{transport: tcp, hosts: a, ca: ca.pem}"), @r"
        line 1: unknown key `ca`
            1 | {transport: tcp, hosts: a, ca: ca.pem}
    ");
}
