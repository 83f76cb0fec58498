//! What a machine calls itself (`uname -m`), in the words of the OCI image specification.

use std::fmt;

/// A platform as registries name it: `linux/arm/v7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    architecture: &'static str,
    variant: Option<&'static str>,
}

impl Platform {
    /// The platform of a machine that calls itself `machine`, or that is named in the OCI's words
    /// (`arm64`, `linux/arm/v7`) already; `None` for one that no registry knows.
    #[must_use]
    pub fn of_machine(machine: &str) -> Option<Self> {
        let machine = machine.to_ascii_lowercase();
        let (architecture, variant) = match machine.strip_prefix("linux/").unwrap_or(&machine) {
            "x86_64" | "amd64" => ("amd64", None),
            "i386" | "i486" | "i586" | "i686" | "386" => ("386", None),
            "aarch64" | "arm64" | "arm64/v8" => ("arm64", None),
            "armv7l" | "armv8l" | "armv7" | "armhf" | "arm/v7" => ("arm", Some("v7")),
            "armv6l" | "armv6" | "arm/v6" => ("arm", Some("v6")),
            "armv5tel" | "armv5tejl" | "armel" | "arm/v5" => ("arm", Some("v5")),
            "riscv64" => ("riscv64", None),
            "ppc64le" => ("ppc64le", None),
            "s390x" => ("s390x", None),
            _ => return None,
        };
        Some(Self { architecture, variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture)?;
        match self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_mapped_to_the_names_that_registries_use() {
        let platform = |machine| Platform::of_machine(machine).map(|p| p.to_string());
        assert_eq!(platform("armv7l").as_deref(), Some("linux/arm/v7"));
        assert_eq!(platform("armv6l").as_deref(), Some("linux/arm/v6"));
        assert_eq!(platform("aarch64").as_deref(), Some("linux/arm64"));
        assert_eq!(platform("x86_64").as_deref(), Some("linux/amd64"));
        assert_eq!(platform("linux/arm/v7").as_deref(), Some("linux/arm/v7"));
        assert_eq!(platform("pdp11"), None);
    }
}
