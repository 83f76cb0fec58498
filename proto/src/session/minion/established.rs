//! The phase in which everything happens: heartbeats, jobs, requests and the outbox.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;

use super::{Agent, Disconnected, End};
use crate::{
    codec,
    id::JobId,
    job::Job,
    message::{
        BlobChunk, BlobRequest, Certificate, CertificateRequest, FromMaster, FromMinion, GrainSets,
        Heartbeat, JobAccepted, Pillar, PillarRequest, RequestFailed, RetryAfter, Roots, Scope,
        Tree, TreeRequest, Welcome,
    },
    outbox::Outbox,
    session::{OUTBOX_WINDOW, REQUEST_WINDOW, silence},
};

/// What the master wants, for the agent to act on.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Run this. The agent answers with [`Established::accept_job`], and later with a return in the outbox.
    Job(Job),
    /// End that job.
    Kill(JobId),
    /// An answer to a [`Request`].
    Answer(Answer),
    /// Follow this signed list of the fleet's roots, then say so by [`Established::send_roots`].
    RootList(Bytes),
    /// Renew the operational certificate, at a random moment within this time.
    Renew(Duration),
    /// When the device ends; none when it does not any more.
    Retirement(Option<Timestamp>),
}

/// What the agent may ask for. The `request` numbers are the agent's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The file list of an environment.
    Tree(TreeRequest),
    /// A part of a blob.
    Blob(BlobRequest),
    /// The pillar.
    Pillar(PillarRequest),
    /// An operational certificate.
    Certificate(CertificateRequest),
}

/// What the master answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To [`Request::Tree`].
    Tree(Tree),
    /// To [`Request::Blob`].
    BlobChunk(BlobChunk),
    /// To [`Request::Pillar`].
    Pillar(Pillar),
    /// To [`Request::Certificate`].
    Certificate(Certificate),
    /// To any of them.
    Failed(RequestFailed),
}

/// A welcomed connection.
#[derive(Debug)]
pub struct Established {
    agent: Agent,
    scope: Scope,
    heartbeat_at: Instant,
    /// The master is silent when nothing was heard until then.
    silent_at: Instant,
    /// The last outbox number given to this connection.
    sent: u64,
    /// The numbers given to this connection and not acknowledged. The outbox may have dropped some of them since.
    in_flight: VecDeque<u64>,
    accepted: VecDeque<JobAccepted>,
    grains: Option<GrainSets>,
    roots: Option<Roots>,
    requests: VecDeque<Request>,
    open_requests: usize,
    events: VecDeque<Event>,
}

impl Established {
    pub(super) fn new(mut agent: Agent, welcome: &Welcome, now: Instant) -> Self {
        let heartbeat = agent.settings.heartbeat;
        Self {
            heartbeat_at: now + agent.jitter.between(Duration::ZERO, heartbeat),
            silent_at: now + silence(heartbeat),
            agent,
            scope: welcome.scope,
            sent: welcome.acknowledged,
            in_flight: VecDeque::new(),
            accepted: VecDeque::new(),
            grains: None,
            roots: None,
            requests: VecDeque::new(),
            open_requests: 0,
            events: VecDeque::new(),
        }
    }

    /// A frame from the master. Then [`Self::poll_event`] and [`Self::poll_transmit`] until both are empty.
    ///
    /// # Errors
    /// When the session is over. The agent closes the connection and goes on with [`Self::disconnect`].
    pub fn handle_frame(
        &mut self,
        outbox: &mut Outbox,
        frame: &[u8],
        now: Instant,
    ) -> Result<(), End> {
        let message = codec::decode(frame).map_err(End::Malformed)?;
        self.silent_at = now + silence(self.agent.settings.heartbeat);
        match message {
            FromMaster::Heartbeat(_) => {}
            FromMaster::Job(_) if self.scope == Scope::Renewal => {
                return Err(End::OutOfTurn("a job in a session for renewal"));
            }
            FromMaster::Job(job) => self.events.push_back(Event::Job(job)),
            FromMaster::KillJob(kill) => self.events.push_back(Event::Kill(kill.jid)),
            FromMaster::Acknowledged(acknowledged) => {
                outbox.acknowledge(acknowledged.through).map_err(End::Acknowledgement)?;
                while self
                    .in_flight
                    .pop_front_if(|number| *number <= acknowledged.through)
                    .is_some()
                {}
                self.sent = self.sent.max(acknowledged.through);
            }
            FromMaster::Tree(tree) => self.answered(Answer::Tree(tree)),
            FromMaster::BlobChunk(chunk) => self.answered(Answer::BlobChunk(chunk)),
            FromMaster::Pillar(pillar) => self.answered(Answer::Pillar(pillar)),
            FromMaster::Certificate(certificate) => self.answered(Answer::Certificate(certificate)),
            FromMaster::RequestFailed(failed) => self.answered(Answer::Failed(failed)),
            FromMaster::RootList(list) => self.events.push_back(Event::RootList(list.list)),
            FromMaster::Renew(renew) => {
                self.events.push_back(Event::Renew(Duration::from_millis(renew.within)));
            }
            FromMaster::Retirement(retirement) => {
                self.events.push_back(Event::Retirement(retirement.at));
            }
            FromMaster::RetryAfter(retry) => return Err(retry.into()),
            FromMaster::Welcome(_) => return Err(End::OutOfTurn("a second welcome")),
        }
        Ok(())
    }

