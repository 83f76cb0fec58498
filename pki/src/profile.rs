//! The certificates that Drover makes, and what stands in each: names, purposes, validity. The
//! values are plain, so a test can describe a hostile certificate by changing a field.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::string::PrintableString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};
use rustls_pki_types::UnixTime;

use crate::certificate::{Certificate, NO_EXPIRY, Purposes};
use crate::host::Host;
use crate::name::{
    FleetName, HardwareSerial, MasterName, MinionId, OperatorName, ServiceName, StationName,
};
use crate::urn::DroverUrn;

/// How far validity starts before the time of issue, for peers whose clocks run behind.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// How long a master's and an operator's certificate is valid.
pub const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long a fleet CA is valid; it is replaced in the field before that.
pub const FLEET_CA_VALIDITY: Duration = Duration::from_secs(3653 * 24 * 60 * 60);
/// How long an operational certificate is valid, unless the master's configuration says otherwise.
pub const LDEVID_VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What a certificate's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The root: it certifies authorities.
    Root,
    /// An authority with path length 0: it certifies leaves.
    Authority,
    /// A peer.
    Leaf,
}

/// How long a certificate is valid, from [`BACKDATE`] before its issue unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Without an end: 99991231235959Z (RFC 5280 §4.1.2.5).
    Forever,
    /// For so long after its issue.
    For(Duration),
    /// Exactly so.
    Between(Timestamp, Timestamp),
    /// To the second as another certificate has it, which may be without an end.
    AsOf(UnixTime, UnixTime),
}

/// The parts of a subject that are used here, each left out where `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// `O`: the fleet, on authorities.
    pub organization: Option<String>,
    /// `OU`: the kind of authority.
    pub organizational_unit: Option<String>,
    /// `CN`.
    pub common_name: Option<String>,
    /// `serialNumber`: a device's hardware serial number (IEEE 802.1AR §8.6).
    pub serial: Option<HardwareSerial>,
}

/// What stands in a certificate, its key and issuer aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its subject.
    pub subject: Subject,
    /// The URIs in its subjectAltName: one `urn:drover:` name, but for the root's none.
    pub uris: Vec<String>,
    /// The host names and addresses in its subjectAltName; only EST's server has any.
    pub hosts: Vec<Host>,
    /// Its extendedKeyUsage; `None` leaves the extension out.
    pub purposes: Option<Purposes>,
    /// Root, authority or leaf.
    pub role: Role,
    /// When it is valid.
    pub validity: Validity,
}

impl Profile {
    /// A fleet's root: offline, without an end.
    pub fn root(fleet: &FleetName) -> Self {
        let subject = Subject {
            organization: Some(fleet.to_string()),
            common_name: Some("Drover root CA".to_owned()),
            ..Subject::default()
        };
        Self {
            subject,
            uris: Vec::new(),
            hosts: Vec::new(),
            purposes: None,
            role: Role::Root,
            validity: Validity::Forever,
        }
    }

    /// The root that takes the place of the one before it, told apart by its name.
    pub fn next_root(fleet: &FleetName, generation: u32) -> Self {
        let root = Self::root(fleet);
        let name = numbered("Drover root CA", generation);
        Self { subject: Subject { common_name: Some(name), ..root.subject }, ..root }
    }

    /// What stands in an authority's certificate, to be certified again by another root: the same name, purposes and
    /// validity. That notBefore stays is what a station's revocation relies on.
    pub fn of_authority(certificate: &Certificate) -> Self {
        let subject = Subject {
            organization: certificate.organization.clone(),
            organizational_unit: certificate.organizational_unit.clone(),
            common_name: certificate.common_name.clone(),
            serial: None,
        };
        Self {
            subject,
            uris: certificate.uris.clone(),
            hosts: Vec::new(),
            purposes: certificate.purposes,
            // Only a root has no name of its own.
            role: if certificate.uris.is_empty() { Role::Root } else { Role::Authority },
            validity: Validity::AsOf(certificate.not_before, certificate.not_after),
        }
    }

    /// One station's authority: clientAuth alone, so that it can speak for minions alone; without
    /// an end, because a birth certificate is worth no more than its issuer.
    pub fn factory_ca(fleet: &str, station: &StationName) -> Self {
        let urn = DroverUrn::FactoryCa(station.clone());
        Self {
            purposes: Some(Purposes::CLIENT),
            ..Self::authority(fleet, "Factory CA", station.as_str(), &urn, Validity::Forever)
        }
    }

