//! A proxy before a server, for what goes wrong between two machines: answers that are late, lost or another's.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What the proxy does with connections, those that are open too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Passes everything on.
    Good,
    /// Passes each piece of an answer on after this time.
    Slow(Duration),
    /// Passes requests on, and closes the connection when the answer to a POST comes: what was asked is done, and nobody
    /// is told.
    LosesAnswers,
    /// Closes connections at once.
    Closes,
    /// Answers requests itself: 200, with a page for people, as hotels and mobile networks do.
    Html,
}

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 44\r\nconnection: close\r\n\r\n\
                      <html><body><h1>Please log in.</h1></body></";

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    line: Line,
    is_over: bool,
    open: Vec<TcpStream>,
    /// How many answers [`Line::LosesAnswers`] lost.
    lost: usize,
}

impl Proxy {
    /// Starts one before a port of loopback.
    ///
    /// # Panics
    /// When loopback has no free port.
    #[must_use]
    pub fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let state = State { line: Line::Good, is_over: false, open: Vec::new(), lost: 0 };
        let shared = Arc::new(Mutex::new(state));
        let proxy = Self { port, shared: Arc::clone(&shared) };
        thread::spawn(move || accept(&listener, upstream, &shared));
        proxy
    }

    /// As `hosts` of a bridge takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Is this from now on.
    pub fn turn(&self, line: Line) {
        lock(&self.shared).line = line;
    }

    /// How many answers it has lost.
    #[must_use]
    pub fn lost(&self) -> usize {
        lock(&self.shared).lost
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.is_over = true;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        // The listener waits for a connection to see that it is over.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client's connection, and the one to the server that belongs to it.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Whether the last request was a POST.
    is_post: AtomicBool,
    state: Arc<Mutex<State>>,
}

fn accept(listener: &TcpListener, upstream: u16, shared: &Arc<Mutex<State>>) {
    for client in listener.incoming().flatten() {
        let mut state = lock(shared);
        if state.is_over {
            return;
        }
        // A server that is away is a closed connection here.
        let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else { continue };
        state.open.retain(|stream| stream.peer_addr().is_ok());
        let copies = [&client, &server].into_iter().filter_map(|stream| stream.try_clone().ok());
        state.open.extend(copies);
        drop(state);
        let state = Arc::clone(shared);
        let connection = Connection { client, server, is_post: AtomicBool::new(false), state };
        let forth = Arc::new(connection);
        let back = Arc::clone(&forth);
        thread::spawn(move || forth.end_after(forth.requests()));
        thread::spawn(move || back.end_after(back.answers()));
    }
}

impl Connection {
    /// Either way ends both.
    fn end_after(&self, _: io::Result<()>) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    fn line(&self) -> Line {
        lock(&self.state).line
    }

    fn requests(&self) -> io::Result<()> {
        let (mut client, mut server) = (&self.client, &self.server);
        let mut piece = vec![0; 64 << 10];
        loop {
            let length = client.read(&mut piece)?;
            let piece = &piece[..length];
            // A client that waits for each answer begins its requests with a piece.
            match piece {
                [b'P', b'O', b'S', b'T', b' ', ..] => self.is_post.store(true, Ordering::Relaxed),
                [b'G', b'E', b'T', b' ', ..] => self.is_post.store(false, Ordering::Relaxed),
                _ => {}
            }
            match self.line() {
                _ if length == 0 => return Ok(()),
                Line::Closes => return Ok(()),
                Line::Html => return client.write_all(PAGE),
                Line::Good | Line::Slow(_) | Line::LosesAnswers => server.write_all(piece)?,
            }
        }
    }

    fn answers(&self) -> io::Result<()> {
        let (mut client, mut server) = (&self.client, &self.server);
        let mut piece = vec![0; 64 << 10];
        loop {
            let length = server.read(&mut piece)?;
            match self.line() {
                _ if length == 0 => return Ok(()),
                Line::LosesAnswers if self.is_post.load(Ordering::Relaxed) => {
                    lock(&self.state).lost += 1;
                    return Ok(());
                }
                Line::Closes | Line::Html => return Ok(()),
                Line::Good | Line::LosesAnswers => {}
                Line::Slow(pause) => thread::sleep(pause),
            }
            client.write_all(&piece[..length])?;
        }
    }
}
