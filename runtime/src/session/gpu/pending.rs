//! A program that is still being loaded: its first use waits for it, so that the server can accept requests meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::GpuStatus;
use crate::device::{Crossing, DeviceError, MemoryUse, PickLimits, Picked, Program, Wish};
use crate::plan::{PageId, Slot, Step};

/// How often a wait looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// A program to come.
pub(super) struct Pending {
    status: Arc<GpuStatus>,
    coming: Receiver<Box<dyn Program>>,
    program: Option<Box<dyn Program>>,
}

impl Pending {
    pub(super) fn new(status: Arc<GpuStatus>, coming: Receiver<Box<dyn Program>>) -> Self {
        Self { status, coming, program: None }
    }

    /// Waits for the program.
    fn get(&mut self) -> Result<&mut dyn Program, DeviceError> {
        while self.program.is_none() {
            match self.coming.recv_timeout(LOOK) {
                Ok(program) => self.program = Some(program),
                Err(RecvTimeoutError::Timeout) if !self.status.is_abandoned() => {}
                Err(_) => {
                    let why = self.status.failure().unwrap_or_else(|| "the model was not loaded".to_owned());
                    return Err(DeviceError::Unsupported(why));
                }
            }
        }
        Ok(&mut **self.program.as_mut().expect("it has come"))
    }
}

impl Program for Pending {
    fn run(&mut self, step: &Step) -> Result<(), DeviceError> {
        self.get()?.run(step)
    }

    fn run_between(
        &mut self,
        step: &Step,
        entering: &[Crossing],
        leaving: &[Slot],
    ) -> Result<Vec<Crossing>, DeviceError> {
        self.get()?.run_between(step, entering, leaving)
    }

    fn recover(&mut self, why: &DeviceError) -> bool {
        self.program.as_mut().is_some_and(|program| program.recover(why))
    }

    fn pick_limits(&self) -> PickLimits {
        self.program.as_ref().map_or_else(PickLimits::default, |program| program.pick_limits())
    }

    fn run_picking(&mut self, step: &Step, wishes: &[Wish]) -> Result<Option<Vec<Picked>>, DeviceError> {
        self.get()?.run_picking(step, wishes)
    }

    fn output(&self) -> &[f32] {
        self.program.as_ref().map_or(&[], |program| program.output())
    }

    fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError> {
        self.get()?.allocate(group, page)
    }

    fn free(&mut self, group: usize, page: PageId) {
        // What has not come has no pages.
        if let Some(program) = &mut self.program {
            program.free(group, page);
        }
    }

    fn copy(&mut self, group: usize, from: PageId, to: PageId) {
        if let Some(program) = &mut self.program {
            program.copy(group, from, to);
        }
    }

    fn read_page(&self, group: usize, page: PageId, out: &mut Vec<u8>) -> Result<(), DeviceError> {
        match &self.program {
            Some(program) => program.read_page(group, page, out),
            None => Err(DeviceError::Unsupported("the model is not loaded yet".to_owned())),
        }
    }

    fn write_page(&mut self, group: usize, page: PageId, contents: &[u8]) -> Result<(), DeviceError> {
        self.get()?.write_page(group, page, contents)
    }

    fn memory(&self) -> MemoryUse {
        self.program.as_ref().map_or_else(MemoryUse::default, |program| program.memory())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Picks, and does nothing else.
    struct Picks;

    impl Program for Picks {
        fn run(&mut self, _: &Step) -> Result<(), DeviceError> {
            Ok(())
        }
        fn pick_limits(&self) -> PickLimits {
            PickLimits { candidates: 7, values: 3 }
        }
        fn run_picking(&mut self, _: &Step, wishes: &[Wish]) -> Result<Option<Vec<Picked>>, DeviceError> {
            Ok(Some(vec![Picked::default(); wishes.len()]))
        }
        fn output(&self) -> &[f32] {
            &[]
        }
        fn allocate(&mut self, _: usize, _: PageId) -> Result<(), DeviceError> {
            Ok(())
        }
        fn free(&mut self, _: usize, _: PageId) {}
        fn copy(&mut self, _: usize, _: PageId, _: PageId) {}
        fn memory(&self) -> MemoryUse {
            MemoryUse::default()
        }
    }

    #[test]
    fn what_came_picks_as_it_does_by_itself() {
        let (sender, coming) = mpsc::channel();
        let mut pending = Pending::new(Arc::new(GpuStatus::default()), coming);
        assert_eq!(pending.pick_limits(), PickLimits::default(), "nothing has come");
        sender.send(Box::new(Picks) as Box<dyn Program>).expect("it waits");
        pending.run(&Step::default()).expect("it runs");
        assert_eq!(pending.pick_limits(), PickLimits { candidates: 7, values: 3 });
        let picked = pending.run_picking(&Step::default(), &[Wish::default()]).expect("it runs");
        assert_eq!(picked.map(|rows| rows.len()), Some(1));
    }

    #[test]
    fn what_never_comes_is_an_error_with_its_reason() {
        let status = Arc::new(GpuStatus::default());
        let (sender, coming) = mpsc::channel();
        let mut pending = Pending::new(Arc::clone(&status), coming);
        status.fail("no such GPU".to_owned());
        drop(sender);
        assert_eq!(pending.run(&Step::default()), Err(DeviceError::Unsupported("no such GPU".to_owned())));
        let (_sender, coming) = mpsc::channel();
        let status = Arc::new(GpuStatus::default());
        status.abandon();
        assert!(Pending::new(status, coming).allocate(0, 0).is_err(), "a server that ends does not wait");
    }
}
