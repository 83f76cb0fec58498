use std::time::Duration;

use drover_pki::{Authority, crl::RevocationList};
use jiff::SignedDuration;

use super::*;
use crate::{clock::Now, store::Retention};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

struct Place {
    directory: tempfile::TempDir,
    authority: Arc<Authority>,
}

impl Place {
    fn new() -> Self {
        let (fleet, now) = ("acme".parse().unwrap(), Now::read().wall);
        let root = Authority::create_root(&fleet, now).unwrap();
        let authority = root.create_fleet_ca(&fleet, now).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("pki")).unwrap();
        Self { directory, authority: Arc::new(authority) }
    }

    /// The writer of a dropped store lets go of the directory a moment later.
    fn store(&self, name: &str) -> Store {
        use crate::store::{OpenError, StartError};
        loop {
            match Store::open(&self.directory.path().join(name), Retention::default()) {
                Err(OpenError::Start(StartError::InUse { .. })) => std::thread::yield_now(),
                opened => return opened.unwrap(),
            }
        }
    }

    async fn start(&self, store: Store, issuers: Vec<Arc<Authority>>) -> Running {
        let (handle, task) =
            CrlTask::open(store, self.directory.path().join("pki"), WEEK, issuers).await.unwrap();
        Running { handle, task: tokio::spawn(task.run()) }
    }

    fn revocation(&self, serial: &str) -> Revocation {
        let now = Now::read().wall;
        Revocation {
            issuer: self.authority.certificate().key,
            serial: serial.parse().unwrap(),
            expires: now + SignedDuration::from_hours(1),
            at: now,
            reason: RevocationReason::KeyCompromise,
        }
    }

    /// What is in the file, verified: the number and the serial numbers.
    fn file(&self) -> (u64, Vec<String>) {
        let text = std::fs::read(self.directory.path().join("pki/crl.pem")).unwrap();
        let list = RevocationList::from_pem(&text).unwrap();
        list.verify(self.authority.der()).unwrap();
        let revoked = &list.contents().revoked;
        (list.contents().number, revoked.iter().map(|entry| entry.serial.to_string()).collect())
    }
}

struct Running {
    handle: CrlHandle,
    task: tokio::task::JoinHandle<Result<(), RevokeError>>,
}

