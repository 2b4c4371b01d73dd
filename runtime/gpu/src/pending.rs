//! Work that a GPU does while this processor goes on: submitted with a copy of its result, waited for later.

use std::sync::PoisonError;
use std::sync::mpsc::Receiver;

use crate::call::{Call, Counts, Extent};
use crate::{Gpu, GpuError};

/// A result that is on its way.
pub struct Pending {
    staging: wgpu::Buffer,
    bytes: usize,
    submission: wgpu::SubmissionIndex,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Gpu {
    /// Submits calls on a step of this size, and a copy of the first bytes of a buffer behind them: one submission, so of steps that are
    /// short.
    ///
    /// # Errors
    /// If memory is out.
    pub fn start<'a>(
        &self,
        calls: impl Iterator<Item = &'a Call>,
        of: Extent,
        (buffer, bytes): (&wgpu::Buffer, usize),
    ) -> Result<Pending, GpuError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.buffer_for("what is read back", bytes as u64, usage)?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut counts = Counts { passes: 1, submissions: 1, ..Counts::default() };
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for call in calls {
            let Some(rows) = call.rows(of) else { continue };
            self.dispatch(&mut pass, call, rows, of, &mut counts);
        }
        drop(pass);
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes as u64);
        let submission = self.queue.submit([encoder.finish()]);
        let (done, mapped) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = done.send(result);
        });
        self.count(counts);
        Ok(Pending { staging, bytes, submission, mapped })
    }

    /// Waits for a result.
    ///
    /// # Errors
    /// If the driver fails, or the device is lost.
    pub fn finish(&self, pending: Pending) -> Result<Vec<u8>, GpuError> {
        let Pending { staging, bytes, submission, mapped } = pending;
        let failed = |what: String| GpuError::Failed(what);
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
        self.device.poll(wait).map_err(|error| failed(error.to_string()))?;
        self.check()?;
        match mapped.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("it did not answer".to_owned())),
        }
        let view = staging.get_mapped_range(..).map_err(|error| failed(error.to_string()))?;
        self.count(Counts { read_bytes: bytes as u64, ..Counts::default() });
        Ok(view[..bytes].to_vec())
    }

    fn count(&self, more: Counts) {
        let mut total = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        total.dispatches += more.dispatches;
        total.passes += more.passes;
        total.submissions += more.submissions;
        total.read_bytes += more.read_bytes;
    }
}
