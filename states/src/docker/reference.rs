//! The name of an image as states write it: registry with port, path, tag or digest, `latest` where no
//! tag is named.

use std::fmt;
use std::str::FromStr;

/// An image's name, complete with tag or digest: `127.0.0.1:5000/fleet/rfid:live`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageReference {
    repository: String,
    version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Version {
    Tag(String),
    Digest(String),
}

/// Why a text is not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// A character or an empty part that no registry takes.
    #[error("`{0}` is not the name of an image")]
    Malformed(String),
    /// The registry's address was written like a URL.
    #[error("`{0}` begins with a URL's scheme; an image is named `REGISTRY:PORT/PATH:TAG`")]
    Url(String),
}

impl ImageReference {
    /// The name without tag or digest.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, unless the image is named by its digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    /// What the engine's pull takes beside the repository: the tag or the digest.
    #[must_use]
    pub fn version(&self) -> &str {
        match &self.version {
            Version::Tag(version) | Version::Digest(version) => version,
        }
    }

    /// The same repository under another tag.
    ///
    /// # Errors
    /// When `tag` is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Malformed(format!("{}:{tag}", self.repository)));
        }
        Ok(Self { repository: self.repository.clone(), version: Version::Tag(tag.to_owned()) })
    }

    /// The name that engines use for what has several: `busybox:latest` for
    /// `docker.io/library/busybox`.
    #[must_use]
    pub fn familiar(&self) -> Self {
        let repository = familiar(&self.repository).to_owned();
        Self { repository, version: self.version.clone() }
    }

    /// Whether one of an image's repository digests (`NAME@sha256:…`) is this repository's `digest`.
    #[must_use]
    pub fn has_digest(&self, repo_digests: &[String], digest: &str) -> bool {
        repo_digests.iter().any(|known| {
            known.split_once('@').is_some_and(|(repository, known)| {
                known == digest && familiar(repository) == familiar(&self.repository)
            })
        })
    }
}

/// Docker Hub's images have several names; this is the one that engines report.
fn familiar(repository: &str) -> &str {
    let hub = repository.strip_prefix("docker.io/").unwrap_or(repository);
    hub.strip_prefix("library/").unwrap_or(hub)
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && !text.starts_with(['.', '-'])
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// A registry's host is the first part when it has a dot or a port, or is `localhost`.
fn is_repository(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    parts.iter().enumerate().all(|(index, part)| {
        let host =
            index == 0 && parts.len() > 1 && (part.contains(['.', ':']) || *part == "localhost");
        let (part, port) = match part.split_once(':') {
            Some((part, port)) if host => (part, Some(port)),
            _ => (*part, None),
        };
        !part.is_empty()
            && port.is_none_or(|port| port.parse::<u16>().is_ok())
            && part.bytes().all(|byte| match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => true,
                b'A'..=b'Z' => host,
                _ => false,
            })
    })
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains("://") {
            return Err(ReferenceError::Url(text.to_owned()));
        }
        let malformed = || ReferenceError::Malformed(text.to_owned());
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (text, None),
        };
        // The colon of a registry's port stands before a slash, that of a tag after the last one.
        let (repository, tag) = match named.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (named, None),
        };
        let version = match (digest, tag) {
            (Some(digest), _) if is_digest(digest) => Version::Digest(digest.to_owned()),
            (Some(_), _) => return Err(malformed()),
            (None, Some(tag)) if is_tag(tag) => Version::Tag(tag.to_owned()),
            (None, Some(_)) => return Err(malformed()),
            (None, None) => Version::Tag("latest".to_owned()),
        };
        if !is_repository(repository) {
            return Err(malformed());
        }
        Ok(Self { repository: repository.to_owned(), version })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Version::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        text.parse::<ImageReference>().map_or_else(|error| error.to_string(), |r| r.to_string())
    }

    #[test]
    fn name_without_tag_means_latest() {
        assert_eq!(parsed("busybox"), "busybox:latest");
        assert_eq!(
            parsed("registry.example:5000/fleet/rfid"),
            "registry.example:5000/fleet/rfid:latest"
        );
    }

    #[test]
    fn port_of_a_registry_is_not_a_tag() {
        let reference: ImageReference = "127.0.0.1:5000/fleet/rfid:live".parse().unwrap();
        assert_eq!(reference.repository(), "127.0.0.1:5000/fleet/rfid");
        assert_eq!(reference.tag(), Some("live"));
    }

    #[test]
    fn digest_wins_over_tag() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(parsed(&format!("a/b:live@{digest}")), format!("a/b@{digest}"));
    }

    #[test]
    fn names_that_no_registry_takes_are_refused() {
        for text in
            ["", "a b", "A/b", "a//b", "a:", "a:b:c", "a@sha256:12", "http://r/a", "host:x/a"]
        {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
    }

    #[test]
    fn hub_images_are_the_same_under_their_long_names() {
        let reference: ImageReference = "docker.io/library/busybox".parse().unwrap();
        assert_eq!(reference.familiar().to_string(), "busybox:latest");
        assert!(reference.has_digest(&["busybox@sha256:1".to_owned()], "sha256:1"));
        assert!(!reference.has_digest(&["other@sha256:1".to_owned()], "sha256:1"));
    }
}
