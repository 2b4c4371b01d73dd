//! How much is kept of sequences that have ended: a limit in bytes, whichever pages it lies in.
//!
//! Pages are of one pool. What idle sequences leave of theirs holds kept prefixes as well as the pages that were added for them, so
//! only a count of what nobody runs on says what is kept.

use super::cache::StateCache;
use crate::device::Program;

/// The most that is kept beside running sequences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptLimit {
    /// In bytes.
    pub bytes: u64,
    /// Bytes of a page of each group.
    pub page_bytes: Vec<u64>,
}

impl StateCache {
    /// Keeps no more than this from now on; `None`: what there is room for.
    #[must_use]
    pub fn with_limit(mut self, limit: Option<KeptLimit>) -> Self {
        self.limit = limit;
        self
    }

    /// Gives up what was used least recently until the rest is within the limit. After sequences have ended.
    pub fn keep_within_limit(&mut self, program: &mut dyn Program) {
        let Some(limit) = self.limit.take() else { return };
        loop {
            let kept = self.kept_bytes(&limit.page_bytes);
            let largest = (0..kept.len()).max_by_key(|&group| kept[group]);
            if kept.iter().sum::<u64>() <= limit.bytes || !largest.is_some_and(|group| self.give_up(program, group)) {
                break;
            }
        }
        self.limit = Some(limit);
    }

    /// Bytes in each group that only the tree of prefixes holds.
    pub(super) fn kept_bytes(&self, page_bytes: &[u64]) -> Vec<u64> {
        let mut kept = vec![0; page_bytes.len()];
        for node in self.prefixes.nodes() {
            let checkpoints = node.checkpoints.iter().map(|(_, pages)| pages);
            for (group, page) in checkpoints.chain([&node.pages]).flat_map(|pages| pages.iter().enumerate()) {
                if page.is_some_and(|page| self.is_only_kept(group, page)) {
                    kept[group] += page_bytes[group];
                }
            }
        }
        kept
    }
}
