//! How fast a daemon may send and receive: what is asked, and what is shown.

use serde::{Deserialize, Serialize};

/// The slowest limit, in bits per second: less than what connections take that only stay open.
pub const LEAST_BITS_PER_S: u64 = 64_000;

/// Changes limits; what is not given stays. The daemon keeps them when it is started again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LimitRequest {
    /// Content id, the beginning of one, or the name of the share that is meant; all together if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// What may be sent, in bits per second on the wire; 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_bits_per_s: Option<u64>,
    /// What may be received, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_bits_per_s: Option<u64>,
    /// Whether to leave links to whatever else is on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<bool>,
    /// Whether peers in the local network are exempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lan_unlimited: Option<bool>,
}

/// The limits of a daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Limits {
    /// What may be sent, in bits per second on the wire; without it there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_bits_per_s: Option<u64>,
    /// What may be received, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_bits_per_s: Option<u64>,
    /// Whether links are left to whatever else is on them.
    #[serde(default)]
    pub background: bool,
    /// Whether peers in the local network are exempt.
    #[serde(default)]
    pub lan_unlimited: bool,
    /// Connected peers that are.
    #[serde(default)]
    pub exempt_peers: u32,
}
