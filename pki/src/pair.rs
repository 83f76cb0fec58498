//! A certificate and its key in two files that change together. The certificate's rename decides: until then the old
//! pair holds, from then on the new one, at whatever point the power goes. For devices' operational certificates, and
//! for the master's own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;

use crate::certificate::Certificate;
use crate::file::{FileError, Identity, failed, read_certificates, read_key, sync_directory};
use crate::fingerprint::KeyDigest;
use crate::key::PrivateKey;
use crate::pem_text::encode_certificates;

/// The files of one pair, such as `ldevid.crt` and `ldevid.key`, and those in which a new one is prepared.
#[derive(Debug, Clone)]
pub struct KeyPairFiles {
    directory: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    next_certificate: PathBuf,
    next_key: PathBuf,
}

impl KeyPairFiles {
    /// The pair of that name. Nothing is read or written.
    pub fn new(directory: &Path, name: &str) -> Self {
        let file = |end: &str| directory.join(format!("{name}.{end}"));
        Self {
            directory: directory.to_owned(),
            certificate: file("crt"),
            key: file("key"),
            next_certificate: file("next.crt"),
            next_key: file("next.key"),
        }
    }

    /// The certificate's file.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Where a staged key lies until its certificate is there.
    pub fn staged_key(&self) -> &Path {
        &self.next_key
    }

    /// Puts a new key on the disk, beside the one in use.
    pub fn stage(&self, key: &PrivateKey) -> Result<(), FileError> {
        self.stage_text(key.to_pem().as_bytes())
    }

    /// Likewise, for a key file of another form: encrypted, or a token's URI.
    pub fn stage_text(&self, text: &[u8]) -> Result<(), FileError> {
        // Where a change was not finished, the staged key is the one in use.
        self.finish_where_decided()?;
        write_new(&self.next_key, text, 0o600)?;
        sync_directory(&self.directory)
    }

