//! Who does not get past the handshake.

use drover_pki::clock::Floor;
use drover_pki::profile::{Profile, Validity};
use drover_pki::verify::MasterCertificate;
use drover_proto::tunnel::{Beginning, Identity, TunnelFailure};
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fleet, Master, chain, expired, identity, minion_profile, raw, soon};

/// The alert with which the master turns a certificate away; nobody hears of such a peer.
async fn rejection(fleet: &Fleet, shown: Identity) -> AlertDescription {
    let mut master = Master::start(fleet).await;
    let error = master.try_minion(fleet, shown).await.err().unwrap();
    let TunnelFailure::Rejected(alert) = error.cause else {
        panic!("not rejected: {error:?}");
    };
    master.still_serves(fleet).await;
    // The peer has the alert before the gateway has counted it.
    let counted = async {
        while master.handle.beginnings(Beginning::Certificate) != 1 {
            tokio::task::yield_now().await;
        }
    };
    soon(counted).await;
    alert
}

#[tokio::test]
async fn a_device_of_another_fleet_is_rejected() {
    let stranger = Fleet::new().minion("m");
    assert_eq!(rejection(&Fleet::new(), stranger).await, AlertDescription::UnknownCA);
}

#[tokio::test]
async fn an_expired_certificate_is_rejected() {
    let fleet = Fleet::new();
    let profile = Profile { validity: expired(), ..minion_profile("m") };
    let shown = identity(&fleet.factory, &profile);
    assert_eq!(rejection(&fleet, shown).await, AlertDescription::CertificateExpired);
}

#[tokio::test]
async fn a_certificate_with_the_wrong_purpose_is_rejected() {
    let fleet = Fleet::new();
    let server = drover_pki::certificate::Purposes::SERVER;
    for purposes in [Some(server), None] {
        let profile = Profile { purposes, ..minion_profile("m") };
        rejection(&fleet, identity(&fleet.fleet_ca, &profile)).await;
    }
}

#[tokio::test]
async fn a_certificate_without_a_drover_name_is_rejected() {
    let fleet = Fleet::new();
    for uris in [vec![], vec!["https://example.org".to_owned()]] {
        let profile = Profile { uris, ..minion_profile("m") };
        rejection(&fleet, identity(&fleet.factory, &profile)).await;
    }
}

#[tokio::test]
async fn masters_and_operators_are_no_minions() {
    let fleet = Fleet::new();
    rejection(&fleet, fleet.master()).await;
    let operator = Profile::operator(&"alice".parse().unwrap());
    rejection(&fleet, identity(&fleet.fleet_ca, &operator)).await;
}

#[tokio::test]
async fn a_certificate_without_its_key_is_rejected() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let (chain, _) = chain(&fleet.factory, &minion_profile("victim"));
    // rustls does not pair them, so a resolver stands in for the thief.
    let (_, key) = crate::fixture::chain(&fleet.factory, &minion_profile("thief"));
    assert!(Identity::from_der(chain.clone(), key.clone_key()).is_err());
    let mut tls = crate::fixture::raw_unpaired(master.handle.local_addr(), chain, key).await;
    let mut byte = [0];
    assert!(soon(tls.read(&mut byte)).await.is_err());
    master.still_serves(&fleet).await;
}

#[tokio::test]
async fn nobody_gets_in_without_a_certificate() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let mut tls = raw(master.handle.local_addr(), None).await.unwrap();
    let mut byte = [0];
    let error = soon(tls.read(&mut byte)).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    master.still_serves(&fleet).await;
}

#[tokio::test]
async fn a_plain_tcp_client_gets_no_byte_of_zmtp() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let mut tcp = TcpStream::connect(master.handle.local_addr()).await.unwrap();
    tcp.write_all(&drover_proto::zmtp::greeting()).await.unwrap();
    let mut answer = Vec::new();
    // What comes, if anything, is a TLS alert: record type 21.
    let _ = soon(tcp.read_to_end(&mut answer)).await;
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    master.still_serves(&fleet).await;
}

#[tokio::test]
async fn who_is_not_accepted_is_closed_before_any_byte_of_zmtp() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    master.registry.refused.lock().unwrap().push("revoked".parse().unwrap());

    let shown = chain(&fleet.factory, &minion_profile("revoked"));
    let mut tls = raw(master.handle.local_addr(), Some(shown)).await.unwrap();
    let mut answer = Vec::new();
    soon(tls.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty());

    let error = master.try_minion(&fleet, fleet.minion("revoked")).await.err().unwrap();
    assert!(matches!(error.cause, TunnelFailure::NotAccepted), "{error:?}");
    assert!(error.cause.hint().unwrap().contains("drover key accept"));
    assert_eq!(master.handle.beginnings(Beginning::NotAccepted), 2);
    master.still_serves(&fleet).await;
}

#[tokio::test]
async fn a_minion_takes_no_device_and_no_other_fleet_for_its_master() {
    let fleet = Fleet::new();
    let (name, serial) = ("m".parse().unwrap(), "SN-1".parse().unwrap());
    let device = Profile::idevid(&name, &serial);
    let other = Fleet::new();
    let stolen_station = Profile::master(&"north".parse().unwrap());
    let old = Profile { validity: expired(), ..Profile::master(&"north".parse().unwrap()) };
    let pretenders = [
        identity(&fleet.factory, &device),
        identity(&fleet.factory, &stolen_station),
        identity(&fleet.fleet_ca, &old),
        other.master(),
    ];
    for pretender in pretenders {
        let limits = drover_proto::tunnel::GatewayLimits::default();
        let master = Master::start_with(&fleet, pretender, limits).await;
        let error = master.try_minion(&fleet, fleet.minion("m")).await.err().unwrap();
        assert!(matches!(error.cause, TunnelFailure::MasterRefused(_)), "{error:?}");
    }
}

#[tokio::test]
async fn an_old_master_is_refused_by_a_device_that_knows_the_time_better() {
    let fleet = Fleet::new();
    let master = Master::start(&fleet).await;
    let mut config = master.config(&fleet, fleet.minion("m"));
    let far = std::time::Duration::from_secs(4_000_000_000);
    // Of this very authority, whose certificate was issued now.
    let later = rustls::pki_types::UnixTime::since_unix_epoch(far);
    let known = soon(drover_proto::tunnel::connect(&config)).await.unwrap();
    let known = MasterCertificate { latest_not_before: later, ..known.master().clone() };
    config.clock_floor = Some(Floor::of_master(&known));
    let error = soon(drover_proto::tunnel::connect(&config)).await.err().unwrap();
    assert!(matches!(error.cause, TunnelFailure::MasterRefused(_)), "{error:?}");
    assert!(matches!(expired(), Validity::Between(..)));
}
