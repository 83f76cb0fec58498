//! Who a command may run as: an entry of the system's account file.

use std::{fs, io, path::PathBuf};

use thiserror::Error;

/// An account of this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

/// Why a name is no account.
#[derive(Debug, Error)]
pub(crate) enum AccountError {
    #[error("there is no user `{0}` on this device")]
    Unknown(String),
    #[error("cannot read `/etc/passwd`")]
    Unreadable(#[source] io::Error),
}

impl Account {
    /// The account of that name, or of that number.
    pub(crate) fn find(name: &str) -> Result<Self, AccountError> {
        let accounts = fs::read_to_string("/etc/passwd").map_err(AccountError::Unreadable)?;
        find_in(&accounts, name).ok_or_else(|| AccountError::Unknown(name.to_owned()))
    }
}

fn find_in(accounts: &str, wanted: &str) -> Option<Account> {
    accounts.lines().find_map(|line| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_by_number() {
        let file = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1001:Ann,,,:/home/ann:/bin/sh\n";
        let ann = find_in(file, "ann").unwrap();
        assert_eq!((ann.uid, ann.gid, ann.home), (1000, 1001, "/home/ann".into()));
        assert_eq!(find_in(file, "1000").unwrap().name, "ann");
        assert_eq!(find_in(file, "bob"), None);
    }
}
