//! Every message of a session, both ways. Each is one ZMTP message of one frame: a MessagePack map with a single
//! entry, the message's name, whose value is a map of named fields (docs/protocol.md). Unknown fields are ignored,
//! fields are never reused; [`crate::codec`] turns bytes into these and back.

use bytes::Bytes;
use drover_pki::Fingerprint;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    digest::Digest,
    id::{BootId, JobId},
    job::{Job, Return},
};

/// The newest version of this protocol. [`Hello`] lists what a minion speaks, [`Welcome`] names what is spoken.
pub const PROTOCOL: u16 = 1;

/// What a minion sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromMinion {
    /// First on every connection.
    Hello(Hello),
    /// The minion lives; the master answers with its own.
    Heartbeat(Heartbeat),
    /// It has the job, and where it stands. Sent on receipt and again when it starts to run.
    JobAccepted(JobAccepted),
    /// A numbered event or return, kept on the minion until acknowledged.
    Outbox(OutboxEntry),
    /// Its configured or detected grains changed.
    Grains(GrainSets),
    /// Asks for the file list of an environment.
    TreeRequest(TreeRequest),
    /// Asks for a part of a file, by its content's digest.
    BlobRequest(BlobRequest),
    /// Asks for its pillar.
    PillarRequest(PillarRequest),
    /// Asks for an operational certificate.
    CertificateRequest(CertificateRequest),
    /// The roots that it trusts changed.
    Roots(Roots),
}

/// What the master sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromMaster {
    /// Answers [`Hello`]: only now is the minion connected.
    Welcome(Welcome),
    /// Answers [`Hello`] instead of a welcome, or ends a session: come back later.
    RetryAfter(RetryAfter),
    /// Answers a heartbeat.
    Heartbeat(Heartbeat),
    /// Run this.
    Job(Job),
    /// End that job.
    KillJob(KillJob),
    /// Every outbox entry up to here is in the store.
    Acknowledged(Acknowledged),
    /// Answers [`TreeRequest`].
    Tree(Tree),
    /// Answers [`BlobRequest`].
    BlobChunk(BlobChunk),
    /// Answers [`PillarRequest`].
    Pillar(Pillar),
    /// Answers [`CertificateRequest`].
    Certificate(Certificate),
    /// Answers any request that could not be served.
    RequestFailed(RequestFailed),
    /// Follow this list of the fleet's roots.
    RootList(RootList),
    /// Renew the operational certificate before it is due.
    Renew(Renew),
    /// The day on which the device ends changed.
    Retirement(Retirement),
}

/// A minion presents itself. Who it is stands in its certificate, not here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol versions that it speaks.
    pub protocols: Vec<u16>,
    /// This run of the agent.
    pub boot: BootId,
    /// The agent's version, for people to read.
    pub version: String,
    /// How often it will send a heartbeat, in milliseconds.
    pub heartbeat: u64,
    /// The time on its clock.
    pub at: Timestamp,
    /// Its own grains.
    pub grains: GrainSets,
    /// The number of the newest root list that it follows; 0 for the roots that it was born with.
    #[serde(default)]
    pub root_list: u64,
    /// The roots that it trusts.
    #[serde(default)]
    pub roots: Vec<Fingerprint>,
}

/// The grains that a minion knows by itself. Enrolled ones come from the registry and win over both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GrainSets {
    /// From its configuration, or set at run time.
    #[serde(default)]
    pub configured: Map<String, Value>,
    /// Found out about the machine.
    #[serde(default)]
    pub detected: Map<String, Value>,
}

/// The session begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol version of this session.
    pub protocol: u16,
    /// The master's clock, for stamps and never for trust.
    pub time: Timestamp,
    /// The grains given at the enrolment station.
    pub grains: Map<String, Value>,
    /// The last outbox number of this boot that is in the store; 0 for none.
    pub acknowledged: u64,
    /// What the session is for.
    #[serde(default)]
    pub scope: Scope,
    /// When the device ends, if its operator set a day: nothing is renewed past it.
    #[serde(default)]
    pub retires: Option<Timestamp>,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything.
    #[default]
    Full,
    /// To ask for an operational certificate, and nothing else: the minion showed its birth certificate.
    Renewal,
}

