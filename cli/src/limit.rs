//! `client limit`, and how limits look.

use warren_daemon::control::limits::rate;
use warren_daemon::control::model::{ApiError, Event, LimitRequest, Limits, Share};
use warren_proto::content::path::printable;

use crate::commands::Client;
use crate::text;

impl Client {
    /// Changes how fast the daemon may send and receive, and shows how fast that is now.
    ///
    /// # Errors
    /// When the daemon does not answer or refuses, or there is no such share.
    pub(crate) async fn limit(self, request: LimitRequest) -> Result<(), ApiError> {
        let events = self.daemon.tell::<Vec<Event>>("limit", &request).await?;
        self.show(&events, line)
    }
}

/// What is told of the daemon, or of the share that was asked for.
fn line(event: &Event) -> Option<String> {
    match event {
        Event::Limits(limits) => Some(limits_line(limits)),
        Event::Share(share) => Some(share_limits_line(share)),
        _ => None,
    }
}

/// Of all shares together.
pub(crate) fn limits_line(limits: &Limits) -> String {
    let mut words = vec![rates(limits.up_bits_per_s, limits.down_bits_per_s)];
    if limits.background {
        words.push("in the background".to_owned());
    }
    if limits.lan_unlimited {
        let peers = text::count(limits.exempt_peers, "peer");
        words.push(format!("unlimited in the local network ({peers})"));
    }
    format!("limits  {}", words.join(", "))
}

/// Whether anything is other than without limits.
pub(crate) fn is_limited(limits: &Limits) -> bool {
    let Limits {
        up_bits_per_s,
        down_bits_per_s,
        background,
        lan_unlimited,
        exempt_peers: _,
    } = *limits;
    up_bits_per_s.or(down_bits_per_s).is_some() || background || lan_unlimited
}

/// Of one share.
fn share_limits_line(share: &Share) -> String {
    let name = printable(&share.name);
    let rates = rates(share.up_bits_per_s, share.down_bits_per_s);
    format!("limits  {name}: {rates}")
}

/// Both directions: `up 20 Mbit/s, down off`.
pub(crate) fn rates(up: Option<u64>, down: Option<u64>) -> String {
    let shown = |limit: Option<u64>| limit.map_or("off".to_owned(), rate);
    format!("up {}, down {}", shown(up), shown(down))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_limited_is_not_spoken_of() {
        let mut limits = Limits::default();
        assert!(!is_limited(&limits));
        limits.background = true;
        assert!(is_limited(&limits));
        assert_eq!(
            limits_line(&limits),
            "limits  up off, down off, in the background"
        );
        (limits.lan_unlimited, limits.exempt_peers) = (true, 1);
        limits.up_bits_per_s = Some(1_000_000);
        let line = "limits  up 1 Mbit/s, down off, in the background, unlimited in the local network (1 peer)";
        assert_eq!(limits_line(&limits), line);
    }
}
