//! Answers what minions ask for, off the hub's thread: lists of files one scan for all that wait, so that a fleet that
//! asks at once costs one; blobs and pillar a few at a time; certificates by `operational`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use drover_proto::{
    MinionId,
    message::{Certificate, CertificateRequest, Pillar, PillarRequest, RequestFailed, TreeRequest},
    session::master::{Reply, Request},
    tunnel::ConnectionId,
};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    files::Files,
    hub::{Ask, HubHandle},
    operational::{Applicant, Operational},
    pillar::Pillars,
    registry::Registry,
};

/// Requests that read files at a time.
const AT_ONCE: usize = 4;
/// How long a device waits for a refusal that is its own doing: who asks on and on costs little.
const REFUSAL: Duration = Duration::from_secs(1);
/// Lists that share one scan.
const SCAN: usize = 4096;

/// What answers are made from.
#[derive(Clone)]
pub struct RequestsTask {
    files: Arc<Files>,
    pillars: Pillars,
    registry: Registry,
    operational: Operational,
    hub: HubHandle,
}

impl RequestsTask {
    /// Answers through the hub.
    #[must_use]
    pub fn new(
        files: Files,
        pillars: Pillars,
        registry: Registry,
        operational: Operational,
        hub: HubHandle,
    ) -> Self {
        Self { files: Arc::new(files), pillars, registry, operational, hub }
    }

    /// Until the hub ends.
    pub async fn run(self, mut asks: mpsc::Receiver<Ask>) {
        let (trees, waiting) = mpsc::channel(SCAN);
        let scanning = tokio::spawn(self.clone().scan(waiting));
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(Ask { connection, applicant, request }) = asks.recv().await {
            let request = match request {
                Request::Tree(request) => {
                    if trees.send((connection, request)).await.is_err() {
                        break;
                    }
                    continue;
                }
                Request::Certificate(asked) => {
                    // Not one of the turns for files: signing has turns of its own, and a refusal takes its time.
                    tokio::spawn(self.clone().certify(connection, applicant, asked));
                    continue;
                }
                request @ (Request::Blob(_) | Request::Pillar(_)) => request,
            };
            let Ok(turn) = turns.clone().acquire_owned().await else { break };
            let task = self.clone();
            tokio::spawn(async move {
                let _turn = turn;
                let hub = task.hub.clone();
                let minion = connection.minion.clone();
                let reply =
                    tokio::task::spawn_blocking(move || task.answer(&minion, &request)).await;
                if let Ok(Some(reply)) = reply {
                    // The hub ends before the minions do.
                    let _ = hub.reply(connection, reply).await;
                }
            });
        }
        drop(trees);
        let _ = scanning.await;
    }

    async fn certify(
        self,
        connection: ConnectionId,
        applicant: Applicant,
        asked: CertificateRequest,
    ) {
        let CertificateRequest { request, csr } = asked;
        let minion = &connection.minion;
        let reply = match self.operational.issue_to(minion, applicant, &csr).await {
            Ok(issued) => {
                let chain = issued.chain.iter().map(|der| Bytes::copy_from_slice(der)).collect();
                Reply::Certificate(Certificate { request, chain })
            }
            Err(error) => {
                let reason = error.reason();
                tracing::warn!(%minion, reason, "no operational certificate");
                if error.is_the_devices() {
                    drop(csr);
                    tokio::time::sleep(REFUSAL).await;
                }
                Reply::Failed(RequestFailed { request, reason })
            }
        };
        let _ = self.hub.reply(connection, reply).await;
    }

    async fn scan(self, mut waiting: mpsc::Receiver<(ConnectionId, TreeRequest)>) {
        let mut asked = Vec::new();
        while waiting.recv_many(&mut asked, SCAN).await > 0 {
            asked.sort_by(|(_, a), (_, b)| a.saltenv.cmp(&b.saltenv));
            for same in asked.chunk_by(|(_, a), (_, b)| a.saltenv == b.saltenv) {
                // Whoever asked before the scan begins sees what was on the disk when it asked, or newer.
                let (files, saltenv) = (self.files.clone(), same[0].1.saltenv.clone());
                let Ok(tree) = tokio::task::spawn_blocking(move || files.tree(0, &saltenv)).await
                else {
                    continue;
                };
                for (connection, TreeRequest { request, .. }) in same {
                    let reply = match &tree {
                        Ok(tree) => {
                            let mut tree = tree.clone();
                            tree.request = *request;
                            Reply::Tree(tree)
                        }
                        Err(error) => failed(*request, error),
                    };
                    let _ = self.hub.reply(connection.clone(), reply).await;
                }
            }
            asked.clear();
        }
    }

    /// `None` for what is answered elsewhere.
    fn answer(&self, minion: &MinionId, request: &Request) -> Option<Reply> {
        match request {
            Request::Tree(_) | Request::Certificate(_) => None,
            Request::Blob(request) => Some(match self.files.part(request) {
                Ok(chunk) => Reply::BlobChunk(chunk),
                Err(error) => failed(request.request, &error),
            }),
            Request::Pillar(PillarRequest { request, saltenv }) => {
                let shown = self.registry.show(minion)?;
                Some(match self.pillars.render(&shown, saltenv) {
                    Ok(pillar) => Reply::Pillar(Pillar { request: *request, pillar }),
                    Err(errors) => {
                        tracing::warn!(%minion, "the pillar does not render: {errors}");
                        // Which file and line is wrong is the operator's to know, with what stands there.
                        let reason = "the pillar does not render; `drover state show` and the master's log say why";
                        Reply::Failed(RequestFailed {
                            request: *request,
                            reason: reason.to_owned(),
                        })
                    }
                })
            }
        }
    }
}

fn failed(request: u64, error: &dyn std::error::Error) -> Reply {
    Reply::Failed(RequestFailed { request, reason: error.to_string() })
}