    /// Notices a silent master. A heartbeat that is due goes out with [`Self::poll_transmit`].
    ///
    /// # Errors
    /// [`End::Silent`] after three missed heartbeats.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), End> {
        if now < self.silent_at {
            return Ok(());
        }
        Err(End::Silent(silence(self.agent.settings.heartbeat)))
    }

    /// Tells the master that the job is here, and how many run before it.
    pub fn accept_job(&mut self, accepted: JobAccepted) {
        self.accepted.push_back(accepted);
    }

    /// Tells the master that the agent's own grains changed. Only the newest waits.
    pub fn send_grains(&mut self, grains: GrainSets) {
        self.grains = Some(grains);
    }

    /// Tells the master that the roots that the agent trusts changed. Only the newest waits.
    pub fn send_roots(&mut self, roots: Roots) {
        self.roots = Some(roots);
    }

    /// What the session is for. In one of [`Scope::Renewal`] nothing is sent but heartbeats and requests for a
    /// certificate; the outbox waits for another session.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// Asks the master for something. Requests beyond [`REQUEST_WINDOW`] wait here for answers to others.
    pub fn request(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    /// The next thing that the master wants.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next frame to send. The outbox comes last, so that it holds nothing else up.
    pub fn poll_transmit(
        &mut self,
        outbox: &mut Outbox,
        wall: Timestamp,
        now: Instant,
    ) -> Option<Bytes> {
        match self.next_message(wall, now) {
            Some(message) => Some(encode(&message)),
            None => self.next_entry(outbox, wall, now),
        }
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_transmit`] are due even if nothing comes.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.heartbeat_at.min(self.silent_at))
    }

    /// The session is over, for the reason that a handler gave or [`End::Lost`].
    #[must_use]
    pub fn disconnect(mut self, cause: End, now: Instant) -> Disconnected {
        if !cause.is_ordinary() {
            self.agent.backoff.worsen();
        }
        self.agent.ended(cause, now).next
    }

    /// Leaves the master to come back at once, with another certificate.
    #[must_use]
    pub fn reconnect(self, now: Instant) -> Disconnected {
        Disconnected { agent: self.agent, retry_at: now }
    }

    fn answered(&mut self, answer: Answer) {
        self.open_requests = self.open_requests.saturating_sub(1);
        self.events.push_back(Event::Answer(answer));
    }

    fn next_message(&mut self, wall: Timestamp, now: Instant) -> Option<FromMinion> {
        if now >= self.heartbeat_at {
            let most = self.agent.settings.heartbeat;
            self.heartbeat_at = now + self.agent.jitter.between(most * 4 / 5, most);
            return Some(FromMinion::Heartbeat(Heartbeat { at: wall }));
        }
        if self.scope == Scope::Renewal {
            return self.next_renewal();
        }
        if let Some(accepted) = self.accepted.pop_front() {
            return Some(FromMinion::JobAccepted(accepted));
        }
        if let Some(grains) = self.grains.take() {
            return Some(FromMinion::Grains(grains));
        }
        if let Some(roots) = self.roots.take() {
            return Some(FromMinion::Roots(roots));
        }
        if self.open_requests < REQUEST_WINDOW
            && let Some(request) = self.requests.pop_front()
        {
            self.open_requests += 1;
            return Some(request.into());
        }
        None
    }

    /// The next request for a certificate. Other requests are not for this session.
    fn next_renewal(&mut self) -> Option<FromMinion> {
        while let Some(request) = self.requests.pop_front() {
            if matches!(request, Request::Certificate(_)) {
                self.open_requests += 1;
                return Some(request.into());
            }
        }
        None
    }

    fn next_entry(&mut self, outbox: &mut Outbox, wall: Timestamp, now: Instant) -> Option<Bytes> {
        if self.in_flight.len() >= OUTBOX_WINDOW || self.scope == Scope::Renewal {
            return None;
        }
        let (number, frame) = outbox.next_after(self.sent, wall, now)?;
        self.sent = number;
        self.in_flight.push_back(number);
        Some(frame)
    }
}

impl From<Request> for FromMinion {
    fn from(request: Request) -> Self {
        match request {
            Request::Tree(request) => Self::TreeRequest(request),
            Request::Blob(request) => Self::BlobRequest(request),
            Request::Pillar(request) => Self::PillarRequest(request),
            Request::Certificate(request) => Self::CertificateRequest(request),
        }
    }
}

impl From<RetryAfter> for End {
    fn from(retry: RetryAfter) -> Self {
        Self::RetryAfter { after: Duration::from_millis(retry.after), reason: retry.reason }
    }
}

fn encode(message: &FromMinion) -> Bytes {
    codec::encode(message).expect("what the session sends has a MessagePack form")
}
