use std::path::Path;

use drover_states::yaml;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{frame::decode, *};
use crate::bridge::sink::{Failure, SinkError, item};

fn read(text: &str) -> Result<LogstashSink, Diagnostic> {
    let root = yaml::load_nodes(text)?;
    let mut settings = Settings::new(Path::new("/x"), text, root.as_ref())?;
    let sink = LogstashSink::read(&mut settings)?;
    settings.finish()?;
    Ok(sink)
}

fn items(seqs: impl IntoIterator<Item = u64>) -> Vec<Item> {
    seqs.into_iter().map(|seq| item(seq, "a/b", json!({"n": seq}))).collect()
}

/// A Beats input of our own, for what a real one does not do when it is told: the numbers of a window's events are told,
/// and the answer is what the test says.
struct Input {
    listener: TcpListener,
    stream: Option<TcpStream>,
}

impl Input {
    async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), stream: None }
    }

    fn sink(&self) -> LogstashSink {
        let address = self.listener.local_addr().unwrap();
        let text = format!("{{hosts: '{address}', protocol: lumberjack, ack_timeout: 300ms}}");
        read(&text).unwrap()
    }

    async fn window(&mut self) -> Vec<u64> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.listener.accept().await.unwrap().0,
        };
        let stream = self.stream.insert(stream);
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(head[6..8], *b"2C");
        let length = u32::from_be_bytes(head[8..].try_into().unwrap());
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).await.unwrap();
        let (_, documents) = decode(&[&head[..], &body].concat());
        let seq = |(_, document): (u32, Vec<u8>)| {
            serde_json::from_slice::<Value>(&document).unwrap()["seq"].as_u64().unwrap()
        };
        documents.into_iter().map(seq).collect()
    }

    async fn answer(&mut self, numbers: &[u32]) {
        let stream = self.stream.as_mut().expect("there is a connection");
        for number in numbers {
            stream.write_all(b"2A").await.unwrap();
            stream.write_all(&number.to_be_bytes()).await.unwrap();
        }
    }
}

type Delivered = Result<Vec<Verdict>, LogstashError>;

/// Delivers on a task of its own, beside an input.
fn deliver(sink: LogstashSink) -> (mpsc::Sender<Vec<Item>>, mpsc::Receiver<Delivered>) {
    let (give, mut given) = mpsc::channel::<Vec<Item>>(1);
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(items) = given.recv().await {
            let _ = tell.send(sink.deliver(&items).await).await;
        }
    });
    (give, told)
}

#[tokio::test]
async fn windows_follow_each_other_on_one_connection() {
    let mut input = Input::new().await;
    let (give, mut told) = deliver(input.sink());
    // The second with a dead letter that is tried again, beside itself.
    for seqs in [[1, 2, 3], [10, 2, 10]] {
        give.send(items(seqs)).await.unwrap();
        assert_eq!(input.window().await, seqs);
        input.answer(&[0, 2, 3, 0]).await;
        assert_eq!(told.recv().await.unwrap().unwrap(), vec![Verdict::Done; 3]);
    }
}

#[tokio::test]
async fn what_was_acknowledged_before_the_end_is_not_sent_again() {
    let mut input = Input::new().await;
    let (give, mut told) = deliver(input.sink());
    give.send(items(1..=3)).await.unwrap();
    input.window().await;
    input.answer(&[2]).await;
    input.stream = None;
    let verdicts = told.recv().await.unwrap().unwrap();
    assert_eq!(verdicts[..2], [Verdict::Done, Verdict::Done]);
    assert!(
        matches!(&verdicts[2], Verdict::Later(reason) if reason.contains("ended the connection"))
    );
    give.send(items([3])).await.unwrap();
    assert_eq!(input.window().await, [3]);
    input.answer(&[1]).await;
    assert_eq!(told.recv().await.unwrap().unwrap(), [Verdict::Done]);
}

#[tokio::test]
async fn a_silent_input_is_left_and_one_that_claims_too_much_too() {
    let mut input = Input::new().await;
    let (give, mut told) = deliver(input.sink());
    give.send(items(1..=2)).await.unwrap();
    input.window().await;
    let error = told.recv().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("is silent for"), "{error}");
    input.stream = None;
    give.send(items(1..=2)).await.unwrap();
    assert_eq!(input.window().await, [1, 2]);
    input.answer(&[3]).await;
    let error = told.recv().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("does not speak the Beats protocol"), "{error}");
}

