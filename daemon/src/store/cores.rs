//! The same work many times over, for each file or chunk of a share, on all processors.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use super::open_files::lock;

/// So many calls of the kernel for a file are worth a thread: each takes some ten microseconds.
const FILES_A_THREAD: u32 = 256;

/// Takes a short `step` for each number below `count`, about in order, and returns what it returned.
///
/// # Errors
///
/// As [`with_workers`].
pub(super) fn for_each<T: Send + Sync, E: Send>(
    count: u32,
    step: impl Fn(u32) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    for_each_with(count, |(), number| step(number))
}

/// The same, each thread with a `W` of its own.
///
/// # Errors
///
/// As [`with_workers`].
pub(super) fn for_each_with<W: Default, T: Send + Sync, E: Send>(
    count: u32,
    step: impl Fn(&mut W, u32) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    with_workers(count, (count / FILES_A_THREAD).max(1), step)
}

/// Does `work` for each number below `count`, about in order, on `most` threads at most, and returns what it
/// returned. Each thread has a `W` of its own.
///
/// # Errors
///
/// The first that `work` met; what other threads have begun then ends first.
pub(super) fn with_workers<W: Default, T: Send + Sync, E: Send>(
    count: u32,
    most: u32,
    work: impl Fn(&mut W, u32) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let slots: Vec<OnceLock<T>> = (0..count).map(|_| OnceLock::new()).collect();
    let next = AtomicU32::new(0);
    let failure = Mutex::new(None);
    let run = || {
        let mut worker = W::default();
        while lock(&failure).is_none() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(slot) = slots.get(index as usize) else {
                break;
            };
            match work(&mut worker, index) {
                // No other worker has this index, so the slot is empty.
                Ok(done) => drop(slot.set(done)),
                Err(error) => drop(lock(&failure).get_or_insert(error)),
            }
        }
    };
    // To ask how many processors there are means to read several files.
    let threads = match most.min(count) {
        0 | 1 => 1,
        most => processors().min(most),
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread this one does all of the work.
            if thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let all: Option<Vec<T>> = slots.into_iter().map(OnceLock::into_inner).collect();
    Ok(all.expect("each index was taken, and its worker did not fail"))
}

fn processors() -> u32 {
    // Their number fits; not knowing it, one is what there is.
    thread::available_parallelism().map_or(1, |processors| processors.get() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_done_once_and_told_in_order() {
        for count in [0, 1, 2, 255, 256, 513, 10_001] {
            let done = for_each(count, |number| Ok::<_, ()>(2 * number));
            assert_eq!(done, Ok((0..count).map(|number| 2 * number).collect()));
        }
    }

    #[test]
    fn a_failure_is_told_and_ends_the_work() {
        for count in [10, 10_000] {
            let begun = AtomicU32::new(0);
            let work = |(): &mut (), number| {
                begun.fetch_add(1, Ordering::Relaxed);
                if number == 5 { Err(number) } else { Ok(()) }
            };
            assert_eq!(with_workers(count, 1, work), Err(5));
            assert_eq!(begun.into_inner(), 6, "one thread goes in order");
            let failing = |number| if number == 5 { Err(number) } else { Ok(()) };
            assert_eq!(for_each(count, failing), Err(5));
        }
    }
}