/// Come back later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryAfter {
    /// Milliseconds to wait at least.
    pub after: u64,
    /// Why, for people to read.
    pub reason: String,
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The time on the sender's clock.
    pub at: Timestamp,
}

/// A minion has a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAccepted {
    /// The job.
    pub jid: JobId,
    /// How many jobs run before it; 0 when it runs now.
    pub behind: u32,
}

/// One entry of a minion's outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// Counts up from 1 within one boot. A number that is missing was dropped, and an event says so.
    pub number: u64,
    /// When it happened: the time that the minion takes for right as it sends this, less what has passed since.
    pub at: Timestamp,
    /// What it is.
    pub item: OutboxItem,
}

/// What an outbox keeps until the master has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxItem {
    /// Becomes `drover/beacon/<id>/<path>`.
    Beacon(OutboxEvent),
    /// Becomes `drover/app/<id>/<path>`.
    App(OutboxEvent),
    /// Becomes `drover/minion/<id>/<path>`: what the agent says of itself, as `outbox/dropped`.
    Agent(OutboxEvent),
    /// A job's return.
    Return(Return),
    /// A job's progress: `drover/job/<jid>/prog/<id>`.
    Progress(Progress),
}

/// An event of a minion's, whose tag the master completes with the id of the certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxEvent {
    /// The last part of the tag.
    pub path: String,
    /// The payload.
    pub data: Value,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The job.
    pub jid: JobId,
    /// One step of it, for a state run the state's return.
    pub data: Value,
}

/// End a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillJob {
    /// The job.
    pub jid: JobId,
}

/// Entries that are durable on the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// This number and all before it.
    pub through: u64,
}

/// Which files does this environment have?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRequest {
    /// Names the answer.
    pub request: u64,
    /// The environment, `base` where nothing else is said.
    pub saltenv: String,
}

/// An environment's file list, itself a blob: a MessagePack list of [`TreeFile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// The request.
    pub request: u64,
    /// The list's digest.
    pub digest: Digest,
    /// The list's length in bytes.
    pub size: u64,
}

/// One file of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFile {
    /// Relative to the environment's root, with `/`.
    pub path: String,
    /// Of its content.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Permission bits, as `file.managed` keeps them with `mode: keep`.
    pub mode: u32,
}

/// A part of a blob, please.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRequest {
    /// Names the answer.
    pub request: u64,
    /// Of the whole blob.
    pub digest: Digest,
    /// Where the part begins, in bytes.
    pub offset: u64,
}

/// A part of a blob, at most 256 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobChunk {
    /// The request.
    pub request: u64,
    /// Where the part begins.
    pub offset: u64,
    /// Of the whole blob, in bytes.
    pub size: u64,
    /// The part.
    pub data: Bytes,
}

/// My pillar, please.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PillarRequest {
    /// Names the answer.
    pub request: u64,
    /// The environment.
    pub saltenv: String,
}

/// A minion's pillar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pillar {
    /// The request.
    pub request: u64,
    /// The data.
    pub pillar: Map<String, Value>,
}

/// A certificate for this key, please.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRequest {
    /// Names the answer.
    pub request: u64,
    /// RFC 2986, in DER. Of what it says only the key is taken.
    pub csr: Bytes,
}

/// An operational certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The request.
    pub request: u64,
    /// In DER: the certificate, then its fleet CA.
    pub chain: Vec<Bytes>,
}

/// The roots that a minion trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// The number of the newest root list that it follows; 0 for the roots that it was born with.
    pub root_list: u64,
    /// Each root's certificate.
    pub roots: Vec<Fingerprint>,
}

/// The fleet's roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootList {
    /// The signed text.
    pub list: Bytes,
}

/// Renew early, because the authority that issued the certificate goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// In milliseconds: at a random moment within, so that a fleet does not come at once.
    pub within: u64,
}

/// The end of a device's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retirement {
    /// When; none takes it back.
    pub at: Option<Timestamp>,
}

/// A request that could not be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFailed {
    /// The request.
    pub request: u64,
    /// Why, with a hint, for people to read.
    pub reason: String,
}
