//! The operating system's grains, from `os-release`, in Salt's words.

use serde_json::{Value, json};

/// Salt's grains of the distribution that `release` describes.
pub(super) fn grains(release: &str, machine: &str) -> Vec<(&'static str, Value)> {
    let id = field(release, "ID").unwrap_or("linux");
    let like = field(release, "ID_LIKE").unwrap_or_default();
    let version = field(release, "VERSION_ID").unwrap_or_default();
    let os = name(id);
    let family = std::iter::once(id).chain(like.split_whitespace()).find_map(family);
    let family = family.unwrap_or(&os);
    // Salt: the whole version where its first part means nothing.
    let major = version.split('.').next().unwrap_or_default();
    let finger = if os == "Ubuntu" { version } else { major };
    vec![
        ("os_family", json!(family)),
        ("osfullname", json!(field(release, "NAME"))),
        ("osrelease", json!(version)),
        ("osmajorrelease", major.parse::<u32>().map_or(Value::Null, Value::from)),
        ("oscodename", json!(field(release, "VERSION_CODENAME"))),
        ("osfinger", json!(format!("{os}-{finger}"))),
        ("osarch", json!(package_architecture(family, machine))),
        ("os", json!(os)),
    ]
}

fn field<'a>(release: &'a str, key: &str) -> Option<&'a str> {
    release.lines().find_map(|line| {
        let value = line.trim().strip_prefix(key)?.strip_prefix('=')?.trim();
        Some(value.trim_matches(['"', '\'']))
    })
}

fn name(id: &str) -> String {
    let known = match id {
        "alpine" => "Alpine",
        "amzn" => "Amazon",
        "arch" => "Arch",
        "centos" => "CentOS",
        "debian" => "Debian",
        "fedora" => "Fedora",
        "opensuse-leap" | "opensuse-tumbleweed" => "SUSE",
        "raspbian" => "Raspbian",
        "rhel" => "RedHat",
        "rocky" => "Rocky",
        "sles" => "SUSE",
        "ubuntu" => "Ubuntu",
        other => {
            let mut letters = other.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            return first.into_iter().chain(letters).collect();
        }
    };
    known.to_owned()
}

fn family(id: &str) -> Option<&'static str> {
    Some(match id {
        "alpine" => "Alpine",
        "arch" | "manjaro" => "Arch",
        "debian" | "raspbian" | "ubuntu" | "linuxmint" => "Debian",
        "amzn" | "centos" | "fedora" | "rhel" | "rocky" | "almalinux" => "RedHat",
        "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" | "sles" | "suse" => "Suse",
        _ => return None,
    })
}

/// What the package manager calls the machine.
fn package_architecture<'a>(family: &str, machine: &'a str) -> &'a str {
    match (family, machine) {
        ("Debian", "x86_64") => "amd64",
        ("Debian", "aarch64") => "arm64",
        ("Debian", "armv7l" | "armv6l") => "armhf",
        ("Debian", "i386" | "i486" | "i586" | "i686") => "i386",
        _ => machine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grain(release: &str, machine: &str, name: &str) -> Value {
        let found = grains(release, machine).into_iter().find(|(key, _)| *key == name);
        found.unwrap().1
    }

    #[test]
    fn distributions_have_the_names_that_salt_gives_them() {
        let debian =
            "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(grain(debian, "armv7l", "os"), "Debian");
        assert_eq!(grain(debian, "armv7l", "osarch"), "armhf");
        assert_eq!(grain(debian, "armv7l", "osfinger"), "Debian-12");
        assert_eq!(grain(debian, "armv7l", "osmajorrelease"), 12);
        let pi = "ID=raspbian\nID_LIKE=debian\nVERSION_ID='11'\n";
        assert_eq!(grain(pi, "armv7l", "os"), "Raspbian");
        assert_eq!(grain(pi, "armv7l", "os_family"), "Debian");
    }

    #[test]
    fn an_unknown_distribution_keeps_its_own_name() {
        assert_eq!(grain("ID=poky\n", "aarch64", "os"), "Poky");
        assert_eq!(grain("ID=poky\n", "aarch64", "os_family"), "Poky");
        assert_eq!(grain("ID=x\nID_LIKE=\"y debian\"\n", "aarch64", "os_family"), "Debian");
    }
}
