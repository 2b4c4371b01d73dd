//! The pages of one group: which are free, and their reference counts.

use super::StateError;
use crate::device::Program;
use crate::plan::PageId;

/// Pages with reference counts; an unreferenced page has no memory.
#[derive(Debug)]
pub(super) struct Pool {
    group: usize,
    references: Vec<u32>,
    free: Vec<PageId>,
}

impl Pool {
    /// At most `pages` pages.
    pub(super) fn new(group: usize, pages: usize) -> Self {
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        Self { group, references: vec![0; pages as usize], free: (0..pages).rev().collect() }
    }

    /// As many pages, none of them held: the memory behind them is gone.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.group, self.references.len())
    }

    /// Number of unreferenced pages.
    pub(super) fn free_pages(&self) -> usize {
        self.free.len()
    }

    /// A zeroed page for exclusive use; `None` if all are held.
    pub(super) fn take(&mut self, program: &mut dyn Program) -> Result<Option<PageId>, StateError> {
        let Some(&page) = self.free.last() else { return Ok(None) };
        program.allocate(self.group, page)?;
        self.free.pop();
        self.references[page as usize] = 1;
        Ok(Some(page))
    }

    /// Adds a reference.
    pub(super) fn hold(&mut self, page: PageId) {
        self.references[page as usize] += 1;
    }

    /// Whether a page has exactly one reference.
    pub(super) fn is_held_once(&self, page: PageId) -> bool {
        self.references[page as usize] == 1
    }

    /// Removes a reference; the last one frees the page.
    pub(super) fn release(&mut self, program: &mut dyn Program, page: PageId) {
        let count = &mut self.references[page as usize];
        *count -= 1;
        if *count == 0 {
            program.free(self.group, page);
            self.free.push(page);
        }
    }
}
