//! Keys and values in a GPU's memory: for each layer a buffer of keys and one of values, `(page, position in the page, head,
//! element)` in f16; of a recurrent group one, `(page, element)` in f32. A page's number is its place there; buffers double when
//! numbers outgrow them.

use satchel_gpu::{Gpu, GpuError};

use crate::plan::{BLOCK_TOKENS, Kept, PageId, Plan, StateGroup};

/// One layer's.
struct Layer {
    keys: satchel_gpu::Buffer,
    values: satchel_gpu::Buffer,
}

struct Group {
    layers: Vec<Layer>,
    /// Pages for which there is room.
    capacity: usize,
    /// Bytes of a layer's keys and of its values in a page.
    page_bytes: [u64; 2],
}

/// The pages of all groups.
pub(super) struct State {
    groups: Vec<Group>,
}

/// Pages for which there is room at first.
const FIRST_PAGES: usize = 4;

impl State {
    pub(super) fn new(gpu: &Gpu, plan: &Plan) -> Result<Self, GpuError> {
        let groups = plan.state.groups.iter().map(|group| match *group {
            StateGroup::Paged { layers, heads, key_dim, value_dim, .. } => {
                let page_bytes = [key_dim, value_dim].map(|dim| (2 * BLOCK_TOKENS * heads * dim) as u64);
                let layers = (0..layers).map(|_| layer(gpu, page_bytes, FIRST_PAGES)).collect::<Result<_, _>>()?;
                Ok(Group { layers, capacity: FIRST_PAGES, page_bytes })
            }
            StateGroup::Recurrent { layers, elements } => {
                let page_bytes = [4 * elements as u64, 0];
                let layers = (0..layers).map(|_| layer(gpu, page_bytes, FIRST_PAGES)).collect::<Result<_, _>>()?;
                Ok(Group { layers, capacity: FIRST_PAGES, page_bytes })
            }
        });
        Ok(Self { groups: groups.collect::<Result<_, _>>()? })
    }

    /// Pages for which a group has room at most.
    pub(super) fn most_pages(&self) -> usize {
        self.groups.iter().map(|group| group.capacity).max().unwrap_or(0)
    }

    /// Makes room for a page; says whether buffers are others now.
    pub(super) fn allocate(&mut self, gpu: &Gpu, group: usize, page: PageId) -> Result<bool, GpuError> {
        let group = &mut self.groups[group];
        let needed = page as usize + 1;
        if needed <= group.capacity || group.layers.is_empty() {
            if group.page_bytes[1] == 0 && group.page_bytes[0] > 0 {
                // A recurrence starts from zeros; of keys and values none is read before it is written.
                let bytes = group.page_bytes[0];
                let parts = group.layers.iter().map(|layer| (&layer.keys, u64::from(page) * bytes, bytes));
                gpu.clear(&parts.collect::<Vec<_>>());
            }
            return Ok(false);
        }
        let most = gpu.binding_bytes() / group.page_bytes[0].max(group.page_bytes[1]).max(1);
        let capacity = room(group.capacity, needed, most as usize);
        for old in &mut group.layers {
            let new = layer(gpu, group.page_bytes, capacity)?;
            gpu.copy(&[
                (&old.keys, 0, &new.keys, 0, old.keys.size()),
                (&old.values, 0, &new.values, 0, old.values.size()),
            ]);
            *old = new;
        }
        group.capacity = capacity;
        Ok(true)
    }

    /// Copies a page, by way of a third place: no buffer is copied onto itself.
    pub(super) fn copy(&self, gpu: &Gpu, group: usize, from: PageId, to: PageId) -> Result<(), GpuError> {
        let group = &self.groups[group];
        for layer in &group.layers {
            let buffers = [&layer.keys, &layer.values].into_iter().zip(group.page_bytes);
            for (buffer, bytes) in buffers.filter(|(_, bytes)| *bytes > 0) {
                let between = gpu.buffer("keys and values", bytes)?;
                gpu.copy(&[
                    (buffer, u64::from(from) * bytes, &between, 0, bytes),
                    (&between, 0, buffer, u64::from(to) * bytes, bytes),
                ]);
            }
        }
        Ok(())
    }

    /// A layer's keys and values.
    pub(super) fn of(&self, kept: Kept) -> (&satchel_gpu::Buffer, &satchel_gpu::Buffer) {
        let layer = &self.groups[kept.group].layers[kept.layer];
        (&layer.keys, &layer.values)
    }

    /// A layer's recurrent states.
    pub(super) fn recurrent(&self, kept: Kept) -> &satchel_gpu::Buffer {
        self.of(kept).0
    }

    pub(super) fn bytes(&self) -> u64 {
        let layers = self.groups.iter().flat_map(|group| &group.layers);
        layers.map(|layer| layer.keys.size() + layer.values.size()).sum()
    }
}

/// Pages to make room for: twice as many as before, but no more than a buffer of this GPU holds unless they are needed.
fn room(capacity: usize, needed: usize, most: usize) -> usize {
    needed.max((2 * capacity).min(most))
}

fn layer(gpu: &Gpu, page_bytes: [u64; 2], pages: usize) -> Result<Layer, GpuError> {
    let buffer = |bytes: u64| {
        let bytes = bytes * pages as u64;
        if bytes > gpu.binding_bytes() {
            return Err(GpuError::NoMemory {
                what: "keys and values of a layer, more than a buffer of this GPU holds",
                bytes,
            });
        }
        gpu.buffer("keys and values", bytes)
    };
    Ok(Layer { keys: buffer(page_bytes[0])?, values: buffer(page_bytes[1])? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_double_up_to_what_a_gpu_binds() {
        assert_eq!(room(4, 5, 100), 8);
        assert_eq!(room(8, 9, 10), 10, "sixteen do not fit");
        assert_eq!(room(10, 11, 10), 11, "which is refused");
    }
}
