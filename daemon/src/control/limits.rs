//! How fast a daemon may send and receive: what is asked, what is shown, and in which words.

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

/// As people write it: `20 Mbit/s`.
pub fn rate(bits_per_s: u64) -> String {
    let units = [
        (1_000_000_000, "Gbit/s"),
        (1_000_000, "Mbit/s"),
        (1_000, "kbit/s"),
    ];
    let unit = units.iter().find(|(unit, _)| bits_per_s >= *unit);
    match unit {
        // At most three digits after the point, and none that are 0.
        Some((unit, name)) => {
            let of_unit = bits_per_s as f64 / *unit as f64;
            format!("{} {name}", (of_unit * 1e3).round() / 1e3)
        }
        None => format!("{bits_per_s} bit/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_as_people_write_them() {
        for (bits, expected) in [
            (20_000_000, "20 Mbit/s"),
            (1_500_000, "1.5 Mbit/s"),
            (2_500_000_000, "2.5 Gbit/s"),
            (64_000, "64 kbit/s"),
            (1_234_567, "1.235 Mbit/s"),
            (9, "9 bit/s"),
        ] {
            assert_eq!(rate(bits), expected);
        }
    }
}
