use std::net::SocketAddr;

use drover_proto::event::Event;
use drover_states::yaml;
use insta::assert_snapshot;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use uuid::Uuid;

use super::*;
use crate::bridge::{
    http::fake::{answering, says},
    sink,
};

fn read_text(text: &str) -> Result<WebhookSink, String> {
    let root = yaml::load_nodes(text).unwrap();
    let mut settings = Settings::new("/x".as_ref(), text, root.as_ref()).unwrap();
    let sink = WebhookSink::read(&mut settings).map_err(|wrong| wrong.to_string())?;
    settings.finish().map_err(|wrong| wrong.to_string())?;
    Ok(sink)
}

/// A webhook to a receiver that gives these answers, and then 204; with what it was sent.
async fn receiver(keys: &str, answers: &[(&str, &str)]) -> (WebhookSink, Receiver<String>) {
    let answers: Vec<_> = answers.iter().map(|(status, head)| says(status, head, "said")).collect();
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let (address, requests) = answering(move |_| {
        answers.lock().unwrap().next().unwrap_or_else(|| says("204 No Content", "", ""))
    })
    .await;
    (to(address, keys), requests)
}

fn to(address: SocketAddr, keys: &str) -> WebhookSink {
    read_text(&format!("url: 'http://{address}/hooks/s3cret?k=v'\n{keys}")).unwrap()
}

fn item(number: u128, data: Value) -> Item {
    let event = Event {
        id: Uuid::from_u128(number),
        seq: 7,
        ts: "2026-11-23T02:37:05.5Z".parse().unwrap(),
        at: None,
        tag: "drover/presence/rfid-1/lost".parse().unwrap(),
        minion: Some("rfid-1".parse().unwrap()),
        data,
    };
    Item {
        event: Arc::new(event),
        grains: Arc::default(),
        form: sink::Form::Whole,
        is_retry: false,
    }
}

fn items(count: u128) -> Vec<Item> {
    (1..=count).map(|number| item(number, json!({"n": number}))).collect()
}

fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn each_event_is_a_request_that_is_known_again() {
    let keys = "method: PUT\nheaders: {X-Token: hunter2}\nusername: u\npassword: p\n";
    let (sink, mut requests) = receiver(keys, &[]).await;
    assert_eq!(sink.deliver(&items(2)).await.unwrap(), [Verdict::Done, Verdict::Done]);
    let first = requests.recv().await.unwrap();
    assert!(first.starts_with("PUT /hooks/s3cret?k=v HTTP/1.1\r\n"), "{first}");
    for header in [
        "idempotency-key: 00000000-0000-0000-0000-000000000001",
        "content-type: application/json",
        "x-token: hunter2",
        "authorization: Basic dTpw",
    ] {
        assert!(first.contains(&format!("{header}\r\n")), "{first}");
    }
    let sent: Value = serde_json::from_str(body(&first)).unwrap();
    assert_eq!(
        (&sent["tag"], &sent["data"]),
        (&json!("drover/presence/rfid-1/lost"), &json!({"n": 1}))
    );
    assert!(
        requests
            .recv()
            .await
            .unwrap()
            .contains("idempotency-key: 00000000-0000-0000-0000-000000000002")
    );
}

