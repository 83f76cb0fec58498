//! Users and groups by name, from `/etc/passwd` and `/etc/group`: what a small device has.

use std::path::PathBuf;

use crate::module::Failure;

/// A user of this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

/// The user of that name.
pub(crate) fn user(name: &str) -> Result<User, Failure> {
    let accounts = read("/etc/passwd")?;
    let found = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let user = fields.next().filter(|user| *user == name)?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = PathBuf::from(fields.nth(1)?);
        Some(User { name: user.to_owned(), uid, gid, home })
    });
    found.ok_or_else(|| Failure::new(format!("User {name} is not available")))
}

/// A user id, by name or number.
pub(crate) fn uid(name: &str) -> Result<u32, Failure> {
    name.parse().or_else(|_| user(name).map(|user| user.uid))
}

/// A group id, by name or number.
pub(crate) fn gid(name: &str) -> Result<u32, Failure> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let groups = read("/etc/group")?;
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        fields.next().filter(|group| *group == name)?;
        fields.nth(1)?.parse().ok()
    });
    found.ok_or_else(|| Failure::new(format!("Group {name} is not available")))
}

fn read(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read `{path}`: {error}")))
}
