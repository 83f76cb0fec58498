//! Why a minion has no connection, and what can be done about it.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription;
use thiserror::Error;

use crate::tunnel::link::OpeningError;

/// Why there is no connection: the last master's reason. The others' are in the log.
#[derive(Debug, Error)]
#[error("cannot connect to the master `{master}`")]
pub struct TunnelError {
    /// The master's address as configured; empty where none is.
    pub master: String,
    /// What went wrong.
    #[source]
    pub cause: TunnelFailure,
    /// Whether any of the masters refused what was shown: with another certificate it may go better.
    pub refused: bool,
}

/// What went wrong on the way to a master.
#[derive(Debug, Error)]
pub enum TunnelFailure {
    /// The configuration names no master.
    #[error("no master is configured")]
    NoMaster,
    /// The name cannot be resolved.
    #[error("its name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// TCP does not connect.
    #[error("TCP does not connect")]
    Connect(#[source] io::Error),
    /// A step took too long.
    #[error("{step} took longer than {within:?}")]
    TimedOut {
        /// The step.
        step: &'static str,
        /// What it may take.
        within: Duration,
    },
    /// This side does not accept the master's certificate.
    #[error("the master's certificate is not accepted here")]
    MasterRefused(#[source] Arc<dyn StdError + Send + Sync>),
    /// TLS failed in another way.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The master does not accept this side's certificate.
    #[error("the master rejected this minion's certificate with the TLS alert `{}`", alert_name(*.0))]
    Rejected(AlertDescription),
    /// The certificate is good, and the master's registry does not accept the minion.
    #[error(
        "the master closed the connection after the handshake: it does not accept this minion yet, or no longer"
    )]
    NotAccepted,
    /// The master does not open ZMTP as it must.
    #[error("the connection was not opened")]
    Opening(#[source] OpeningError),
    /// The `zeromq` crate's DEALER on this side.
    #[error("the DEALER on this side does not connect: {0}")]
    Dealer(String),
}

impl TunnelFailure {
    /// Whether the master was there and did not take the certificate.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Rejected(_) | Self::NotAccepted)
    }

    /// What to do about it, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoMaster => Some("set `master:` in minion.yml"),
            Self::MasterRefused(_) => Some(
                "compare this device's `root.crt` with the master's; is it this fleet's master?",
            ),
            Self::Rejected(AlertDescription::UnknownCA) => {
                Some("this device belongs to another fleet: enrol it for this one")
            }
            Self::Rejected(AlertDescription::CertificateExpired) => {
                Some("the certificate has expired: renew it, or compare the master's clock")
            }
            Self::Rejected(_) => Some("check the certificate with `drover-enrol verify`"),
            Self::NotAccepted => {
                Some("on the master: `drover key show ID`, `drover key accept ID`")
            }
            Self::Resolve(_)
            | Self::Connect(_)
            | Self::TimedOut { .. }
            | Self::Handshake(_)
            | Self::Opening(_)
            | Self::Dealer(_) => None,
        }
    }
}

pub(super) fn handshake_failed(error: io::Error) -> TunnelFailure {
    match tls_error(&error) {
        Some(rustls::Error::AlertReceived(alert)) => TunnelFailure::Rejected(*alert),
        Some(rustls::Error::InvalidCertificate(why)) => TunnelFailure::MasterRefused(reason(why)),
        Some(_) | None => TunnelFailure::Handshake(error),
    }
}

/// Our own reason, which rustls prints as a program would.
fn reason(refused: &rustls::CertificateError) -> Arc<dyn StdError + Send + Sync> {
    if let rustls::CertificateError::Other(ours) = refused {
        return Arc::clone(&ours.0);
    }
    Arc::new(rustls::Error::InvalidCertificate(refused.clone()))
}

pub(super) fn not_greeted(error: OpeningError) -> TunnelFailure {
    match error {
        OpeningError::Closed => TunnelFailure::NotAccepted,
        OpeningError::Io(error) => match tls_error(&error) {
            Some(rustls::Error::AlertReceived(alert)) => TunnelFailure::Rejected(*alert),
            Some(_) | None => TunnelFailure::Opening(OpeningError::Io(error)),
        },
        error @ (OpeningError::Violation(_) | OpeningError::TimedOut(_)) => {
            TunnelFailure::Opening(error)
        }
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// RFC 8446's name of an alert, such as `unknown_ca`.
fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    let debug = format!("{alert:?}");
    let mut after_lower = false;
    for letter in debug.chars() {
        if letter.is_ascii_uppercase() && after_lower {
            name.push('_');
        }
        after_lower = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_their_names_in_the_rfc() {
        assert_eq!(alert_name(AlertDescription::UnknownCA), "unknown_ca");
        assert_eq!(alert_name(AlertDescription::CertificateExpired), "certificate_expired");
    }
}
