//! The DEALER that a tunnel feeds, and the unix stream that leads to it.

use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdUnixListener};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use uuid::Uuid;
use zeromq::{DealerSocket, Socket};

use super::failure::TunnelFailure;
use super::within;
use crate::tunnel::link::{OpeningError, open_local};
use crate::zmtp::{Ready, SocketType};

/// A DEALER, and the other end of its unix socket, opened.
///
/// The socket's name is abstract: a reconnect leaves no file behind and writes to no disk. Such a
/// name has no permissions, so whoever connects must be this very process.
pub(super) async fn open_dealer(
    limit: Duration,
) -> Result<(DealerSocket, UnixStream), TunnelFailure> {
    let name = format!("drover-tunnel-{}", Uuid::new_v4());
    let listener = listen(&name).map_err(failed)?;
    let mut dealer = DealerSocket::new();
    let endpoint = format!("ipc://\0{name}");
    let accepted = async {
        let mut local = accept_own(&listener).await?;
        let ours = Ready::new(SocketType::Router);
        let early = open_local(&mut local, &ours, SocketType::Dealer, limit).await?;
        debug_assert!(early.is_empty(), "nobody holds the DEALER yet");
        Ok::<_, OpeningError>(local)
    };
    let both = async { tokio::join!(dealer.connect(&endpoint), accepted) };
    let (connected, accepted) = within("the DEALER", limit, both).await?;
    connected.map_err(failed)?;
    let local = accepted.map_err(TunnelFailure::Opening)?;
    Ok((dealer, local))
}

fn listen(name: &str) -> io::Result<UnixListener> {
    let listener = StdUnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Accepts the first connection that comes from this process; the kernel vouches for it.
async fn accept_own(listener: &UnixListener) -> io::Result<UnixStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        let peer = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
        if peer == Some(std::process::id()) {
            return Ok(stream);
        }
        tracing::warn!(pid = peer, "another process tried to take the place of the DEALER");
    }
}

fn failed(error: impl fmt::Display) -> TunnelFailure {
    TunnelFailure::Dealer(error.to_string())
}
