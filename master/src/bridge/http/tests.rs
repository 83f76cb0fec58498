use std::net::SocketAddr;

use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::mpsc};

use super::{
    fake::{request, says, serving},
    *,
};

/// A server with one script for each connection, with an answer for each request on it. Gives the requests.
async fn serve(scripts: Vec<Vec<Vec<u8>>>) -> (SocketAddr, mpsc::Receiver<String>) {
    let mut scripts = scripts.into_iter();
    serving(move |mut tcp, seen| {
        let script = scripts.next().unwrap_or_default();
        async move {
            for answer in script {
                seen.send(request(&mut tcp).await.unwrap()).await.unwrap();
                tcp.write_all(&answer).await.unwrap();
            }
        }
    })
    .await
}

fn auth(text: &str) -> Result<Auth, String> {
    let root = drover_states::yaml::load_nodes(text).unwrap();
    let mut settings =
        drover_states::settings::Settings::new("/x".as_ref(), text, root.as_ref()).unwrap();
    Auth::read(&mut settings).map_err(|wrong| wrong.to_string())
}

fn client(address: SocketAddr, text: &str) -> Client {
    let origin = Origin::parse(&format!("http://{address}/es"), None).unwrap();
    let auth = Arc::new(auth(text).unwrap());
    Client::new(origin, Arc::default(), auth, Duration::from_secs(10))
}

async fn get(client: &Client) -> Result<Answer, HttpError> {
    client.call(&Call::new(Method::GET, "/?a=b")).await
}

