//! Users and groups, from `/etc/passwd` and `/etc/group`: what a small device has. Whoever runs a command or owns a
//! file is looked up here.

use std::{fs, io, path::PathBuf};

use thiserror::Error;

/// A user of this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its first group's id.
    pub gid: u32,
    /// Its home, which need not be there.
    pub home: PathBuf,
}

/// Why a name is nobody's.
#[derive(Debug, Error)]
pub enum AccountError {
    /// No user has it; in Salt's words.
    #[error("User {0} is not available")]
    UnknownUser(String),
    /// No group has it; in Salt's words.
    #[error("Group {0} is not available")]
    UnknownGroup(String),
    /// The system's list cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The list.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Account {
    /// The user of that name, or of that number.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(name: &str) -> Result<Self, AccountError> {
        user_in(&read("/etc/passwd")?, name)
            .ok_or_else(|| AccountError::UnknownUser(name.to_owned()))
    }
}

/// A user id, by name or number; a number needs no user.
pub(crate) fn uid(name: &str) -> Result<u32, AccountError> {
    name.parse().or_else(|_| Account::find(name).map(|account| account.uid))
}

/// A group id, by name or number; a number needs no group.
pub(crate) fn gid(name: &str) -> Result<u32, AccountError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    group_in(&read("/etc/group")?, name).ok_or_else(|| AccountError::UnknownGroup(name.to_owned()))
}

fn read(path: &'static str) -> Result<String, AccountError> {
    fs::read_to_string(path).map_err(|source| AccountError::Unreadable { path, source })
}

fn user_in(users: &str, wanted: &str) -> Option<Account> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?;
        let gid = fields.next()?;
        let home = fields.nth(1)?;
        (name == wanted || uid == wanted).then(|| {
            Some(Account {
                name: name.to_owned(),
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                home: home.into(),
            })
        })?
    })
}

fn group_in(groups: &str, wanted: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        fields.next().filter(|name| *name == wanted)?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let file = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1001:Ann,,,:/home/ann:/bin/sh\n";
        let ann = user_in(file, "ann").unwrap();
        assert_eq!((ann.uid, ann.gid, ann.home), (1000, 1001, "/home/ann".into()));
        assert_eq!(user_in(file, "1000").unwrap().name, "ann");
        assert_eq!(user_in(file, "bob"), None);
    }

    #[test]
    fn groups_are_found_by_name() {
        let file = "root:x:0:\ndialout:x:20:ann,bob\n";
        assert_eq!(group_in(file, "dialout"), Some(20));
        assert_eq!(group_in(file, "ann"), None);
    }
}
