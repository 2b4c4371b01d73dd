//! Looks for GPUs in a child process: this program with the hidden command `probe-gpu`, which prints JSON. What it does not print
//! within the time limit counts as the driver's failure.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use satchel_gpu::adapter::list;
use satchel_gpu::{Gpu, measure as measuring};
use serde::{Deserialize, Serialize};

use super::presence::certainly_none;
use super::{Adapter, Found, Measured};
use crate::environment::{self, faults};

/// How long drivers may take to show their adapters, and to measure one.
const SEARCH: Duration = Duration::from_secs(15);
const MEASURE: Duration = Duration::from_secs(30);

/// Finds adapters in a child process.
///
/// # Errors
/// One line, without its end: why none can be found.
pub fn find() -> Result<Found, String> {
    let found: Result<Found, String> = child(&["probe-gpu"], SEARCH);
    match (found, certainly_none()) {
        (Ok(found), _) if !found.adapters.is_empty() => Ok(found),
        (_, Some(why)) => Err(why.to_owned()),
        (found, None) => found,
    }
}

/// Measures an adapter in a child process.
///
/// # Errors
/// One line, without its end: how its driver failed.
pub fn measure(index: usize) -> Result<Measured, String> {
    let index = index.to_string();
    let mut measured: Measured = child(&["probe-gpu", "--measure", &index], MEASURE)?;
    if measured.matrices {
        // Some drivers that offer them crash: then the GPU is used without.
        let tried: Result<bool, String> = child(&["probe-gpu", "--try-matrices", &index], MEASURE);
        measured.matrices = tried.unwrap_or(false);
    }
    Ok(measured)
}

/// What this program prints when it is started with these arguments.
fn child<T: for<'a> Deserialize<'a>>(arguments: &[&str], limit: Duration) -> Result<T, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program does not find itself: {error}"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("the search for GPUs cannot be started: {error}"))?;
    let printed = printed(&mut child, limit);
    // It has ended, or is ended.
    let _ = child.kill();
    let status = child.wait().map_err(|error| format!("the search for GPUs did not end: {error}"))?;
    let printed = printed.ok_or_else(|| format!("its driver did not answer within {} s", limit.as_secs()))?;
    // Some drivers print to stdout.
    let printed = printed.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    if let Ok(value) = serde_json::from_slice(printed) {
        return Ok(value);
    }
    match serde_json::from_slice::<serde_json::Value>(printed) {
        Ok(value) if value["failed"].is_string() => Err(value["failed"].as_str().unwrap_or_default().to_owned()),
        _ => Err(format!("its driver took the search for GPUs down ({status})")),
    }
}

/// What a child prints until its end, if that is in time.
fn printed(child: &mut Child, limit: Duration) -> Option<Vec<u8>> {
    let mut pipe = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("probe".to_owned())
        .spawn(move || {
            let mut bytes = Vec::new();
            if pipe.read_to_end(&mut bytes).is_ok() {
                let _ = sender.send(bytes);
            }
        })
        .ok()?;
    receiver.recv_timeout(limit).ok()
}

/// The child: every adapter, as JSON.
pub fn print_adapters() -> String {
    misbehave();
    let adapters = list().into_iter().enumerate().map(|(index, facts)| Adapter {
        index,
        name: facts.name,
        kind: facts.kind.name().to_owned(),
        interface: facts.interface,
        driver: facts.driver,
        binding_bytes: facts.binding_bytes,
        memory_bytes: facts.memory_bytes,
    });
    json(&Found { adapters: adapters.collect() })
}

/// The child: what is measured of an adapter, as JSON; whether it offers cooperative matrices, not whether they are of use.
pub fn print_measured(index: usize) -> String {
    misbehave();
    let measured = Gpu::open(index, false).and_then(|gpu| Ok((measuring::measure(&gpu)?, gpu.offers_matrices())));
    match measured {
        Ok((found, matrices)) => {
            let error = if found.error.is_finite() { found.error } else { f32::MAX };
            json(&Measured { error, bytes_per_second: found.bytes_per_second, matrices })
        }
        Err(error) => json(&serde_json::json!({"failed": error.to_string()})),
    }
}

/// The child: whether an adapter's cooperative matrices are of use, as JSON.
pub fn print_matrices(index: usize) -> String {
    misbehave();
    json(&Gpu::open(index, true).and_then(|gpu| measuring::matrices_are_faster(&gpu)).unwrap_or(false))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Does what a bad driver does, if a test says so.
fn misbehave() {
    match environment::text(faults::PROBE).as_deref() {
        Some("crash") => std::process::abort(),
        Some("hang") => std::thread::sleep(4 * SEARCH),
        _ => {}
    }
}

/// Bytes per second that the CPU's threads read from memory, as products do: what a GPU has to surpass.
pub(super) fn cpu_bytes_per_second(threads: usize) -> f64 {
    /// For each thread: more than its share of the caches.
    const WORDS: usize = 4 << 20;
    let memory: Vec<Vec<u64>> = (0..threads).map(|thread| vec![thread as u64; WORDS]).collect();
    let once = || {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for part in &memory {
                scope.spawn(move || std::hint::black_box(part.iter().fold(0u64, |sum, word| sum.wrapping_add(*word))));
            }
        });
        (threads * WORDS * size_of::<u64>()) as f64 / begun.elapsed().as_secs_f64()
    };
    (0..4).map(|_| once()).fold(0.0, f64::max)
}
