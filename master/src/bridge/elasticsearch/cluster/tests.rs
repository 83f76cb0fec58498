use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::bridge::{
    http::fake::{answering, request, says, serving},
    sink::Failure,
};

const JSON: &str = "content-type: application/json\r\n";

/// What a node of a cluster says to `GET /`.
fn root(cluster: &str) -> Vec<u8> {
    let body = json!({"cluster_uuid": cluster, "version": {"number": "8.19.21"}});
    says("200 OK", JSON, body.to_string())
}

/// A node that says something of its own to all else.
async fn node(cluster: &'static str, answer: Vec<u8>) -> SocketAddr {
    let (address, _) =
        answering(
            move |request| {
                if request.starts_with("GET / ") { root(cluster) } else { answer.clone() }
            },
        )
        .await;
    address
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn cluster(hosts: &[SocketAddr]) -> Cluster {
    let origins = hosts.iter().map(|host| Origin::parse(&format!("http://{host}"), None).unwrap());
    Cluster::new(origins.collect(), &Arc::default(), &Arc::default(), Duration::from_secs(10))
}

fn body(bytes: usize) -> Body {
    Body { kind: Some("application/x-ndjson"), bytes: vec![b'x'; bytes].into(), is_gzip: false }
}

/// An error with its host's port left out.
fn text(error: &ElasticsearchError) -> String {
    chain(error)
        .split('`')
        .enumerate()
        .map(|(at, part)| match part.split_once("127.0.0.1:") {
            Some((scheme, _)) if at % 2 == 1 => format!("{scheme}host"),
            _ => part.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("`")
}

#[tokio::test]
async fn a_host_that_is_away_is_passed_over() {
    let alive = node("A", says("200 OK", JSON, "{\"items\": []}")).await;
    let cluster = cluster(&[nobody(), alive]);
    let epoch = cluster.epoch();
    for _ in 0..3 {
        let (host, _) = cluster.bulk(body(10)).await.unwrap();
        assert_eq!(host.to_string(), format!("http://{alive}"));
    }
    assert_ne!(cluster.epoch(), epoch);
    assert_eq!(cluster.since_ambiguous(Now::read().instant), None, "it was never reached");
}

#[tokio::test]
async fn what_no_host_takes_says_why() {
    let error = cluster(&[nobody()]).bulk(body(10)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Away);
    assert!(
        text(&error).starts_with("cannot connect to `host`: Connection refused"),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn html_in_place_of_an_answer_is_named() {
    let page = |status| {
        says(status, "content-type: text/html\r\n", format!("<html><title>{status}</title>nginx"))
    };
    for (status, failure) in [
        ("502 Bad Gateway", Failure::Away),
        ("200 OK", Failure::Denied),
        ("413 Request Entity Too Large", Failure::TooLarge),
    ] {
        let error = cluster(&[node("A", page(status)).await]).bulk(body(10)).await.unwrap_err();
        assert_eq!(error.failure(), failure, "{error}");
        assert!(text(&error).contains(status), "{error}");
    }
    let (address, _) = answering(move |_| page("502 Bad Gateway")).await;
    let error = cluster(&[address]).get("/_cat/indices").await.unwrap_err();
    assert_eq!(
        text(&error),
        "this is not Elasticsearch: `http://host` answered 502 Bad Gateway with HTML (502 Bad Gateway): is the address \
         right, and is the server behind it up?"
    );
}

#[tokio::test]
async fn another_service_is_named() {
    let (address, _) = answering(|_| says("200 OK", "", "+PONG it is\nredis")).await;
    let error = cluster(&[address]).get("/").await.unwrap_err();
    assert_eq!(
        text(&error),
        "this is not Elasticsearch: `http://host` answered 200 OK to `GET /` with `+PONG it is redis`"
    );
    assert_eq!(error.failure(), Failure::Denied);
}

#[tokio::test]
async fn what_a_status_means_for_the_batch() {
    let refusal = |status| {
        let error = json!({"error": {"type": "some_exception", "reason": "because"}});
        says(status, JSON, error.to_string())
    };
    for (status, failure, advice) in [
        ("401 Unauthorized", Failure::Denied, ": check `username`"),
        ("403 Forbidden", Failure::Denied, ": the bridge's user needs"),
        ("404 Not Found", Failure::Denied, ""),
        ("405 Method Not Allowed", Failure::Denied, ""),
        ("413 Payload Too Large", Failure::TooLarge, ""),
        ("429 Too Many Requests", Failure::Away, ""),
        ("500 Internal Server Error", Failure::Away, ""),
        ("503 Service Unavailable", Failure::Away, ""),
    ] {
        let error = cluster(&[node("A", refusal(status)).await]).bulk(body(10)).await.unwrap_err();
        assert_eq!(error.failure(), failure, "{error}");
        if failure != Failure::TooLarge {
            let wanted =
                format!("answered {status} to `POST /_bulk`: some_exception: because{advice}");
            assert!(text(&error).contains(&wanted), "{error}");
        }
    }
}

#[tokio::test]
async fn a_batch_whose_answer_is_too_long_to_be_read_is_too_large_and_may_be_stored() {
    let long = || says("200 OK", JSON, vec![b' '; (16 << 20) + 1]);
    let cluster = cluster(&[node("A", long()).await]);
    let error = cluster.bulk(body(10)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::TooLarge, "{error}");
    assert!(error.is_ambiguous());
    assert!(text(&error).contains("it is longer than 16 MiB"), "{error}");
    assert!(cluster.since_ambiguous(Now::read().instant).is_some());
    // A batch's size has nothing to do with another answer's.
    let error = cluster.get("/_cat/indices").await.unwrap_err();
    assert_eq!(error.failure(), Failure::Away, "{error}");
}

#[tokio::test]
async fn a_cluster_that_is_read_only_is_waited_for() {
    let error = json!({"error": {"type": "cluster_block_exception", "reason": "blocked by: [FORBIDDEN/13]"}});
    let answer = says("403 Forbidden", JSON, error.to_string());
    let error = cluster(&[node("A", answer).await]).bulk(body(10)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Away);
    assert!(
        text(&error).contains("blocks `POST /_bulk`: cluster_block_exception: blocked by"),
        "{error}"
    );
}

#[tokio::test]
async fn what_may_have_been_stored_goes_to_another_host_only_as_a_retry() {
    let whole = says("200 OK", JSON, "{\"items\": []}");
    let cut = node("A", whole[..whole.len() - 4].to_vec()).await;
    let alive = node("A", whole).await;
    let both = cluster(&[cut, alive]);
    let error = both.bulk(body(10)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Away);
    let (host, _) = both.bulk(body(10)).await.unwrap();
    assert_eq!(host.to_string(), format!("http://{alive}"));
    assert!(both.since_ambiguous(Now::read().instant).is_some(), "the first host may have done it");
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_of_a_large_body_is_told_from_a_server_that_goes() {
    let (address, _) = serving(|mut tcp, _| async move {
        let mut first = [0; 2048];
        // What is read of a small request is all of it.
        while let Ok(read) = tokio::io::AsyncReadExt::read(&mut tcp, &mut first).await {
            if !first[..read].starts_with(b"GET / ") || tcp.write_all(&root("A")).await.is_err() {
                return;
            }
        }
    })
    .await;
    let cluster = cluster(&[address]);
    let error = cluster.bulk(body(8 << 20)).await.unwrap_err();
    assert!(matches!(error, ElasticsearchError::Cut { .. }), "{error}");
    let wanted = "`http://host` ended the connection over a request of 8388608 bytes: ";
    assert!(text(&error).starts_with(wanted), "{error}");
    assert!(cluster.since_ambiguous(Now::read().instant).is_some());
    // The server itself went: nothing is known of the size.
    let (gone, _) = serving(|mut tcp, _| async move {
        let _ = request(&mut tcp).await;
    })
    .await;
    let error = self::cluster(&[gone]).bulk(body(8 << 20)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Away, "{error}");
}

#[tokio::test]
async fn hosts_of_two_clusters_are_not_taken_for_one() {
    let taken = says("200 OK", JSON, "{\"items\": []}");
    let (one, two) = (node("A", taken.clone()).await, node("B", taken).await);
    let both = cluster(&[one, two]);
    for _ in 0..4 {
        let (host, _) = both.bulk(body(10)).await.unwrap();
        assert_eq!(host.to_string(), format!("http://{one}"));
    }
    let one_is_away = cluster(&[one, two]);
    one_is_away.get("/").await.unwrap();
    one_is_away.hosts().handle_failure(0, Now::read().instant);
    let error = one_is_away.ask(1, &Call::new(Method::GET, "/")).await.unwrap_err();
    assert_eq!(
        text(&error),
        "`http://host` is of another cluster (`B`) than the one that the bridge writes to (`A`): `hosts` must be of one \
         cluster; give each cluster a bridge of its own"
    );
    assert_eq!(error.failure(), Failure::Denied);
}

#[tokio::test]
async fn a_cluster_without_a_master_is_waited_for() {
    let (address, _) = answering(|_| root("_na_")).await;
    let error = cluster(&[address]).bulk(body(10)).await.unwrap_err();
    assert!(matches!(error, ElasticsearchError::Forming { .. }), "{error}");
    assert_eq!(error.failure(), Failure::Away);
}

#[tokio::test]
async fn documents_are_looked_for_in_each_older_index() {
    let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
    let said = json!({"docs": [
        {"_id": ids[0], "found": false}, {"_id": ids[1], "found": true},
        {"_id": ids[0], "error": {"type": "index_not_found_exception"}},
        {"_id": ids[1], "error": {"type": "index_not_found_exception"}},
    ]});
    let address = node("A", says("200 OK", JSON, said.to_string())).await;
    let found = cluster(&[address]).mget(&["a".into(), "b".into()], &ids).await.unwrap();
    assert_eq!(found, HashSet::from([ids[1]]));

    let said = json!({"docs": [
        {"_id": ids[0], "error": {"type": "no_shard_available_action_exception", "reason": "red"}}
    ]});
    let address = node("A", says("200 OK", JSON, said.to_string())).await;
    let error = cluster(&[address]).mget(&["a".into()], &ids[..1]).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Away, "{error}");
}
