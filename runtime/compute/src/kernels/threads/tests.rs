//! Stress tests of the pool: every chunk runs once, nothing is touched after `run` returned, with more threads than CPUs.

use std::sync::atomic::{AtomicU32, AtomicUsize};

use super::*;

/// Runs `chunks` chunks of uneven work and checks that each ran exactly once. The counters live on this stack frame, so a late
/// worker that still ran something would write into a dead frame.
fn each_chunk_once(threads: &Threads, chunks: usize, seed: usize) {
    let ran: Vec<AtomicU32> = (0..chunks).map(|_| AtomicU32::new(0)).collect();
    threads.run(chunks, &|chunk| {
        for _ in 0..(chunk * 7 + seed) % 13 * 20 {
            std::hint::spin_loop();
        }
        ran[chunk].fetch_add(1, Relaxed);
    });
    assert!(ran.iter().all(|times| times.load(Relaxed) == 1), "{chunks} chunks: {ran:?}");
}

#[test]
fn every_chunk_runs_once_on_any_number_of_threads() {
    for count in 1..=8 {
        let threads = Threads::new(count);
        assert_eq!(threads.count(), count);
        for round in 0..1500 {
            each_chunk_once(&threads, round % 23, round);
        }
    }
}

#[test]
fn there_may_be_more_chunks_than_the_word_counts() {
    for chunks in [65535, 65536, 200_001] {
        each_chunk_once(&Threads::new(2), chunks, 0);
    }
}

#[test]
fn workers_that_slept_come_back() {
    let threads = Threads::new(3);
    for round in 0..20 {
        thread::sleep(WORKER_SPIN * (round % 4));
        each_chunk_once(&threads, 9, round as usize);
    }
    thread::sleep(Duration::from_millis(20));
    let asleep = || threads.shared.asleep.iter().all(|flag| flag.0.load(SeqCst));
    assert!(spin_until(Duration::from_secs(20), asleep), "an idle worker must sleep");
    each_chunk_once(&threads, 9, 0);
}

#[test]
fn workers_do_take_part() {
    let threads = Threads::new(2);
    let caller = thread::current().id();
    let others = AtomicUsize::new(0);
    threads.run(2, &|_| {
        // Each of the two chunks waits for the other: only two concurrent threads can finish this.
        others.fetch_add(1, SeqCst);
        assert!(spin_until(Duration::from_secs(20), || others.load(SeqCst) >= 2), "the worker never came");
    });
    let mut ran_on = Vec::new();
    let list = Mutex::new(&mut ran_on);
    threads.run(64, &|_| {
        lock(&list).push(thread::current().id());
        thread::sleep(Duration::from_micros(200));
    });
    assert!(ran_on.contains(&caller) && ran_on.iter().any(|id| *id != caller));
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
    let threads = Threads::new(4);
    for round in 0..50 {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            threads.run(16, &|chunk| assert!(chunk != round % 16, "chunk {chunk} fails"));
        }));
        let payload = outcome.expect_err("the panic must reach the caller");
        let text = payload.downcast_ref::<String>().expect("a formatted message");
        assert_eq!(*text, format!("chunk {} fails", round % 16));
        each_chunk_once(&threads, 16, round);
    }
    let all = catch_unwind(AssertUnwindSafe(|| threads.run(16, &|_| panic!("every chunk"))));
    assert_eq!(all.expect_err("panics").downcast_ref::<&str>(), Some(&"every chunk"));
    each_chunk_once(&threads, 16, 0);
}

#[test]
fn a_nested_run_works_inline() {
    let threads = Threads::new(3);
    let total = AtomicUsize::new(0);
    threads.run(8, &|_| {
        let outer = thread::current().id();
        threads.run(5, &|inner| {
            assert_eq!(thread::current().id(), outer);
            total.fetch_add(inner, Relaxed);
        });
    });
    assert_eq!(total.into_inner(), 8 * (1 + 2 + 3 + 4));
    each_chunk_once(&threads, 8, 0);
}

#[test]
fn several_callers_take_turns() {
    let threads = Threads::new(3);
    thread::scope(|scope| {
        for caller in 0..4 {
            let threads = &threads;
            scope.spawn(move || (0..400).for_each(|round| each_chunk_once(threads, 2 + (round + caller) % 9, round)));
        }
    });
}

#[test]
fn pools_come_and_go() {
    for round in 0..100 {
        let threads = Threads::new(1 + round % 5);
        if round % 3 != 0 {
            each_chunk_once(&threads, 6, round);
        }
    }
}

#[test]
fn ranges_cover_the_items_once() {
    for count in [1, 2, 5] {
        let threads = Threads::new(count);
        for (items, grain) in [(0, 1), (1, 1), (7, 0), (100, 1), (100, 33), (1000, 8), (5, 100)] {
            let mut hits = vec![0u8; items];
            let parts = Disjoint::new(&mut hits);
            threads.run_ranges(items, grain, &|range| {
                assert!(!range.is_empty());
                // SAFETY: `run_ranges` hands out disjoint ranges, which this test verifies.
                unsafe { parts.part(range) }.iter_mut().for_each(|hit| *hit += 1);
            });
            assert!(hits.iter().all(|hit| *hit == 1), "{items} items, grain {grain}, {count} threads");
        }
    }
}

#[test]
fn rows_are_handed_out_whole() {
    let threads = Threads::new(3);
    for (rows, grain) in [(0, 1), (1, 5), (100, 1), (100, 33)] {
        let mut x = vec![0; rows * 3];
        threads.run_rows(&mut x, 3, grain, &|range, part| {
            assert_eq!(part.len(), range.len() * 3);
            for (row, part) in range.zip(part.chunks_exact_mut(3)) {
                part.iter_mut().for_each(|value| *value += row + 1);
            }
        });
        assert!(x.iter().enumerate().all(|(at, value)| *value == at / 3 + 1), "{rows} rows, grain {grain}: {x:?}");
    }
    let uneven = catch_unwind(AssertUnwindSafe(|| threads.run_rows(&mut [0; 7], 3, 1, &|_, _| ())));
    assert!(uneven.is_err(), "seven elements are no rows of three");
}
