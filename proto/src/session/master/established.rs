//! The phase in which everything happens: jobs within their window, requests, outbox entries in order. An idle one
//! owns no heap memory, for there are thousands.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;

use super::{Close, JOB_QUEUE, JOB_WINDOW, JobFrame, retry_after};
use crate::{
    codec::{self, MAX_FRAME},
    id::JobId,
    message::{
        Acknowledged, BlobChunk, BlobRequest, Certificate, CertificateRequest, FromMaster,
        FromMinion, GrainSets, Heartbeat, JobAccepted, KillJob, OutboxEntry, OutboxItem, Pillar,
        PillarRequest, Renew, RequestFailed, Retirement, RootList, Roots, Scope, Tree, TreeRequest,
    },
    session::{OUTBOX_WINDOW, REQUEST_WINDOW, silence},
};

/// What the minion did, for the master to act on.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Store this, in the order of these events; when it is durable, say so by [`Established::durable`].
    ///
    /// The store takes the entry and its number in one step, and only when the number is above the last one it has
    /// of this minion and boot: an older connection of the same minion may have handed it the same entry a moment
    /// before. An entry that it has already counts as durable.
    Store(Box<OutboxEntry>),
    /// The minion has the job: in its memory, or in its journal if it changes something. When its next `Hello` names
    /// another boot, the caller sends each job that was accepted and has not returned again.
    JobAccepted(JobAccepted),
    /// Its own grains changed.
    Grains(Box<GrainSets>),
    /// The roots that it trusts changed.
    Roots(Roots),
    /// Answer this by [`Established::reply`].
    Request(Request),
    /// Three heartbeats were missed. The connection may stay open.
    Stale,
    /// Heard again after [`Event::Stale`].
    Back,
}

/// What a minion may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The file list of an environment.
    Tree(TreeRequest),
    /// A part of a blob.
    Blob(BlobRequest),
    /// The minion's pillar.
    Pillar(PillarRequest),
    /// An operational certificate.
    Certificate(CertificateRequest),
}

/// What the master answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
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

/// What the master says without being asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// Follow this list of roots.
    RootList(RootList),
    /// Renew early.
    Renew(Renew),
    /// The day on which the device ends changed.
    Retirement(Retirement),
}

/// What a pillar may have in bytes of MessagePack, so that its message has room around it.
const LARGEST_PILLAR: usize = MAX_FRAME - 1024;

/// What became of a wish to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// The job was still waiting here and is gone.
    Unsent,
    /// The minion is told.
    Sent,
}

/// The jobs of a connection that ended, each oldest first. The caller queues both again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Sent; whether the minion has them is not known.
    pub unacknowledged: Vec<JobId>,
    /// Never sent.
    pub unsent: Vec<JobId>,
}

/// A welcomed minion.
#[derive(Debug)]
pub struct Established {
    scope: Scope,
    silence: Duration,
    silent_at: Instant,
    is_stale: bool,
    owes_heartbeat: bool,
    /// The last outbox number that was seen.
    seen: u64,
    /// The last number that is durable, and whether the minion has yet to hear so.
    durable: u64,
    owes_acknowledgement: bool,
    /// Numbers handed to the caller and not durable.
    storing: VecDeque<u64>,
    unsent: VecDeque<JobFrame>,
    unacknowledged: VecDeque<JobId>,
    kills: VecDeque<JobId>,
    notices: VecDeque<Notice>,
    replies: VecDeque<Reply>,
    /// Requests that have no reply yet.
    open_requests: usize,
    events: VecDeque<Event>,
}

impl Established {
    pub(super) fn new(heartbeat: Duration, acknowledged: u64, scope: Scope, now: Instant) -> Self {
        let silence = silence(heartbeat);
        Self {
            scope,
            silence,
            silent_at: now + silence,
            is_stale: false,
            owes_heartbeat: false,
            seen: acknowledged,
            durable: acknowledged,
            owes_acknowledgement: false,
            storing: VecDeque::new(),
            unsent: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            kills: VecDeque::new(),
            notices: VecDeque::new(),
            replies: VecDeque::new(),
            open_requests: 0,
            events: VecDeque::new(),
        }
    }

