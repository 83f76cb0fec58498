//! Identity for ten years: one file for each threat and each story, with real processes, and openssl and pkilint as
//! the second opinion.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod another_stations_id;
mod anothers_name;
mod assembly_line;
mod authority_as_leaf;
mod clone;
mod coming_back;
mod crl;
mod est;
mod expired;
mod expiry;
mod forged_manifest;
mod guarded_fleet_ca;
mod hostile_renewal;
mod issued_again;
mod lint;
mod many_renewals;
mod not_yet_valid;
mod power_cut;
mod renewal;
mod replaced_station;
mod retire;
mod revoked;
mod revoked_while_connected;
mod rotation;
mod station_oversteps;
mod station_power_cut;
mod stolen_station;
mod truncated_ledger;
mod wrong_clock;
mod wrong_fleet;
mod wrong_purpose;
