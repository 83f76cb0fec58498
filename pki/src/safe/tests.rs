//! Rotations where the root lies: what they make, and what a cut leaves.

use std::time::Duration;

use rustls_pki_types::UnixTime;
use tempfile::TempDir;

use super::*;
use crate::key::PrivateKey;
use crate::name::StationName;
use crate::verify::{verify_factory_authority, verify_fleet_authority};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A fleet of one station, its root in a directory.
struct Scene {
    directory: TempDir,
    factory_ca: Authority,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root_dir = directory.path().join("root");
        file::create_private_directory(&root_dir).unwrap();
        let key = PrivateKey::generate().unwrap();
        file::create(&root_dir.join("root.key"), key.to_pem().as_bytes(), Access::Private).unwrap();
        let root = Authority::create_root_with(&"acme".parse().unwrap(), key, NOW).unwrap();
        let certificate = encode_certificates(std::slice::from_ref(root.der()));
        file::create(&root_dir.join("root.crt"), certificate.as_bytes(), Access::Public).unwrap();
        let factory_ca = root.create_factory_ca(&station(), NOW).unwrap();
        let scene = Self { directory, factory_ca };
        scene.safe().remember(scene.factory_ca.der()).unwrap();
        let fleet_ca = root.create_fleet_ca(&"acme".parse().unwrap(), NOW).unwrap();
        scene.safe().remember(fleet_ca.der()).unwrap();
        scene
    }

    fn safe(&self) -> Safe {
        Safe::new(self.directory.path())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn rotate(&self, out: &str) -> Result<Rotated, SafeError> {
        self.rotate_but(&[], out)
    }

    fn rotate_but(&self, left_out: &[String], out: &str) -> Result<Rotated, SafeError> {
        let nowhere = PassphraseSource::nowhere();
        self.safe().rotate(left_out, &self.path(out), &nowhere, &NewKey::unencrypted(), NOW)
    }

    fn drop_root(&self, name: &str, out: &str) -> Result<Rotated, SafeError> {
        self.safe().drop_root(name, &self.path(out), &PassphraseSource::nowhere(), NOW)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn station() -> StationName {
    "line-1".parse().unwrap()
}

fn unix() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000))
}

#[test]
fn a_rotation_keeps_the_old_root_and_certifies_its_authorities_again() {
    let scene = Scene::new();
    let before = file::read_anchors(&scene.path("root/root.crt")).unwrap();
    let rotated = scene.rotate("1.json").unwrap();
    assert_eq!(rotated.roots, ["root", "root-2"]);
    assert_eq!(rotated.certified, ["factory-line-1", "fleet-ca"]);
    assert!(!rotated.finished_earlier);
    assert_eq!(fs::read(scene.path("1.json")).unwrap(), rotated.signed.text);
    rotated.signed.check_follows(&before, 0).unwrap();

    let new = file::read_anchors(&scene.path("root/root.crt")).unwrap();
    assert_ne!(new.certificates(), before.certificates());
    key_file::read_authority(&scene.path("root"), "root", &PassphraseSource::nowhere()).unwrap();
    let kept = file::read_anchors(&scene.path("root/previous/root.crt")).unwrap();
    assert_eq!(kept.certificates(), before.certificates());
    assert!(scene.path("root/previous/root.key").exists());
    assert_eq!(scene.names(), ["1.json", "root"]);

    // Under the new root alone, what the station issued is good.
    let dropped = scene.drop_root("root", "2.json").unwrap();
    assert_eq!(
        (dropped.roots.as_slice(), dropped.signed.list.number),
        (&["root-2".to_owned()][..], 2)
    );
    dropped.signed.check_follows(&rotated.signed.list.anchors().unwrap(), 1).unwrap();
    let anchors = dropped.signed.list.anchors().unwrap();
    verify_factory_authority(&anchors, scene.factory_ca.der(), unix()).unwrap();
    // And the bridge is still there for who slept.
    let bridges = dropped.signed.list.cross.iter().map(|der| Certificate::read(der).unwrap());
    assert_eq!(bridges.filter(|bridge| bridge.uris.is_empty()).count(), 1);
}

#[test]
fn an_authority_that_is_left_out_stays_behind_for_good() {
    let scene = Scene::new();
    let stolen = ["factory-line-1".to_owned()];
    let rotated = scene.rotate_but(&stolen, "1.json").unwrap();
    assert_eq!(
        (rotated.certified, rotated.left_out),
        (vec!["fleet-ca".to_owned()], stolen.to_vec())
    );
    let dropped = scene.drop_root("root", "2.json").unwrap();
    let anchors = dropped.signed.list.anchors().unwrap();
    verify_factory_authority(&anchors, scene.factory_ca.der(), unix()).unwrap_err();
    assert_eq!(scene.rotate("3.json").unwrap().certified, ["fleet-ca"]);
    let unknown = scene.rotate_but(&["factory-x".into()], "4.json");
    assert_eq!(
        unknown.unwrap_err().to_string(),
        "there is no authority `factory-x`; the root certified fleet-ca"
    );
}

