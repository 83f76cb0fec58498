//! Opens ZMTP on a stream: both sides' greetings and READY, before any message passes.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::zmtp::{Opening, Ready, SocketType, Violation, greeting};

/// A unix socket's opening is small: a greeting and one command.
const OPENING_BUFFER: usize = 256;

/// Why a connection did not get as far as its first message.
#[derive(Debug, Error)]
pub enum OpeningError {
    /// It broke the protocol.
    #[error("the peer does not open ZMTP as it must")]
    Violation(#[from] Violation),
    /// It closed the connection.
    #[error("the peer closed the connection before READY")]
    Closed,
    /// It took too long.
    #[error("the peer did not complete READY in {0:?}")]
    TimedOut(Duration),
    /// The connection failed.
    #[error("the connection failed before READY")]
    Io(#[from] io::Error),
}

/// Reads until the peer's greeting is complete.
pub(super) async fn read_greeting<S>(
    stream: &mut S,
    opening: &mut Opening,
) -> Result<(), OpeningError>
where
    S: AsyncBufRead + Unpin,
{
    while !opening.is_greeted() {
        read_some(stream, opening).await?;
    }
    Ok(())
}

/// Reads until READY, which must be of the socket type that belongs here.
pub(super) async fn read_ready<S>(
    stream: &mut S,
    opening: &mut Opening,
    wanted: &[SocketType],
) -> Result<Ready, OpeningError>
where
    S: AsyncBufRead + Unpin,
{
    loop {
        if let Some(ready) = read_some(stream, opening).await? {
            if wanted.contains(&ready.socket_type) {
                return Ok(ready);
            }
            return Err(Violation::SocketType.into());
        }
    }
}

async fn read_some<S>(stream: &mut S, opening: &mut Opening) -> Result<Option<Ready>, OpeningError>
where
    S: AsyncBufRead + Unpin,
{
    let chunk = stream.fill_buf().await?;
    if chunk.is_empty() {
        return Err(OpeningError::Closed);
    }
    let mut rest = chunk;
    let outcome = if opening.is_greeted() {
        opening.handle_bytes(&mut rest)
    } else {
        opening.handle_greeting(&mut rest).map(|()| None)
    };
    let taken = chunk.len() - rest.len();
    stream.consume(taken);
    Ok(outcome?)
}

/// Opens ZMTP towards a socket of the `zeromq` crate in this process. Returns the bytes that came
/// after its READY.
pub(super) async fn open_local(
    stream: &mut UnixStream,
    ours: &Ready,
    theirs: SocketType,
    within: Duration,
) -> Result<Vec<u8>, OpeningError> {
    let opening = async {
        write_opening(stream, ours).await?;
        let mut reader = BufReader::with_capacity(OPENING_BUFFER, stream);
        read_ready(&mut reader, &mut Opening::new(), &[theirs]).await?;
        Ok(reader.buffer().to_vec())
    };
    timeout(within, opening).await.map_err(|_| OpeningError::TimedOut(within))?
}

/// Sends our greeting and READY in one go.
pub(super) async fn write_opening<S>(stream: &mut S, ours: &Ready) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let bytes = [greeting().as_slice(), &ours.to_frame()].concat();
    stream.write_all(&bytes).await?;
    stream.flush().await
}
