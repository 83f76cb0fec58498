//! What manifests make of the registry.

use super::*;

#[tokio::test]
async fn a_station_that_was_made_anew_registers_what_was_deleted_before() {
    let (before, fixture) = (Factory::new("line-1"), fixture(Acceptance::Registered));
    let device = before.device("a");
    fixture.import(&before.manifest(7, &[&device])).await;
    fixture.change(&device, Verb::Delete).await.unwrap();
    let anew = Factory::made_at("line-1", NOW + Duration::from_secs(1));
    let again = before.device("a");
    let imported = fixture.import(&anew.manifest(1, &[&again])).await;
    assert_eq!(imported, (vec!["a".to_owned()], vec![], vec![]));
    assert!(fixture.admit(&again).is_ok() && fixture.admit(&device).is_err());
    fixture.change(&device, Verb::Delete).await.unwrap();
    let old = fixture.import(&before.manifest(7, &[&device])).await;
    assert_eq!(old, (vec![], vec![], vec![Conflict::Deleted]));
}

#[tokio::test]
async fn a_device_connects_once_its_manifest_is_imported() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Registered));
    let device = factory.device("a");
    assert!(fixture.admit(&device).unwrap_err().contains("waits to be accepted"));
    assert_eq!(fixture.tags(1).await, ["drover/key/a/pending"]);
    let imported = fixture.import(&factory.manifest(1, &[&device])).await;
    assert_eq!(imported, (vec!["a".to_owned()], vec![], vec![]));
    assert_eq!(fixture.admit(&device), Ok(()));
    assert_eq!(fixture.tags(2).await, ["drover/key/a/pending", "drover/key/a/accepted"]);

    let again = fixture.import(&factory.manifest(1, &[&device])).await;
    assert_eq!(again, (vec![], vec!["a".to_owned()], vec![]), "twice is once");
    assert_eq!(fixture.store.last_seq(), 2);
    let stored = fixture.stored().await;
    assert_eq!(
        (stored[0].status, &stored[0].enrolled["site"]),
        (Status::Accepted, &json!("site-1"))
    );
}

#[tokio::test]
async fn a_birth_certificates_digest_comes_with_the_manifest_or_the_handshake() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Auto));
    let (listed, stranger) = (factory.device("a"), factory.device("b"));
    fixture.import(&factory.manifest(1, &[&listed])).await;
    fixture.admit(&stranger).unwrap();
    for device in [&listed, &stranger] {
        let birth = fixture.registry.entry(&device.id).unwrap().birth.unwrap();
        assert_eq!(birth.certificate, Some(device.fingerprint));
        // As it was stored before the digest was kept.
        let mut older = serde_json::to_value(&birth).unwrap();
        older.as_object_mut().unwrap().remove("certificate");
        let older: Birth = serde_json::from_value(older).unwrap();
        assert!(older.certificate.is_none() && older.is_same_device(&birth));
    }
}

#[tokio::test]
async fn an_old_manifest_restores_nothing_and_a_newer_one_does_not_undo_a_revocation() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Registered));
    let (deleted, revoked) = (factory.device("deleted"), factory.device("revoked"));
    let old = factory.manifest(1, &[&deleted, &revoked]);
    fixture.import(&old).await;
    assert_eq!(fixture.change(&deleted, Verb::Delete).await, Ok(Status::Deleted));
    assert_eq!(fixture.change(&revoked, Verb::Revoke).await, Ok(Status::Revoked));
    let (registered, _, refused) = fixture.import(&old).await;
    assert_eq!((registered, refused), (vec![], vec![Conflict::Deleted]));
    fixture.admit(&deleted).unwrap_err();
    let (registered, _, _) = fixture.import(&factory.manifest(2, &[&deleted, &revoked])).await;
    assert_eq!(registered, ["deleted"], "enrolled anew");
    assert_eq!(fixture.admit(&deleted), Ok(()));
    assert!(fixture.admit(&revoked).unwrap_err().contains("revoked"));
    assert!(
        fixture.change(&revoked, Verb::Accept).await.unwrap_err().contains("cannot be taken back")
    );
}

