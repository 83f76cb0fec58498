//! Why two sides do not agree on TLS, in words that say what to do.

use std::{error::Error as _, io};

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use rustls_pki_types::UnixTime;
use thiserror::Error;

/// What is wrong, and what to do about it.
#[derive(Debug, Error)]
pub enum Trouble {
    /// The other side's certificate is over.
    #[error("the server's certificate expired on {}: renew it there", day(*.0))]
    Expired(Option<UnixTime>),
    /// The other side's certificate begins later.
    #[error("the server's certificate is valid from {} only: set the clock of this machine, or wait", day(*.0))]
    NotYet(Option<UnixTime>),
    /// Whoever issued it is not trusted.
    #[error(
        "the server's certificate is of a CA that is not trusted here: name that CA's file by `ca`"
    )]
    UnknownIssuer,
    /// It is for another host.
    #[error(
        "the server's certificate is not for this name, but for {}: write such a name into the address, or into \
         `tls_server_name`",
        names(.0)
    )]
    WrongName(Vec<String>),
    /// The host's name can be in no certificate.
    #[error("this host's name can be in no certificate: set `tls_server_name`")]
    NoName,
    /// A CA's certificate where a server's belongs.
    #[error(
        "the server shows a CA's certificate as its own: make one for it that is no CA (`CA:FALSE`)"
    )]
    Authority,
    /// It is withdrawn, damaged, or of a kind that is not known.
    #[error("the server's certificate is refused: {0}")]
    Certificate(CertificateError),
    /// It wants to know who we are.
    #[error("the server wants a client certificate: name its files by `cert` and `key`")]
    CertificateWanted,
    /// It does not want us.
    #[error(
        "the server refuses our client certificate ({0}): make one in `cert` that is valid and of a CA that it trusts"
    )]
    CertificateRefused(&'static str),
    /// The other side speaks something else.
    #[error("the server speaks no TLS on this port: use another port, or no TLS (`http://`)")]
    NotTls,
    /// The two have no version or cipher in common.
    #[error(
        "the server and this master have no version or cipher of TLS in common ({0}): it must speak TLS 1.2 or 1.3"
    )]
    NothingInCommon(String),
    /// TLS went wrong in another way.
    #[error("{0}")]
    Other(String),
    /// The connection went.
    #[error("the connection ended: {0}")]
    Io(String),
}

impl Trouble {
    /// Of what a TLS stream gives as its error, while it connects or later: in TLS 1.3 a server refuses a client's
    /// certificate after the handshake.
    #[must_use]
    pub fn of(error: io::Error) -> Self {
        Self::of_tls(&error).unwrap_or_else(|| Self::Io(error.to_string()))
    }

    /// The same where TLS is the reason, however deep it lies.
    #[must_use]
    pub fn of_tls(error: &io::Error) -> Option<Self> {
        let mut at: &(dyn std::error::Error + 'static) = error.get_ref()?;
        loop {
            if let Some(tls) = at.downcast_ref::<Error>() {
                return Some(Self::of_rustls(tls));
            }
            at = at.source()?;
        }
    }

    /// Whether somebody must change something before it can succeed.
    #[must_use]
    pub const fn wants_operator(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::Other(_))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds errors in minor versions")]
    fn of_rustls(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(certificate) => Self::of_certificate(certificate),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            Error::PeerIncompatible(why) => Self::NothingInCommon(format!("{why:?}")),
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            other => Self::Other(other.to_string()),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds errors in minor versions")]
    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired(Some(*not_after)),
            CertificateError::NotValidYet => Self::NotYet(None),
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYet(Some(*not_before))
            }
            // A chain that ends nowhere, and one whose end is another key of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::NotValidForName => Self::WrongName(Vec::new()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongName(presented.iter().map(|name| plain(name)).collect())
            }
            CertificateError::Other(other)
                if other.to_string().contains("CaUsedAsEndEntity")
                    || other
                        .source()
                        .is_some_and(|why| why.to_string().contains("CaUsedAsEndEntity")) =>
            {
                Self::Authority
            }
            other => Self::Certificate(other.clone()),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds alerts in minor versions")]
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired => Self::CertificateWanted,
            AlertDescription::BadCertificate => Self::CertificateRefused("bad certificate"),
            AlertDescription::UnsupportedCertificate => {
                Self::CertificateRefused("unsupported certificate")
            }
            AlertDescription::CertificateRevoked => Self::CertificateRefused("revoked"),
            AlertDescription::CertificateExpired => Self::CertificateRefused("expired"),
            AlertDescription::CertificateUnknown => Self::CertificateRefused("unknown"),
            AlertDescription::UnknownCA => Self::CertificateRefused("unknown CA"),
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
                Self::NothingInCommon(format!("{alert:?}"))
            }
            other => Self::Other(Error::AlertReceived(other).to_string()),
        }
    }
}

/// `DnsName("es.example")` and the like, as rustls writes the names of a certificate.
fn plain(name: &str) -> String {
    match name.split_once('(') {
        Some((_, inner)) => inner.trim_end_matches(')').trim_matches('"').to_owned(),
        None => name.to_owned(),
    }
}

fn names(names: &[String]) -> String {
    const SHOWN: usize = 5;
    if names.is_empty() {
        return "none (it has no `subjectAltName`)".to_owned();
    }
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > SHOWN { " and others" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn day(time: Option<UnixTime>) -> String {
    let seconds = time.and_then(|time| i64::try_from(time.as_secs()).ok());
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "a day that it does not say".to_owned(), |time| time.to_string())
}
