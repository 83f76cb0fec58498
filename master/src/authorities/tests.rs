//! Rotations as the master takes them: what it follows, what it refuses, and what a cut leaves.

use std::{fs, path::PathBuf};

use drover_pki::{
    PublicKey,
    fleet::{FleetDirectory, FleetKeys},
    new_key::NewKey,
    pem_text,
    root_list::RootListError,
    safe::Safe,
    verify::{verify_factory_authority, verify_master},
};
use tempfile::TempDir;

use super::*;

/// A fleet's directory, and the master's `pki_dir` in it.
struct Scene {
    directory: TempDir,
}

fn nowhere() -> PassphraseSource {
    PassphraseSource::nowhere()
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (fleet, master) = ("acme".parse().unwrap(), "north".parse().unwrap());
        let made = FleetDirectory::create(
            &directory.path().join("fleet"),
            &fleet,
            &master,
            &FleetKeys::unencrypted(),
            Timestamp::now(),
        );
        let fleet = made.unwrap();
        let station = "line-1".parse().unwrap();
        let root = fleet.root(&nowhere()).unwrap();
        let line = root.create_factory_ca(&station, Timestamp::now()).unwrap();
        fleet.safe().remember(line.der()).unwrap();
        let text = pem_text::encode_certificates(std::slice::from_ref(line.der()));
        fs::write(directory.path().join("line-1.crt"), text).unwrap();
        Self { directory }
    }

    fn safe(&self) -> Safe {
        Safe::new(&self.path("fleet"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn pki(&self, name: &str) -> PathBuf {
        self.path("fleet/master").join(name)
    }

    fn open(&self) -> Authorities {
        Authorities::open(&self.pki(""), nowhere()).unwrap()
    }

    fn rotate(&self, out: &str, left_out: &[String]) -> Vec<u8> {
        let (out, key) = (self.path(out), NewKey::unencrypted());
        self.safe().rotate(left_out, &out, &nowhere(), &key, Timestamp::now()).unwrap();
        fs::read(out).unwrap()
    }

    fn drop_root(&self, name: &str, out: &str) -> Vec<u8> {
        let out = self.path(out);
        self.safe().drop_root(name, &out, &nowhere(), Timestamp::now()).unwrap();
        fs::read(out).unwrap()
    }

    fn certify(&self, request: &str, out: &str) -> Vec<u8> {
        let key = PublicKey::from_csr(request.as_bytes()).unwrap();
        let out = self.path(out);
        let made = self.safe().certify(&key, &out, &nowhere(), Timestamp::now()).unwrap();
        fs::read(made.path).unwrap()
    }
}

fn now() -> UnixTime {
    unix(Timestamp::now())
}

/// Whether a device that trusts these roots takes a master of this fleet CA for its own.
fn is_taken(authorities: &Authorities, trusted: &TrustAnchors) -> bool {
    let fleet_ca = authorities.fleet_ca().unwrap();
    let key = drover_pki::PrivateKey::generate().unwrap();
    let leaf = fleet_ca.issue_master(&"north".parse().unwrap(), &key, Timestamp::now()).unwrap();
    let shown = [vec![fleet_ca.der().clone()], authorities.shown_also()].concat();
    verify_master(trusted, &leaf, &shown, now()).is_ok()
}

#[tokio::test]
async fn a_new_root_is_followed_and_the_old_one_goes_when_it_is_dropped() {
    let scene = Scene::new();
    let authorities = scene.open();
    let old = authorities.anchors();
    let one = scene.rotate("1.json", &[]);
    let imported = authorities.import(&one, RENEW_WITHIN).await.unwrap();
    let roots = vec!["root".to_owned(), "root-2".to_owned()];
    let added = vec!["root-2".to_owned()];
    assert_eq!(imported, Imported::Followed { number: 1, roots, added: added.clone() });
    assert!(matches!(authorities.import(&one, RENEW_WITHIN).await, Ok(Imported::Known { .. })));

    let new = TrustAnchors::new(vec![authorities.anchors().certificates()[1].clone()]).unwrap();
    assert!(is_taken(&authorities, &old) && is_taken(&authorities, &new));
    assert!(new.has_issued(scene.open().fleet_ca().unwrap().der()), "it is certified again");

    assert!(matches!(
        authorities.drop_authority("root", true).await,
        Err(AuthoritiesError::NoList(_))
    ));
    let two = scene.drop_root("root", "2.json");
    let imported = authorities.import(&two, RENEW_WITHIN).await.unwrap();
    let leaves_out = vec!["root".to_owned()];
    assert_eq!(imported, Imported::Waiting { number: 2, leaves_out });
    // It waits across restarts.
    let authorities = scene.open();
    assert_eq!(authorities.anchors().certificates().len(), 2);
    authorities.drop_authority("root", false).await.unwrap();
    let restarted = scene.open();
    for authorities in [&authorities, &restarted] {
        assert_eq!(names(authorities.anchors().certificates().iter()).unwrap(), added);
        // A device that slept knows the old root alone, and still finds the way.
        assert!(is_taken(authorities, &old) && is_taken(authorities, &new));
        let station = drover_pki::file::read_certificates(&scene.path("line-1.crt")).unwrap();
        verify_factory_authority(&authorities.anchors(), &station[0], now()).unwrap();
    }
    assert!(!scene.pki("root-list.next.json").exists());
    assert!(matches!(
        authorities.import(&one, RENEW_WITHIN).await,
        Err(AuthoritiesError::List(RootListError::Older { .. }))
    ));
}

#[tokio::test]
async fn a_cut_after_a_list_was_decided_upon_is_made_good_at_the_next_start() {
    let scene = Scene::new();
    let one = scene.rotate("1.json", &[]);
    // Decided, and nothing else done.
    fs::write(scene.pki("root-list.json"), &one).unwrap();
    let before = fs::read(scene.pki("root.crt")).unwrap();
    let authorities = scene.open();
    assert_eq!(authorities.anchors().certificates().len(), 2);
    assert_ne!(fs::read(scene.pki("root.crt")).unwrap(), before);
    let newest = TrustAnchors::new(vec![authorities.anchors().certificates()[1].clone()]).unwrap();
    let fleet_ca = drover_pki::file::read_certificates(&scene.pki("fleet-ca.crt")).unwrap();
    assert!(newest.has_issued(&fleet_ca[0]));

    // Written and not decided: as if it had not been brought.
    let scene = Scene::new();
    let one = scene.rotate("1.json", &[]);
    fs::create_dir(scene.pki("root-lists")).unwrap();
    fs::write(scene.pki("root-lists/000001.json"), &one).unwrap();
    assert_eq!(scene.open().anchors().certificates().len(), 1);
}

#[tokio::test]
async fn a_new_fleet_ca_issues_and_the_former_one_is_kept_until_it_is_dropped() {
    let scene = Scene::new();
    let authorities = scene.open();
    let former = authorities.fleet_ca().unwrap();
    let request = authorities.request().await.unwrap();
    let key = |request: &str| PublicKey::from_csr(request.as_bytes()).unwrap();
    assert_eq!(key(&authorities.request().await.unwrap()), key(&request), "one key waits");
    let certified = scene.certify(&request, "new");
    let imported = authorities.import(&certified, Duration::from_secs(5)).await.unwrap();
    let name = "fleet-ca-2".to_owned();
    let within = Duration::from_secs(5);
    assert_eq!(imported, Imported::FleetCa { name, is_renewed: false, within });
    for authorities in [authorities.clone(), scene.open()] {
        let issuers: Vec<_> = authorities.issuers().iter().map(|i| i.certificate().key).collect();
        assert_eq!(issuers.len(), 2);
        assert_eq!(issuers[1], former.certificate().key);
        assert!(authorities.lists().is_replaced(&former.certificate().key));
    }
    // The same key for longer.
    let request = authorities.fleet_ca().unwrap().key().to_csr("x").unwrap();
    let longer = scene.certify(&request, "longer");
    let imported = authorities.import(&longer, within).await.unwrap();
    assert!(matches!(imported, Imported::FleetCa { is_renewed: true, .. }));

    assert!(matches!(
        authorities.drop_authority("fleet-ca-2", true).await,
        Err(AuthoritiesError::InUse(_))
    ));
    authorities.drop_authority("fleet-ca", false).await.unwrap();
    assert_eq!(fs::read_dir(scene.pki("previous")).unwrap().count(), 0);
    for authorities in [authorities.clone(), scene.open()] {
        assert_eq!(*authorities.dropped_issuers(), [former.certificate().key]);
        assert_eq!(authorities.issuers().len(), 1);
    }
}

#[tokio::test]
async fn a_fleet_ca_is_one_of_two_after_a_cut_at_any_step() {
    let scene = Scene::new();
    let authorities = scene.open();
    let former = authorities.fleet_ca().unwrap().certificate().key;
    let request = authorities.request().await.unwrap();
    let certified = scene.certify(&request, "new");
    let present = authorities.fleet_ca().unwrap();
    // Copied, and not decided.
    fs::create_dir(scene.pki("previous")).unwrap();
    for end in ["crt", "key"] {
        let name = format!("previous/fleet-ca-{}.{end}", &former.to_string()[..16]);
        fs::copy(scene.pki(&format!("fleet-ca.{end}")), scene.pki(&name)).unwrap();
    }
    let cut = scene.open();
    assert_eq!(cut.fleet_ca().unwrap().certificate().key, present.certificate().key);
    assert_eq!(cut.issuers().len(), 1);
    // Decided, and the key not in its place.
    fs::write(scene.pki("fleet-ca.crt"), &certified).unwrap();
    let cut = scene.open();
    assert_ne!(cut.fleet_ca().unwrap().certificate().key, former);
    assert_eq!(cut.issuers().len(), 2);
    assert!(!scene.pki("fleet-ca.next.key").exists());
}

#[tokio::test]
async fn what_is_not_to_be_trusted_changes_nothing() {
    let (scene, other) = (Scene::new(), Scene::new());
    let authorities = scene.open();
    let foreign = other.rotate("1.json", &[]);
    let refused = authorities.import(&foreign, RENEW_WITHIN).await.unwrap_err();
    assert!(matches!(refused, AuthoritiesError::List(RootListError::Untrusted)), "{refused:?}");
    let request = authorities.request().await.unwrap();
    let foreign = other.certify(&request, "new");
    let refused = authorities.import(&foreign, RENEW_WITHIN).await.unwrap_err();
    assert!(matches!(refused, AuthoritiesError::NoFleetCa(_)), "{refused:?}");
    let stranger = drover_pki::PrivateKey::generate().unwrap();
    let made = scene
        .safe()
        .certify(stranger.public(), &scene.path("x"), &nowhere(), Timestamp::now())
        .unwrap();
    let refused = authorities.import(&fs::read(made.path).unwrap(), RENEW_WITHIN).await;
    assert!(matches!(refused, Err(AuthoritiesError::OtherKey)));
    let refused = authorities.import(b"nothing", RENEW_WITHIN).await.unwrap_err();
    assert!(matches!(refused, AuthoritiesError::Neither(_)));
    assert_eq!(scene.open().anchors().certificates().len(), 1);
}

#[tokio::test]
async fn a_fleet_ca_that_was_left_out_is_replaced_before_its_root_goes() {
    let scene = Scene::new();
    let authorities = scene.open();
    // Its key was stolen.
    let one = scene.rotate("1.json", &["fleet-ca".to_owned()]);
    authorities.import(&one, RENEW_WITHIN).await.unwrap();
    let two = scene.drop_root("root", "2.json");
    let refused = authorities.import(&two, RENEW_WITHIN).await.unwrap_err();
    assert!(matches!(refused, AuthoritiesError::FleetCaLeftOut { number: 2, .. }), "{refused:?}");
    let request = authorities.request().await.unwrap();
    let certified = scene.certify(&request, "new");
    let stolen = authorities.fleet_ca().unwrap();
    authorities.import(&certified, RENEW_WITHIN).await.unwrap();
    authorities.import(&two, RENEW_WITHIN).await.unwrap();
    authorities.drop_authority("root", false).await.unwrap();
    assert!(is_taken(&authorities, &authorities.anchors()));

    // What the thief makes leads nowhere for who follows.
    let key = drover_pki::PrivateKey::generate().unwrap();
    let leaf = stolen.issue_master(&"north".parse().unwrap(), &key, Timestamp::now()).unwrap();
    let shown = [vec![stolen.der().clone()], authorities.shown_also()].concat();
    verify_master(&authorities.anchors(), &leaf, &shown, now()).unwrap_err();
}

#[tokio::test]
async fn a_list_without_the_way_from_the_dropped_root_loses_who_knows_it_alone() {
    let scene = Scene::new();
    let authorities = scene.open();
    let first = authorities.anchors().certificates()[0].clone();
    authorities.import(&scene.rotate("1.json", &[]), RENEW_WITHIN).await.unwrap();
    let second = authorities.anchors().certificates()[1].clone();
    let list = SignedRootList::read(&scene.drop_root("root", "2.json")).unwrap();
    assert!(changes::leads(&first, &list).unwrap());
    let mut without = list.clone();
    without.list.cross.retain(|der| !Certificate::read(der).unwrap().uris.is_empty());
    assert!(!changes::leads(&first, &without).unwrap());

    // A root further on, it leads over the one between.
    authorities.import(&list.text, RENEW_WITHIN).await.unwrap();
    authorities.drop_authority("root", false).await.unwrap();
    authorities.import(&scene.rotate("3.json", &[]), RENEW_WITHIN).await.unwrap();
    let list = SignedRootList::read(&scene.drop_root("root-2", "4.json")).unwrap();
    assert!(changes::leads(&second, &list).unwrap() && changes::leads(&first, &list).unwrap());
}

#[test]
fn a_fleet_ca_whose_key_cannot_be_opened_is_listed_all_the_same() {
    let scene = Scene::new();
    let state = |authorities: &Authorities| {
        let rows = authorities.report().unwrap().authorities;
        rows.iter().find(|row| row.kind == "fleet_ca").map(|row| (row.name.clone(), row.state))
    };
    assert_eq!(state(&scene.open()), Some(("fleet-ca".to_owned(), "issuing")));
    fs::write(scene.pki("fleet-ca.key"), "damaged").unwrap();
    assert_eq!(state(&scene.open()), Some(("fleet-ca".to_owned(), "unusable")));
    fs::remove_file(scene.pki("fleet-ca.key")).unwrap();
    assert_eq!(state(&scene.open()), Some(("fleet-ca".to_owned(), "unusable")));
    fs::remove_file(scene.pki("fleet-ca.crt")).unwrap();
    assert_eq!(state(&scene.open()), None);
}

#[test]
fn keys_that_others_may_read_are_found() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    let files = Files::new(&scene.pki(""));
    assert!(files.exposed_keys().is_empty());
    let key = scene.pki("fleet-ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(files.exposed_keys(), [(key, 0o640)]);
}

#[test]
fn a_root_that_is_missing_is_told_with_where_it_is_made() {
    let scene = Scene::new();
    fs::remove_file(scene.pki("root.crt")).unwrap();
    let error = Authorities::open(&scene.pki(""), nowhere()).err().unwrap();
    assert!(matches!(error, AuthoritiesError::Files(FilesError::NoRoot { .. })), "{error:?}");
    assert!(error.to_string().contains("drover-enrol init-fleet"), "{error}");
}