#[tokio::test]
async fn a_ledger_that_was_cut_is_refused() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Registered));
    let device = factory.device("a");
    fixture.import(&factory.manifest(2, &[&device])).await;
    let cut = factory.changed_manifest(3, &[&device], |manifest| {
        manifest.ledger.previous = head(1);
    });
    let refused =
        fixture.registry.import(&cut, &Only::default(), false, NOW).await.unwrap_err().to_string();
    assert!(refused.contains("does not go on from the 20 lines behind manifest 2"), "{refused}");
    let other = factory.changed_manifest(2, &[], |manifest| manifest.ledger.head = head(9));
    fixture.registry.import(&other, &Only::default(), false, NOW).await.unwrap_err();
    fixture.import(&factory.manifest(1, &[&device])).await;
    fixture.import(&factory.manifest(2, &[&device])).await;
    fixture.registry.import(&cut, &Only::default(), true, NOW).await.unwrap();
    fixture.import(&factory.manifest(4, &[&device])).await;
}

#[tokio::test]
async fn a_device_that_its_station_makes_again_has_another_key() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Registered));
    let (old, new) = (factory.device("a"), factory.device("a"));
    fixture.import(&factory.manifest(1, &[&old])).await;
    let reissue = Reissue { reason: "burnt".parse().unwrap(), replaces: old.key };
    let again = factory.changed_manifest(2, &[&new], |manifest| {
        manifest.minions[0].reissue = Some(reissue);
    });
    for _ in 0..2 {
        let preview =
            fixture.registry.preview_import(&again, &Only::default(), false, NOW).await.unwrap();
        assert_eq!(
            preview,
            fixture.registry.import(&again, &Only::default(), false, NOW).await.unwrap()
        );
        assert!(preview.refused.is_empty());
    }
    assert!(fixture.admit(&old).is_err());
    assert_eq!(fixture.admit(&new), Ok(()));
    let (_, known, _) = fixture.import(&factory.manifest(1, &[&old])).await;
    assert_eq!(known, ["a"], "an older manifest restores nothing");
    assert_eq!(fixture.admit(&new), Ok(()));
}

#[tokio::test]
async fn a_station_made_anew_that_lists_a_known_id_with_another_key_contradicts_it() {
    let (before, fixture) = (Factory::new("line-1"), fixture(Acceptance::Registered));
    let (device, later) = (before.device("a"), before.device("a"));
    fixture.import(&before.manifest(7, &[&device])).await;
    let anew = Factory::made_at("line-1", NOW + Duration::from_secs(1));
    for _ in 0..2 {
        let imported = fixture.import(&anew.manifest(1, &[&later])).await;
        assert_eq!(imported, (vec![], vec![], vec![Conflict::OtherKey]));
    }
    // The other way round it is an old manifest, of which more has been said since.
    let reissue = Reissue { reason: "burnt".parse().unwrap(), replaces: device.key };
    let again = anew.changed_manifest(8, &[&later], |manifest| {
        manifest.minions[0].reissue = Some(reissue);
    });
    assert_eq!(
        fixture.registry.import(&again, &Only::default(), false, NOW).await.unwrap().reissued.len(),
        1
    );
    let (_, known, refused) = fixture.import(&before.manifest(6, &[&device])).await;
    assert_eq!((known, refused), (vec!["a".to_owned()], vec![]));
    assert_eq!(fixture.admit(&later), Ok(()));
}

