use std::{future::Future, path::Path};

use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A receiver of our own, which treats each connection by `treat`.
async fn receiver<F>(treat: impl Fn(TcpStream) -> F + Send + 'static) -> Address
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(treat(stream));
        }
    });
    Address { host: "127.0.0.1".into(), port }
}

async fn read_all(mut stream: TcpStream) {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
}

fn one_way(hosts: &[&Address], settings: &str) -> OneWay {
    let root = drover_states::yaml::load_nodes(settings).unwrap();
    let mut settings = Settings::new(Path::new("/x"), settings, root.as_ref()).unwrap();
    OneWay::read(&mut settings, hosts.iter().map(|host| (*host).clone()).collect(), None).unwrap()
}

/// More than both kernels keep.
fn large() -> Vec<u8> {
    vec![b'x'; 16 << 20]
}

#[tokio::test]
async fn a_batch_is_delivered_when_the_receiver_has_read_it_and_closed() {
    let host = receiver(read_all).await;
    let one_way = one_way(&[&host], "");
    for batch in [b"short\n".to_vec(), large()] {
        one_way.deliver(&batch).await.unwrap();
    }
}

#[tokio::test]
async fn a_receiver_that_dies_in_the_middle_has_not_taken_the_batch() {
    // With bytes unread, the kernel says so itself.
    let reset = receiver(|mut stream| async move {
        let _ = stream.read(&mut [0; 10]).await;
    })
    .await;
    let error = one_way(&[&reset], "").deliver(&large()).await.unwrap_err();
    assert!(matches!(error, OneWayError::Broken { .. }), "{error}");
    // Its end is there before the bytes that it never reads.
    let early = receiver(|mut stream| async move {
        let _ = stream.shutdown().await;
        let _ = stream.read_exact(&mut vec![0; 1 << 20]).await;
    })
    .await;
    let error = one_way(&[&early], "").deliver(&large()).await.unwrap_err();
    assert!(matches!(error, OneWayError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn a_receiver_that_closes_its_own_direction_first_takes_the_batch_all_the_same() {
    let host = receiver(|mut stream| async move {
        let _ = stream.shutdown().await;
        read_all(stream).await;
    })
    .await;
    one_way(&[&host], "").deliver(&large()).await.unwrap();
}

#[tokio::test]
async fn a_receiver_that_never_closes_needs_another_way() {
    let host = receiver(|mut stream| async move {
        let mut bytes = [0; 1024];
        let _ = stream.read(&mut bytes).await;
        // It holds the connection.
        std::future::pending::<()>().await;
    })
    .await;
    let error = one_way(&[&host], "ack_timeout: 200ms").deliver(b"x\n").await.unwrap_err();
    let hint = "a receiver that never does needs `confirm: sent`";
    assert!(error.to_string().ends_with(hint), "{error}");
    one_way(&[&host], "confirm: sent").deliver(b"x\n").await.unwrap();
}

#[tokio::test]
async fn another_host_takes_what_the_first_does_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = Address { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    drop(listener);
    let host = receiver(read_all).await;
    let one_way = one_way(&[&dead, &host], "");
    one_way.deliver(b"x\n").await.unwrap();
    assert_eq!(one_way.host(), &host, "the next batch goes there at once");
}

#[tokio::test]
async fn a_kept_connection_that_the_receiver_ended_is_made_anew() {
    let (count, mut counted) = tokio::sync::mpsc::channel(10);
    let host = receiver(move |mut stream| {
        let count = count.clone();
        async move {
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            count.send(byte[0]).await.unwrap();
            drop(stream);
            count.send(b'.').await.unwrap();
        }
    })
    .await;
    let one_way = one_way(&[&host], "confirm: sent");
    for byte in *b"abc" {
        one_way.deliver(&[byte]).await.unwrap();
        assert_eq!(counted.recv().await, Some(byte));
        assert_eq!(counted.recv().await, Some(b'.'));
    }
}
