//! What is said of trackers, and of a port of the router.

use serde::{Deserialize, Serialize};
use warren_proto::swarm;

use crate::tracker::{self, TrackerFault};

/// One tracker of a daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tracker {
    /// Its address as the person gave it, `host:port`.
    pub address: String,
    /// The pin of its key; empty while it has never been seen.
    pub key: String,
    /// Whether there is a connection now.
    pub connected: bool,
    /// How it is reached, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The same in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<TrackerFault>,
    /// Name and version of its program, if it has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Whether it relays what peers send each other, as the last introduction has shown, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relays: Option<bool>,
    /// How our NAT picks outside ports, in one word.
    pub mapping: String,
    /// What of a destination that depends on, where it was shown: `nothing`, `address` or
    /// `address-and-port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping_depends_on: Option<String>,
    /// What our NAT lets in, in one word.
    pub filtering: String,
    /// Whether our NAT leads packets for its own outside address back in, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hairpinning: Option<bool>,
}

/// How a tracker is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Way {
    /// What is used.
    pub transport: Transport,
    /// The port at the tracker, which may be another one than that of its address.
    pub port: u16,
}

/// What a connection to a tracker runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// QUIC over UDP.
    Udp,
    /// TLS over TCP.
    Tcp,
}

impl Way {
    /// For people, to follow what the tracker at `address` (`host:port`) is called. A port is said
    /// when it is not that one.
    pub fn words(self, address: &str) -> String {
        let is_named = address.ends_with(&format!(":{}", self.port));
        let port = match is_named {
            true => String::new(),
            false => format!(" at port {}", self.port),
        };
        match self.transport {
            Transport::Udp => format!("by QUIC over UDP{port}"),
            Transport::Tcp => {
                format!("by TLS over TCP{port}, since UDP does not get through")
            }
        }
    }
}

impl From<tracker::Way> for Way {
    fn from(way: tracker::Way) -> Self {
        let transport = match way.transport {
            swarm::Transport::Udp => Transport::Udp,
            swarm::Transport::Tcp => Transport::Tcp,
        };
        let port = way.port;
        Way { transport, port }
    }
}

/// Whether the router lets peers in by a port of its outside address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PortMapping {
    /// How things stand.
    pub state: PortMappingState,
    /// How the router was asked, when it has opened a port: PCP, NAT-PMP or UPnP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The outside address and port, as the router says, when it has opened one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// One sentence for the person.
    pub note: String,
}

/// How things stand with a port of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PortMappingState {
    /// The person does not want it.
    Off,
    /// It is not known yet whether there is a NAT.
    Waiting,
    /// There is none that matters.
    Unneeded,
    /// There is no router to ask.
    NoRouter,
    /// The router is being asked.
    Asking,
    /// It does not answer.
    Silent,
    /// It refuses.
    Refused,
    /// It is behind a NAT itself.
    BehindNat,
    /// It says that it has opened a port, which is being checked.
    Checking,
    /// It says so, and packets do not come in.
    Shut,
    /// Packets come in, and peers are told.
    Open,
}
