//! A server for what real ones cannot be made to do: it says what it is told to, however wrong.

use std::{future::Future, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// A server that answers each request by `answer`; one that is empty ends the connection. Gives the requests too.
pub(in crate::bridge) async fn answering(
    answer: impl FnMut(&str) -> Vec<u8> + Clone + Send + 'static,
) -> (SocketAddr, mpsc::Receiver<String>) {
    serving(move |mut tcp, seen| {
        let mut answer = answer.clone();
        async move {
            while let Some(request) = request(&mut tcp).await {
                let said = answer(&request);
                let _ = seen.try_send(request);
                if said.is_empty() || tcp.write_all(&said).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// A server that does `serve` with each connection.
pub(in crate::bridge) async fn serving<F: Future<Output = ()> + Send + 'static>(
    mut serve: impl FnMut(TcpStream, mpsc::Sender<String>) -> F + Send + 'static,
) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, requests) = mpsc::channel(1000);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve(tcp, seen.clone()));
        }
    });
    (address, requests)
}

/// The next request on a connection, with its body.
pub(in crate::bridge) async fn request(tcp: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = tcp.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let whole = head.len() + 4 + length.map_or(0, |length| length.parse().unwrap());
        if bytes.len() >= whole {
            return Some(text.into_owned());
        }
    }
}

/// An answer.
pub(in crate::bridge) fn says(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}
