//! `satchel doctor`: what this machine can compute on, and why not on what it cannot.

use super::Failure;
use super::out::outln;
use super::shown::shown_on_one_line;
use crate::kernels;
use crate::session::gpu;
use crate::session::hardware::default_threads;

/// Arguments of `doctor`.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Args {
    /// Do not measure GPUs, which takes up to a second each
    #[arg(long)]
    quick: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let tables: Vec<_> = kernels::tables().iter().map(|table| table.name).collect();
    outln!(
        "CPU      {} threads; kernels: {} ({} is used, --isa chooses another)",
        default_threads(),
        tables.join(", "),
        kernels::best().name
    )?;
    let found = match gpu::find() {
        Ok(found) => found,
        Err(why) => return outln!("GPU      none: {why}"),
    };
    if found.adapters.is_empty() {
        return outln!("GPU      none: {}", gpu::none_shown());
    }
    for adapter in found.adapters {
        let gpu::Adapter { index, name, kind, interface, driver, binding_bytes, memory_bytes } = &adapter;
        outln!("GPU {index:<4} {} ({kind}, {interface})", shown_on_one_line(name))?;
        let memory =
            memory_bytes.map_or_else(|| "memory of unknown size".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        let buffers = binding_bytes >> 20;
        outln!("         driver {}; {memory}, buffers of {buffers} MiB", shown_on_one_line(driver))?;
        if kind == "software" {
            outln!("         a program that takes a GPU's place: used only if asked for, --gpu {index}")?;
        }
        if args.quick {
            continue;
        }
        match gpu::measure(*index) {
            Ok(measured) => outln!(
                "         reads weights at {:.1} GB/s; a product is off by {:.0e}; prompts by {}",
                measured.bytes_per_second / 1e9,
                measured.error,
                if measured.matrices { "cooperative matrices" } else { "tiles" }
            )?,
            Err(why) => outln!("         cannot be used: {}", shown_on_one_line(&why))?,
        }
    }
    Ok(())
}
