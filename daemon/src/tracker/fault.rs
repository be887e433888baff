//! Why a tracker is not reached, in one word, as far as the way in which it failed shows.

use std::error::Error;
use std::io;

use serde::{Deserialize, Serialize};
use warren_net::ConnectError;

use super::reach::{NotReached, ReachError};
use super::session::SessionError;

/// Why a tracker is not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrackerFault {
    /// Its name has no address, or no name server says it.
    NameUnknown,
    /// Who answers has another key than the one expected.
    WrongKey,
    /// Its machine answers, and nothing listens at the port.
    NobodyListens,
    /// The network leads to no machine at that address.
    NoRoute,
    /// Something answers there that is no tracker, or none of a version that we understand.
    NotATracker,
    /// Nothing answers, or no longer.
    Silent,
}

impl SessionError {
    pub(super) fn fault(&self) -> TrackerFault {
        match self {
            SessionError::Reach(ReachError::Resolve(..)) => TrackerFault::NameUnknown,
            SessionError::Reach(ReachError::Connect(not_reached)) => of_dialling(not_reached),
            SessionError::NoWelcome | SessionError::NotWelcome => TrackerFault::NotATracker,
            SessionError::Read(_)
            | SessionError::Write(_)
            | SessionError::Silent
            | SessionError::Ended => TrackerFault::Silent,
        }
    }
}

/// Of UDP hardly more is known than silence, whatever the cause; TCP is told why.
fn of_dialling(NotReached { told, by_tcp }: &NotReached) -> TrackerFault {
    match told {
        ConnectError::KeyMismatch { .. } => TrackerFault::WrongKey,
        ConnectError::Refused { source, .. } if source.is::<quinn::ConnectionError>() => {
            TrackerFault::NotATracker
        }
        ConnectError::Refused { .. } | ConnectError::TimedOut { .. } => match by_tcp {
            Some(io::ErrorKind::ConnectionRefused) => TrackerFault::NobodyListens,
            Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => {
                TrackerFault::NoRoute
            }
            // What rustls says of anything but TLS.
            Some(io::ErrorKind::InvalidData) => TrackerFault::NotATracker,
            _ => TrackerFault::Silent,
        },
    }
}

/// What the system said, where it was asked.
pub(super) fn kind_of(error: &ConnectError) -> Option<io::ErrorKind> {
    let ConnectError::Refused { source, .. } = error else {
        return None;
    };
    let source: &(dyn Error + 'static) = source.as_ref();
    source.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use warren_proto::id::PublicKey;

    use super::*;

    #[test]
    fn what_tcp_is_told_explains_the_silence_of_udp() {
        for (kind, fault) in [
            (
                io::ErrorKind::ConnectionRefused,
                TrackerFault::NobodyListens,
            ),
            (io::ErrorKind::HostUnreachable, TrackerFault::NoRoute),
            (io::ErrorKind::NetworkUnreachable, TrackerFault::NoRoute),
            (io::ErrorKind::InvalidData, TrackerFault::NotATracker),
            (io::ErrorKind::ConnectionReset, TrackerFault::Silent),
        ] {
            let refused = ConnectError::Refused {
                addr: addr(),
                source: Box::new(io::Error::from(kind)),
            };
            let by_tcp = kind_of(&refused);
            let told = ConnectError::TimedOut { addr: addr() };
            check(NotReached { told, by_tcp }, fault);
        }
        let told = ConnectError::TimedOut { addr: addr() };
        check(NotReached { told, by_tcp: None }, TrackerFault::Silent);
    }

    #[test]
    fn a_wrong_key_is_one_whatever_tcp_says() {
        let told = ConnectError::KeyMismatch {
            addr: addr(),
            presented: PublicKey([1; 32]),
        };
        let by_tcp = Some(io::ErrorKind::ConnectionRefused);
        check(NotReached { told, by_tcp }, TrackerFault::WrongKey);
    }

    fn check(not_reached: NotReached, expected: TrackerFault) {
        let error = SessionError::Reach(ReachError::Connect(not_reached));
        assert_eq!(error.fault(), expected, "{error:?}");
    }

    fn addr() -> SocketAddr {
        "203.0.113.1:59000".parse().unwrap()
    }
}