    /// The master's authority, for operational, master and operator certificates.
    pub fn fleet_ca(fleet: &FleetName) -> Self {
        let urn = DroverUrn::FleetCa(fleet.clone());
        let validity = Validity::For(FLEET_CA_VALIDITY);
        Self {
            purposes: Some(Purposes::BOTH),
            ..Self::authority(fleet.as_str(), "Fleet CA", fleet.as_str(), &urn, validity)
        }
    }

    /// The fleet CA that takes the place of the one before it, told apart by its common name.
    pub fn next_fleet_ca(fleet: &FleetName, generation: u32) -> Self {
        let fleet_ca = Self::fleet_ca(fleet);
        let name = numbered(fleet.as_str(), generation);
        Self { subject: Subject { common_name: Some(name), ..fleet_ca.subject }, ..fleet_ca }
    }

    /// A device's birth certificate (IEEE 802.1AR IDevID).
    pub fn idevid(id: &MinionId, serial: &HardwareSerial) -> Self {
        let urn = DroverUrn::Minion(id.clone());
        let leaf = Self::leaf(id.as_str(), &urn, Purposes::CLIENT, Validity::Forever);
        Self { subject: Subject { serial: Some(serial.clone()), ..leaf.subject }, ..leaf }
    }

    /// A device's operational certificate (IEEE 802.1AR LDevID).
    pub fn ldevid(id: &MinionId, serial: Option<&HardwareSerial>, validity: Duration) -> Self {
        let urn = DroverUrn::Minion(id.clone());
        let leaf = Self::leaf(id.as_str(), &urn, Purposes::CLIENT, Validity::For(validity));
        Self { subject: Subject { serial: serial.cloned(), ..leaf.subject }, ..leaf }
    }

    /// A master's certificate, for a year.
    pub fn master(name: &MasterName) -> Self {
        let urn = DroverUrn::Master(name.clone());
        Self::leaf(name.as_str(), &urn, Purposes::SERVER, Validity::For(YEAR))
    }

    /// An operator's certificate, for a year.
    pub fn operator(name: &OperatorName) -> Self {
        let urn = DroverUrn::Operator(name.clone());
        Self::leaf(name.as_str(), &urn, Purposes::CLIENT, Validity::For(YEAR))
    }

    /// The certificate of an EST server (RFC 7030 §3.3.1), which is found by its host names and
    /// addresses. It has no `urn:drover:` name, so it is no master to any minion.
    pub fn est_server(hosts: Vec<Host>, validity: Duration) -> Self {
        Self::foreign("Drover EST", hosts, Purposes::SERVER, Validity::For(validity))
    }

    /// The certificate of a server that is not Drover's, such as a broker, for a year. Without a `urn:drover:` name it is
    /// nobody to a minion or a master.
    pub fn server(name: &ServiceName, hosts: Vec<Host>) -> Self {
        Self::foreign(name.as_str(), hosts, Purposes::SERVER, Validity::For(YEAR))
    }

    /// The certificate of such a server's client, for a year.
    pub fn client(name: &ServiceName) -> Self {
        Self::foreign(name.as_str(), Vec::new(), Purposes::CLIENT, Validity::For(YEAR))
    }

    fn foreign(name: &str, hosts: Vec<Host>, purposes: Purposes, validity: Validity) -> Self {
        Self {
            subject: Subject { common_name: Some(name.to_owned()), ..Subject::default() },
            uris: Vec::new(),
            hosts,
            purposes: Some(purposes),
            role: Role::Leaf,
            validity,
        }
    }

    fn authority(fleet: &str, kind: &str, name: &str, urn: &DroverUrn, validity: Validity) -> Self {
        let subject = Subject {
            organization: Some(fleet.to_owned()),
            organizational_unit: Some(kind.to_owned()),
            common_name: Some(name.to_owned()),
            serial: None,
        };
        Self {
            subject,
            uris: vec![urn.to_string()],
            hosts: Vec::new(),
            purposes: None,
            role: Role::Authority,
            validity,
        }
    }