    /// Makes the staged key and this certificate chain, the leaf first, the pair. When it fails before the rename that
    /// decides, the old pair holds; after it the new one, and [`Self::load`] does what is left to do.
    pub fn commit(&self, chain: &[CertificateDer<'_>]) -> Result<(), FileError> {
        if !self.next_key.exists() {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(failed("use the staged key", &self.next_key)(missing));
        }
        self.prepare(chain)?;
        self.decide()?;
        self.finish()
    }

    /// Throws a staged key away, if there is one that no certificate was committed for.
    pub fn discard(&self) -> Result<(), FileError> {
        self.finish_where_decided()?;
        for path in [&self.next_key, &self.next_certificate] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The pair; `None` where there is no certificate. A change that was not finished is, if the disk lets it.
    pub fn load(&self) -> Result<Option<Identity>, FileError> {
        let read = |path: &Path| read_key(path).map(|key| (key.public().digest(), key));
        Ok(self.load_with(read)?.map(|(chain, key)| Identity { chain, key }))
    }

    /// Likewise, with another way to read a key file, which also says whose it is.
    pub fn load_with<K>(
        &self,
        read: impl Fn(&Path) -> Result<(KeyDigest, K), FileError>,
    ) -> Result<Option<(Vec<CertificateDer<'static>>, K)>, FileError> {
        // Another process may be changing the pair between two reads.
        match self.try_load(&read) {
            Err(_) => self.try_load(&read),
            loaded => loaded,
        }
    }

    fn try_load<K>(
        &self,
        read: &impl Fn(&Path) -> Result<(KeyDigest, K), FileError>,
    ) -> Result<Option<(Vec<CertificateDer<'static>>, K)>, FileError> {
        if !self.certificate.exists() {
            return Ok(None);
        }
        let chain = read_certificates(&self.certificate)?;
        let unreadable = |source| FileError::Unreadable { path: self.certificate.clone(), source };
        let wanted = Certificate::read(&chain[0]).map_err(unreadable)?.key;
        let current = read(&self.key);
        if let Ok((of, key)) = current
            && of == wanted
        {
            return Ok(Some((chain, key)));
        }
        if let Ok((of, key)) = read(&self.next_key)
            && of == wanted
        {
            // The disk may be read-only; the pair is whole all the same.
            let _ = self.finish();
            return Ok(Some((chain, key)));
        }
        // Why the key in use cannot be read says more than that it does not fit.
        read(&self.key)?;
        Err(FileError::NoPair { certificate: self.certificate.clone(), key: self.key.clone() })
    }

    fn prepare(&self, chain: &[CertificateDer<'_>]) -> Result<(), FileError> {
        write_new(&self.next_certificate, encode_certificates(chain).as_bytes(), 0o644)
    }

    fn decide(&self) -> Result<(), FileError> {
        let renamed = fs::rename(&self.next_certificate, &self.certificate);
        renamed.map_err(failed("write", &self.certificate))?;
        // The key must not take its place on the disk before the certificate has.
        sync_directory(&self.directory)
    }

    fn finish(&self) -> Result<(), FileError> {
        match fs::rename(&self.next_key, &self.key) {
            // Whoever loaded the pair in between has done it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed("write", &self.key)),
        }?;
        sync_directory(&self.directory)
    }

    /// A plain key that the certificate needs is put in its place. One of another form is never needed here: whoever
    /// staged it loads it before the next is staged.
    fn finish_where_decided(&self) -> Result<(), FileError> {
        if !self.next_key.exists() || !self.certificate.exists() {
            return Ok(());
        }
        let chain = match read_certificates(&self.certificate) {
            // Of bits that rotted nothing follows; the next change must not wait for them.
            Err(FileError::Certificates { .. }) => return Ok(()),
            read => read?,
        };
        let wanted = Certificate::read(&chain[0]).ok().map(|certificate| certificate.key);
        let staged = read_key(&self.next_key).ok().map(|key| key.public().digest());
        if staged.is_some() && staged == wanted { self.finish() } else { Ok(()) }
    }
}

/// Writes a file anew, and returns when its content is on the disk. Its name is not what decides anything, so it need
/// not appear whole.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("write", path)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    })
    .map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use jiff::Timestamp;
    use tempfile::TempDir;

    use super::*;
    use crate::authority::Authority;

    struct Scene {
        fleet_ca: Authority,
        directory: TempDir,
        files: KeyPairFiles,
    }

    type Pair = (PrivateKey, Vec<CertificateDer<'static>>);

    impl Scene {
        /// With a pair in place: its key is given.
        fn new() -> (Self, KeyDigest) {
            let name = "acme".parse().unwrap();
            let root = Authority::create_root(&name, now()).unwrap();
            let fleet_ca = root.create_fleet_ca(&name, now()).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let files = KeyPairFiles::new(directory.path(), "ldevid");
            let scene = Self { fleet_ca, directory, files };
            let (key, chain) = scene.issue();
            scene.files.stage(&key).unwrap();
            scene.files.commit(&chain).unwrap();
            (scene, key.public().digest())
        }

        fn issue(&self) -> Pair {
            let key = PrivateKey::generate().unwrap();
            let id = "rfid-1".parse().unwrap();
            let day = Duration::from_secs(86_400);
            let leaf = self.fleet_ca.issue_ldevid(&id, None, &key, day, now()).unwrap();
            (key, vec![leaf, self.fleet_ca.der().clone()])
        }

        fn loaded(&self) -> KeyDigest {
            let identity = self.files.load().unwrap().unwrap();
            let leaf = Certificate::read(&identity.chain[0]).unwrap();
            assert_eq!(leaf.key, identity.key.public().digest());
            leaf.key
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.directory.path()).unwrap();
            let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
            let mut names: Vec<_> =
                entries.map(|entry| name(entry).into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn now() -> Timestamp {
        Timestamp::constant(1_800_000_000, 0)
    }

    #[test]
    fn a_cut_after_any_step_leaves_a_working_pair() {
        // How many steps of the change were done, and whether the new pair holds then.
        for (steps, is_new) in [(0, false), (1, false), (2, false), (3, true), (4, true)] {
            let (scene, old) = Scene::new();
            let (key, chain) = scene.issue();
            let change: [&dyn Fn(); 4] = [
                &|| scene.files.stage(&key).unwrap(),
                &|| scene.files.prepare(&chain).unwrap(),
                &|| scene.files.decide().unwrap(),
                &|| scene.files.finish().unwrap(),
            ];
            change[..steps].iter().for_each(|step| step());
            let wanted = if is_new { key.public().digest() } else { old };
            assert_eq!(scene.loaded(), wanted, "after {steps} steps");
            assert_eq!(scene.loaded(), wanted, "loaded again, after {steps} steps");

            // And the next change goes through.
            let (key, chain) = scene.issue();
            scene.files.stage(&key).unwrap();
            assert_eq!(scene.loaded(), wanted, "staged after {steps} steps");
            scene.files.commit(&chain).unwrap();
            assert_eq!(scene.loaded(), key.public().digest());
            assert_eq!(scene.names(), ["ldevid.crt", "ldevid.key"], "nothing is left behind");
        }
    }

    #[test]
    fn a_cut_within_a_write_leaves_the_old_pair() {
        let (scene, old) = Scene::new();
        let (key, chain) = scene.issue();
        let text = key.to_pem();
        for length in [0, 1, text.len() / 2, text.len() - 1] {
            fs::write(&scene.files.next_key, &text.as_bytes()[..length]).unwrap();
            assert_eq!(scene.loaded(), old);
        }
        scene.files.stage(&key).unwrap();
        let text = encode_certificates(&chain);
        for length in [0, 1, text.len() / 2, text.len() - 1] {
            fs::write(&scene.files.next_certificate, &text.as_bytes()[..length]).unwrap();
            assert_eq!(scene.loaded(), old);
        }
        scene.files.commit(&chain).unwrap();
        assert_eq!(scene.loaded(), key.public().digest());
    }

    #[test]
    fn a_staged_key_that_is_in_use_is_not_staged_over() {
        let (scene, _) = Scene::new();
        let (key, chain) = scene.issue();
        scene.files.stage(&key).unwrap();
        scene.files.prepare(&chain).unwrap();
        scene.files.decide().unwrap();
        // Not loaded in between: the disk was read-only then.
        scene.files.stage(&PrivateKey::generate().unwrap()).unwrap();
        assert_eq!(scene.loaded(), key.public().digest());
        scene.files.discard().unwrap();
        assert_eq!(scene.loaded(), key.public().digest());
        assert_eq!(scene.names(), ["ldevid.crt", "ldevid.key"]);
    }

    #[test]
    fn a_certificate_that_rotted_beside_a_staged_key_does_not_keep_the_next_from_being_stored() {
        let (scene, _) = Scene::new();
        for rot in [&b""[..], b"\0\0\0\0", b"-----BEGIN CERTIFICATE-----\nMIIB"] {
            fs::write(&scene.files.certificate, rot).unwrap();
            fs::write(&scene.files.next_key, rot).unwrap();
            scene.files.load().unwrap_err();
            let (key, chain) = scene.issue();
            scene.files.stage(&key).unwrap();
            scene.files.commit(&chain).unwrap();
            assert_eq!(scene.loaded(), key.public().digest());
        }
    }

    #[test]
    fn keys_are_private_and_a_commit_needs_one() {
        let (scene, old) = Scene::new();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&scene.files.key), mode(&scene.files.certificate)), (0o600, 0o644));
        let (_, chain) = scene.issue();
        scene.files.commit(&chain).unwrap_err();
        assert_eq!(scene.loaded(), old);
        let empty = KeyPairFiles::new(scene.directory.path(), "other");
        assert!(empty.load().unwrap().is_none());
    }

    #[test]
    fn a_certificate_without_its_key_is_no_pair() {
        let (scene, _) = Scene::new();
        let other = PrivateKey::generate().unwrap();
        fs::write(&scene.files.key, other.to_pem().as_bytes()).unwrap();
        assert!(matches!(scene.files.load(), Err(FileError::NoPair { .. })));
        fs::write(&scene.files.key, "").unwrap();
        assert!(matches!(scene.files.load(), Err(FileError::Key { .. })));
    }
}