impl Running {
    async fn stop(self) {
        drop(self.handle);
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_in_the_list_at_once_and_after_a_restart() {
    let place = Place::new();
    let issuers = || vec![place.authority.clone()];
    let master = place.start(place.store("data"), issuers()).await;
    assert_eq!(place.file(), (1, vec![]));
    master.handle.revoke(&[place.revocation("ab")]).await.unwrap();
    assert_eq!(place.file(), (2, vec!["ab".to_owned()]));
    // Twice is once.
    master.handle.revoke(&[place.revocation("ab")]).await.unwrap();
    assert_eq!(place.file().0, 2);
    assert_eq!(master.handle.published()[0].list.contents().number, 2);
    master.stop().await;

    let master = place.start(place.store("data"), issuers()).await;
    assert_eq!(place.file(), (2, vec!["ab".to_owned()]));
    master.handle.revoke(&[place.revocation("cd")]).await.unwrap();
    assert_eq!(place.file(), (3, vec!["ab".to_owned(), "cd".to_owned()]));
    master.stop().await;
}

#[tokio::test]
async fn what_was_stored_and_never_published_is_published_by_the_next_master() {
    let place = Place::new();
    let store = place.store("data");
    place.start(store.clone(), vec![place.authority.clone()]).await.stop().await;
    let revocation = place.revocation("ab");
    let mut batch = Batch::new();
    batch.revocation(&revocation.issuer, &revocation.serial, &revocation);
    store.write(batch).await.unwrap();
    place.start(store, vec![place.authority.clone()]).await.stop().await;
    assert_eq!(place.file(), (2, vec!["ab".to_owned()]));
}

#[tokio::test]
async fn an_older_store_neither_takes_a_number_twice_nor_forgets_what_was_revoked() {
    let place = Place::new();
    let master = place.start(place.store("data"), vec![place.authority.clone()]).await;
    master.handle.revoke(&[place.revocation("ab")]).await.unwrap();
    master.stop().await;
    let master = place.start(place.store("restored"), vec![place.authority.clone()]).await;
    assert_eq!(place.file(), (3, vec!["ab".to_owned()]));
    master.stop().await;
}

#[tokio::test]
async fn what_left_the_list_does_not_come_back_by_an_old_file() {
    let place = Place::new();
    let store = place.store("data");
    let master = place.start(store.clone(), vec![place.authority.clone()]).await;
    let revocation = place.revocation("ab");
    master.handle.revoke(std::slice::from_ref(&revocation)).await.unwrap();
    master.stop().await;
    // The power goes after the next list's number is durable, and before that list is.
    let issuer = revocation.issuer;
    let mark: schedule::Mark = store.crl(&issuer).unwrap().unwrap();
    let mut batch = Batch::new();
    batch.crl(&issuer, &schedule::Mark { number: mark.number + 1, ..mark });
    batch.revocation_over(&issuer, &revocation.serial);
    store.write(batch).await.unwrap();
    place.start(store, vec![place.authority.clone()]).await.stop().await;
    assert_eq!(place.file(), (4, vec![]));
}

#[tokio::test]
async fn a_list_that_is_lost_is_made_again() {
    let place = Place::new();
    let store = place.store("data");
    place.start(store.clone(), vec![place.authority.clone()]).await.stop().await;
    std::fs::write(place.directory.path().join("pki/crl.pem"), "rubbish").unwrap();
    place.start(store, vec![place.authority.clone()]).await.stop().await;
    assert_eq!(place.file().0, 2);
}

#[tokio::test]
async fn without_an_authoritys_key_revocations_are_kept_for_the_day_it_is_there() {
    let place = Place::new();
    let master = place.start(place.store("data"), Vec::new()).await;
    master.handle.revoke(&[place.revocation("ab")]).await.unwrap();
    assert!(master.handle.published().is_empty());
    master.handle.set_issuers(vec![place.authority.clone()]).await;
    assert_eq!(place.file(), (1, vec!["ab".to_owned()]));
    master.stop().await;
}

#[tokio::test]
async fn an_authority_that_was_replaced_keeps_a_list_of_its_own() {
    let place = Place::new();
    let master = place.start(place.store("data"), vec![place.authority.clone()]).await;
    master.handle.revoke(&[place.revocation("ab")]).await.unwrap();
    let newer = Place::new().authority;
    master.handle.set_issuers(vec![newer.clone(), place.authority.clone()]).await;
    let lists = master.handle.published();
    let of = |list: &Published| (list.issuer, list.list.contents().revoked.len());
    assert_eq!(of(&lists[0]), (newer.certificate().key, 0));
    assert_eq!(of(&lists[1]), (place.authority.certificate().key, 1));
    assert!(lists[0].file.ends_with("pki/crl.pem"));
    assert!(lists[1].file.ends_with(format!("pki/crl-{}.pem", lists[1].name())));
    for list in lists.iter() {
        let written = std::fs::read(&list.file).unwrap();
        assert_eq!(RevocationList::from_pem(&written).unwrap(), *list.list);
    }
    // What the old one issued is revoked in its own list.
    master.handle.revoke(&[place.revocation("cd")]).await.unwrap();
    let lists = master.handle.published();
    assert_eq!((of(&lists[0]).1, of(&lists[1]).1), (0, 2));
    master.stop().await;
}

#[tokio::test]
async fn a_list_is_given_out_where_the_disk_takes_none() {
    let place = Place::new();
    let master = place.start(place.store("data"), vec![place.authority.clone()]).await;
    std::fs::remove_dir_all(place.directory.path().join("pki")).unwrap();
    master.handle.revoke(&[place.revocation("ab")]).await.unwrap();
    assert_eq!(master.handle.published()[0].list.contents().revoked.len(), 1);
    // The number of the list that is out is not used again.
    std::fs::create_dir(place.directory.path().join("pki")).unwrap();
    master.handle.revoke(&[place.revocation("cd")]).await.unwrap();
    assert_eq!(place.file().0, 3);
    master.stop().await;
}

#[tokio::test]
async fn the_newest_list_of_a_station_is_kept() {
    let place = Place::new();
    let master = place.start(place.store("data"), Vec::new()).await;
    let certificate = place.authority.certificate();
    let authority = FactoryAuthority {
        station: "line-1".parse().unwrap(),
        fingerprint: certificate.fingerprint,
        key: certificate.key,
        issued: certificate.not_before,
        not_after: certificate.not_after,
    };
    let list = |number| {
        let this_update = Now::read().wall;
        let next_update = this_update + SignedDuration::from_hours(1);
        let contents =
            drover_pki::crl::Revocations { number, this_update, next_update, revoked: Vec::new() };
        RevocationList::sign(&place.authority, &contents).unwrap()
    };
    let keep = async |number| master.handle.keep(&authority, &list(number)).await.unwrap();
    assert_eq!([keep(2).await, keep(1).await, keep(3).await], [true, false, true]);
    let kept = master.handle.factory_lists(Some("line-1")).unwrap();
    assert_eq!(kept.iter().map(|list| list.number).collect::<Vec<_>>(), [3]);
    assert_eq!(kept[0].report().unwrap()["station"], "line-1");
    assert!(master.handle.factory_lists(Some("line-2")).unwrap().is_empty());
    let name = kept[0].name();
    assert_eq!(master.handle.factory_list_named(&name).unwrap().unwrap().number, 3);
    assert!(master.handle.factory_list_named("0123456789abcdef").unwrap().is_none());
    master.stop().await;
    let restarted = place.start(place.store("data"), Vec::new()).await;
    assert_eq!(restarted.handle.factory_list_named(&name).unwrap().unwrap().number, 3);
    restarted.stop().await;
}
