//! The files of `root/`: `issued/` has every authority that the root certified, `left-out/` those that no other root
//! shall certify, `previous/` the roots before this one with their keys, `lists/` every list by its number.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

use super::{Remembered, SafeError};
use crate::certificate::Certificate;
use crate::file::{self, Access, FileError, failed};
use crate::pem_text::encode_certificates;
use crate::root_list::SignedRootList;
use crate::rotation::name_of;

pub(super) fn remember(root: &Path, authority: &CertificateDer<'_>) -> Result<(), SafeError> {
    let directory = root.join("issued");
    file::create_private_directory(&directory)?;
    write_authority(&directory, authority)
}

/// The authority is known no more to the rotations to come.
pub(super) fn leave_out(root: &Path, authority: &CertificateDer<'_>) -> Result<(), SafeError> {
    let directory = root.join("left-out");
    file::create_private_directory(&directory)?;
    write_authority(&directory, authority)?;
    let path = root.join("issued").join(file_name(&Certificate::read(authority)?));
    fs::remove_file(&path).map_err(failed("remove", &path))?;
    Ok(())
}

/// Every authority that is remembered, by name. A station that was made again under its name has two.
pub(super) fn issued(root: &Path) -> Result<Vec<Remembered>, SafeError> {
    let mut issued = Vec::new();
    for path in files(&root.join("issued"))? {
        let der = file::read_certificates(&path)?.swap_remove(0);
        let certificate = Certificate::read(&der)?;
        issued.push((der, certificate));
    }
    Ok(issued)
}

pub(super) fn add_list(root: &Path, signed: &SignedRootList) -> Result<(), SafeError> {
    let directory = root.join("lists");
    file::create_private_directory(&directory)?;
    let path = directory.join(format!("{:06}.json", signed.list.number));
    Ok(file::create(&path, &signed.text, Access::Public)?)
}

pub(super) fn newest_list(root: &Path) -> Result<Option<SignedRootList>, SafeError> {
    let newest = files(&root.join("lists"))?.pop();
    newest.map(|path| Ok(SignedRootList::read(&file::read(&path)?)?)).transpose()
}

/// Puts the root that is there among the previous ones.
pub(super) fn keep_previous(root: &Path, name: &str) -> Result<(), SafeError> {
    let directory = root.join("previous");
    file::create_private_directory(&directory)?;
    for (end, access) in [("crt", Access::Public), ("key", Access::Private)] {
        let from = root.join(format!("root.{end}"));
        file::copy(&from, &directory.join(format!("{name}.{end}")), access)?;
    }
    Ok(())
}

/// A copy of the root's directory, to be changed.
pub(super) fn stage(fleet: &Path, root: &Path) -> Result<TempDir, SafeError> {
    let staged = tempfile::Builder::new().prefix(".drover-").tempdir_in(fleet);
    let staged = staged.map_err(failed("write in", fleet))?;
    copy(root, staged.path())?;
    Ok(staged)
}

/// Gives a staged directory the name by which it is found after a cut.
pub(super) fn take_name(staged: TempDir, name: &Path) -> Result<(), SafeError> {
    rename(staged.path(), name)?;
    // Nothing is left to be cleaned up.
    let _ = staged.keep();
    Ok(())
}

/// Two renames: a cut between them leaves `next` under its own name, and this is done again.
pub(super) fn put_in_place(next: &Path, root: &Path) -> Result<(), SafeError> {
    if root.exists() {
        remove_replaced(root)?;
        rename(root, &replaced(root))?;
    }
    rename(next, root)?;
    remove_replaced(root)
}

/// The directory that was replaced. All of it is in the new one.
pub(super) fn remove_replaced(root: &Path) -> Result<(), SafeError> {
    let replaced = replaced(root);
    match fs::remove_dir_all(&replaced) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", &replaced)(error).into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn replaced(root: &Path) -> PathBuf {
    root.with_extension("old")
}

fn rename(from: &Path, to: &Path) -> Result<(), SafeError> {
    fs::rename(from, to).map_err(failed("make", to))?;
    Ok(file::sync_directory(to.parent().unwrap_or(Path::new(".")))?)
}

fn copy(from: &Path, to: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(from).map_err(failed("read", from))? {
        let entry = entry.map_err(failed("read", from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            file::create_private_directory(&target)?;
            copy(&path, &target)?;
        } else {
            let is_key = path.extension().is_some_and(|end| end == "key");
            file::copy(&path, &target, if is_key { Access::Private } else { Access::Public })?;
        }
    }
    Ok(())
}

/// The files in a directory by name; none where there is no directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("read", directory))?,
    };
    let paths: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(failed("read", directory))?;
    paths.retain(|path| path.is_file() && !is_hidden(path));
    paths.sort();
    Ok(paths)
}

/// What a cut left of a file that was being written.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn write_authority(directory: &Path, authority: &CertificateDer<'_>) -> Result<(), SafeError> {
    let path = directory.join(file_name(&Certificate::read(authority)?));
    let text = encode_certificates(std::slice::from_ref(authority));
    Ok(file::replace(&path, text.as_bytes(), Access::Public)?)
}

/// One file for each key, however often it is certified.
fn file_name(authority: &Certificate) -> String {
    format!("{}.crt", full_name(authority))
}

/// An authority's name with the beginning of its key's digest, which no other authority has.
pub(super) fn full_name(authority: &Certificate) -> String {
    let key = authority.key.to_string();
    format!("{}-{}", name_of(authority), &key[..16])
}