    fn leaf(name: &str, urn: &DroverUrn, purposes: Purposes, validity: Validity) -> Self {
        Self {
            subject: Subject { common_name: Some(name.to_owned()), ..Subject::default() },
            uris: vec![urn.to_string()],
            hosts: Vec::new(),
            purposes: Some(purposes),
            role: Role::Leaf,
            validity,
        }
    }

    /// As rcgen takes it, but for the serial number, which is random.
    pub(crate) fn params(&self, now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
        let (not_before, not_after) = self.validity.seconds(now);
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(not_before);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(not_after);
        params.distinguished_name = self.subject.to_name()?;
        for uri in &self.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        for host in &self.hosts {
            params.subject_alt_names.push(host.to_san()?);
        }
        params.is_ca = match self.role {
            Role::Root => IsCa::Ca(BasicConstraints::Unconstrained),
            Role::Authority => IsCa::Ca(BasicConstraints::Constrained(0)),
            Role::Leaf => IsCa::ExplicitNoCa,
        };
        params.key_usages = match self.role {
            Role::Root | Role::Authority => {
                // digitalSignature beside the CA's own two: a station signs its manifests.
                vec![
                    KeyUsagePurpose::DigitalSignature,
                    KeyUsagePurpose::KeyCertSign,
                    KeyUsagePurpose::CrlSign,
                ]
            }
            Role::Leaf => vec![KeyUsagePurpose::DigitalSignature],
        };
        params.extended_key_usages = purposes(self.purposes.unwrap_or_default());
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

/// The first of a kind is named without a number. A common name has no more than 64 characters (RFC
/// 5280 appendix A.1), so a long one is cut: who the certificate speaks for is its URI.
fn numbered(name: &str, generation: u32) -> String {
    if generation <= 1 {
        return name.to_owned();
    }
    let number = format!(" {generation}");
    let cut: String = name.chars().take(64 - number.len()).collect();
    cut + &number
}

impl Subject {
    fn to_name(&self) -> Result<DistinguishedName, rcgen::Error> {
        let mut name = DistinguishedName::new();
        let texts = [
            (DnType::OrganizationName, &self.organization),
            (DnType::OrganizationalUnitName, &self.organizational_unit),
            (DnType::CommonName, &self.common_name),
        ];
        for (kind, text) in texts {
            if let Some(text) = text {
                name.push(kind, directory_string(text));
            }
        }
        if let Some(serial) = &self.serial {
            let value = DnValue::PrintableString(serial.as_str().try_into()?);
            name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), value);
        }
        Ok(name)
    }
}

/// X.520's `serialNumber`.
const SERIAL_NUMBER: &[u64] = &[2, 5, 4, 5];

/// `PrintableString` where the text is one. A name's `_` is not, and RFC 5280 has UTF-8 for it.
fn directory_string(text: &str) -> DnValue {
    match PrintableString::try_from(text) {
        Ok(printable) => DnValue::PrintableString(printable),
        Err(_) => DnValue::Utf8String(text.to_owned()),
    }
}

fn purposes(purposes: Purposes) -> Vec<ExtendedKeyUsagePurpose> {
    let kinds = [
        (purposes.client, ExtendedKeyUsagePurpose::ClientAuth),
        (purposes.server, ExtendedKeyUsagePurpose::ServerAuth),
        (purposes.other, ExtendedKeyUsagePurpose::CodeSigning),
    ];
    kinds.into_iter().filter(|(has, _)| *has).map(|(_, kind)| kind).collect()
}

impl Validity {
    /// Start and end in seconds since 1970.
    fn seconds(self, now: Timestamp) -> (u64, u64) {
        let seconds = |time: Timestamp| u64::try_from(time.as_second()).unwrap_or(0);
        let start = seconds(now).saturating_sub(BACKDATE.as_secs());
        let (start, end) = match self {
            Self::Forever => (start, NO_EXPIRY),
            // Counted from the issue, so that backdating does not shorten it.
            Self::For(length) => (start, seconds(now).saturating_add(length.as_secs())),
            Self::Between(start, end) => (seconds(start), seconds(end)),
            Self::AsOf(start, end) => (start.as_secs(), end.as_secs()),
        };
        (start, end.min(NO_EXPIRY))
    }
}
