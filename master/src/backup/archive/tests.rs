use std::{path::PathBuf, process::Command};

use super::*;
use crate::store::BrokenCopy;

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        version: "0.1.0".to_owned(),
        name: "test".parse().unwrap(),
        created: "2026-11-23T02:37:05Z".parse().unwrap(),
    }
}

fn ending() -> Ending {
    Ending { last_seq: 7, finished: "2026-11-23T02:37:06Z".parse().unwrap() }
}

fn file() -> File {
    File { place: Place::Pki(PathBuf::from("previous/a.key")), mode: 0o600, content: b"key".into() }
}

/// The entry that marks a store's format.
fn part(format: u32) -> Vec<u8> {
    let mut part = [7_u32.to_be_bytes(), 4_u32.to_be_bytes()].concat();
    part.extend(b"!format");
    part.extend(format.to_be_bytes());
    part
}

fn begin(out: &mut Vec<u8>) -> ArchiveWriter<&mut Vec<u8>> {
    ArchiveWriter::begin(out, &manifest()).unwrap()
}

fn whole() -> Vec<u8> {
    let mut out = Vec::new();
    let mut archive = begin(&mut out);
    archive.store(&part(1)).unwrap();
    archive.store(&part(1)).unwrap();
    archive.file(&file()).unwrap();
    archive.finish(ending()).unwrap();
    out
}

fn check(bytes: &[u8]) -> Result<Summary, BackupError> {
    read(bytes, |_| Ok(()))
}

#[test]
fn an_archive_reads_as_it_was_written() {
    let mut members = Vec::new();
    let summary = read::<BackupError>(whole().as_slice(), |member| {
        members.push(member);
        Ok(())
    });
    let summary = summary.unwrap();
    assert_eq!((summary.manifest, summary.ending, summary.files), (manifest(), ending(), 1));
    assert!(matches!(&members[0], Member::Store(bytes) if *bytes == part(1)));
    assert!(matches!(&members[2], Member::File(read) if *read == file()));
}

#[test]
fn anybodys_tar_lists_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tar");
    std::fs::write(&path, whole()).unwrap();
    let listed = Command::new("tar").arg("-tvf").arg(&path).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<_> = listed.lines().filter_map(|line| line.split(' ').next_back()).collect();
    let expected = [
        "drover-backup.json",
        "store/00000000",
        "store/00000001",
        "pki/previous/a.key",
        "drover-backup.end.json",
        "drover-backup.sha256",
    ];
    assert_eq!(names, expected);
    assert!(listed.lines().all(|line| line.starts_with("-rw-------")), "{listed}");
}

#[test]
fn every_byte_that_is_changed_is_found() {
    let whole = whole();
    let mut found = 0;
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        match check(&changed) {
            Err(_) => found += 1,
            // What lies between members and behind the last one means nothing, and is not looked at.
            Ok(_) => assert_eq!(whole[at], 0, "byte {at} is not padding"),
        }
    }
    assert!(found > 6 * 512, "{found}");
}

#[test]
fn one_that_is_cut_off_anywhere_is_found() {
    let whole = whole();
    let end = whole.len() - 1024 - 512;
    for length in (0..end).step_by(37) {
        let error = check(&whole[..length]).unwrap_err();
        let expected =
            matches!(error, BackupError::Cut | BackupError::Foreign | BackupError::Damaged);
        assert!(expected, "{length}: {error:?}");
    }
}

#[test]
fn what_is_no_backup_is_told_as_such() {
    for bytes in [b"".as_slice(), b"hello", &[0; 4096], &[0xff; 4096]] {
        assert!(matches!(check(bytes), Err(BackupError::Foreign)), "{:?}", check(bytes));
    }
}

#[test]
fn one_that_was_not_finished_says_why() {
    let mut out = Vec::new();
    begin(&mut out).give_up("the disk").unwrap();
    let error = check(&out).unwrap_err();
    assert_eq!(error.to_string(), "the master could not finish the backup: the disk");
}

#[test]
fn a_later_format_is_refused() {
    let mut out = Vec::new();
    let manifest = Manifest { format: FORMAT + 1, ..manifest() };
    let archive = ArchiveWriter::begin(&mut out, &manifest).unwrap();
    archive.finish(ending()).unwrap();
    assert!(matches!(check(&out), Err(BackupError::Newer(2))));

    let mut out = Vec::new();
    let mut archive = begin(&mut out);
    archive.store(&part(99)).unwrap();
    archive.finish(ending()).unwrap();
    assert!(matches!(check(&out), Err(BackupError::Store(BrokenCopy::Newer(99)))));
}

#[test]
fn parts_that_lack_or_lead_elsewhere_are_refused() {
    let with = |name: &str| {
        let mut out = Vec::new();
        let mut archive = begin(&mut out);
        archive.store(&part(1)).unwrap();
        archive.member(name, 0o600, b"x").unwrap();
        archive.finish(ending()).unwrap();
        out
    };
    for name in ["store/00000000", "store/00000002", "elsewhere", "drover-backup.json"] {
        assert!(matches!(check(&with(name)), Err(BackupError::Unexpected(_))), "{name}");
    }
    let mut out = Vec::new();
    begin(&mut out).finish(ending()).unwrap();
    assert!(matches!(check(&out), Err(BackupError::Store(BrokenCopy::Unmarked))));
}
