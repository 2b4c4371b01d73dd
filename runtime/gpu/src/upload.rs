//! Weights on their way into a GPU's memory: a ring of mapped buffers that threads fill while others are copied.
//!
//! Three buffers, each filled by several threads at once, reached 26 GB/s where a queue's own copies reached 8. What lies in a file
//! in another order than the shader reads is packed on the way, so nothing is copied twice.

use std::ops::Range;
use std::sync::mpsc::{self, Receiver, TryRecvError};

use crate::{Gpu, GpuError};

/// Bytes of a buffer of the ring.
const MOST: usize = 64 << 20;
const LEAST: usize = 1 << 16;
/// Buffers of the ring.
const SLOTS: usize = 3;
const MOST_THREADS: usize = 8;
/// Packed at once by a thread, so that it stays in the cache.
const PIECE: usize = 1 << 18;

/// Appends rows as the shaders read them.
pub type Pack<'a> = &'a (dyn Fn(Range<usize>, &mut Vec<u8>) + Sync);

/// A buffer of the ring.
struct Slot {
    buffer: wgpu::Buffer,
    /// While it is copied: its submission, and where its next mapping is reported.
    copied: Option<(wgpu::SubmissionIndex, Receiver<Result<(), wgpu::BufferAsyncError>>)>,
}

/// The ring.
pub struct Upload<'a> {
    gpu: &'a Gpu,
    slots: Vec<Slot>,
    bytes: usize,
    next: usize,
    threads: usize,
}

fn failed(error: impl std::fmt::Display) -> GpuError {
    GpuError::Failed(error.to_string())
}

impl<'a> Upload<'a> {
    /// A ring for buffers of up to `largest` bytes, none of whose rows is longer than `row`.
    pub fn new(gpu: &'a Gpu, largest: u64, row: usize) -> Self {
        let most = usize::try_from(gpu.binding_bytes()).unwrap_or(MOST).min(MOST);
        let bytes = usize::try_from(largest).unwrap_or(most).max(LEAST).min(most).max(row);
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        Self { gpu, slots: Vec::new(), bytes, next: 0, threads }
    }

    /// Fills a buffer with `rows` rows of `row_bytes`, whole words, which `pack` appends in order.
    ///
    /// # Errors
    /// If memory is out, or the device is lost.
    pub fn send(
        &mut self,
        to: &wgpu::Buffer,
        rows: usize,
        row_bytes: usize,
        pack: Pack<'_>,
        sent: &dyn Fn(u64),
    ) -> Result<(), GpuError> {
        let at_once = (self.bytes / row_bytes).max(1);
        for first in (0..rows).step_by(at_once) {
            let rows = first..rows.min(first + at_once);
            let bytes = rows.len() * row_bytes;
            let at = self.free_slot()?;
            let slot = &mut self.slots[at];
            let mut view = slot.buffer.get_mapped_range_mut(..bytes as u64).map_err(failed)?;
            fill(view.slice(..), &rows, row_bytes, pack, self.threads);
            drop(view);
            slot.buffer.unmap();
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(&slot.buffer, 0, to, (first * row_bytes) as u64, bytes as u64);
            let submission = self.gpu.queue.submit([encoder.finish()]);
            let (mapped, told) = mpsc::channel();
            slot.buffer.map_async(wgpu::MapMode::Write, .., move |result| {
                let _ = mapped.send(result);
            });
            slot.copied = Some((submission, told));
            sent(bytes as u64);
        }
        self.gpu.check()
    }

    /// A buffer that is mapped; waits for its copy.
    fn free_slot(&mut self) -> Result<usize, GpuError> {
        let at = self.next % SLOTS;
        self.next += 1;
        if at == self.slots.len() {
            let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
            let buffer = self.gpu.mapped_buffer("weights on their way", self.bytes as u64, usage)?;
            self.slots.push(Slot { buffer, copied: None });
        }
        let Some((submission, told)) = self.slots[at].copied.take() else { return Ok(at) };
        loop {
            match told.try_recv() {
                Ok(mapped) => return mapped.map(|()| at).map_err(failed),
                Err(TryRecvError::Disconnected) => return Err(GpuError::Failed("it did not answer".to_owned())),
                Err(TryRecvError::Empty) => {}
            }
            let wait = wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout: None };
            self.gpu.device.poll(wait).map_err(failed)?;
            self.gpu.check()?;
        }
    }

    /// Waits until all has arrived.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn finish(self) -> Result<(), GpuError> {
        self.gpu.device.poll(wgpu::PollType::wait_indefinitely()).map_err(failed)?;
        self.gpu.check()
    }
}

/// Packs rows into mapped memory, by several threads if there is much.
fn fill(memory: wgpu::WriteOnly<'_, [u8]>, rows: &Range<usize>, row_bytes: usize, pack: Pack<'_>, threads: usize) {
    // Memory goes to other threads in arrays; where one begins or ends amid a row, the row is packed for both.
    let (pieces, rest) = memory.into_chunks::<PIECE>();
    let pieces: Vec<wgpu::WriteOnly<'_, [u8; PIECE]>> = pieces.into_iter().collect();
    let end = pieces.len() * PIECE;
    let each = pieces.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let mut at = 0;
        let mut pieces = pieces.into_iter().peekable();
        while pieces.peek().is_some() {
            let mine: Vec<_> = pieces.by_ref().take(each).collect();
            let first = at;
            at += mine.len();
            scope.spawn(move || {
                let mut packed = Vec::new();
                for (at, piece) in (first..).zip(mine) {
                    fill_piece(piece.into(), at * PIECE, (rows, row_bytes), pack, &mut packed);
                }
            });
        }
        fill_piece(rest, end, (rows, row_bytes), pack, &mut Vec::new());
    });
}

/// Fills the memory that begins `start` bytes after the first of the rows.
fn fill_piece(
    mut memory: wgpu::WriteOnly<'_, [u8]>,
    start: usize,
    (rows, row_bytes): (&Range<usize>, usize),
    pack: Pack<'_>,
    packed: &mut Vec<u8>,
) {
    let end = start + memory.len();
    let (first, last) = (start / row_bytes, end.div_ceil(row_bytes));
    packed.clear();
    pack(rows.start + first..rows.start + last, packed);
    let skipped = start - first * row_bytes;
    memory.copy_from_slice(&packed[skipped..skipped + end - start]);
}
