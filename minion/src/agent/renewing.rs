//! The agent's part in renewal: makes a key for each request, and takes what the master issued for it. When, is the
//! machine's to say.

use std::time::{Duration, Instant};

use bytes::Bytes;
use drover_pki::PrivateKey;
use drover_proto::{
    message::{self, CertificateRequest},
    session::minion::Request,
};
use rustls_pki_types::CertificateDer;

use crate::{
    allowance::Allowance,
    clock_floor::ClockFloor,
    error_chain,
    identity::{DeviceIdentity, NotStored, RenewError, Renewed},
    renewal::Renewal,
};

pub(super) struct Renewing {
    pub(super) machine: Renewal,
    /// The key of the open request. It is in no file: if no certificate comes for it, it was never there.
    key: Option<PrivateKey>,
    /// There is a new certificate, which the running session does not show.
    pub(super) is_new: bool,
    /// That the disk does not take the identity was told.
    told_not_stored: bool,
    /// Of identities to be stored.
    stores: Allowance,
}

/// Enough for any certificate that lives for half an hour. A shorter life is somebody's mistake, and wears the flash.
const STORES: Allowance = Allowance::new(60, Duration::from_secs(600));

impl Renewing {
    pub(super) fn new(identity: &DeviceIdentity, seed: u64) -> Self {
        let machine = Renewal::new(identity.term(), seed);
        Self { machine, key: None, is_new: false, told_not_stored: false, stores: STORES }
    }

    /// The request that is due.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Request> {
        self.machine.handle_timeout(now);
        let request = self.machine.poll_transmit(now)?;
        let made = PrivateKey::generate().map_err(|why| error_chain(&why));
        let made = made.and_then(|key| match key.to_csr() {
            Ok(csr) => Ok((key, csr)),
            Err(why) => Err(error_chain(&why)),
        });
        match made {
            Ok((key, csr)) => {
                self.key = Some(key);
                Some(Request::Certificate(CertificateRequest { request, csr: Bytes::from(csr) }))
            }
            Err(why) => {
                tracing::error!("no request for a certificate could be made: {why}");
                self.machine.handle_failure(request, now);
                None
            }
        }
    }

    /// The master refused the request.
    pub(super) fn handle_refusal(&mut self, request: u64, reason: &str, now: Instant) {
        tracing::warn!("the master issues no operational certificate: {reason}");
        self.key = None;
        self.machine.handle_failure(request, now);
    }

    /// The session ended.
    pub(super) fn handle_disconnected(&mut self, now: Instant) {
        self.key = None;
        self.machine.handle_disconnected(now);
    }

    /// The master issued a certificate. Gives why it will not outlive the agent, where that has not been told.
    pub(super) fn handle_certificate(
        &mut self,
        answer: message::Certificate,
        identity: &mut DeviceIdentity,
        floor: &mut ClockFloor,
        now: Instant,
    ) -> Option<NotStored> {
        let request = answer.request;
        // The answer to a request that was given up on has lost its key.
        let key = self.key.take_if(|_| self.machine.is_open(request))?;
        let may_store = self.stores.take(now);
        match take(answer, &key, identity, floor, may_store) {
            Ok(renewed) => {
                self.machine.handle_certificate(renewed.term, now);
                self.is_new = true;
                self.untold(renewed.stored)
            }
            Err(why) => {
                tracing::error!("the new certificate is not taken: {}", error_chain(&why));
                self.machine.handle_failure(request, now);
                None
            }
        }
    }

    fn untold(&mut self, stored: Result<(), NotStored>) -> Option<NotStored> {
        let why = stored.err();
        let is_told = std::mem::replace(&mut self.told_not_stored, why.is_some());
        why.filter(|_| !is_told)
    }
}

fn take(
    answer: message::Certificate,
    key: &PrivateKey,
    identity: &mut DeviceIdentity,
    floor: &mut ClockFloor,
    may_store: bool,
) -> Result<Renewed, RenewError> {
    let chain: Vec<_> =
        answer.chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    // Whether it has expired is the master's to judge: a device whose clock runs ahead must not refuse its own.
    let at = floor.clock().time_within(&chain);
    let renewed = identity.renew(key, chain, at, may_store)?;
    floor.raise(renewed.proved);
    tracing::info!(
        issued = %renewed.term.issued,
        expires = %renewed.term.expires,
        "a new operational certificate"
    );
    Ok(renewed)
}
