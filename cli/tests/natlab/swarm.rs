//! Swarms of more than two, by `scripts/natlab --swarm`.

use serde::Deserialize;

use crate::lab;

/// Daemons behind NATs of these types, of which the first shares a file.
pub(crate) struct Swarm<'a>(&'a [&'a str]);

/// What came of it, and all that was said.
pub(crate) struct Measured {
    whole: Whole,
    said: String,
}

#[derive(Debug, Deserialize)]
struct Whole {
    relayed_percent: f64,
    relayed_percent_unblocked: f64,
    peers: Vec<Peer>,
    alone: Option<Alone>,
}

#[derive(Debug, Deserialize)]
struct Peer {
    #[serde(rename = "type")]
    kind: String,
    complete: bool,
    direct_bytes: u64,
    relayed_bytes: u64,
}

/// A second file, which the second daemon alone got from the first.
#[derive(Debug, Deserialize)]
struct Alone {
    complete: bool,
    direct_bytes: u64,
    relayed_bytes: u64,
    relayed_by: Vec<String>,
}

impl<'a> Swarm<'a> {
    pub(crate) fn of(types: &'a [&'a str]) -> Swarm<'a> {
        Swarm(types)
    }

    /// Runs once; `None` where there can be no lab.
    #[track_caller]
    pub(crate) fn run(&self, options: &[&str]) -> Option<Measured> {
        let types = self.0.join(",");
        let all = ["--swarm", "--json", "--patience", "120", "--types", &types];
        let (lines, said) = lab::run_script(&[&all, options].concat())?;
        let whole = serde_json::from_str(&lines);
        let whole = whole.unwrap_or_else(|error| panic!("{error}: {lines}\n{said}"));
        Some(Measured { whole, said })
    }
}

impl Measured {
    /// Fails unless all have all.
    #[track_caller]
    pub(crate) fn is_complete(&self) {
        let peers = &self.whole.peers;
        assert!(peers.iter().all(|peer| peer.complete), "{self}");
    }

    /// Fails if relays carried a larger part of all that was delivered, or of what was delivered to
    /// those whose UDP is not blocked.
    #[track_caller]
    pub(crate) fn relays_at_most_percent(&self, of_all: f64, of_unblocked: f64) {
        let whole = &self.whole;
        assert!(whole.relayed_percent <= of_all, "{self}");
        assert!(whole.relayed_percent_unblocked <= of_unblocked, "{self}");
    }

    /// Fails if more came to daemons of this type than the file has bytes, but for a few in a hundred.
    #[track_caller]
    pub(crate) fn gets_nothing_twice(&self, kind: &str) {
        let peers = &self.whole.peers;
        let received = |peer: &Peer| peer.direct_bytes + peer.relayed_bytes;
        let least = peers.iter().map(received).min().unwrap_or_default();
        let its = peers.iter().filter(|peer| peer.kind == kind);
        for peer in its {
            assert!(received(peer) * 100 <= least * 103, "{self}");
        }
    }

    /// Fails unless the second file came whole, by relay alone, and this one relayed.
    #[track_caller]
    pub(crate) fn relayed_alone_by(&self, relayer: &str) {
        let alone = self.whole.alone.as_ref();
        let alone = alone.unwrap_or_else(|| panic!("{self}"));
        assert!(alone.complete, "{self}");
        assert_eq!(alone.direct_bytes, 0, "{self}");
        assert!(alone.relayed_bytes > 0, "{self}");
        assert_eq!(alone.relayed_by, [relayer], "{self}");
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#?}\n{}", self.whole, self.said)
    }
}
