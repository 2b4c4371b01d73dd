//! The choice where there are shaders: a probe's findings, a GPU that is opened, or why none is.

use std::sync::Arc;

use super::cache;
use super::opening::{Opened, Opening, open_placed};
use super::presence::{is_in_dev, none_shown};
use super::probe::{self, find, measure};
use super::recover::Recovering;
use super::trial::Trial;
use super::{Adapter, Asked, Found, GpuChoice, GpuStatus, Measured};
use crate::device::gpu::{Load, Placed, converted, place};
use crate::device::{DeviceError, Program};
use crate::environment::{self, FORCE_MATRICES, faults};
use crate::session::open::OpenError;

/// An adapter to use, with its speed and the CPU's unless the user asked for it.
struct Chosen {
    adapter: Adapter,
    measured: Option<(f64, f64)>,
    matrices: bool,
}

/// How often a model is placed anew, on fewer layers, where a driver has less memory than it says.
const ATTEMPTS: usize = 4;

/// Loads a plan on the GPU that was chosen as far as it can be used, else on the CPU; says which, or why none.
pub(super) fn load(asked: &Arc<Asked>, status: &Arc<GpuStatus>) -> Result<Box<dyn Program>, OpenError> {
    let refuse = |named: String, why: String| {
        if asked.choice.is_named() {
            return Err(asked.choice.refused(&named));
        }
        if status.is_decided() {
            // The start block has said otherwise.
            (asked.tell)(&format!("GPU: none: {why}"));
        }
        status.say(format!("none: {why}"));
        asked.on_cpu()
    };
    let mut chosen = match choose(&asked.choice, asked.compute.threads, status) {
        Ok(chosen) => chosen,
        Err(why) => return refuse(why.clone(), why),
    };
    let name = chosen.adapter.name.clone();
    if let Some(of_use) = environment::value::<u8>(FORCE_MATRICES) {
        chosen.matrices = of_use == 1;
    }
    let opening = Opening { index: chosen.adapter.index, matrices: chosen.matrices };
    let mut memory = environment::value(faults::MEMORY).or(chosen.adapter.memory_bytes);
    let mut trial = None;
    let mut failed: Option<DeviceError> = None;
    for attempt in 1.. {
        let placed = match asked.place(memory) {
            Ok(placed) => placed,
            Err(why) => {
                // After a failed attempt, the device's own error says more.
                let why = failed.map_or(why, |error| error.to_string());
                let kept = format!("{name} was found, but {why}, so the CPU keeps all layers");
                return refuse(format!("{name}: {why}"), kept);
            }
        };
        let converted = converted(&asked.plan).map_or(String::new(), |how| format!("; {how}"));
        let line = said(&chosen, &placed) + &converted;
        status.say(line.clone());
        let trial = trial.get_or_insert_with(|| Trial::begin(asked, &chosen.adapter, chosen.matrices));
        match open_placed(asked, opening, &placed, status, false).and_then(|opened| tried(trial, asked, opened)) {
            Ok((opened, verdict)) => {
                status.say(line + &verdict);
                return Ok(Box::new(Recovering::new(
                    Arc::clone(asked),
                    Arc::clone(status),
                    (name, opening),
                    placed,
                    opened,
                )));
            }
            Err(error @ DeviceError::NoMemory { .. }) if asked.layers.is_none() && attempt < ATTEMPTS => {
                failed = Some(error);
                memory = Some(placed.needed.total() / 4 * 3);
            }
            Err(error) => return refuse(format!("{name}: {error}"), format!("{name} was found, but {error}")),
        }
    }
    unreachable!("the last attempt returns")
}

/// The program after its trial, and what is said of that.
fn tried(trial: &mut Trial, asked: &Asked, opened: Opened) -> Result<(Opened, String), DeviceError> {
    let Opened { program: Some(program), device } = opened else { return Ok((opened, String::new())) };
    let (program, verdict) = trial.judge(asked, program)?;
    Ok((Opened { program: Some(program), device }, verdict))
}

impl Asked {
    /// Which layers a GPU with so much memory takes.
    fn place(&self, memory: Option<u64>) -> Result<Placed, String> {
        let (tokens, outputs) = self.demand.rows();
        let load = Load { tokens, outputs, pages: self.demand.pages(&self.plan.state) };
        place(&self.plan, self.compute.cache, &load, memory, self.layers)
    }
}

/// The line for a GPU that is used.
fn said(chosen: &Chosen, placed: &Placed) -> String {
    let Adapter { name, interface, kind, memory_bytes, .. } = &chosen.adapter;
    let why = match chosen.measured {
        Some((gpu, cpu)) => format!("{} against {} GB/s of this CPU", rate(gpu), rate(cpu)),
        None => "as asked for".to_owned(),
    };
    let by = if chosen.matrices { ", prompts by cooperative matrices" } else { "" };
    let needed = placed.needed.total().div_ceil(1 << 20);
    let of = memory_bytes.map_or(String::new(), |bytes| format!(" of {}", bytes >> 20));
    let rest = match placed.why.is_empty() {
        true => String::new(),
        false => format!("; the CPU keeps the others: {}", placed.why),
    };
    format!("{name} ({kind}, {interface}){by}, {}, {needed}{of} MiB at most: {why}{rest}", placed.words())
}

