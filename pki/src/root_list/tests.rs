//! Root lists: genuine, forged, older, another fleet's, and such as would take the fleet away.

use base64::prelude::{BASE64_STANDARD, Engine};
use insta::assert_snapshot;
use serde_json::{Value, json};

use super::*;
use crate::key::PrivateKey;
use crate::profile::Profile;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn root(fleet: &str) -> Authority {
    Authority::create_root(&fleet.parse().unwrap(), NOW).unwrap()
}

fn heir(root: &Authority) -> Authority {
    root.create_next_root(PrivateKey::generate().unwrap(), NOW).unwrap()
}

fn trusting(roots: &[&Authority]) -> TrustAnchors {
    TrustAnchors::new(roots.iter().map(|root| root.der().clone()).collect()).unwrap()
}

fn list(number: u64, roots: &[&Authority]) -> RootList {
    let roots = roots.iter().map(|root| root.der().clone()).collect();
    RootList::new("acme".parse().unwrap(), number, NOW, roots, Vec::new())
}

#[test]
fn who_trusts_one_of_the_signers_follows_the_list() {
    let old = root("acme");
    let new = heir(&old);
    let signed = list(1, &[&old, &new]).sign(&[&old, &new]).unwrap();
    assert_eq!(SignedRootList::read(&signed.text).unwrap(), signed);
    for trusted in [&old, &new] {
        signed.check_follows(&trusting(&[trusted]), 0).unwrap();
    }
    let anchors = signed.list.anchors().unwrap();
    assert_eq!(anchors.certificates(), [old.der().clone(), new.der().clone()]);

    let dropped = list(2, &[&new]).sign(&[&new]).unwrap();
    dropped.check_follows(&anchors, 1).unwrap();
    assert_snapshot!(
        dropped.check_follows(&trusting(&[&old]), 0).unwrap_err(),
        @"no root that is trusted here signed the root list"
    );
}

#[test]
fn nobody_goes_back_to_an_older_list_or_over_to_another_fleet() {
    let old = root("acme");
    let new = heir(&old);
    let signed = list(3, &[&old, &new]).sign(&[&old, &new]).unwrap();
    for known in [3, 4] {
        assert!(matches!(
            signed.check_follows(&trusting(&[&new]), known),
            Err(RootListError::Older { number: 3, .. })
        ));
    }
    let other = root("umbrella");
    assert_snapshot!(
        signed.check_follows(&trusting(&[&other]), 0).unwrap_err(),
        @"the root list is of the fleet `acme`, not of `umbrella`"
    );
}

#[test]
fn a_list_that_none_of_its_own_roots_signed_is_refused() {
    let old = root("acme");
    let new = heir(&old);
    let refused = list(1, &[&new]).sign(&[&old]).unwrap_err();
    assert_snapshot!(refused, @"none of the roots in the list signed it");
}

#[test]
fn a_changed_list_is_refused() {
    let old = root("acme");
    let signed = list(1, &[&old]).sign(&[&old]).unwrap();
    let mut envelope: Value = serde_json::from_slice(&signed.text).unwrap();
    let payload = serde_json::to_vec(&list(2, &[&old])).unwrap();
    envelope["payload"] = BASE64_STANDARD.encode(payload).into();
    let refused = SignedRootList::read(envelope.to_string().as_bytes()).unwrap_err();
    assert_snapshot!(refused, @"a signature of the root list is not by the root that it names: it was changed or forged");

    // A root's certificate beside another key's signature makes it no signer.
    let thief = heir(&old);
    let signed = list(2, &[&thief]).sign(&[&thief]).unwrap();
    let mut envelope: Value = serde_json::from_slice(&signed.text).unwrap();
    envelope["signatures"][0]["cert"] = encode_certificates(std::slice::from_ref(old.der())).into();
    let refused = SignedRootList::read(envelope.to_string().as_bytes());
    assert!(matches!(refused, Err(RootListError::Forged)));
    envelope["signatures"] = json!([]);
    let refused = SignedRootList::read(envelope.to_string().as_bytes());
    assert!(matches!(refused, Err(RootListError::Unsigned)));
}

#[test]
fn what_is_no_root_of_the_fleet_is_refused() {
    let old = root("acme");
    let other = root("umbrella");
    let fleet_ca = old.create_fleet_ca(&"acme".parse().unwrap(), NOW).unwrap();
    // A root by its looks that another root made.
    let copy = Profile::next_root(&"acme".parse().unwrap(), 2);
    let copy = old.create_authority(&copy, NOW).unwrap();
    for wrong in [&other, &fleet_ca, &copy] {
        let refused = list(1, &[&old, wrong]).sign(&[&old, wrong]).unwrap_err();
        assert!(matches!(refused, RootListError::NoRoot { .. }), "{refused}");
    }
    let mut with_leaf = list(1, &[&old]);
    let key = PrivateKey::generate().unwrap();
    with_leaf.cross = vec![fleet_ca.issue_master(&"north".parse().unwrap(), &key, NOW).unwrap()];
    let refused = with_leaf.sign(&[&old]).unwrap_err();
    assert!(matches!(refused, RootListError::NoAuthority { .. }), "{refused}");
}

#[test]
fn odd_lists_and_other_files_are_refused() {
    let old = root("acme");
    let refusal = |list: RootList| list.sign(&[&old]).unwrap_err().to_string();
    assert_snapshot!(refusal(list(0, &[&old])), @"the root list has no number");
    assert_snapshot!(refusal(list(1, &[])), @"the root list has no root, or more than eight");
    let newer = RootList { format: 2, ..list(1, &[&old]) };
    assert_snapshot!(refusal(newer), @"the root list has format 2, newer than 1, the latest known here");
    assert_snapshot!(SignedRootList::read(b"{}").unwrap_err(), @"the file is not a root list");
    let long = vec![b' '; LARGEST + 1];
    assert!(matches!(SignedRootList::read(&long), Err(RootListError::TooLong(_))));
}