#[tokio::test]
async fn a_connection_is_kept_and_both_sides_pack_by_gzip() {
    let packed = Body::written("x", true, |to| to.write_all(b"{\"ok\":1}"));
    let answer = says("200 OK", "content-encoding: gzip\r\n", &packed.bytes);
    let (address, mut requests) = serve(vec![vec![answer.clone(), answer]]).await;
    let client = client(address, "");
    for _ in 0..2 {
        let call = Call::new(Method::POST, "/_bulk").with(packed.clone());
        let answer = client.call(&call).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"{\"ok\":1}"[..]));
        let request = requests.recv().await.unwrap();
        assert!(request.starts_with("POST /es/_bulk HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("accept-encoding: gzip\r\n"), "{request}");
        assert!(request.contains("content-encoding: gzip\r\n"), "{request}");
        assert!(request.contains(&format!("host: {address}\r\n")), "{request}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_replaced() {
    let answer = says("200 OK", "", b"");
    let (address, _requests) = serve(vec![vec![answer.clone()], vec![answer]]).await;
    let client = client(address, "");
    for _ in 0..2 {
        assert_eq!(get(&client).await.unwrap().status, StatusCode::OK);
    }
}

#[tokio::test]
async fn each_kind_of_authentication_is_shown() {
    for (text, shown) in [
        ("username: elastic\npassword: 'p:w'\n", "Basic ZWxhc3RpYzpwOnc="),
        ("api_key: 'id:key'\n", "ApiKey aWQ6a2V5"),
        ("api_key: aWQ6a2V5\n", "ApiKey aWQ6a2V5"),
        ("bearer: t0ken\n", "Bearer t0ken"),
    ] {
        let (address, mut requests) = serve(vec![vec![says("200 OK", "", b"")]]).await;
        get(&client(address, text)).await.unwrap();
        let request = requests.recv().await.unwrap();
        assert!(request.contains(&format!("authorization: {shown}\r\n")), "{request}");
    }
}

#[test]
fn half_of_an_authentication_and_two_of_them_are_refused() {
    for (text, wrong) in [
        ("username: a\n", "there is `username`, and no `password`"),
        ("password: a\n", "there is a password, and no `username`"),
        ("api_key: a\nbearer_file: b\n", "more than one kind of authentication is given"),
    ] {
        let said = auth(text).unwrap_err();
        assert!(said.starts_with(&format!("line 1: {wrong}")), "{said}");
    }
}

#[tokio::test]
async fn a_password_that_was_refused_is_read_anew() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "old").unwrap();
    let answers = vec![says("401 Unauthorized", "", b""), says("200 OK", "", b"")];
    let (address, mut requests) = serve(vec![answers]).await;
    let client = client(address, &format!("bearer_file: {}\n", file.display()));
    get(&client).await.unwrap();
    std::fs::write(&file, "new").unwrap();
    get(&client).await.unwrap();
    assert!(requests.recv().await.unwrap().contains("Bearer old"));
    assert!(requests.recv().await.unwrap().contains("Bearer new"));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_secrets_are_not_shown() {
    let to = "location: https://u:hunter2@sso.example/login?token=hunter2\r\n";
    let (address, _requests) = serve(vec![vec![says("302 Found", to, b"")]]).await;
    let error = get(&client(address, "")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("302 Found, a redirect to `https://sso.example/login`"), "{text}");
    assert!(error.wants_operator() && !error.is_ambiguous());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_none_and_the_request_may_have_been_done() {
    let whole = says("200 OK", "", b"0123456789");
    let broken = [vec![], whole[..20].to_vec(), whole[..whole.len() - 3].to_vec()];
    for cut in broken {
        let (address, _requests) = serve(vec![vec![cut]]).await;
        let error = get(&client(address, "")).await.unwrap_err();
        assert!(matches!(error, HttpError::Cut { .. }), "{error}");
        assert!(error.is_ambiguous() && !error.wants_operator());
    }
}

#[tokio::test]
async fn an_answer_without_an_end_and_one_that_unpacks_to_more_are_not_read_whole() {
    let bomb = Body::written("x", true, |to| to.write_all(&vec![b' '; LONGEST_ANSWER + 1]));
    let (address, _requests) =
        serve(vec![vec![says("200 OK", "content-encoding: gzip\r\n", &bomb.bytes)]]).await;
    let error = get(&client(address, "")).await.unwrap_err();
    assert!(error.to_string().ends_with("it is longer than 16 MiB"), "{error}");

    let mut long = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    long.resize(LONGEST_ANSWER + 1000, b' ');
    let (address, _requests) = serve(vec![vec![long]]).await;
    let error = get(&client(address, "")).await.unwrap_err();
    assert!(error.to_string().ends_with("it is longer than 16 MiB"), "{error}");
    assert!(error.is_ambiguous());
}

#[tokio::test]
async fn a_server_that_never_answers_is_left_after_a_while() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = client(listener.local_addr().unwrap(), "");
    client.patience = Duration::from_millis(50);
    let error = get(&client).await.unwrap_err();
    assert!(error.to_string().ends_with("does not answer within 0.05 s"), "{error}");
    assert!(error.is_ambiguous());
}

#[tokio::test]
async fn another_protocol_is_named_as_such() {
    let (address, _requests) = serve(vec![vec![b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()]]).await;
    let error = get(&client(address, "")).await.unwrap_err();
    assert!(matches!(error, HttpError::NotHttp { .. }), "{error}");
}

#[test]
fn how_long_to_wait_is_read_in_seconds_and_as_a_date() {
    let answer = |text: &str| {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        Answer { status: StatusCode::OK, headers, body: Bytes::new() }
    };
    let now = "2015-10-21T07:27:50Z".parse().unwrap();
    assert_eq!(answer("120").retry_after(now), Some(Duration::from_secs(120)));
    let date = answer("Wed, 21 Oct 2015 07:28:00 GMT");
    assert_eq!(date.retry_after(now), Some(Duration::from_secs(10)));
    assert_eq!(answer("soon").retry_after(now), None);
}

#[test]
fn an_excerpt_is_one_short_line() {
    let answer = |body: String| Answer {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from(body),
    };
    assert_eq!(answer("a\n\t b\u{1b}[0m".into()).excerpt(), "a b [0m");
    assert!(answer("ü ".repeat(5000)).excerpt().chars().count() < 400);
    let json = Body::json(&json!({"a": 1}));
    assert_eq!(answer(String::from_utf8(json.bytes.to_vec()).unwrap()).excerpt(), "{\"a\":1}");
}
