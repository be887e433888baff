//! What the attempt of a rendezvous says to the tracker that arranged it.

use tokio::sync::mpsc;
use warren_proto::wire::{NatMapping, Technique, ToTracker};

use super::TrackerId;

/// A way to say something about one rendezvous. Nothing waits: what finds no room is lost, like a
/// datagram.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    tracker: TrackerId,
    id: [u8; 10],
    words: mpsc::Sender<ToTracker>,
}

impl Line {
    pub(crate) fn new(tracker: TrackerId, id: [u8; 10], words: mpsc::Sender<ToTracker>) -> Line {
        Line { tracker, id, words }
    }

    /// Whether it is about this rendezvous of this tracker: no other has a say in it.
    pub(crate) fn is_about(&self, tracker: TrackerId, id: &[u8; 10]) -> bool {
        self.tracker == tracker && self.id == *id
    }

    /// The tracker.
    pub(crate) fn tracker(&self) -> TrackerId {
        self.tracker
    }

    /// Tells the other peer of an outside port of ours.
    pub(crate) fn trickle(&self, port: u16, mapping: NatMapping) {
        let id = self.id;
        self.say(ToTracker::Trickle { id, port, mapping });
    }

    /// Tells the tracker what came of it.
    pub(crate) fn outcome(&self, technique: Technique, success: bool) {
        self.say(ToTracker::Outcome {
            id: self.id,
            technique,
            success,
        });
    }

    fn say(&self, word: ToTracker) {
        let _ = self.words.try_send(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 10] = [7; 10];

    #[test]
    fn a_tracker_has_a_say_in_its_own_rendezvous_only() {
        let (words, _spoken) = mpsc::channel(1);
        let line = Line::new(TrackerId(1), ID, words);
        assert!(line.is_about(TrackerId(1), &ID));
        assert!(!line.is_about(TrackerId(2), &ID));
        assert!(!line.is_about(TrackerId(1), &[8; 10]));
    }

    #[test]
    fn what_finds_no_room_is_lost() {
        let (words, mut spoken) = mpsc::channel(1);
        let line = Line::new(TrackerId(1), ID, words);
        line.trickle(40_000, NatMapping::EndpointIndependent);
        line.outcome(Technique::Birthday, true);
        let first = ToTracker::Trickle {
            id: ID,
            port: 40_000,
            mapping: NatMapping::EndpointIndependent,
        };
        assert_eq!(spoken.try_recv().ok(), Some(first));
        assert!(spoken.try_recv().is_err());
    }
}