#[tokio::test]
async fn one_device_of_a_manifest_comes_back_and_the_rest_of_it_may_follow() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Registered));
    let [wanted, other, waiting] = ["wanted", "other", "waiting"].map(|id| factory.device(id));
    let new = factory.device("new");
    fixture.import(&factory.manifest(1, &[&wanted, &other])).await;
    fixture.change(&wanted, Verb::Delete).await.unwrap();
    fixture.change(&other, Verb::Delete).await.unwrap();
    let all = factory.changed_manifest(2, &[&wanted, &other, &waiting, &new], |manifest| {
        let reason = "lost".parse().unwrap();
        let gone = factory.device("gone");
        manifest.revoked = vec![RevokedMinion { id: gone.id, key: gone.key, at: NOW, reason }];
    });
    let only = |text: &str| Only::try_from(text.to_owned()).unwrap();
    let misses = only("nobody,web-*");
    let nobody = fixture.registry.import(&all, &misses, false, NOW).await.unwrap();
    assert!(misses.has_missed(&nobody) && nobody.unmatched == ["nobody", "web-*"]);
    let some = fixture.registry.import(&all, &only("wan*,nobody"), false, NOW).await.unwrap();
    assert_eq!((some.registered, some.unmatched), (vec![wanted.id.clone()], vec!["nobody".into()]));
    assert!(some.revoked.is_empty() && some.refused.is_empty());
    assert_eq!(fixture.admit(&wanted), Ok(()));
    assert!(fixture.admit(&other).is_err());
    // One that waited is deleted in between: it, too, is in what is imported later.
    fixture.admit(&waiting).unwrap_err();
    fixture.change(&waiting, Verb::Delete).await.unwrap();
    // The device that was imported is deleted again, and stays so under this manifest.
    fixture.change(&wanted, Verb::Delete).await.unwrap();
    // How far the ledger went is known.
    let cut = factory.changed_manifest(3, &[], |manifest| {
        manifest.ledger.previous = Head { count: 15, head: LineDigest::of(b"cut") };
    });
    fixture.registry.import(&cut, &Only::default(), false, NOW).await.unwrap_err();
    let rest = fixture.registry.import(&all, &Only::default(), false, NOW).await.unwrap();
    let mut registered: Vec<_> = rest.registered.iter().map(MinionId::as_str).collect();
    registered.sort_unstable();
    assert_eq!(registered, ["new", "other", "waiting"]);
    assert_eq!(rest.revoked.len(), 1);
    assert_eq!(rest.refused, [Refused { id: wanted.id, reason: Conflict::Deleted }]);
}

#[test]
fn a_choice_of_devices_chooses_some() {
    for nobody in ["", ",", ",,"] {
        assert_eq!(Only::try_from(nobody.to_owned()), Err(OnlyNobody));
    }
    assert!(Only::default().is_all() && !Only::try_from("a,b*".to_owned()).unwrap().is_all());
}

#[tokio::test]
async fn what_a_station_revokes_is_refused_until_the_station_makes_it_again() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Auto));
    let (lost, again, unseen) = (factory.device("a"), factory.device("a"), factory.device("b"));
    fixture.import(&factory.manifest(1, &[&lost])).await;
    let revoked = |device: &MinionCertificate| RevokedMinion {
        id: device.id.clone(),
        key: device.key,
        at: NOW,
        reason: "fell off the belt".parse().unwrap(),
    };
    let manifest = factory.changed_manifest(2, &[], |manifest| {
        manifest.revoked = vec![revoked(&lost), revoked(&unseen)];
    });
    let import = fixture.registry.import(&manifest, &Only::default(), false, NOW).await.unwrap();
    assert_eq!(import.revoked.len(), 2);
    assert!(
        fixture
            .registry
            .import(&manifest, &Only::default(), false, NOW)
            .await
            .unwrap()
            .revoked
            .is_empty()
    );
    fixture.admit(&lost).unwrap_err();
    assert!(fixture.admit(&unseen).is_err(), "also one that never came here");
    let reissue = Reissue { reason: "found".parse().unwrap(), replaces: lost.key };
    let manifest = factory.changed_manifest(3, &[&again], |manifest| {
        manifest.minions[0].reissue = Some(reissue);
    });
    let import = fixture.registry.import(&manifest, &Only::default(), false, NOW).await.unwrap();
    assert_eq!(import.reissued.len(), 1);
    assert_eq!(fixture.admit(&again), Ok(()));
    assert!(fixture.admit(&lost).is_err());
}
