//! Places for connections by TLS over TCP, of which each takes a file and memory.
//!
//! A place is taken before the handshake and given back when the connection ends. One network
//! prefix gets a part of them only, so that a single host cannot keep everybody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};

use warren_proto::limits::TCP_CONNECTIONS;

use crate::admission::Prefix;

/// Files left for everything else: sockets, the key, whatever libraries open.
const OTHER_FILES: usize = 128;

/// One prefix gets one in so many places.
const PART_OF_PREFIX: usize = 4;

/// All places of a tracker.
#[derive(Debug)]
pub(crate) struct Seats {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_prefix: HashMap<Prefix, usize>,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    prefix: Prefix,
}

impl Seats {
    /// As many as this process may open files for, at most [`TCP_CONNECTIONS`].
    pub(crate) fn for_open_files() -> Arc<Self> {
        let files = getrlimit(Resource::Nofile).current;
        let files = files.map_or(usize::MAX, |files| {
            usize::try_from(files).unwrap_or(usize::MAX)
        });
        Self::new(files.saturating_sub(OTHER_FILES).min(TCP_CONNECTIONS))
    }

    fn new(most: usize) -> Arc<Self> {
        let taken = Mutex::default();
        Arc::new(Self { most, taken })
    }

    /// A place for somebody at `ip`, if there is one.
    pub(crate) fn take(self: &Arc<Self>, ip: IpAddr) -> Option<Seat> {
        let prefix = Prefix::of(ip);
        let mut taken = self.lock();
        let its = taken.by_prefix.get(&prefix).copied().unwrap_or(0);
        if taken.count >= self.most || its >= self.most.div_ceil(PART_OF_PREFIX) {
            return None;
        }
        taken.count += 1;
        taken.by_prefix.insert(prefix, its + 1);
        let seats = Arc::clone(self);
        Some(Seat { seats, prefix })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.count -= 1;
        if let Some(its) = taken.by_prefix.get_mut(&self.prefix) {
            *its -= 1;
            if *its == 0 {
                taken.by_prefix.remove(&self.prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_gets_its_part_and_all_prefixes_no_more_than_there_are() {
        let seats = Seats::new(8);
        let take = |ip: &str| seats.take(ip.parse().unwrap());
        let first = [take("203.0.113.1"), take("203.0.113.2")];
        assert!(first.iter().all(Option::is_some));
        assert!(take("203.0.113.3").is_none(), "a quarter of eight");
        let others: Vec<_> = (0..6)
            .filter_map(|n| take(&format!("10.0.{n}.1")))
            .collect();
        assert_eq!(others.len(), 6);
        assert!(take("192.0.2.1").is_none(), "all are taken");
        drop(first);
        assert!(take("203.0.113.3").is_some());
        drop(others);
        assert!(seats.lock().by_prefix.is_empty(), "nothing is remembered");
        assert_eq!(seats.lock().count, 0);
    }
}