/// 31234567890.0 -> "31"
fn rate(bytes_per_second: f64) -> String {
    let rate = bytes_per_second / 1e9;
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// The adapter to use, or why none: a line without its end.
fn choose(choice: &GpuChoice, threads: usize, status: &GpuStatus) -> Result<Chosen, String> {
    let Found { adapters } = find().inspect_err(|_| status.find())?;
    if adapters.iter().any(|adapter| adapter.kind != "software") || is_in_dev() {
        status.find();
    }
    match choice {
        GpuChoice::None => Err("none was asked for".to_owned()),
        GpuChoice::InSight | GpuChoice::Auto => fastest(adapters, threads),
        GpuChoice::Index(index) => asked(adapters.into_iter().find(|adapter| adapter.index == *index)),
        GpuChoice::Named(name) => asked(adapters.into_iter().find(|adapter| adapter.is_named(name))),
    }
}

/// A GPU that was asked for: it is used if it computes right.
fn asked(adapter: Option<Adapter>) -> Result<Chosen, String> {
    let adapter = adapter.ok_or("there is no such GPU")?;
    let Measured { matrices, .. } = check(&adapter)?;
    Ok(Chosen { adapter, measured: None, matrices })
}

/// What was measured of an adapter, if its products are right.
fn check(adapter: &Adapter) -> Result<Measured, String> {
    let measured = match cache::known(adapter) {
        Some(known) => known,
        None => {
            let measured = measure(adapter.index).map_err(|why| format!("{}: {why}", adapter.name))?;
            cache::keep(adapter, measured);
            measured
        }
    };
    match measured.error < RIGHT {
        true => Ok(measured),
        false => Err(format!("{} computes wrong: a product is off by {:.0e}", adapter.name, measured.error)),
    }
}

/// The largest error of a product that is right, relative to the sum of its terms' magnitudes.
const RIGHT: f32 = 1e-5;

/// The fastest GPU that is not a program, if it is faster than the CPU.
fn fastest(adapters: Vec<Adapter>, threads: usize) -> Result<Chosen, String> {
    let (software, hardware): (Vec<_>, Vec<_>) = adapters.into_iter().partition(|adapter| adapter.kind == "software");
    if hardware.is_empty() {
        return Err(match software.first() {
            Some(found) => {
                let driverless = if is_in_dev() { format!("{}; ", none_shown()) } else { String::new() };
                format!("{driverless}{} is a program, not a GPU, and used only if asked for by name", found.name)
            }
            None => none_shown().to_owned(),
        });
    }
    let mut refused = Vec::new();
    let mut best: Option<(Adapter, Measured)> = None;
    for adapter in hardware {
        match check(&adapter) {
            Ok(found) if best.as_ref().is_none_or(|(_, most)| found.bytes_per_second > most.bytes_per_second) => {
                best = Some((adapter, found));
            }
            Ok(_) => {}
            Err(why) => refused.push(why),
        }
    }
    let (adapter, found) = best.ok_or_else(|| refused.join("; "))?;
    faster(adapter, found, probe::cpu_bytes_per_second(threads))
}

/// A GPU, if it reads more bytes per second than the CPU.
fn faster(adapter: Adapter, found: Measured, cpu: f64) -> Result<Chosen, String> {
    let Measured { bytes_per_second: speed, matrices, .. } = found;
    if speed > cpu {
        return Ok(Chosen { adapter, measured: Some((speed, cpu)), matrices });
    }
    let (gpu, cpu) = (rate(speed), rate(cpu));
    Err(format!("{} was found, but is slower than this CPU: {gpu} against {cpu} GB/s", adapter.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(index: usize, name: &str, kind: &str) -> Adapter {
        let [name, kind] = [name, kind].map(str::to_owned);
        let (interface, driver) = ("vulkan".to_owned(), String::new());
        Adapter { index, name, kind, interface, driver, binding_bytes: 1 << 27, memory_bytes: None }
    }

    #[test]
    fn programs_are_not_taken_for_gpus() {
        let refused = fastest(vec![adapter(0, "llvmpipe (LLVM 15)", "software")], 1).err().expect("it is a program");
        let software = "llvmpipe (LLVM 15) is a program, not a GPU, and used only if asked for by name";
        assert!(refused.ends_with(software), "{refused}");
        assert_eq!(fastest(Vec::new(), 1).err().expect("there is none"), none_shown());
    }

    #[test]
    fn a_gpu_that_is_slower_than_the_cpu_is_named_with_both_figures() {
        let integrated = || adapter(0, "Intel Iris", "integrated");
        let of = |bytes_per_second: f64| Measured { error: 0.0, bytes_per_second, matrices: false };
        let refused = faster(integrated(), of(12.2e9), 31.4e9).err();
        assert_eq!(refused.as_deref(), Some("Intel Iris was found, but is slower than this CPU: 12 against 31 GB/s"));
        assert!(faster(integrated(), of(40e9), 31e9).is_ok());
    }

    #[test]
    fn what_was_asked_for_must_be_there() {
        assert_eq!(asked(None).err(), Some("there is no such GPU".to_owned()));
        assert!(adapter(0, "NVIDIA GeForce", "discrete").is_named("geforce"));
    }
}