#[test]
fn a_rotation_that_was_cut_off_is_finished_and_not_done_twice() {
    let scene = Scene::new();
    // As if the power had gone once the new directory had its name: before the list was handed out, after it, and
    // between the two renames.
    for cut in ["before", "after", "between"] {
        let out = format!("{cut}.json");
        let whole = scene.rotate("whole.json").unwrap();
        fs::rename(scene.path("root"), scene.path("root.next")).unwrap();
        fs::remove_file(scene.path("whole.json")).unwrap();
        if cut != "between" {
            // The old directory, as it was.
            file::create_private_directory(&scene.path("root/previous")).unwrap();
        }
        if cut != "before" {
            fs::write(scene.path(&out), &whole.signed.text).unwrap();
        }
        assert!(matches!(
            scene.drop_root("root", "x.json").unwrap_err(),
            SafeError::Unfinished { .. }
        ));
        let finished = scene.rotate(&out).unwrap();
        assert!(finished.finished_earlier, "{cut}");
        assert_eq!(finished.signed, whole.signed);
        assert_eq!(fs::read(scene.path(&out)).unwrap(), whole.signed.text);
        assert!(!scene.path("root.next").exists() && !scene.path("root.old").exists());
    }
}

#[test]
fn an_authority_from_before_there_was_a_memory_is_adopted_if_it_is_the_roots() {
    let scene = Scene::new();
    let root = key_file::read_authority(&scene.path("root"), "root", &PassphraseSource::nowhere());
    let forgotten = root.unwrap().create_factory_ca(&"line-2".parse().unwrap(), NOW).unwrap();
    scene.safe().adopt(forgotten.der()).unwrap();
    assert!(scene.rotate("1.json").unwrap().certified.contains(&"factory-line-2".to_owned()));
    let other = Authority::create_root(&"acme".parse().unwrap(), NOW).unwrap();
    let other = other.create_factory_ca(&"line-3".parse().unwrap(), NOW).unwrap();
    let refused = scene.safe().adopt(other.der()).unwrap_err();
    assert_eq!(refused.to_string(), "`factory-line-3` was not certified by this root");
}

#[test]
fn nothing_is_overwritten_and_the_newest_root_is_not_dropped() {
    let scene = Scene::new();
    scene.rotate("1.json").unwrap();
    let refusals = [
        scene.drop_root("root-2", "2.json").unwrap_err().to_string(),
        scene.drop_root("root-9", "2.json").unwrap_err().to_string(),
    ];
    assert_eq!(
        refusals,
        [
            "`root-2` is the newest root, and signs the list: it cannot be left out of it",
            "there is no root `root-9` in the newest list; it has root, root-2",
        ]
    );
    assert!(matches!(scene.drop_root("root", "1.json"), Err(SafeError::Occupied { .. })));
    assert_eq!(scene.safe().newest_list().unwrap().unwrap().list.number, 1);
}

#[test]
fn a_new_fleet_ca_is_numbered_and_the_same_key_is_certified_for_longer() {
    let scene = Scene::new();
    let key = PrivateKey::generate().unwrap();
    let nowhere = PassphraseSource::nowhere();
    let certify = |out: &str, now| {
        scene.safe().certify(key.public(), &scene.path(out), &nowhere, now).unwrap()
    };
    let first = certify("a", NOW);
    assert_eq!((first.name.as_str(), first.is_renewed), ("fleet-ca-2", false));
    let later = Timestamp::constant(1_900_000_000, 0);
    let second = certify("b", later);
    assert_eq!((second.name.as_str(), second.is_renewed), ("fleet-ca-2", true));
    assert!(second.not_after > first.not_after);
    let root = file::read_anchors(&scene.path("root/root.crt")).unwrap();
    let der = file::read_certificates(&second.path).unwrap().swap_remove(0);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
    assert_eq!(verify_fleet_authority(&root, &der, at).unwrap().as_str(), "acme");
    // What is certified again is the newest certificate of each key.
    let rotated = scene.rotate("1.json").unwrap();
    assert_eq!(rotated.certified, ["factory-line-1", "fleet-ca-2", "fleet-ca"]);
}

#[test]
fn a_station_follows_step_by_step_and_keeps_its_key() {
    let scene = Scene::new();
    let station = scene.path("line-1");
    file::create_private_directory(&station).unwrap();
    let write = |name: &str, der: &CertificateDer<'_>| {
        let text = encode_certificates(std::slice::from_ref(der));
        file::create(&station.join(name), text.as_bytes(), Access::Public).unwrap();
    };
    write("ca.crt", scene.factory_ca.der());
    write("root.crt", &file::read_certificates(&scene.path("root/root.crt")).unwrap()[0]);
    let (one, two) = (scene.rotate("1.json").unwrap(), scene.drop_root("root", "2.json").unwrap());

    // The list without the old root is signed by the new one alone.
    assert!(matches!(follow(&station, &two.signed.text), Err(FollowError::List(_))));
    let followed = follow(&station, &one.signed.text).unwrap();
    assert!(followed.is_certified_again);
    assert_eq!(followed.roots, ["root", "root-2"]);
    assert!(!follow(&station, &one.signed.text).unwrap().is_certified_again);
    let followed = follow(&station, &two.signed.text).unwrap();
    assert_eq!((followed.number, followed.roots), (2, vec!["root-2".to_owned()]));

    let anchors = file::read_anchors(&station.join("root.crt")).unwrap();
    let own = file::read_certificates(&station.join("ca.crt")).unwrap().swap_remove(0);
    let authority = verify_factory_authority(&anchors, &own, unix()).unwrap();
    assert_eq!(authority.key, scene.factory_ca.certificate().key);
}