#[tokio::test]
async fn a_busy_input_is_waited_for_and_not_sent_twice() {
    let mut input = Input::new().await;
    let mut sink = input.sink();
    match &mut sink.protocol {
        Protocol::Lumberjack(receiver) => receiver.at_once = Duration::from_millis(200),
        Protocol::Lines(_) => unreachable!(),
    }
    let (give, mut told) = deliver(sink);
    give.send(items(1..=3)).await.unwrap();
    input.window().await;
    input.answer(&[0, 1]).await;
    let verdicts = told.recv().await.unwrap().unwrap();
    assert_eq!(verdicts[0], Verdict::Done);
    assert!(matches!(&verdicts[2], Verdict::Later(reason) if reason.contains("is alive")));
    // Nothing new of it: that is no failure.
    give.send(items(2..=4)).await.unwrap();
    let busy = SinkError::from(told.recv().await.unwrap().unwrap_err());
    assert!(busy.is_busy() && busy.failure() == Failure::Away, "{busy}");
    // What came along meanwhile waits for the window that is on its way.
    give.send(items(2..=4)).await.unwrap();
    input.answer(&[3]).await;
    let verdicts = told.recv().await.unwrap().unwrap();
    assert_eq!(verdicts[..2], [Verdict::Done, Verdict::Done]);
    assert!(matches!(verdicts[2], Verdict::Later(_)));
    give.send(items([4])).await.unwrap();
    assert_eq!(input.window().await, [4]);
}

#[test]
fn a_document_has_what_beats_add() {
    let sink = read("{hosts: a, protocol: lumberjack}").unwrap();
    assert_eq!(sink.server(), "a:5044, Lumberjack 2");
    let document = sink.document(&item(7, "a/b", json!({"n": 1}))).unwrap();
    assert_eq!(document["@timestamp"], "2026-11-23T02:37:05.123456789Z");
    assert!(document["message"].is_string());
    assert_eq!(document["id"], document["@metadata"]["_id"]);
    assert_eq!(document["@metadata"]["beat"], "drover");
    assert_eq!((&document["seq"], &document["data"]), (&json!(7), &json!({"n": 1})));
    let sink = read("{hosts: a, protocol: lumberjack, template: 'n={{ event.data.n }}'}").unwrap();
    let document = sink.document(&item(7, "a/b", json!({"n": 1}))).unwrap();
    assert_eq!(document["message"], "n=1");
    assert!(sink.document(&item(7, "a/b", json!({}))).is_err());
}

#[tokio::test]
async fn lines_are_lines_whatever_is_in_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let reading = tokio::spawn(async move {
        let mut text = String::new();
        listener.accept().await.unwrap().0.read_to_string(&mut text).await.unwrap();
        text
    });
    let sink = read(&format!("{{hosts: '{address}', template: \"{{{{ event.data.text }}}}\\n\"}}"))
        .unwrap();
    let items = [
        item(1, "a/b", json!({"text": "one\ntwo"})),
        item(2, "a/b", json!({})),
        item(3, "a/b", json!({"text": "three"})),
    ];
    let verdicts = sink.deliver(&items).await.unwrap();
    assert!(matches!(verdicts[..], [Verdict::Done, Verdict::Refused(_), Verdict::Done]));
    assert_eq!(
        reading.await.unwrap().lines().map(str::trim_end).collect::<Vec<_>>(),
        ["one two", "three"]
    );
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    let wrong = |text| read(text).err().unwrap().to_string();
    insta::assert_snapshot!(wrong("{protocol: lines}"), @r"
        line 1: the bridge has no `hosts`
            1 | {protocol: lines}
    ");
    insta::assert_snapshot!(wrong("{hosts: logs.example}"), @r"
        line 1: `hosts` must be an address such as `logs.example:5044`, or a list of them
            1 | {hosts: logs.example}
    ");
    insta::assert_snapshot!(wrong("{hosts: 'a:1', protocol: beats}"), @r"
        line 1: `protocol` must be `lines` (a TCP input) or `lumberjack` (a Beats input)
            1 | {hosts: 'a:1', protocol: beats}
    ");
    insta::assert_snapshot!(wrong("{hosts: 'a:1', compression: 3}"), @r"
        line 1: unknown key `compression`
            1 | {hosts: 'a:1', compression: 3}
    ");
    insta::assert_snapshot!(wrong("{hosts: 'a:1', tls: false, ca: ca.pem}"), @r"
        line 1: the bridge has `tls: false`, and settings of TLS
            1 | {hosts: 'a:1', tls: false, ca: ca.pem}
        hint: take out `tls`, or `ca`, `cert`, `key` and `tls_server_name`
    ");
}
