//! Opening a GPU, and loading onto it the layers that it takes.

use std::sync::Arc;

use super::{Asked, GpuStatus};
use crate::device::gpu::{GpuDevice, Placed};
use crate::device::{Device, DeviceError, Program, Split};
use crate::environment::{self, faults};

/// A program, and the GPU that at least a part of it runs on.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) program: Option<Box<dyn Program>>,
    pub(super) device: Option<GpuDevice>,
}

/// How a GPU is opened.
#[derive(Clone, Copy)]
pub(super) struct Opening {
    /// The adapter's number.
    pub(super) index: usize,
    /// Whether prompts are multiplied by its cooperative matrices.
    pub(super) matrices: bool,
}

/// Opens a GPU and loads the layers that it takes there, the others on the CPU.
pub(super) fn open_placed(
    asked: &Asked,
    Opening { index, matrices }: Opening,
    placed: &Placed,
    status: &Arc<GpuStatus>,
    again: bool,
) -> Result<Opened, DeviceError> {
    let telling = Arc::clone(status);
    let device = GpuDevice::open(index, asked.compute.cache, matrices)?;
    let mut device = device.telling(move |fraction| telling.load(fraction));
    if again {
        device.gpu().submit_less();
    }
    if let Some(bytes) = environment::value(faults::BUFFER) {
        device = device.limited(bytes)?;
    }
    let (plan, end) = (&asked.plan, asked.plan.ops.len());
    if placed.ops == (0..end) {
        let program = device.load(plan, 0..end, &asked.parts)?;
        return Ok(Opened { program: Some(program), device: Some(device) });
    }
    let cpu = asked.cpu();
    let cuts: Vec<usize> =
        [placed.ops.start, placed.ops.end].into_iter().filter(|cut| (1..end).contains(cut)).collect();
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let programs = starts.zip(cuts.iter().copied().chain([end])).map(|(start, end)| {
        let part = plan.part(start..end);
        let whole = 0..part.ops.len();
        match start == placed.ops.start {
            true => device.load(&part, whole, &asked.parts),
            false => cpu.load(&part, whole, &asked.parts),
        }
    });
    let programs = programs.collect::<Result<Vec<_>, _>>()?;
    let program: Box<dyn Program> = Box::new(Split::new(plan, &cuts, programs));
    Ok(Opened { program: Some(program), device: Some(device) })
}
