//! A program whose device may be lost: it is opened again once, with smaller submissions, in case a watchdog took it for hung; after
//! that the CPU computes. What runs is computed anew by the engine, which knows the tokens.

use std::sync::Arc;

use super::opening::{Opened, Opening, open_placed};
use super::{Asked, GpuStatus};
use crate::device::gpu::Placed;
use crate::device::{Crossing, DeviceError, MemoryUse, PickLimits, Picked, Program, Wish};
use crate::environment::{self, faults};
use crate::plan::{PageId, Slot, Step};

/// See above.
pub(super) struct Recovering {
    asked: Arc<Asked>,
    status: Arc<GpuStatus>,
    /// The GPU's name, and how it is opened.
    name: String,
    opening: Opening,
    placed: Placed,
    opened: Opened,
    /// Devices that have failed.
    failures: usize,
    /// Steps until this device is lost, and those after it.
    lost_after: Vec<usize>,
}

impl Recovering {
    pub(super) fn new(
        asked: Arc<Asked>,
        status: Arc<GpuStatus>,
        (name, opening): (String, Opening),
        placed: Placed,
        opened: Opened,
    ) -> Self {
        let lost_after = environment::text(faults::LOST).unwrap_or_default();
        let lost_after = lost_after.split(',').filter_map(|steps| steps.parse().ok()).collect();
        Self { asked, status, name, opening, placed, opened, failures: 0, lost_after }
    }

    /// Loses the device, if a test wants that.
    fn lose(&mut self) {
        let Some(left) = self.lost_after.first_mut() else { return };
        if *left > 0 {
            *left -= 1;
        } else if let Some(device) = &self.opened.device {
            self.lost_after.remove(0);
            device.gpu().destroy();
        }
    }

    /// Another program, and what is said of it.
    fn another(&mut self, why: &DeviceError) -> Result<(Opened, String), String> {
        let name = &self.name;
        // Frees what the lost device still holds in this process.
        self.opened = Opened::default();
        self.failures += 1;
        if self.failures == 1 {
            match open_placed(&self.asked, self.opening, &self.placed, &self.status, true) {
                Ok(opened) => {
                    let said = format!("{name}, {}, opened again after it failed ({why})", self.placed.words());
                    return Ok((opened, said));
                }
                Err(error) => (self.asked.tell)(&format!("{name} cannot be opened again: {error}")),
            }
        }
        let program = self.asked.on_cpu().map_err(|error| error.to_string())?;
        Ok((
            Opened { program: Some(program), device: None },
            format!("none: {name} failed ({why}), so the CPU computes"),
        ))
    }

    fn program(&mut self) -> Result<&mut dyn Program, DeviceError> {
        match &mut self.opened.program {
            Some(program) => Ok(&mut **program),
            None => Err(DeviceError::Unsupported("there is no device left to compute on".to_owned())),
        }
    }
}

impl Program for Recovering {
    fn run(&mut self, step: &Step) -> Result<(), DeviceError> {
        self.lose();
        self.program()?.run(step)
    }

    fn run_between(
        &mut self,
        step: &Step,
        entering: &[Crossing],
        leaving: &[Slot],
    ) -> Result<Vec<Crossing>, DeviceError> {
        self.program()?.run_between(step, entering, leaving)
    }

    fn recover(&mut self, why: &DeviceError) -> bool {
        if self.opened.device.is_none() {
            return false;
        }
        match self.another(why) {
            Ok((opened, said)) => {
                self.opened = opened;
                (self.asked.tell)(&format!("GPU: {said}; what runs is computed anew"));
                self.status.say(said);
                true
            }
            Err(line) => {
                (self.asked.tell)(&line);
                false
            }
        }
    }

    fn pick_limits(&self) -> PickLimits {
        self.opened.program.as_ref().map_or_else(PickLimits::default, |program| program.pick_limits())
    }

    fn run_picking(&mut self, step: &Step, wishes: &[Wish]) -> Result<Option<Vec<Picked>>, DeviceError> {
        self.lose();
        self.program()?.run_picking(step, wishes)
    }

    fn output(&self) -> &[f32] {
        self.opened.program.as_ref().map_or(&[], |program| program.output())
    }

    fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError> {
        self.program()?.allocate(group, page)
    }

    fn free(&mut self, group: usize, page: PageId) {
        if let Ok(program) = self.program() {
            program.free(group, page);
        }
    }

    fn copy(&mut self, group: usize, from: PageId, to: PageId) {
        if let Ok(program) = self.program() {
            program.copy(group, from, to);
        }
    }

    fn read_page(&self, group: usize, page: PageId, out: &mut Vec<u8>) -> Result<(), DeviceError> {
        match &self.opened.program {
            Some(program) => program.read_page(group, page, out),
            None => Err(DeviceError::Unsupported("there is no device left".to_owned())),
        }
    }

    fn write_page(&mut self, group: usize, page: PageId, contents: &[u8]) -> Result<(), DeviceError> {
        self.program()?.write_page(group, page, contents)
    }

    fn memory(&self) -> MemoryUse {
        self.opened.program.as_ref().map_or_else(MemoryUse::default, |program| program.memory())
    }
}
