//! Serves `/metrics` over HTTP: few connections, each for a short time. Whoever is slow or sends rubbish costs a place.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::clock::Now;

/// After `accept` failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a connection may buffer; hyper takes no less.
const BUFFER: usize = 8 << 10;
const CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Connections at a time.
    pub connections: usize,
    /// For a request's header.
    pub header: Duration,
    /// For a whole connection: one that is kept open is opened again by the next scrape.
    pub connection: Duration,
    /// For so long everybody gets the same numbers: whoever asks more often costs no more.
    pub age: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections: 16,
            header: Duration::from_secs(5),
            connection: Duration::from_secs(120),
            age: Duration::from_secs(1),
        }
    }
}

/// Serves what a function gives.
pub struct MetricsTask {
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
}

impl MetricsTask {
    /// Takes the address. `collect` may block; it is called by one client at a time.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(
        listen: SocketAddr,
        limits: ServeLimits,
        collect: impl Fn() -> String + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        if !listen.ip().is_loopback() {
            tracing::warn!(
                %listen,
                "metrics are served to everybody who reaches this address, without a password"
            );
        }
        let numbers = Arc::new(Numbers {
            collect: Box::new(collect),
            age: limits.age,
            newest: Mutex::default(),
        });
        let metrics = move || answer(numbers.clone());
        let router = Router::new().route("/metrics", get(metrics));
        Ok(Self { listener, router, limits })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Until it is dropped. Its connections end with it.
    ///
    /// # Errors
    /// Never: what goes wrong is a connection's.
    pub async fn run(self) -> Result<(), Infallible> {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((tcp, address)) => {
                        // Without a place it is closed at once.
                        if let Ok(place) = places.clone().try_acquire_owned() {
                            connections.spawn(serve(tcp, address, self.router.clone(), self.limits, place));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "accept for metrics");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

/// What is served.
struct Numbers {
    collect: Box<dyn Fn() -> String + Send + Sync>,
    age: Duration,
    /// What was collected last, and when. Held while it is collected anew.
    newest: Mutex<Option<(Instant, Bytes)>>,
}

async fn answer(numbers: Arc<Numbers>) -> Response {
    let mut newest = numbers.newest.lock().await;
    let fresh = newest.as_ref().filter(|(at, _)| at.elapsed() < numbers.age);
    let text = match fresh {
        Some((_, text)) => text.clone(),
        None => {
            let at = Now::read().instant;
            let collecting = numbers.clone();
            let collected = tokio::task::spawn_blocking(move || (collecting.collect)()).await;
            let Ok(text) = collected else {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            };
            newest.insert((at, text.into())).1.clone()
        }
    };
    ([(CONTENT_TYPE, CONTENT)], text).into_response()
}

async fn serve(
    tcp: TcpStream,
    address: SocketAddr,
    router: Router,
    limits: ServeLimits,
    _place: OwnedSemaphorePermit,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(router));
    match timeout(limits.connection, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%address, %error, "a client of the metrics failed"),
        Err(_) => tracing::debug!(%address, "a client of the metrics took too long"),
    }
}

#[cfg(test)]
mod tests;
