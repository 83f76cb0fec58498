//! What the `file.*` states share: modes and owners as SLS files write them, and the write that a
//! power cut leaves whole or undone.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Arguments, Failure, scalar_text};
use crate::accounts;

pub(crate) mod absent;
pub(crate) mod directory;
pub(crate) mod managed;
pub(crate) mod symlink;

/// Permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode(u32);

impl std::fmt::Display for Mode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:04o}", self.0)
    }
}

/// Who a file belongs to and who may do what with it; `None` is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    user: Option<String>,
    group: Option<String>,
    mode: Option<Mode>,
}

/// The same of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    uid: u32,
    gid: u32,
    mode: Mode,
}

/// What is wanted, names resolved on this device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<Mode>,
}

/// The absolute path that a file state is named for.
pub(crate) fn path(arguments: &mut Arguments<'_>) -> PathBuf {
    let path = PathBuf::from(arguments.name());
    if !path.is_absolute() {
        let message = format!("Specified file {} is not an absolute path", path.display());
        arguments.error("name", message, None);
    }
    path
}

/// `mode: '0644'`, or `0644`, which YAML gives us as 644: the digits are octal either way.
pub(crate) fn mode(arguments: &mut Arguments<'_>, key: &'static str) -> Option<Mode> {
    let value = arguments.value(key)?;
    let text = scalar_text(value).filter(|_| !value.is_boolean()).unwrap_or_default();
    let bits = u32::from_str_radix(&text, 8).ok().filter(|bits| *bits <= 0o7777);
    if bits.is_none() {
        arguments.refuse_value(key, value, "an octal mode such as '0644'");
    }
    bits.map(Mode)
}

impl Wanted {
    /// Reads `user`, `group` and the mode.
    pub(crate) fn parse(arguments: &mut Arguments<'_>, mode_key: &'static str) -> Self {
        let user = arguments.string("user");
        let group = arguments.string("group");
        Self { user, group, mode: mode(arguments, mode_key) }
    }

    /// Looks the names up.
    pub(crate) fn resolve(&self) -> Result<Resolved, Failure> {
        Ok(Resolved {
            uid: self.user.as_deref().map(accounts::uid).transpose()?,
            gid: self.group.as_deref().map(accounts::gid).transpose()?,
            mode: self.mode,
        })
    }

    /// The changes that Salt reports for attributes that differ.
    pub(crate) fn changes(
        &self,
        now: Option<Attributes>,
        wanted: Resolved,
    ) -> Vec<(&'static str, String)> {
        let mut changes = Vec::new();
        let differs = |wanted: Option<u32>, now: Option<u32>| wanted.is_some() && wanted != now;
        if differs(wanted.uid, now.map(|now| now.uid)) {
            changes.push(("user", self.user.clone().unwrap_or_default()));
        }
        if differs(wanted.gid, now.map(|now| now.gid)) {
            changes.push(("group", self.group.clone().unwrap_or_default()));
        }
        if let Some(mode) = wanted.mode.filter(|mode| now.is_none_or(|now| now.mode != *mode)) {
            changes.push(("mode", mode.to_string()));
        }
        changes
    }
}

impl Attributes {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let mode = Mode(metadata.permissions().mode() & 0o7777);
        Self { uid: metadata.uid(), gid: metadata.gid(), mode }
    }
}

/// Sets owner and mode where they differ.
pub(crate) fn set_attributes(path: &Path, wanted: Resolved) -> io::Result<()> {
    let now = Attributes::of(&fs::metadata(path)?);
    let differs = |wanted: Option<u32>, now: u32| wanted.filter(|wanted| *wanted != now);
    let (uid, gid) = (differs(wanted.uid, now.uid), differs(wanted.gid, now.gid));
    if uid.is_some() || gid.is_some() {
        std::os::unix::fs::chown(path, uid, gid)?;
    }
    // After the owner: a change of owner clears the set-uid bit.
    if let Some(Mode(mode)) = wanted.mode.filter(|mode| *mode != now.mode || uid.is_some()) {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Writes a file beside its place, brings it to disk, and renames it: whoever reads sees the old
/// content or the new, after a power cut too.
pub(crate) fn replace(
    path: &Path,
    content: &[u8],
    now: Option<Attributes>,
    wanted: Resolved,
) -> io::Result<()> {
    const NEW_FILE: Mode = Mode(0o644);
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".drover-").tempfile_in(parent)?;
    file.write_all(content)?;
    let uid = wanted.uid.or(now.map(|now| now.uid));
    let gid = wanted.gid.or(now.map(|now| now.gid));
    let Mode(mode) = wanted.mode.or(now.map(|now| now.mode)).unwrap_or(NEW_FILE);
    let made = Attributes::of(&file.as_file().metadata()?);
    if uid.is_some_and(|uid| uid != made.uid) || gid.is_some_and(|gid| gid != made.gid) {
        std::os::unix::fs::fchown(file.as_file(), uid, gid)?;
    }
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(parent)?.sync_all()
}

/// Makes a directory and those above it that are missing.
pub(crate) fn make_directories(path: &Path, wanted: Resolved) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    for directory in missing.into_iter().rev() {
        fs::create_dir(directory)?;
        set_attributes(directory, wanted)?;
    }
    Ok(())
}

/// The `changes` of a return.
pub(crate) fn changes(
    pairs: impl IntoIterator<Item = (&'static str, String)>,
) -> serde_json::Map<String, Value> {
    pairs.into_iter().map(|(key, text)| (key.to_owned(), Value::String(text))).collect()
}
