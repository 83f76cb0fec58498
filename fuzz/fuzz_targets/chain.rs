//! Whatever this fleet's own authorities sign, were they in a thief's hands: leaves and authorities with any names,
//! purposes, roles and times, shown in any order. A peer is taken for what its kind of authority may make, and for
//! nothing else.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use drover_pki::certificate::Purposes;
use drover_pki::profile::{Profile, Role, Validity};
use drover_pki::verify::{TrustAnchors, verify_master, verify_minion, verify_operator};
use drover_pki::{Authority, PrivateKey};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::UnixTime;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

struct Fleet {
    anchors: TrustAnchors,
    root: Authority,
    factory_ca: Authority,
    fleet_ca: Authority,
    /// An authority below a station's.
    beyond: Authority,
}

static FLEET: LazyLock<Fleet> = LazyLock::new(|| {
    let (name, station) = ("acme".parse().expect("a name"), "line-1".parse().expect("a name"));
    let root = Authority::create_root(&name, NOW).expect("a root");
    let factory_ca = root.create_factory_ca(&station, NOW).expect("a station's");
    let beyond = factory_ca.create_authority(&Profile::fleet_ca(&name), NOW).expect("a thief's");
    Fleet {
        anchors: TrustAnchors::new(vec![root.der().clone()]).expect("anchors"),
        fleet_ca: root.create_fleet_ca(&name, NOW).expect("the master's"),
        factory_ca,
        beyond,
        root,
    }
});

static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate().expect("a key"));

fuzz_target!(|input: (u8, u8, u8, u8, Vec<&str>)| {
    let (who, what, shown, when, uris) = input;
    let fleet = &*FLEET;
    let issuer = match who % 4 {
        0 => &fleet.factory_ca,
        1 => &fleet.fleet_ca,
        2 => &fleet.root,
        _ => &fleet.beyond,
    };
    let purposes = Purposes { client: what & 1 != 0, server: what & 2 != 0, other: what & 4 != 0 };
    let role = if what & 8 == 0 { Role::Leaf } else { Role::Authority };
    let day = Duration::from_secs(86_400);
    let validity = match when % 4 {
        0 => Validity::Forever,
        1 => Validity::For(day),
        2 => Validity::Between(NOW - day * 2, NOW - day),
        _ => Validity::Between(NOW + day, NOW + day * 2),
    };
    let device = Profile::idevid(&"a".parse().expect("an id"), &"SN".parse().expect("a number"));
    let profile = Profile {
        purposes: (what & 16 == 0).then_some(purposes),
        role,
        validity,
        uris: uris.iter().take(4).map(|&uri| uri.to_owned()).collect(),
        ..device
    };
    // A URI has to be an IA5String.
    let Ok(leaf) = issuer.issue(&profile, &*KEY, NOW) else { return };
    let mut chain = vec![issuer.der().clone()];
    let others = [&fleet.factory_ca, &fleet.fleet_ca, &fleet.root, &fleet.beyond];
    for (bit, other) in others.into_iter().enumerate() {
        if shown & (1 << bit) != 0 {
            chain.insert(usize::from(shown >> 7) * chain.len(), other.der().clone());
        }
    }
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));

    let claims =
        |uri: &&String| uri.get(..11).is_some_and(|urn| urn.eq_ignore_ascii_case("urn:drover:"));
    let ours: Vec<_> = profile.uris.iter().filter(claims).collect();
    let speaks_for = |name: String, kind: &str, purposes| {
        assert_eq!(ours, [&format!("urn:drover:{kind}:{name}")]);
        assert!(role == Role::Leaf && when % 4 < 2 && profile.purposes == Some(purposes));
        assert!(who % 4 == 1 || (who % 4 == 0 && kind == "minion"), "{who} {kind}");
    };
    if let Ok(minion) = verify_minion(&fleet.anchors, &leaf, &chain, now) {
        speaks_for(minion.id.to_string(), "minion", Purposes::CLIENT);
    }
    if let Ok(master) = verify_master(&fleet.anchors, &leaf, &chain, now) {
        speaks_for(master.name.to_string(), "master", Purposes::SERVER);
    }
    if let Ok(operator) = verify_operator(&fleet.anchors, &leaf, &chain, now) {
        speaks_for(operator.name.to_string(), "operator", Purposes::CLIENT);
    }
});