    /// A frame from the minion. Then [`Self::poll_event`] and [`Self::poll_transmit`] until both are empty.
    ///
    /// # Errors
    /// When the peer broke the protocol: nothing more is read from it, the connection is closed.
    pub fn handle_frame(&mut self, frame: &[u8], now: Instant) -> Result<(), Close> {
        let message = codec::decode(frame).map_err(Close::Malformed)?;
        self.silent_at = now + self.silence;
        if std::mem::take(&mut self.is_stale) {
            self.events.push_back(Event::Back);
        }
        if self.scope == Scope::Renewal && !may_renew(&message) {
            return Err(Close::OutOfTurn(
                "more than a certificate request in a session for renewal",
            ));
        }
        match message {
            FromMinion::Heartbeat(_) => self.owes_heartbeat = true,
            FromMinion::JobAccepted(accepted) => {
                self.finish(&accepted.jid);
                self.events.push_back(Event::JobAccepted(accepted));
            }
            FromMinion::Outbox(entry) => self.handle_entry(entry)?,
            FromMinion::Grains(grains) => self.events.push_back(Event::Grains(Box::new(grains))),
            FromMinion::TreeRequest(request) => self.handle_request(Request::Tree(request))?,
            FromMinion::BlobRequest(request) => self.handle_request(Request::Blob(request))?,
            FromMinion::PillarRequest(request) => self.handle_request(Request::Pillar(request))?,
            FromMinion::CertificateRequest(request) => {
                self.handle_request(Request::Certificate(request))?;
            }
            FromMinion::Roots(roots) => self.events.push_back(Event::Roots(roots)),
            FromMinion::Hello(_) => return Err(Close::OutOfTurn("a second hello")),
        }
        Ok(())
    }

    /// Notices a silent minion.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.silent_at && !self.is_stale {
            self.is_stale = true;
            self.events.push_back(Event::Stale);
        }
    }

    /// Sends a job as soon as the window allows.
    ///
    /// # Errors
    /// Gives the job back when [`JOB_QUEUE`] others wait before it, or the session is for renewal alone.
    pub fn queue_job(&mut self, job: JobFrame) -> Result<(), JobFrame> {
        if self.unsent.len() >= JOB_QUEUE || self.scope == Scope::Renewal {
            return Err(job);
        }
        self.unsent.push_back(job);
        Ok(())
    }

    /// Ends a job, here if it still waits, else on the minion.
    pub fn kill_job(&mut self, jid: &JobId) -> Killed {
        if let Some(at) = self.unsent.iter().position(|job| job.jid() == jid) {
            self.unsent.remove(at);
            return Killed::Unsent;
        }
        self.kills.push_back(jid.clone());
        Killed::Sent
    }

    /// The store has flushed every entry of this boot up to this number. Only now may the minion forget them. Some of
    /// them may have come by an older connection; those are not handed out again.
    pub fn durable(&mut self, through: u64) {
        self.seen = self.seen.max(through);
        while self.storing.pop_front_if(|number| *number <= through).is_some() {}
        if through > self.durable {
            self.durable = through;
            self.owes_acknowledgement = true;
        }
    }

    /// Answers a request.
    pub fn reply(&mut self, reply: Reply) {
        self.open_requests = self.open_requests.saturating_sub(1);
        self.replies.push_back(reply);
    }

    /// Tells the minion something that it did not ask for.
    pub fn notify(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    /// What the session is for.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// Ends the session from here: the frame to send before closing.
    #[must_use]
    pub fn retry_after(&self, after: Duration, reason: &str) -> Bytes {
        retry_after(after, reason)
    }

    /// The next thing that the minion did.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() {
            // An idle session gives its memory back.
            self.events = VecDeque::new();
        }
        event
    }

    /// The next frame to send.
    ///
    /// # Panics
    /// Never: what it sends has a MessagePack form.
    pub fn poll_transmit(&mut self, wall: Timestamp) -> Option<Bytes> {
        if let Some(message) = self.next_message(wall) {
            let frame = codec::encode(&message);
            return Some(frame.expect("what the session sends has a MessagePack form"));
        }
        if self.unacknowledged.len() >= JOB_WINDOW {
            return None;
        }
        let job = self.unsent.pop_front()?;
        self.unacknowledged.push_back(job.jid);
        Some(job.frame)
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_stale).then_some(self.silent_at)
    }

    /// Whether the minion was heard within three heartbeats.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The connection ended: what it leaves behind.
    #[must_use]
    pub fn disconnect(self) -> Unfinished {
        Unfinished {
            unacknowledged: self.unacknowledged.into(),
            unsent: self.unsent.into_iter().map(|job| job.jid).collect(),
        }
    }

    fn handle_entry(&mut self, entry: OutboxEntry) -> Result<(), Close> {
        if entry.number == 0 {
            return Err(Close::OutOfTurn("an outbox entry with the number 0"));
        }
        if entry.number <= self.seen {
            // A resent entry. If it is durable, the minion missed the acknowledgement: say it again.
            self.owes_acknowledgement |= entry.number <= self.durable;
            return Ok(());
        }
        if self.storing.len() >= OUTBOX_WINDOW {
            return Err(Close::OutboxWindow);
        }
        if let OutboxItem::Return(given) = &entry.item {
            self.finish(&given.jid);
        }
        self.seen = entry.number;
        self.storing.push_back(entry.number);
        self.events.push_back(Event::Store(Box::new(entry)));
        Ok(())
    }

    fn handle_request(&mut self, request: Request) -> Result<(), Close> {
        if self.open_requests >= REQUEST_WINDOW {
            return Err(Close::RequestWindow);
        }
        self.open_requests += 1;
        self.events.push_back(Event::Request(request));
        Ok(())
    }

    /// The minion has the job: it counts no longer against the window.
    fn finish(&mut self, jid: &JobId) {
        if let Some(at) = self.unacknowledged.iter().position(|sent| sent == jid) {
            self.unacknowledged.remove(at);
        }
    }

    fn next_message(&mut self, wall: Timestamp) -> Option<FromMaster> {
        if std::mem::take(&mut self.owes_heartbeat) {
            return Some(FromMaster::Heartbeat(Heartbeat { at: wall }));
        }
        if std::mem::take(&mut self.owes_acknowledgement) {
            return Some(FromMaster::Acknowledged(Acknowledged { through: self.durable }));
        }
        if let Some(jid) = self.kills.pop_front() {
            return Some(FromMaster::KillJob(KillJob { jid }));
        }
        if let Some(notice) = self.notices.pop_front() {
            return Some(notice.into());
        }
        let reply = self.replies.pop_front();
        if reply.is_none() {
            // An idle session gives its memory back.
            (self.notices, self.replies) = (VecDeque::new(), VecDeque::new());
        }
        reply.map(Reply::fitting).map(Into::into)
    }
}

