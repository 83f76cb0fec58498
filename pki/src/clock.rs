//! Which time a device validates at while its clock is not known to be right: it has no battery,
//! and may wake in 1970. The master, whose clock is right, uses its clock alone.

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificate::Certificate;

/// The latest of the system clock, the stored floor, and every notBefore in the chain that is shown.
///
/// A forged notBefore helps nobody: the chain must still verify at the time that results, and the
/// floor rises only by [`raised_floor`]. A certificate that cannot be read counts for nothing
/// here, and is refused by verification.
pub fn validation_time(
    system: UnixTime,
    floor: Option<UnixTime>,
    chain: &[CertificateDer<'_>],
) -> UnixTime {
    let shown = chain.iter().filter_map(|der| Certificate::read(der).ok()).map(|c| c.not_before);
    floor.into_iter().chain(shown).fold(system, UnixTime::max)
}

/// The floor after a chain verified whose latest notBefore is given: it never falls.
pub fn raised_floor(floor: Option<UnixTime>, latest_not_before: UnixTime) -> UnixTime {
    floor.map_or(latest_not_before, |floor| floor.max(latest_not_before))
}
