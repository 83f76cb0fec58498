//! Issuing: what a station does for one device, in the order that makes a power cut harmless.

use jiff::Timestamp;

use super::bundle::Bundle;
use super::unfinished::Unfinished;
use super::{IssueRequest, Issued, KeySource, Station, StationError, unix};
use crate::certificate::Certificate;
use crate::file::FileError;
use crate::key::{PrivateKey, PublicKey};
use crate::ledger::{
    Actor, Device, Event, IssuedLine, LedgerError, Reason, RefusalKind, RefusedLine, Standing,
};
use crate::manifest::{ManifestEntry, Reissue};
use crate::name::{HardwareSerial, MinionId};
use crate::verify::verify_minion;

/// What is to be done for a device.
enum Plan {
    /// Its certificate is in the ledger, and its bundle is not whole.
    Finish(IssuedLine),
    /// It gets its first certificate.
    Issue,
    /// It gets another one in this one's place.
    Reissue(Device),
}

impl Station {
    /// Issues a device its identity and writes its bundle, and reads back what it wrote.
    ///
    /// The order is what makes a power cut harmless: the key, then the ledger, then the bundle with
    /// `idevid.crt` last. Asked again for the same device, the half-written bundle is finished. What
    /// is refused is in the ledger too.
    ///
    /// # Errors
    /// When the device may not have a certificate, or something cannot be written.
    pub fn issue(
        &mut self,
        request: &IssueRequest,
        now: Timestamp,
    ) -> Result<Issued, StationError> {
        let issued = self.try_issue(request, now);
        if let Err(refusal) = &issued
            && let Some(kind) = refusal.kind()
        {
            self.refuse(Some(&request.id), Some(&request.serial), kind, refusal, &request.by, now)?;
        }
        issued
    }