/// Whether a minion may send it in a session of [`Scope::Renewal`].
const fn may_renew(message: &FromMinion) -> bool {
    match message {
        // A second hello has its own reason to close.
        FromMinion::Hello(_) | FromMinion::Heartbeat(_) | FromMinion::CertificateRequest(_) => true,
        FromMinion::JobAccepted(_)
        | FromMinion::Outbox(_)
        | FromMinion::Grains(_)
        | FromMinion::TreeRequest(_)
        | FromMinion::BlobRequest(_)
        | FromMinion::PillarRequest(_)
        | FromMinion::Roots(_) => false,
    }
}

impl Reply {
    /// Itself, or that it cannot be sent: a frame that is too long would end the connection, and what is nested too
    /// deeply would make the minion end it, on this one and on each one after it.
    fn fitting(self) -> Self {
        let Self::Pillar(Pillar { request, pillar }) = &self else { return self };
        let request = *request;
        let reason = if !pillar.values().all(codec::is_shallow) {
            format!("the pillar is nested deeper than {} levels", codec::MAX_VALUE_DEPTH)
        } else {
            let length = codec::encode(pillar).map_or(usize::MAX, |encoded| encoded.len());
            if length <= LARGEST_PILLAR {
                return self;
            }
            format!(
                "the pillar has {length} bytes, {LARGEST_PILLAR} are the most: put large data into files"
            )
        };
        Self::Failed(RequestFailed { request, reason })
    }
}

impl From<Reply> for FromMaster {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Tree(tree) => Self::Tree(tree),
            Reply::BlobChunk(chunk) => Self::BlobChunk(chunk),
            Reply::Pillar(pillar) => Self::Pillar(pillar),
            Reply::Certificate(certificate) => Self::Certificate(certificate),
            Reply::Failed(failed) => Self::RequestFailed(failed),
        }
    }
}

impl From<Notice> for FromMaster {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::RootList(list) => Self::RootList(list),
            Notice::Renew(renew) => Self::Renew(renew),
            Notice::Retirement(retirement) => Self::Retirement(retirement),
        }
    }
}
