//! The pages of one group: which are free, and how often each is held.

use super::StateError;
use crate::device::Program;
use crate::plan::PageId;

/// Pages with reference counts; one that nobody holds has no memory.
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

    /// Pages that nobody holds.
    pub(super) fn free_pages(&self) -> usize {
        self.free.len()
    }

    /// A page of one's own, zeroed; `None` where all are held.
    pub(super) fn take(&mut self, program: &mut dyn Program) -> Result<Option<PageId>, StateError> {
        let Some(&page) = self.free.last() else { return Ok(None) };
        program.allocate(self.group, page)?;
        self.free.pop();
        self.references[page as usize] = 1;
        Ok(Some(page))
    }

    /// Holds a page once more.
    pub(super) fn hold(&mut self, page: PageId) {
        self.references[page as usize] += 1;
    }

    /// Whether a page is held once only.
    pub(super) fn is_held_once(&self, page: PageId) -> bool {
        self.references[page as usize] == 1
    }

    /// Holds a page once less.
    pub(super) fn release(&mut self, program: &mut dyn Program, page: PageId) {
        let count = &mut self.references[page as usize];
        *count -= 1;
        if *count == 0 {
            program.free(self.group, page);
            self.free.push(page);
        }
    }
}