    /// Writes down that a device got no certificate, where that was found out before
    /// [`Station::issue`] was asked: for a signing request that cannot be used.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn refuse(
        &mut self,
        id: Option<&MinionId>,
        serial: Option<&HardwareSerial>,
        refusal: RefusalKind,
        reason: &dyn std::error::Error,
        by: &Actor,
        now: Timestamp,
    ) -> Result<(), StationError> {
        let refused = RefusedLine {
            id: id.cloned(),
            serial: serial.cloned(),
            refusal,
            reason: Reason::of(reason),
        };
        Ok(self.ledger.append(&self.authority, by, now, Event::Refused(refused))?)
    }

    /// The bundles whose certificate is in the ledger, and that are not known to be whole.
    ///
    /// # Errors
    /// When the notes about them cannot be read.
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, StationError> {
        let mut notes = self.notes.all()?;
        // A note is written before the ledger's line; without that line nothing was issued.
        // What was revoked since is not handed out.
        let is_wanted = |device: &Device, note: &Unfinished| {
            device.key == note.key && device.standing == Standing::Current
        };
        notes.retain(|note| self.ledger.find(&note.id).is_some_and(|it| is_wanted(it, note)));
        Ok(notes)
    }

    /// Finishes a bundle where it was begun.
    ///
    /// # Errors
    /// When its key is not there any more, or something cannot be written.
    pub fn finish(&mut self, note: &Unfinished, now: Timestamp) -> Result<Issued, StationError> {
        let bundle = Bundle::new(&note.out);
        let device = self.ledger.find(&note.id).filter(|device| device.key == note.key);
        let line = device.map(|device| self.issued_line(device)).transpose()?.flatten();
        let Some(line) = line else {
            return Err(StationError::NotIssued { what: "the id", value: note.id.to_string() });
        };
        self.refuse_revoked(&note.id)?;
        if !note.key_on_device && !bundle.has_key(&note.key) {
            let (id, out) = (note.id.clone(), note.out.clone());
            return Err(StationError::KeyLost { id, out });
        }
        if let Some(path) = bundle.anothers(&line.entry) {
            return Err(StationError::Occupied { path });
        }
        self.write_bundle(&bundle, note, line, true, now)
    }

    fn try_issue(
        &mut self,
        request: &IssueRequest,
        now: Timestamp,
    ) -> Result<Issued, StationError> {
        let bundle = Bundle::new(&request.out);
        let replaced = match self.plan(request, &bundle)? {
            Plan::Finish(line) => {
                let note = note(request, &line.entry)?;
                return self.write_bundle(&bundle, &note, line, true, now);
            }
            Plan::Issue => None,
            Plan::Reissue(device) => Some(device),
        };
        if let Some(path) = bundle.occupied(replaced.as_ref().map(|device| &device.key)) {
            return Err(StationError::Occupied { path });
        }

        let (public, private) = match &request.key {
            KeySource::Device(key) => (key.clone(), None),
            KeySource::Station => {
                let key = PrivateKey::generate()?;
                (key.public().clone(), Some(key))
            }
        };
        if let Some(device) = self.ledger.find_key(&public.digest()) {
            return Err(self.seen("the key", public.digest().to_string(), device));
        }
        let line = self.certify(request, &public, replaced, now)?;

        bundle.create(private.as_ref())?;
        let note = note(request, &line.entry)?;
        self.notes.write(&note).map_err(LedgerError::File)?;
        let event = match line.entry.reissue {
            Some(_) => Event::Reissued(line.clone()),
            None => Event::Issued(line.clone()),
        };
        // Persisted before anybody gets it.
        self.ledger.append(&self.authority, &request.by, now, event)?;
        self.write_bundle(&bundle, &note, line, false, now)
    }

    fn plan(&self, request: &IssueRequest, bundle: &Bundle) -> Result<Plan, StationError> {
        let by_id = self.ledger.find(&request.id);
        let by_serial = self.ledger.find_serial(&request.serial);
        let device = match (by_id, by_serial) {
            (None, None) if request.reissue.is_some() => {
                let (what, value) = ("the serial number", request.serial.to_string());
                return Err(StationError::NotIssued { what, value });
            }
            (None, None) => return Ok(Plan::Issue),
            (Some(device), Some(same)) if device.key == same.key => device,
            (Some(other), _) => return Err(self.seen("the id", other.id.to_string(), other)),
            (None, Some(other)) => {
                return Err(self.seen("the serial number", other.serial.to_string(), other));
            }
        };
        if request.reissue.is_none() {
            self.refuse_revoked(&device.id)?;
        }
        if device.reissued == request.reissue.is_some()
            && device.standing == Standing::Current
            && let Some(line) = self.issued_line(device)?
            && self.is_unfinished(&line.entry, request, bundle)
        {
            return Ok(Plan::Finish(line));
        }
        if request.reissue.is_some() {
            return Ok(Plan::Reissue(device.clone()));
        }
        Err(self.seen("the serial number", device.serial.to_string(), device))
    }

    fn is_unfinished(
        &self,
        entry: &ManifestEntry,
        request: &IssueRequest,
        bundle: &Bundle,
    ) -> bool {
        if bundle.awaits(entry, &request.key) {
            return true;
        }
        // Whole as it looks, and not read back yet.
        let note = self.notes.find(&entry.id);
        note.is_some_and(|note| note.key == entry.key) && bundle.holds(&entry.key)
    }

    fn certify(
        &self,
        request: &IssueRequest,
        key: &PublicKey,
        replaced: Option<Device>,
        now: Timestamp,
    ) -> Result<IssuedLine, StationError> {
        let (mut reissue, mut revokes) = (None, None);
        if let (Some(device), Some(reason)) = (replaced, &request.reissue) {
            revokes = match self.issued_line(&device)? {
                Some(line) => Some(Certificate::read(&line.der)?.serial),
                None => None,
            };
            reissue = Some(Reissue { reason: reason.clone(), replaces: device.key });
        }
        let der = self.authority.issue_idevid(&request.id, &request.serial, key, now)?;
        let chain = std::slice::from_ref(self.authority.der());
        let verified = verify_minion(&self.anchors, &der, chain, unix(now));
        let verified = verified.map_err(StationError::Issued)?;
        let entry = ManifestEntry {
            id: request.id.clone(),
            serial: request.serial.clone(),
            key: verified.key,
            certificate: verified.fingerprint,
            grains: request.grains.clone(),
            issued: now,
            reissue,
        };
        Ok(IssuedLine { entry, revokes, der })
    }

    fn write_bundle(
        &self,
        bundle: &Bundle,
        note: &Unfinished,
        line: IssuedLine,
        finished_earlier: bool,
        now: Timestamp,
    ) -> Result<Issued, StationError> {
        let chain = [line.der, self.authority.der().clone()];
        let roots = self.anchors.certificates();
        let wrote_configuration = bundle.write(&line.entry, &chain, roots, &note.masters)?;
        let read = bundle.read_back(&line.entry, !note.key_on_device, unix(now))?;
        self.notes.remove(&note.id).map_err(LedgerError::File)?;
        Ok(Issued {
            reissued: line.entry.reissue.is_some(),
            entry: line.entry,
            finished_earlier,
            wrote_configuration,
            key_is_exposed: read.key_is_exposed,
        })
    }

    fn seen(&self, what: &'static str, value: String, device: &Device) -> StationError {
        let note = self.notes.find(&device.id).filter(|note| note.key == device.key);
        StationError::Seen {
            what,
            value,
            at: device.at,
            id: device.id.clone(),
            serial: device.serial.clone(),
            unfinished: note.map(|note| note.out),
        }
    }
}

fn note(request: &IssueRequest, entry: &ManifestEntry) -> Result<Unfinished, FileError> {
    // The note is read by a program that may run somewhere else.
    let out = std::path::absolute(&request.out);
    Ok(Unfinished {
        id: entry.id.clone(),
        serial: entry.serial.clone(),
        key: entry.key,
        key_on_device: matches!(request.key, KeySource::Device(_)),
        masters: request.masters.clone(),
        out: out.map_err(crate::file::failed("find", &request.out))?,
    })
}
