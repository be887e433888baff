//! Many small steps that the kernel takes, one for each file of a share, on all processors.

use std::ops::Range;
use std::thread;

/// So many steps are worth a thread: each takes some ten microseconds.
const STEPS_A_THREAD: u32 = 256;

/// Takes `step` for each number below `count` and returns what it returned, in their order.
///
/// # Errors
///
/// That of the first number that failed among those that were tried: others are tried meanwhile.
pub(super) fn for_each<T: Send, E: Send>(
    count: u32,
    step: impl Fn(u32) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let processors = thread::available_parallelism().map_or(1, |it| it.get() as u32);
    for_each_on(processors, count, step)
}

fn for_each_on<T: Send, E: Send>(
    processors: u32,
    count: u32,
    step: impl Fn(u32) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let threads = processors.min(count / STEPS_A_THREAD).max(1);
    let each = count.div_ceil(threads);
    let part = |number: u32| {
        let begin = (number * each).min(count);
        begin..begin.saturating_add(each).min(count)
    };
    let run = |part: Range<u32>| part.map(&step).collect::<Result<Vec<T>, E>>();
    let parts: Vec<Result<Vec<T>, E>> = thread::scope(|scope| {
        let begin = |number: u32| {
            let (run, part) = (&run, part(number));
            let begun = thread::Builder::new().spawn_scoped(scope, move || run(part));
            (number, begun)
        };
        let others: Vec<_> = (1..threads).map(begin).collect();
        let first = run(part(0));
        let rest = others.into_iter().map(|(number, begun)| match begun {
            Ok(begun) => begun
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // Without another thread this one does all of the work.
            Err(_) => run(part(number)),
        });
        std::iter::once(first).chain(rest).collect()
    });
    let mut all = Vec::with_capacity(count as usize);
    for part in parts {
        all.extend(part?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_steps_are_taken_once_and_told_in_their_order() {
        for count in [0, 1, 255, 256, 511, 512, 513, 1_000, 10_001] {
            for processors in [1, 2, 3, 64] {
                let done = for_each_on(processors, count, |number| Ok::<_, ()>(2 * number));
                assert_eq!(done, Ok((0..count).map(|number| 2 * number).collect()));
            }
        }
    }

    #[test]
    fn the_first_failure_in_their_order_is_told() {
        let failing = |number| match number {
            700 | 900 => Err(number),
            _ => Ok(()),
        };
        assert_eq!(for_each_on(2, 1_000, failing), Err(700));
        assert_eq!(for_each_on(1, 1_000, failing), Err(700));
    }
}
