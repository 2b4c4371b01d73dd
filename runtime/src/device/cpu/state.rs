//! The memory behind the sequences' state: pages by group and number.

use std::ops::Range;

use half::f16;

use crate::device::DeviceError;
use crate::kernels::attention::AttentionShape;
use crate::kernels::{self, Zero};
use crate::plan::{CacheTypes, PageId, StateGroup, StateLayout};

/// One page.
#[derive(Clone)]
enum Page {
    /// Every layer's keys and values, layer by layer, in the layout of `kernels::attention`.
    Paged(Vec<f16>),
    /// Every layer's state.
    Recurrent(Vec<f32>),
}

impl Page {
    fn bytes(&self) -> usize {
        match self {
            Self::Paged(elements) => size_of_val(&elements[..]),
            Self::Recurrent(elements) => size_of_val(&elements[..]),
        }
    }
}

/// The pages of all groups.
pub(super) struct State {
    layout: StateLayout,
    cache: CacheTypes,
    pages: Vec<Vec<Option<Page>>>,
}

/// A vector of zeros, or an error if it cannot be allocated.
pub(super) fn zeros<T: Zero>(count: usize, what: &'static str) -> Result<Vec<T>, DeviceError> {
    let bytes = (count * size_of::<T>()) as u64;
    kernels::zeros(count).ok_or(DeviceError::NoMemory { what, bytes })
}

impl State {
    /// No pages yet.
    ///
    /// # Errors
    /// If head sizes do not fit the cache types.
    pub(super) fn new(layout: &StateLayout, cache: CacheTypes) -> Result<Self, DeviceError> {
        for group in &layout.groups {
            group.page_bytes(cache).map_err(DeviceError::Unsupported)?;
        }
        let pages = layout.groups.iter().map(|_| Vec::new()).collect();
        Ok(Self { layout: layout.clone(), cache, pages })
    }

    /// The KV heads of a group in the kernels' form, with one query head each.
    pub(super) fn heads(&self, group: usize) -> AttentionShape {
        let StateGroup::Paged { heads, key_dim, value_dim, .. } = self.layout.groups[group] else {
            panic!("group {group} has no keys and values")
        };
        let (scale, softcap, alibi) = (1.0, None, None);
        AttentionShape { heads, kv_heads: heads, key_dim, value_dim, scale, softcap, alibi, cache: self.cache }
    }

    pub(super) fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError> {
        let made = match self.layout.groups[group] {
            StateGroup::Paged { layers, .. } => {
                Page::Paged(zeros(layers * self.heads(group).page(), "keys and values")?)
            }
            StateGroup::Recurrent { layers, elements } => {
                Page::Recurrent(zeros(layers * elements, "a recurrent state")?)
            }
        };
        let (pages, index) = (&mut self.pages[group], page as usize);
        if pages.len() <= index {
            pages.resize_with(index + 1, || None);
        }
        pages[index] = Some(made);
        Ok(())
    }

    pub(super) fn free(&mut self, group: usize, page: PageId) {
        self.pages[group][page as usize] = None;
    }

    pub(super) fn copy(&mut self, group: usize, from: PageId, to: PageId) {
        let pages = &mut self.pages[group];
        let source = pages[from as usize].take().expect("the page was allocated");
        match (&source, pages[to as usize].as_mut().expect("the page was allocated")) {
            (Page::Paged(source), Page::Paged(target)) => target.copy_from_slice(source),
            (Page::Recurrent(source), Page::Recurrent(target)) => target.copy_from_slice(source),
            _ => unreachable!("pages of a group are of one kind"),
        }
        pages[from as usize] = Some(source);
    }

    /// Appends a page's elements, least significant byte first.
    pub(super) fn read_page(&self, group: usize, page: PageId, out: &mut Vec<u8>) {
        match self.pages[group][page as usize].as_ref().expect("the page was allocated") {
            Page::Paged(elements) => elements.iter().for_each(|element| out.extend(element.to_le_bytes())),
            Page::Recurrent(elements) => elements.iter().for_each(|element| out.extend(element.to_le_bytes())),
        }
    }

    /// Sets a page's elements; `false`: it has another number of them.
    pub(super) fn write_page(&mut self, group: usize, page: PageId, contents: &[u8]) -> bool {
        let page = self.pages[group][page as usize].as_mut().expect("the page was allocated");
        if contents.len() != page.bytes() {
            return false;
        }
        match page {
            Page::Paged(elements) => {
                let values = contents.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes));
                elements.iter_mut().zip(values).for_each(|(element, value)| *element = value);
            }
            Page::Recurrent(elements) => {
                let values = contents.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                elements.iter_mut().zip(values).for_each(|(element, value)| *element = value);
            }
        }
        true
    }

    /// A layer's keys and values in a page; empty if a window has passed it.
    pub(super) fn keys_and_values(&self, group: usize, layer: usize, page: Option<PageId>) -> &[f16] {
        let Some(page) = page else { return &[] };
        match self.pages[group][page as usize].as_ref().expect("the page was allocated") {
            Page::Paged(elements) => &elements[self.layer(group, layer)],
            Page::Recurrent(_) => panic!("group {group} has no keys and values"),
        }
    }

    /// Elements of a layer's keys and values in a page.
    pub(super) fn layer(&self, group: usize, layer: usize) -> Range<usize> {
        let size = self.heads(group).page();
        layer * size..(layer + 1) * size
    }

    /// Takes out a page's keys and values; [`State::put_paged`] puts them back.
    pub(super) fn take_paged(&mut self, group: usize, page: PageId) -> Vec<f16> {
        match self.pages[group][page as usize].as_mut().expect("the page was allocated") {
            Page::Paged(elements) => std::mem::take(elements),
            Page::Recurrent(_) => panic!("group {group} has no keys and values"),
        }
    }

    /// Puts back what was taken out.
    pub(super) fn put_paged(&mut self, group: usize, page: PageId, elements: Vec<f16>) {
        self.pages[group][page as usize] = Some(Page::Paged(elements));
    }

    /// Takes out a layer's recurrent state; [`State::put_recurrent`] puts it back.
    pub(super) fn take_recurrent(&mut self, group: usize, page: PageId) -> Vec<f32> {
        match self.pages[group][page as usize].as_mut().expect("the page was allocated") {
            Page::Recurrent(elements) => std::mem::take(elements),
            Page::Paged(_) => panic!("group {group} has no recurrent state"),
        }
    }

    /// Puts back what was taken out.
    pub(super) fn put_recurrent(&mut self, group: usize, page: PageId, state: Vec<f32>) {
        self.pages[group][page as usize] = Some(Page::Recurrent(state));
    }

    /// Elements per layer of a recurrent group.
    pub(super) fn recurrent_elements(&self, group: usize) -> usize {
        match self.layout.groups[group] {
            StateGroup::Recurrent { elements, .. } => elements,
            StateGroup::Paged { .. } => panic!("group {group} has no recurrent state"),
        }
    }

    pub(super) fn cache(&self) -> CacheTypes {
        self.cache
    }

    pub(super) fn bytes(&self) -> u64 {
        self.pages.iter().flatten().flatten().map(Page::bytes).sum::<usize>() as u64
    }
}
