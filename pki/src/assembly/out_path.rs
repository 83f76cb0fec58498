//! Where each device's bundle goes: `--out`, with the device's own part in it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::name::{HardwareSerial, MinionId};

const ID: &str = "{id}";
const SERIAL: &str = "{serial}";

/// A directory for each device: a path with `{id}` or `{serial}` in it, or else one in it. Whatever the serial number,
/// the path has as many components as the template, and none of them leads upwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutPath {
    given: String,
    /// Without it, each device has a directory of its id in this one.
    has_place: bool,
}

/// Why a text is no place for bundles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutPathError {
    /// Nothing was given.
    #[error("the directory for bundles is empty")]
    Empty,
    /// Braces around something else.
    #[error("`{found}` is not known here, `{ID}` and `{SERIAL}` are")]
    Placeholder {
        /// The text in braces, with them.
        found: String,
    },
}

impl OutPath {
    /// The device's directory.
    pub fn of(&self, id: &MinionId, serial: &HardwareSerial) -> PathBuf {
        if !self.has_place {
            return Path::new(&self.given).join(id.as_str());
        }
        // Neither can hold a brace, so what was put in is not looked at again.
        self.given.replace(ID, id.as_str()).replace(SERIAL, &escaped(serial.as_str())).into()
    }

    /// The directory as it was given, if it is one for all devices.
    pub fn plain(&self) -> Option<&Path> {
        (!self.has_place).then_some(Path::new(&self.given))
    }

    /// The directory above everything that differs from device to device.
    pub fn base(&self) -> &Path {
        let differs = |component: &Path| {
            let text = component.to_string_lossy();
            text.contains(ID) || text.contains(SERIAL)
        };
        let path = Path::new(&self.given);
        let base = path.ancestors().find(|ancestor| !differs(ancestor)).unwrap_or(path);
        if base.as_os_str().is_empty() { Path::new(".") } else { base }
    }
}

impl FromStr for OutPath {
    type Err = OutPathError;

    fn from_str(text: &str) -> Result<Self, OutPathError> {
        if text.is_empty() {
            return Err(OutPathError::Empty);
        }
        let fixed = text.replace(ID, "").replace(SERIAL, "");
        if let Some(at) = fixed.find(['{', '}']) {
            let rest = &fixed[at..];
            let end = rest.find('}').map_or(rest.len(), |end| end + 1);
            return Err(OutPathError::Placeholder { found: rest[..end].to_owned() });
        }
        Ok(Self { given: text.to_owned(), has_place: fixed != text })
    }
}

impl fmt::Display for OutPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

/// A serial number as a file's name, also on a memory stick with FAT: everything but `A-Z a-z 0-9 _ -`
/// and inner dots is written `%XX`, which no serial number has in it.
fn escaped(serial: &str) -> String {
    let mut name = String::with_capacity(serial.len());
    let last = serial.len().saturating_sub(1);
    for (at, c) in serial.char_indices() {
        let inner_dot = c == '.' && at != 0 && at != last;
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || inner_dot {
            name.push(c);
        } else {
            name.push_str(&format!("%{:02X}", u32::from(c)));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use insta::assert_snapshot;

    use super::*;

    fn of(template: &str, id: &str, serial: &str) -> String {
        let template: OutPath = template.parse().unwrap();
        template.of(&id.parse().unwrap(), &serial.parse().unwrap()).display().to_string()
    }

    #[test]
    fn a_directory_of_its_own_for_each_device() {
        assert_eq!(of("out", "a", "S1"), "out/a");
        assert_eq!(of("out/{serial}/drover", "a", "S1"), "out/S1/drover");
        assert_eq!(of("/media/{id}-{serial}/etc/drover", "a", "S1"), "/media/a-S1/etc/drover");
    }

    #[test]
    fn a_serial_number_never_leads_out_of_the_directory() {
        for serial in ["..", ".", "/", "../../etc", "a/b", "/etc/passwd", "-", "a..b", "a:b", ".a."]
        {
            for template in
                ["out/{serial}", "out/{serial}{serial}", "out/x{serial}", "out/{serial}/y"]
            {
                let path = PathBuf::from(of(template, "a", serial));
                let expected = Path::new(template).components().count();
                assert_eq!(path.components().count(), expected, "{serial}: {}", path.display());
                let leads_down = |component| matches!(component, Component::Normal(_));
                assert!(path.components().all(leads_down), "{}", path.display());
                assert!(path.starts_with("out"));
            }
        }
        assert_eq!(of("{serial}", "a", "../10:4 b"), "%2E.%2F10%3A4%20b");
    }

    #[test]
    fn two_serial_numbers_never_share_a_directory() {
        let serials = ["a/b", "a.b", "a b", "a-b", "ab", "..", "."];
        let mut paths: Vec<_> = serials.iter().map(|serial| of("{serial}", "a", serial)).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), serials.len());
    }

    #[test]
    fn only_the_id_and_the_serial_number_are_known() {
        let refusal = |text: &str| text.parse::<OutPath>().unwrap_err();
        assert_snapshot!(refusal("out/{name}"), @"`{name}` is not known here, `{id}` and `{serial}` are");
        assert_snapshot!(refusal("out/{id"), @"`{id` is not known here, `{id}` and `{serial}` are");
        refusal("");
    }

    #[test]
    fn the_base_is_what_all_devices_share() {
        let base = |text: &str| text.parse::<OutPath>().unwrap().base().display().to_string();
        assert_eq!(base("/media/card"), "/media/card");
        assert_eq!(base("/media/{serial}/etc"), "/media");
        assert_eq!(base("out-{id}"), ".");
        assert_eq!(base("{id}/{serial}"), ".");
    }
}
