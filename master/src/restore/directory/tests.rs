use super::*;

const ASIDE_NAME: &str = "before-restore-1";

/// A data directory, and one that is to take its place.
struct Place(tempfile::TempDir);

impl Place {
    fn new(directories: &[(&str, Option<Stage>)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (name, stage) in directories {
            let path = place.path(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("of"), name).unwrap();
            if let Some(stage) = *stage {
                let mark = Mark { aside: ASIDE_NAME.to_owned(), force: true, stage };
                fs::write(path.join(MARK), serde_json::to_vec(&mark).unwrap()).unwrap();
            }
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn finish(&self) -> bool {
        finish(&self.path("data"), &self.path("pki")).unwrap().is_some()
    }

    /// Whose content a directory has.
    fn of(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name).join("of")).ok()
    }

    fn begin(&self, name: &str) -> Building {
        let (data, pki) = (resolved(&self.path(name)), self.path("pki"));
        Building::begin(&data, &pki, Timestamp::UNIX_EPOCH, true).unwrap()
    }
}

#[test]
fn an_empty_directory_that_was_made_meanwhile_is_no_old_master() {
    let place =
        Place::new(&[("data.restoring", Some(Stage::Replaces)), ("data.before-restore-1", None)]);
    // As systemd does it for `StateDirectory=`.
    fs::create_dir(place.path("data")).unwrap();
    assert!(place.finish());
    assert_eq!(place.of("data").as_deref(), Some("data.restoring"));
}

#[test]
fn what_did_not_come_to_its_decision_is_left_alone() {
    let place = Place::new(&[("data.restoring", Some(Stage::Replaces)), ("data", None)]);
    assert!(!place.finish());
    assert_eq!(place.of("data").as_deref(), Some("data"));
    let place = Place::new(&[("data.restoring", Some(Stage::Incomplete))]);
    assert!(!place.finish());
    assert_eq!(place.of("data"), None);
}

#[test]
fn an_old_directory_that_was_exchanged_gets_its_name() {
    let place = Place::new(&[("data", Some(Stage::Replaces)), ("data.restoring", None)]);
    assert!(place.finish());
    assert_eq!(place.of("data").as_deref(), Some("data"));
    assert_eq!(place.of("data.before-restore-1").as_deref(), Some("data.restoring"));
    assert!(!place.finish(), "once");
}

#[test]
fn an_old_directory_that_got_no_name_is_not_removed_by_the_next_restore() {
    let place = Place::new(&[("data", None), ("data.restoring", None)]);
    let building = place.begin("data");
    let kept = place.of("data.before-restore-19700101T000000Z");
    assert_eq!(kept.as_deref(), Some("data.restoring"));
    assert_eq!(building.mark.aside, "before-restore-19700101T000000Z-2");
}

#[test]
fn a_restore_that_fails_leaves_nothing_behind() {
    let place = Place::new(&[("data", None), ("data.restoring", Some(Stage::Incomplete))]);
    let building = place.begin("data");
    fs::write(building.path().join("large"), "x").unwrap();
    drop(building);
    assert!(!place.path("data.restoring").exists());
}

#[test]
fn the_directory_behind_a_link_is_replaced_and_not_the_link() {
    let place = Place::new(&[("disk", None)]);
    std::os::unix::fs::symlink("disk", place.path("data")).unwrap();
    let building = place.begin("data");
    assert_eq!(building.path(), place.path("disk.restoring"));
    fs::write(building.path().join("of"), "new").unwrap();
    let previous = Previous::open(&place.path("data")).unwrap();
    let aside = building.commit(Some(previous)).unwrap().unwrap();
    assert_eq!(fs::read_link(place.path("data")).unwrap(), Path::new("disk"));
    assert_eq!(place.of("data").as_deref(), Some("new"));
    assert_eq!(fs::read_to_string(aside.join("of")).unwrap(), "disk");
}

#[test]
fn a_mount_point_is_seen() {
    assert!(is_mount_point(Path::new("/proc")));
    let place = Place::new(&[("data", None)]);
    assert!(!is_mount_point(&place.path("data")));
    assert!(!is_mount_point(&place.path("none")));
}
