//! Where another system listens: a host and a port.

use std::{fmt, net::Ipv6Addr};

/// A host by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A DNS name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// Reads `host:port`, `[::1]:port`, or a host alone where there is a default port.
    #[must_use]
    pub fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".:-_".contains(c);
        if host.is_empty() || !host.chars().all(is_host) {
            return None;
        }
        let port = match port {
            Some(port) => port.parse().ok()?,
            None => default_port?,
        };
        (port != 0).then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, shown) in [
            ("es.example:9243", "es.example:9243"),
            ("127.0.0.1", "127.0.0.1:9200"),
            ("[::1]:9243", "[::1]:9243"),
            ("[::1]", "[::1]:9200"),
            ("fe80::1", "[fe80::1]:9200"),
        ] {
            let address = Address::parse(text, Some(9200)).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(Address::parse(shown, None), Some(address));
        }
        for wrong in ["", ":1", "a:", "a:b", "a:0", "a:70000", "[a]:1", "[::1]1", "u@a:1", "a/b:1"]
        {
            assert_eq!(Address::parse(wrong, Some(9200)), None, "{wrong}");
        }
        assert_eq!(Address::parse("a", None), None);
    }
}
