//! The stream of all events: how everything stands, and from then on what is otherwise.
//!
//! Once a second, and only while somebody listens. Who reads slowly gets what is newest, not everything.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Node;
use crate::control::model::{ApiError, Event, Gone, exit};

/// Between two looks at what is otherwise.
const NEWS: Duration = Duration::from_secs(1);

/// Events that may wait for one listener; the others come with the next look.
const EVENTS: usize = 256;

/// Who may listen at once.
const LISTENERS: usize = 16;

/// What an event is about, and which one of those.
type Key = (&'static str, String);

/// One who listens.
#[derive(Debug)]
pub(super) struct Listener {
    events: mpsc::Sender<Event>,
    /// What they were told last; nothing of what they may know from another answer alone, and of which only
    /// the end is told then.
    told: BTreeMap<Key, Option<Event>>,
}

/// All who listen.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    listeners: Vec<Listener>,
    next: Option<Instant>,
}

impl Node {
    /// One more who wants to know everything.
    pub(super) fn listen(&mut self) -> Result<mpsc::Receiver<Event>, ApiError> {
        let Listeners { listeners, next } = &mut self.listeners;
        listeners.retain(|it| !it.events.is_closed());
        if listeners.len() >= LISTENERS {
            let message = format!("{LISTENERS} programs listen to all events already");
            let hint = "End one of them.";
            return Err(ApiError::new(
                "too_many_listeners",
                exit::REFUSED,
                message,
                hint,
            ));
        }
        *next = None;
        let (events, receiver) = mpsc::channel(EVENTS);
        // Who asks how things stand before the first look learns of what may be gone at that look.
        let told = self.everything().into_keys().map(|key| (key, None));
        let told = told.collect();
        self.listeners.listeners.push(Listener { events, told });
        Ok(receiver)
    }

    /// Tells all who listen what is otherwise, when it is time.
    pub(super) fn tell_news(&mut self, now: Instant) {
        let listeners = &mut self.listeners;
        if listeners.listeners.is_empty() || listeners.next.is_some_and(|next| now < next) {
            return;
        }
        listeners.next = Some(now + NEWS);
        let state: BTreeMap<Key, Event> = self.everything();
        let listeners = &mut self.listeners.listeners;
        listeners.retain(|it| !it.events.is_closed());
        listeners.iter_mut().for_each(|it| it.tell(&state));
    }

    fn everything(&self) -> BTreeMap<Key, Event> {
        let events = self.status().into_iter().chain(self.connected_peers());
        events.filter_map(|it| Some((key(&it)?, it))).collect()
    }
}

impl Listener {
    fn tell(&mut self, state: &BTreeMap<Key, Event>) {
        let gone = self.told.keys().filter(|key| !state.contains_key(*key));
        for key in gone.cloned().collect::<Vec<_>>() {
            let (what, id) = key.clone();
            let what = what.to_owned();
            if self
                .events
                .try_send(Event::Gone(Gone { what, id }))
                .is_err()
            {
                return;
            }
            self.told.remove(&key);
        }
        let mut is_full = false;
        for (key, event) in state {
            let told = self.told.get(key);
            if told.is_some_and(|told| told.as_ref() == Some(event)) {
                continue;
            }
            is_full = is_full || self.events.try_send(event.clone()).is_err();
            if !is_full {
                self.told.insert(key.clone(), Some(event.clone()));
            } else if told.is_none() {
                self.told.insert(key.clone(), None);
            }
        }
    }
}

fn key(event: &Event) -> Option<Key> {
    Some(match event {
        Event::Share(share) => ("share", share.content_id.clone()),
        Event::Peer(peer) => ("peer", peer.peer.clone()),
        Event::Tracker(tracker) => ("tracker", tracker.address.clone()),
        Event::PortMapping(_) => ("port_mapping", String::new()),
        Event::Code(code) => ("code", code.number.to_string()),
        Event::Limits(_) => ("limits", String::new()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::Limits;

    #[test]
    fn only_what_is_otherwise_is_told_and_what_is_gone() {
        let (events, mut receiver) = mpsc::channel(EVENTS);
        let told = BTreeMap::new();
        let mut listener = Listener { events, told };
        let mut limits = Limits::default();
        let key: Key = ("limits", String::new());
        let state = |limits| BTreeMap::from([(key.clone(), Event::Limits(limits))]);
        listener.tell(&state(limits));
        listener.tell(&state(limits));
        assert_eq!(receiver.try_recv(), Ok(Event::Limits(limits)));
        assert!(receiver.try_recv().is_err());
        limits.background = true;
        listener.tell(&state(limits));
        assert_eq!(receiver.try_recv(), Ok(Event::Limits(limits)));
        listener.tell(&BTreeMap::new());
        let (what, id) = ("limits".to_owned(), String::new());
        assert_eq!(receiver.try_recv(), Ok(Event::Gone(Gone { what, id })));
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn who_is_slow_gets_the_rest_later_and_the_newest_alone() {
        let (events, mut receiver) = mpsc::channel(1);
        let told = BTreeMap::new();
        let mut listener = Listener { events, told };
        let event = |background| {
            Event::Limits(Limits {
                background,
                ..Limits::default()
            })
        };
        let state = |second| {
            let keys = [("limits", String::new()), ("share", String::new())];
            let [one, two] = keys;
            BTreeMap::from([(one, event(false)), (two, event(second))])
        };
        listener.tell(&state(false));
        listener.tell(&state(true));
        assert_eq!(receiver.try_recv(), Ok(event(false)));
        listener.tell(&state(true));
        assert_eq!(receiver.try_recv(), Ok(event(true)));
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn the_end_is_told_even_of_what_was_not_told_yet() {
        let (events, mut receiver) = mpsc::channel(1);
        let key = |id: &str| ("share", id.to_owned());
        let told = BTreeMap::from([(key("a"), None)]);
        let mut listener = Listener { events, told };
        let event = Event::Limits(Limits::default());
        let both = BTreeMap::from([(key("a"), event.clone()), (key("b"), event.clone())]);
        // Of the two there is room for one.
        listener.tell(&both);
        assert_eq!(receiver.try_recv(), Ok(event));
        for id in ["a", "b"] {
            listener.tell(&BTreeMap::new());
            let (what, id) = ("share".to_owned(), id.to_owned());
            assert_eq!(receiver.try_recv(), Ok(Event::Gone(Gone { what, id })));
        }
        listener.tell(&BTreeMap::new());
        assert!(receiver.try_recv().is_err());
    }
}
