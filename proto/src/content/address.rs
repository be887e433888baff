//! Where a tracker is and whose key it must have.
//!
//! Not here: resolving names and connecting (`warren-net`).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::TrackerPin;

/// A host name in lower case: labels of letters, digits and hyphens (RFC 1123 §2.1), the last not
/// all digits, so that no address reads as a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// Longest name. A link of `LINK_CHARS` (400) has 247 bytes after its scheme, of which 69 are
    /// not the name: kind, id, pin, length, port, secret and check.
    pub const MAX_BYTES: usize = 178;

    /// Accepts a name in any case.
    ///
    /// # Errors
    ///
    /// When it is no host name or too long for a link.
    pub fn parse(text: &str) -> Result<DnsName, AddressError> {
        let labels = || text.split('.');
        let last_is_number = labels()
            .next_back()
            .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if text.len() > Self::MAX_BYTES || last_is_number || !labels().all(is_label) {
            return Err(AddressError::Host);
        }
        Ok(DnsName(text.to_ascii_lowercase()))
    }
}

fn is_label(label: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let edges = label.starts_with('-') || label.ends_with('-');
    (1..=63).contains(&label.len()) && !edges && label.bytes().all(allowed)
}

impl Deref for DnsName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DnsName {
    type Error = AddressError;

    /// Accepts only the canonical, lower-case spelling.
    fn try_from(text: String) -> Result<DnsName, AddressError> {
        let name = DnsName::parse(&text)?;
        if name.0 == text {
            Ok(name)
        } else {
            Err(AddressError::Host)
        }
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> String {
        name.0
    }
}

/// A host as an address or a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Host {
    /// IPv4 address.
    V4(Ipv4Addr),
    /// IPv6 address.
    V6(Ipv6Addr),
    /// Host name.
    Name(DnsName),
}

/// A host and a UDP port: `host:port`, or `[address]:port` for IPv6.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// Address or name.
    pub host: Host,
    /// UDP port.
    pub port: u16,
}

/// A tracker: where it is and the pin of its key. As text `host:port#PIN`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrackerAddress {
    /// Address or name.
    pub host: Host,
    /// UDP port.
    pub port: u16,
    /// What its key must match.
    pub pin: TrackerPin,
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither an address nor a host name.
    #[error("the host is neither an address nor a host name")]
    Host,
    /// No port, or not a number up to 65535.
    #[error("the address has no port number after its last colon")]
    Port,
    /// No pin, or not one.
    #[error("the address has no tracker key after #")]
    Pin,
}

impl TrackerAddress {
    /// The address without the pin.
    pub fn host_port(&self) -> HostPort {
        HostPort {
            host: self.host.clone(),
            port: self.port,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::V4(address) => address.fmt(f),
            Host::V6(address) => write!(f, "[{address}]"),
            Host::Name(name) => name.fmt(f),
        }
    }
}

impl FromStr for Host {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Host, AddressError> {
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']').and_then(|inner| inner.parse().ok());
            return address.map(Host::V6).ok_or(AddressError::Host);
        }
        match text.parse() {
            Ok(address) => Ok(Host::V4(address)),
            Err(_) => DnsName::parse(text).map(Host::Name),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<HostPort, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::Port)?;
        // `u16::from_str` takes a sign, which no port has.
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or(AddressError::Port)?;
        Ok(HostPort {
            host: host.parse()?,
            port,
        })
    }
}

impl fmt::Display for TrackerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}#{}", self.host, self.port, self.pin)
    }
}

impl FromStr for TrackerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<TrackerAddress, AddressError> {
        let (address, pin) = text.split_once('#').ok_or(AddressError::Pin)?;
        let HostPort { host, port } = address.parse()?;
        let pin = pin.parse().map_err(|_| AddressError::Pin)?;
        Ok(TrackerAddress { host, port, pin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_written() {
        for text in [
            "203.0.113.7:59000",
            "[2001:db8::1]:1",
            "tracker.example:65535",
            "localhost:0",
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
            let pinned = format!("{text}#{}", TrackerPin([9; 16]));
            assert_eq!(
                pinned.parse::<TrackerAddress>().unwrap().to_string(),
                pinned
            );
        }
        assert_eq!(
            "Tracker.Example:1".parse::<HostPort>().unwrap().to_string(),
            "tracker.example:1"
        );
    }

    #[test]
    fn what_is_no_host_or_port_is_refused() {
        let hosts = [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "a_b",
            "1.2.3.999",
            "1.2.3",
            "7",
            "[::1",
            "::1",
            "é",
        ];
        for host in hosts {
            assert_eq!(
                format!("{host}:1").parse::<HostPort>(),
                Err(AddressError::Host),
                "{host}"
            );
        }
        for port in ["", "65536", "+1", "x", "-1", " 1"] {
            assert_eq!(
                format!("a:{port}").parse::<HostPort>(),
                Err(AddressError::Port),
                "{port}"
            );
        }
        assert_eq!("a".parse::<HostPort>(), Err(AddressError::Port));
        assert_eq!("a:1".parse::<TrackerAddress>(), Err(AddressError::Pin));
        assert_eq!("a:1#b".parse::<TrackerAddress>(), Err(AddressError::Pin));
        assert!(
            DnsName::parse(&"a".repeat(64)).is_err() && DnsName::parse(&"a".repeat(63)).is_ok()
        );
        assert!(DnsName::parse(&"a.".repeat(100)).is_err());
    }
}
