//! Micro-benchmarks of what the kernels are made of: `cargo bench -p satchel --bench kernels -- [NAME…]`.
//!
//! Plain timing loops that print the median of many short runs; no framework, nothing is compared or asserted.

use std::hint::black_box;
use std::time::Instant;

use satchel::kernels::threads::Threads;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let benches: [(&str, fn()); 1] = [("threads", threads)];
    for (name, bench) in benches {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            bench();
        }
    }
}

/// Median nanoseconds of `work`, over `runs` runs.
fn median_ns(runs: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_nanos() as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A dependent chain of additions, about one nanosecond for three.
fn busy(steps: usize) {
    let mut sum = 0u64;
    for step in 0..steps {
        sum = black_box(sum + step as u64);
    }
}

/// Dispatch and join of a job, and how a stream of small jobs, as a token makes, scales.
fn threads() {
    for count in 1..=4 {
        let threads = Threads::new(count);
        for chunks in [2, 8] {
            let batch = 1000;
            let ns = median_ns(200, || {
                (0..batch).for_each(|_| {
                    threads.run(chunks, &|chunk| {
                        black_box(chunk);
                    })
                })
            }) / batch as f64;
            println!("threads {count}: an empty job of {chunks} chunks {ns:.0} ns");
        }
        // 150 jobs of 8 chunks with a little serial work between them: the shape of one decoded token.
        let token = |serial: usize, chunk: usize| {
            for _ in 0..150 {
                threads.run(8, &|_| busy(chunk));
                busy(serial);
            }
        };
        for chunk in [1_000, 10_000] {
            let start = Instant::now();
            let ns = median_ns(2000 * 1000 / chunk / 2, || token(1000, chunk));
            let mean = start.elapsed().as_nanos() as f64 / (2000 * 1000 / chunk / 2) as f64;
            println!(
                "threads {count}: 150 jobs of 8 x {chunk} steps: median {:.0} us, mean {:.0} us",
                ns / 1e3,
                mean / 1e3
            );
        }
    }
}
