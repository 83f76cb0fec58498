//! Where an HTTP server is: `https://host:port/prefix`, never with a password in it.

use std::{fmt, net::IpAddr};

use hyper::Uri;

use crate::bridge::tls::Address;

/// A scheme, a host, a port and what every path begins with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    is_tls: bool,
    address: Address,
    /// Without a `/` at its end.
    path: String,
}

impl Origin {
    /// Reads an address with `http://` or `https://`. What the port is without one depends on the service.
    ///
    /// # Errors
    /// What it must be, in words that follow that. A password in it is not repeated.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, &'static str> {
        let (origin, path) = Self::parse_url(text, default_port)?;
        match path.split_once('?') {
            None => Ok(origin),
            Some(_) => Err("an address without a query, such as `https://es.example:9200`"),
        }
    }

    /// The same of a whole URL, whose path and query are given too.
    ///
    /// # Errors
    /// What it must be.
    pub fn parse_url(
        text: &str,
        default_port: Option<u16>,
    ) -> Result<(Self, String), &'static str> {
        const WANTED: &str = "an address that begins with `http://` or `https://`, such as `https://es.example:9200`";
        const NO_USER: &str =
            "an address without a user or password in it: use `username` and `password`";
        let (scheme, rest) = text.split_once("://").ok_or(WANTED)?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(WANTED),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // A password may have a `/` in it.
        if authority.contains('@')
            || path.split(['?', '#']).next().unwrap_or_default().contains('@')
        {
            return Err(NO_USER);
        }
        let default_port = default_port.unwrap_or(if is_tls { 443 } else { 80 });
        let address = Address::parse(authority, Some(default_port)).ok_or(WANTED)?;
        let whole = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let uri: Uri = whole.parse().map_err(|_| WANTED)?;
        if path.contains('#') {
            return Err(WANTED);
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok((Self { is_tls, address, path }, whole))
    }

    /// Whether it is `https://`.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Whether what is sent to it can be read on the way.
    #[must_use]
    pub fn shows_secrets(&self) -> bool {
        let host = &self.address.host;
        let is_here =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        !self.is_tls && !is_here
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// What every path begins with; empty, or `/prefix`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The host and port as a request names them.
    pub(super) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The same server with nothing before its paths.
    #[must_use]
    pub fn without_path(mut self) -> Self {
        self.path.clear();
        self
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}{}", self.address, self.path)
    }
}

/// An address that somebody else wrote, without what may be secret in it: a user, a password, a query.
pub(super) fn without_secrets(address: &str) -> String {
    const LONGEST: usize = 200;
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let address: String = match address.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split('/').next().unwrap_or_default();
            let host = rest[authority.rfind('@').map_or(0, |at| at + 1)..].to_owned();
            format!("{scheme}://{host}")
        }
        None => address.to_owned(),
    };
    address.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_a_host_a_port_and_perhaps_a_prefix() {
        for (text, shown) in [
            ("http://127.0.0.1:9200", "http://127.0.0.1:9200"),
            ("HTTPS://es.example", "https://es.example:9200"),
            ("https://es.example/", "https://es.example:9200"),
            ("https://[::1]:9243/es/", "https://[::1]:9243/es"),
        ] {
            assert_eq!(Origin::parse(text, Some(9200)).unwrap().to_string(), shown);
        }
        assert_eq!(Origin::parse("https://a", None).unwrap().to_string(), "https://a:443");
        for wrong in
            ["", "a", "a:9200", "ftp://a", "http://", "http://a b", "http://a/?q", "http://a#x"]
        {
            assert!(Origin::parse(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for address in ["https://u:hunter2@a:9200", "https://u@a", "https://u:hun/ter2@a"] {
            let wrong = Origin::parse(address, None).unwrap_err();
            assert!(wrong.contains("use `username` and `password`"), "{wrong}");
        }
        assert_eq!(without_secrets("https://u:hunter2@a/b?token=x#y"), "https://a/b");
        assert_eq!(without_secrets("/login?next=x"), "/login");
    }
}