#[tokio::test]
async fn a_template_and_slacks_form_make_the_body() {
    let keys = "template: '{{ event.minion }} {{ event.data.n }}'\ncontent_type: text\n";
    let (sink, mut requests) = receiver(keys, &[]).await;
    sink.deliver(&items(1)).await.unwrap();
    let request = requests.recv().await.unwrap();
    assert!(request.contains("content-type: text/plain; charset=utf-8\r\n"), "{request}");
    assert_eq!(body(&request), "rfid-1 1");

    let (sink, mut requests) = receiver("form: slack\n", &[]).await;
    let lost = item(1, json!({"last_seen": "<!channel> & co"}));
    sink.deliver(&[lost]).await.unwrap();
    assert_snapshot!(body(&requests.recv().await.unwrap()),
        @r#"{"text":"*rfid-1 is lost, last seen &lt;!channel&gt; &amp; co*\n`drover/presence/rfid-1/lost` · rfid-1"}"#);

    let keys = "form: slack\ntemplate: 'see {{ event.tag }}'\n";
    let (sink, mut requests) = receiver(keys, &[]).await;
    sink.deliver(&items(1)).await.unwrap();
    assert_eq!(
        body(&requests.recv().await.unwrap()),
        r#"{"text":"see drover/presence/rfid-1/lost"}"#
    );
}

#[tokio::test]
async fn a_batch_is_an_array_and_is_halved_where_it_is_refused() {
    let (sink, mut requests) = receiver("batch: true\n", &[]).await;
    assert_eq!(sink.deliver(&items(3)).await.unwrap(), vec![Verdict::Done; 3]);
    let request = requests.recv().await.unwrap();
    let sent: Vec<Value> = serde_json::from_str(body(&request)).unwrap();
    assert_eq!(sent.len(), 3);
    assert!(
        request.contains("000000000001-00000000-0000-0000-0000-000000000003-3\r\n"),
        "{request}"
    );

    let (sink, _requests) = receiver("batch: true\n", &[("422 Unprocessable", ""); 2]).await;
    let error = sink.deliver(&items(2)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::TooLarge, "{error}");
    let alone = sink.deliver(&items(1)).await.unwrap();
    assert!(
        matches!(&alone[..], [Verdict::Refused(reason)] if reason.contains("422")),
        "{alone:?}"
    );
}

#[tokio::test]
async fn what_a_status_means() {
    for (status, failure) in [
        ("401 Unauthorized", Failure::Denied),
        ("403 Forbidden", Failure::Denied),
        ("404 Not Found", Failure::Denied),
        ("410 Gone", Failure::Denied),
        ("302 Found", Failure::Denied),
        ("408 Request Timeout", Failure::Away),
        ("429 Too Many Requests", Failure::Away),
        ("500 Internal Server Error", Failure::Away),
        ("503 Service Unavailable", Failure::Away),
    ] {
        let (sink, _requests) = receiver("", &[(status, "")]).await;
        let error = sink.deliver(&items(1)).await.unwrap_err();
        assert_eq!(error.failure(), failure, "{error}");
        assert!(error.to_string().contains(status), "{error}");
        assert!(!error.to_string().contains("s3cret"), "the path is a secret: {error}");
    }
    let (sink, _requests) = receiver("", &[("400 Bad Request", "")]).await;
    let verdicts = sink.deliver(&items(1)).await.unwrap();
    let [Verdict::Refused(reason)] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert!(
        reason.ends_with("answered 400 Bad Request: said") && !reason.contains("s3cret"),
        "{reason}"
    );
}

#[tokio::test]
async fn what_was_taken_is_not_sent_again_for_the_sake_of_what_was_not() {
    let (sink, _requests) = receiver("", &[("200 OK", ""), ("500 Oh", "")]).await;
    let verdicts = sink.deliver(&items(3)).await.unwrap();
    assert!(
        matches!(&verdicts[..], [Verdict::Done, Verdict::Later(_), Verdict::Later(_)]),
        "{verdicts:?}"
    );
}

#[tokio::test]
async fn a_receiver_that_wants_to_be_left_alone_is() {
    let (sink, mut requests) = receiver("", &[("429 Too Many", "retry-after: 120\r\n")]).await;
    assert!(matches!(sink.deliver(&items(1)).await, Err(WebhookError::Busy { .. })));
    requests.recv().await.unwrap();
    let error = sink.deliver(&items(1)).await.unwrap_err();
    assert!(error.to_string().contains("wants no requests for 1"), "{error}");
    assert_eq!(error.failure(), Failure::Away);
    assert!(requests.try_recv().is_err(), "nothing was sent");
}

#[tokio::test]
async fn an_event_whose_template_fails_is_refused_and_holds_up_nobody() {
    let keys = "template: '{{ 1 / event.data.n }}'\n";
    for keys in [keys.to_owned(), format!("{keys}batch: true\n")] {
        let (sink, _requests) = receiver(&keys, &[]).await;
        let verdicts = sink.deliver(&[item(1, json!({"n": "x"})), item(2, json!({"n": 2}))]).await;
        let verdicts = verdicts.unwrap();
        assert!(matches!(&verdicts[..], [Verdict::Refused(_), Verdict::Done]), "{verdicts:?}");
    }
}

#[tokio::test]
async fn a_url_in_a_file_is_read_anew_when_the_receiver_refuses_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("url");
    let (address, mut requests) = answering(|request| {
        let status = if request.starts_with("POST /new ") { "200 OK" } else { "404 Not Found" };
        says(status, "", "")
    })
    .await;
    std::fs::write(&file, "ftp://x").unwrap();
    let sink = read_text(&format!("url_file: {}\n", file.display())).unwrap();
    let error = sink.deliver(&items(1)).await.unwrap_err();
    assert!(error.to_string().starts_with("the URL in `url_file` must be an address"), "{error}");
    std::fs::write(&file, format!("http://{address}/old\n")).unwrap();
    sink.url.handle_refused();
    assert_eq!(sink.deliver(&items(1)).await.unwrap_err().failure(), Failure::Denied);
    std::fs::write(&file, format!("http://{address}/new\n")).unwrap();
    assert_eq!(sink.deliver(&items(1)).await.unwrap(), [Verdict::Done]);
    assert!(requests.recv().await.unwrap().starts_with("POST /old "));
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    let wrong = |text: &str| read_text(text).err().unwrap();
    assert!(wrong("method: POST\n").starts_with("line 1: the bridge has no `url`"));
    assert!(wrong("url: 'http://u:p@a'\n").contains("use `username` and `password`"));
    assert!(wrong("url: 'ftp://a'\n").contains("begins with `http://` or `https://`"));
    assert!(wrong("url: 'http://a'\nmethod: GET\n").contains("`method` must be `POST`"));
    assert!(
        wrong("url: 'http://a'\nheaders: {'a b': c}\n").contains("`a b` is no name of a header")
    );
    assert!(wrong("url: 'http://a'\nheaders: {Host: c}\n").contains("sets `host` itself"));
    assert!(wrong("url: 'http://a'\nform: slack\nbatch: true\n").contains("JSON array"));
    let sink = read_text("url: 'http://a/s3cret'\nheaders: {X_file: token}\nform: json\n").unwrap();
    assert!(!format!("{sink:?}").contains("s3cret"));
}
