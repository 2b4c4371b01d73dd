//! The choice where there are shaders: a probe's findings, a GPU that is opened, or why none is.

use super::probe::{self, find, measure};
use super::{Adapter, Found, GpuChoice};
use crate::device::gpu::{GpuDevice, converted, uncovered};
use crate::device::{Device, DeviceError};
use crate::engine::Loaded;
use crate::plan::Plan;
use crate::session::open::{self, Compute, OpenError};
use crate::session::source::ModelSource;

/// An adapter to use, with what was measured of it unless the user asked for it.
struct Chosen {
    adapter: Adapter,
    measured: Option<(f64, f64)>,
}

/// Loads a plan on the GPU that was chosen if it can be used, else on the CPU; says which, or why none.
pub(super) fn load(
    source: &ModelSource,
    compute: Compute,
    plan: Plan,
    choice: &GpuChoice,
) -> Result<(Loaded, String), OpenError> {
    let on_cpu = |plan, why: String| Ok((open::load(source, plan, compute)?, why));
    let asked_for = *choice != GpuChoice::Auto;
    let chosen = match choose(choice, compute.threads) {
        Ok(chosen) => chosen,
        Err(why) if asked_for => return Err(choice.refused(&why)),
        Err(why) => return on_cpu(plan, format!("none: {why}")),
    };
    let name = chosen.adapter.name.clone();
    if let Some(why) = uncovered(&plan, 0..plan.ops.len(), compute.cache) {
        return match asked_for {
            true => Err(choice.refused(&format!("{name}: {why}"))),
            false => on_cpu(plan, format!("none: {name} was found, but {why}, so the CPU keeps all layers")),
        };
    }
    let loaded = GpuDevice::open(chosen.adapter.index, compute.cache)
        .and_then(|device| device.load(&plan, 0..plan.ops.len(), &source.mapped_parts()));
    match loaded {
        Ok(program) => {
            let mut said = said(&chosen, program.memory().scratch_bytes);
            said.extend(converted(&plan).map(|how| format!("; {how}")));
            Ok((Loaded { plan, program }, said))
        }
        Err(error @ DeviceError::NoMemory { .. }) if !asked_for => {
            on_cpu(plan, format!("none: {name} was found, but it is too small ({error})"))
        }
        Err(error) if asked_for => Err(choice.refused(&format!("{name}: {error}"))),
        Err(error) => on_cpu(plan, format!("none: {name} was found, but {error}")),
    }
}

/// The line for a GPU that is used.
fn said(chosen: &Chosen, bytes: u64) -> String {
    let Adapter { name, interface, kind, .. } = &chosen.adapter;
    let why = match chosen.measured {
        Some((gpu, cpu)) => format!("{} against {} GB/s of this CPU", rate(gpu), rate(cpu)),
        None => "as asked for".to_owned(),
    };
    format!("{name} ({kind}, {interface}), all layers, {} MiB: {why}", bytes >> 20)
}

/// 31234567890.0 -> "31"
fn rate(bytes_per_second: f64) -> String {
    let rate = bytes_per_second / 1e9;
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// The adapter to use, or why none: a line without its end.
fn choose(choice: &GpuChoice, threads: usize) -> Result<Chosen, String> {
    if *choice == GpuChoice::Auto
        && let Some(why) = probe::certainly_none()
    {
        return Err(why.to_owned());
    }
    let Found { adapters } = find()?;
    match choice {
        GpuChoice::None => Err("none was asked for".to_owned()),
        GpuChoice::Auto => fastest(adapters, threads),
        GpuChoice::Index(index) => asked(adapters.into_iter().find(|adapter| adapter.index == *index)),
        GpuChoice::Named(name) => asked(adapters.into_iter().find(|adapter| adapter.is_named(name))),
    }
}

/// A GPU that was asked for: it is used if it computes right.
fn asked(adapter: Option<Adapter>) -> Result<Chosen, String> {
    let adapter = adapter.ok_or("there is no such GPU")?;
    check(&adapter)?;
    Ok(Chosen { adapter, measured: None })
}

/// Bytes per second that an adapter's products read, if they are right.
fn check(adapter: &Adapter) -> Result<f64, String> {
    let measured = measure(adapter.index).map_err(|why| format!("{}: {why}", adapter.name))?;
    match measured.error < RIGHT {
        true => Ok(measured.bytes_per_second),
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
            Some(found) => format!("{} is a program, not a GPU, and used only if asked for by name", found.name),
            None => "drivers show none".to_owned(),
        });
    }
    let mut refused = Vec::new();
    let mut best: Option<(Adapter, f64)> = None;
    for adapter in hardware {
        match check(&adapter) {
            Ok(speed) if best.as_ref().is_none_or(|(_, most)| speed > *most) => best = Some((adapter, speed)),
            Ok(_) => {}
            Err(why) => refused.push(why),
        }
    }
    let (adapter, speed) = best.ok_or_else(|| refused.join("; "))?;
    let cpu = probe::cpu_bytes_per_second(threads);
    if speed <= cpu {
        return Err(format!(
            "{} was found, but it is slower than this CPU: {} against {} GB/s",
            adapter.name,
            rate(speed),
            rate(cpu)
        ));
    }
    Ok(Chosen { adapter, measured: Some((speed, cpu)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(index: usize, name: &str, kind: &str) -> Adapter {
        let [name, kind] = [name, kind].map(str::to_owned);
        Adapter { index, name, kind, interface: "vulkan".to_owned(), driver: String::new(), binding_bytes: 1 << 27 }
    }

    #[test]
    fn programs_are_not_taken_for_gpus() {
        let refused = fastest(vec![adapter(0, "llvmpipe (LLVM 15)", "software")], 1).err().expect("it is a program");
        assert_eq!(refused, "llvmpipe (LLVM 15) is a program, not a GPU, and used only if asked for by name");
        assert_eq!(fastest(Vec::new(), 1).err().expect("there is none"), "drivers show none");
    }

    #[test]
    fn what_was_asked_for_must_be_there() {
        assert_eq!(asked(None).err(), Some("there is no such GPU".to_owned()));
        assert!(adapter(0, "NVIDIA GeForce", "discrete").is_named("geforce"));
    }
}
