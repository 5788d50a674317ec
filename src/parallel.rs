//! The same work on many values, on all cores.

use std::thread;

/// So many values at least are worth a thread.
const LEAST_A_THREAD: usize = 16;
/// No more threads than this, whatever the machine has: the rest of the app runs as well.
const MOST_THREADS: usize = 8;

/// Does some work on each value, and gives the results in the order of the values; nothing once
/// `stop` says so. Where the system gives no thread, the calling one does all of it.
pub(crate) fn map<T: Sync, R: Send>(
    values: &[T],
    stop: &(dyn Fn() -> bool + Sync),
    work: &(dyn Fn(&T) -> R + Sync),
) -> Option<Vec<R>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = (values.len() / LEAST_A_THREAD).clamp(1, cores.min(MOST_THREADS));
    let run = |part: &[T]| -> Option<Vec<R>> {
        part.iter().map(|value| (!stop()).then(|| work(value))).collect()
    };
    let mut parts = values.chunks(values.len().div_ceil(threads).max(1));
    let first = parts.next().unwrap_or_default();
    let results = thread::scope(|scope| {
        let begun: Vec<_> = parts
            .map(|part| {
                let builder = thread::Builder::new().name("matrix-mls-work".to_owned());
                (part, builder.spawn_scoped(scope, || run(part)))
            })
            .collect();
        let mut results = vec![run(first)];
        for (part, thread) in begun {
            results.push(match thread {
                Ok(thread) => match thread.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                },
                Err(_) => run(part),
            });
        }
        results
    });
    let parts: Vec<Vec<R>> = results.into_iter().collect::<Option<_>>()?;
    Some(parts.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_values() {
        for number in [0, 1, 15, 16, 33, 1_000, 1_001] {
            let values: Vec<usize> = (0..number).collect();
            let doubled = map(&values, &|| false, &|value| value * 2);
            assert_eq!(doubled, Some(values.iter().map(|value| value * 2).collect()));
        }
    }

    #[test]
    fn it_ends_when_it_is_stopped() {
        let done = AtomicUsize::new(0);
        let values = vec![(); 10_000];
        let stop = || done.load(Ordering::SeqCst) >= 50;
        let result = map(&values, &stop, &|()| done.fetch_add(1, Ordering::SeqCst));
        assert_eq!(result, None);
        assert!(done.load(Ordering::SeqCst) <= 50 + MOST_THREADS);
    }
}
