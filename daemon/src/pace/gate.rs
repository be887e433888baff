//! Where payload of one direction waits until it may go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, oneshot};
use warren_proto::id::SwarmId;
use warren_proto::transfer::shaper::{PassId, Shaper};

/// One direction. What waits is bounded by the requests that peers may have open, and by ours.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// Whether anything is limited.
    is_limiting: AtomicBool,
    /// Wakes who keeps the gate.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    shaper: Shaper,
    waiting: BTreeMap<PassId, oneshot::Sender<u32>>,
}

impl Gate {
    /// One that stands open.
    pub(super) fn new() -> Gate {
        Gate {
            state: Mutex::new(State {
                shaper: Shaper::new(),
                waiting: BTreeMap::new(),
            }),
            is_limiting: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// Limits all shares together to so many bytes a second, or not any more.
    pub(crate) fn set_limit(&self, bytes_per_s: Option<u64>) {
        self.change(|shaper| shaper.set_limit(Instant::now(), bytes_per_s));
    }

    /// Limits one share.
    pub(crate) fn set_share_limit(&self, share: SwarmId, bytes_per_s: Option<u64>) {
        self.change(|shaper| shaper.set_share_limit(Instant::now(), share, bytes_per_s));
    }

    /// Forgets a share and its limit.
    pub(super) fn close(&self, share: &SwarmId) {
        self.change(|shaper| shaper.close(share));
    }

    /// Whether anything is limited.
    pub(crate) fn is_limiting(&self) -> bool {
        self.is_limiting.load(Ordering::Acquire)
    }

    /// What may pass of a share, in bytes per second, if that is limited.
    pub(super) fn limit_of(&self, share: &SwarmId) -> Option<u64> {
        self.state().shaper.limit_of(share)
    }

    fn change(&self, change: impl FnOnce(&mut Shaper)) {
        let mut state = self.state();
        change(&mut state.shaper);
        let limits = state.shaper.is_limiting();
        self.is_limiting.store(limits, Ordering::Release);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits until some of so many bytes may go, and says how many: at least one. Waits until it is
    /// dropped where nobody keeps the gate any more, as at the end of the daemon.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(super) async fn pass(&self, share: SwarmId, bytes: u32) -> u32 {
        if !self.is_limiting() {
            return bytes;
        }
        let (waiting, passed) = self.ask(share, bytes);
        let passed = passed.await;
        drop(waiting);
        // Who takes out the other end has sent something first.
        passed.unwrap_or(bytes)
    }

    fn ask(&self, share: SwarmId, bytes: u32) -> (Waiting<'_>, oneshot::Receiver<u32>) {
        let (sender, passed) = oneshot::channel();
        let mut state = self.state();
        let id = state.shaper.ask(share, bytes);
        state.waiting.insert(id, sender);
        drop(state);
        self.changed.notify_one();
        (Waiting { gate: self, id }, passed)
    }

    /// Lets pass what may, for ever. `carried` tells what the socket has carried so far.
    pub(super) async fn keep(&self, carried: impl Fn() -> u64) {
        loop {
            let due = self.open(Instant::now(), carried());
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => (),
                () = self.changed.notified() => (),
            }
        }
    }

    /// Lets pass what may now; when there will be more.
    fn open(&self, now: Instant, carried: u64) -> Option<Instant> {
        let mut state = self.state();
        let State { shaper, waiting } = &mut *state;
        shaper.handle_wire(now, carried);
        while let Some(pass) = shaper.poll(now) {
            if let Some(waiting) = waiting.remove(&pass.id) {
                // Who has given up just now leaves a little of the limit unused.
                let _ = waiting.send(pass.bytes);
            }
        }
        shaper.deadline()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Someone who waits; gives up when this is dropped.
struct Waiting<'a> {
    gate: &'a Gate,
    id: PassId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if state.waiting.remove(&self.id).is_some() {
            state.shaper.withdraw(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    const SHARE: SwarmId = SwarmId([1; 32]);

    fn kept() -> Arc<Gate> {
        let gate = Arc::new(Gate::new());
        let keeper = gate.clone();
        tokio::spawn(async move { keeper.keep(|| 0).await });
        gate
    }

    #[tokio::test]
    async fn without_limits_all_passes_at_once() {
        assert_eq!(Gate::new().pass(SHARE, 1 << 20).await, 1 << 20);
    }

    #[tokio::test]
    async fn what_passes_within_a_limit_is_what_the_limit_allows() {
        let gate = kept();
        gate.set_limit(Some(1_000_000));
        let (began, mut passed) = (Instant::now(), 0);
        while passed < 200_000 {
            passed += u64::from(gate.pass(SHARE, 65_536).await);
        }
        // A bucket may go at once; how much longer it takes is the machine's business.
        let bucket = Duration::from_millis(40);
        assert!(began.elapsed() + bucket >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing_behind() {
        let gate = kept();
        gate.set_limit(Some(1));
        let patience = Duration::from_millis(20);
        while tokio::time::timeout(patience, gate.pass(SHARE, 65_536))
            .await
            .is_ok()
        {}
        let state = gate.state();
        assert!(state.waiting.is_empty() && state.shaper.deadline().is_none());
    }

    #[tokio::test]
    async fn who_waits_goes_when_the_limit_is_lifted() {
        let gate = kept();
        gate.set_limit(Some(1));
        let waiting = gate.clone();
        let passing = tokio::spawn(async move {
            for _ in 0..10 {
                waiting.pass(SHARE, 65_536).await;
            }
        });
        while gate.state().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        gate.set_limit(None);
        passing.await.unwrap();
    }
}
