//! Sequences and the pages they hold; when pages run out, cached prefixes are evicted, least recently used first.

use super::limit::KeptLimit;
use super::pool::Pool;
use super::prefix::{EVERYONE, Node, NodeId, PrefixTree};
use crate::TokenId;
use crate::device::{DeviceError, Program};
use crate::plan::{BLOCK_TOKENS, PageId, StateGroup, StateLayout};

/// Maximum nodes of cached prefixes: recurrent models have nodes without pages, which nothing else would bound.
const MOST_NODES: usize = 1 << 16;

/// Why a sequence cannot grow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Every page is held by a running sequence.
    #[error("no room is left for what the sequences keep")]
    NoRoom,
    /// The device has no memory for a page.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A sequence's tokens with state, and the pages that hold it.
#[derive(Debug, Default)]
pub struct Sequence {
    owner: u64,
    tokens: Vec<TokenId>,
    /// Each group's pages, in order of position; `None`: a window has passed it. Recurrent groups have one.
    pages: Vec<Vec<Option<PageId>>>,
    /// The leading whole blocks that are in the prefix tree.
    path: Vec<NodeId>,
    /// Copies of recurrent states at earlier lengths: `(tokens, a page for each recurrent group)`.
    marks: Vec<(usize, Vec<Option<PageId>>)>,
}

impl Sequence {
    /// Positions with state (including those of a step being built).
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it has no positions.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Drops the tokens from `length` on, none of which was committed yet. Their pages are kept for later tokens, which overwrite
    /// what was computed of them. Where it was, the sequence has no recurrent state.
    pub fn forget_from(&mut self, length: usize) {
        self.tokens.truncate(length);
    }

    /// The tokens at its positions.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Each group's pages.
    pub fn pages(&self) -> &[Vec<Option<PageId>>] {
        &self.pages
    }
}

/// The cached state of one model's sequences: a fixed number of pages per group.
#[derive(Debug)]
pub struct StateCache {
    layout: StateLayout,
    pools: Vec<Pool>,
    pub(super) prefixes: PrefixTree,
    /// A prefix that prompts of all callers may share.
    shared: Vec<TokenId>,
    /// The most that is kept of sequences that have ended.
    pub(super) limit: Option<KeptLimit>,
    /// Blocks that were given up to make room.
    evicted: u64,
}

impl StateCache {
    /// A cache for `sequences` concurrent sequences of `positions` positions, with at most `step_tokens` rows of each per step.
    pub fn new(layout: &StateLayout, sequences: usize, positions: usize, step_tokens: usize) -> Self {
        let pages = Self::pages(layout, sequences, positions, step_tokens);
        let pools = pages.into_iter().enumerate().map(|(group, pages)| Pool::new(group, pages)).collect();
        Self {
            layout: layout.clone(),
            pools,
            prefixes: PrefixTree::default(),
            shared: Vec::new(),
            limit: None,
            evicted: 0,
        }
    }

    /// Makes room for `kept` more positions of sequences that have ended, as those of such a cache for one sequence are made up.
    /// Before the first sequence.
    #[must_use]
    pub fn with_kept(mut self, kept: usize, positions: usize, step_tokens: usize) -> Self {
        let each = Self::pages(&self.layout, 1, positions, step_tokens);
        for (group, (pool, pages)) in self.pools.iter_mut().zip(each).enumerate() {
            *pool = Pool::new(group, pool.free_pages() + (pages as u128 * kept as u128 / positions as u128) as usize);
        }
        self
    }

    /// Forgets all states without freeing them, after a device with all its memory was lost. Sequences must begin anew.
    pub fn forget(&mut self) {
        self.pools = self.pools.iter().map(Pool::emptied).collect();
        self.prefixes = PrefixTree::default();
    }

    /// Tokens in the tree of kept prefixes, those of running sequences included.
    pub fn kept_tokens(&self) -> usize {
        self.prefixes.tokens()
    }

    /// Blocks that were given up so far to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Lets all callers share the leading whole blocks of these tokens: a prefix common to everyone's prompts that no caller
    /// wrote.
    pub fn share(&mut self, tokens: Vec<TokenId>) {
        self.shared = tokens;
    }

    /// Maximum pages of each group that such a cache holds.
    pub fn pages(layout: &StateLayout, sequences: usize, positions: usize, step_tokens: usize) -> Vec<usize> {
        let pages = layout.groups.iter().map(|group| {
            let whole = positions.div_ceil(BLOCK_TOKENS);
            let held = group.pages(positions, step_tokens);
            match group {
                // Continuing from inside a page needs a copy beside the original.
                StateGroup::Paged { window: None, .. } => held + 1,
                // As much again for what ended sequences leave cached.
                StateGroup::Paged { window: Some(_), .. } => (2 * held + 1).min(whole + 1),
                // The sequence's own, a copy after its prompt, and a copy where the previous one ended.
                StateGroup::Recurrent { .. } => 3,
            }
        });
        pages.map(|pages| pages * sequences).collect()
    }

    /// Tokens guaranteed to fit in one more sequence.
    pub fn room(&self) -> usize {
        let paged = self.layout.groups.iter().zip(&self.pools).filter(|(group, _)| !group.is_recurrent());
        paged.map(|(_, pool)| pool.free_pages() * BLOCK_TOKENS).min().unwrap_or(usize::MAX)
    }

    /// Free pages of a group.
    pub fn free_pages(&self, group: usize) -> usize {
        self.pools[group].free_pages()
    }

    /// Starts a sequence of `owner` with the longest cached prefix of `prompt`, leaving at least the prompt's last token to
    /// compute. The result's length is the number of tokens that need no computing.
    pub fn begin(&mut self, program: &mut dyn Program, owner: u64, prompt: &[TokenId]) -> Sequence {
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        let found = self.prefixes.find(owner, usable);
        let mut nodes = found.path.clone();
        nodes.extend(found.partial.map(|(node, _)| node));
        let mut sequence = self.empty(owner);
        for length in self.lengths(&nodes, found.len()) {
            match self.resume(program, &mut sequence, &nodes, &usable[..length], found.path.len()) {
                Ok(()) => return sequence,
                // No room for a copy: fall back to a shorter length.
                Err(_) => self.discard(program, std::mem::replace(&mut sequence, self.empty(owner))),
            }
        }
        sequence
    }

    fn empty(&self, owner: u64) -> Sequence {
        Sequence { owner, pages: vec![Vec::new(); self.layout.groups.len()], ..Sequence::default() }
    }

    /// Lengths at which a sequence can continue, longest first, of `known` tokens along `nodes`.
    fn lengths(&self, nodes: &[NodeId], known: usize) -> Vec<usize> {
        let mut lengths: Vec<usize> = if self.layout.has_recurrent() {
            let checkpoints = nodes.iter().enumerate().flat_map(|(block, &node)| {
                let kept = self.prefixes.node(node).checkpoints.iter();
                kept.map(move |(tokens, _)| block * BLOCK_TOKENS + tokens)
            });
            checkpoints.filter(|&length| length <= known).collect()
        } else {
            std::iter::once(known).chain((1..=known / BLOCK_TOKENS).map(|blocks| blocks * BLOCK_TOKENS)).collect()
        };
        lengths.sort_unstable_by_key(|&length| std::cmp::Reverse(length));
        lengths.dedup();
        lengths.retain(|&length| length > 0 && self.windows_are_held(nodes, length));
        lengths
    }

    /// Whether every page visible from `length` is still there.
    fn windows_are_held(&self, nodes: &[NodeId], length: usize) -> bool {
        self.layout.groups.iter().enumerate().all(|(group, shape)| {
            let mut blocks = self.first_seen(group, length)..length.div_ceil(BLOCK_TOKENS);
            shape.is_recurrent() || blocks.all(|block| self.prefixes.node(nodes[block]).pages[group].is_some())
        })
    }

    /// The first block that a group's layers see from `length` positions.
    fn first_seen(&self, group: usize, length: usize) -> usize {
        match self.layout.groups[group] {
            StateGroup::Paged { window: Some(window), .. } => (length + 1).saturating_sub(window) / BLOCK_TOKENS,
            _ => 0,
        }
    }

    /// Takes over the pages of `tokens`, cached along `nodes`, the first `whole` of which are whole blocks.
    fn resume(
        &mut self,
        program: &mut dyn Program,
        sequence: &mut Sequence,
        nodes: &[NodeId],
        tokens: &[TokenId],
        whole: usize,
    ) -> Result<(), StateError> {
        let shared = tokens.len() / BLOCK_TOKENS;
        let end = tokens.len().div_ceil(BLOCK_TOKENS);
        for group in 0..self.layout.groups.len() {
            if self.layout.groups[group].is_recurrent() {
                continue;
            }
            let first = self.first_seen(group, tokens.len());
            for (block, &node) in nodes[..shared].iter().enumerate() {
                // Pages that a window has passed stay evictable.
                let page = self.prefixes.node(node).pages[group].filter(|_| block >= first);
                page.iter().for_each(|&page| self.pools[group].hold(page));
                sequence.pages[group].push(page);
            }
            // The rest is in a page that this sequence will go on writing: it gets its own copy.
            if let Some(page) = nodes[shared..end].first().and_then(|&node| self.prefixes.node(node).pages[group]) {
                self.pools[group].hold(page); // not to be given up by the allocation
                let copy = self.take(program, group);
                if let Ok(copy) = copy {
                    program.copy(group, page, copy);
                    sequence.pages[group].push(Some(copy));
                }
                self.pools[group].release(program, page);
                copy?;
            }
        }
        sequence.tokens = tokens.to_vec();
        sequence.path = nodes[..shared.min(whole)].to_vec();
        sequence.path.iter().for_each(|&node| self.prefixes.node_mut(node).holders += 1);
        self.resume_recurrent(program, sequence, nodes, tokens.len())
    }

    fn resume_recurrent(
        &mut self,
        program: &mut dyn Program,
        sequence: &mut Sequence,
        nodes: &[NodeId],
        length: usize,
    ) -> Result<(), StateError> {
        if !self.layout.has_recurrent() {
            return Ok(());
        }
        let block = length.div_ceil(BLOCK_TOKENS) - 1;
        let within = length - block * BLOCK_TOKENS;
        let kept = &self.prefixes.node(nodes[block]).checkpoints;
        let pages = kept.iter().find(|(tokens, _)| *tokens == within).expect("a checkpoint was found there").1.clone();
        for (group, page) in pages.into_iter().enumerate() {
            let Some(page) = page else { continue };
            self.pools[group].hold(page);
            let copy = self.take(program, group);
            if let Ok(copy) = copy {
                program.copy(group, page, copy);
                sequence.pages[group].push(Some(copy));
            }
            self.pools[group].release(program, page);
            copy?;
        }
        Ok(())
    }

    /// Frees what windows have passed; call before the sequence's first row of a step.
    pub fn trim(&mut self, program: &mut dyn Program, sequence: &mut Sequence) {
        for group in 0..self.layout.groups.len() {
            let passed = self.first_seen(group, sequence.len());
            let pages = sequence.pages[group].iter_mut().take(passed);
            pages.filter_map(Option::take).for_each(|page| self.pools[group].release(program, page));
        }
    }

    /// Appends a token's position.
    ///
    /// # Errors
    /// If there is no room for it; nothing changes then, except that cached prefixes may have been evicted.
    pub fn push(
        &mut self,
        program: &mut dyn Program,
        sequence: &mut Sequence,
        token: TokenId,
    ) -> Result<(), StateError> {
        let block = sequence.tokens.len() / BLOCK_TOKENS;
        for group in 0..self.layout.groups.len() {
            let wanted = if self.layout.groups[group].is_recurrent() { 1 } else { block + 1 };
            // After an error, some groups already have their page.
            if sequence.pages[group].len() < wanted {
                let page = self.take(program, group)?;
                sequence.pages[group].push(Some(page));
            }
        }
        sequence.tokens.push(token);
        Ok(())
    }

    /// Publishes the blocks that have become full. Only after the step that computed them has run.
    pub fn commit(&mut self, program: &mut dyn Program, sequence: &mut Sequence) {
        while (sequence.path.len() + 1) * BLOCK_TOKENS <= sequence.tokens.len() {
            let block = sequence.path.len();
            let tokens = sequence.tokens[block * BLOCK_TOKENS..(block + 1) * BLOCK_TOKENS].to_vec();
            let node = self.publish(program, sequence, block, &tokens);
            self.prefixes.node_mut(node).holders += 1;
            sequence.path.push(node);
        }
    }

    /// The node of one of the sequence's blocks. If others already have the same tokens, their pages replace its own: they are
    /// bit-identical.
    fn publish(
        &mut self,
        program: &mut dyn Program,
        sequence: &mut Sequence,
        block: usize,
        tokens: &[TokenId],
    ) -> NodeId {
        let parent = block.checked_sub(1).map(|before| sequence.path[before]);
        let owner = self.owner_of(sequence, block, tokens.len());
        let own: Vec<Option<PageId>> = (0..self.layout.groups.len())
            .map(|group| {
                let paged = !self.layout.groups[group].is_recurrent();
                paged.then(|| sequence.pages[group].get(block).copied().flatten()).flatten()
            })
            .collect();
        if let Some(known) = self.prefixes.child(owner, parent, tokens) {
            self.prefixes.touch(known);
            for (group, own) in own.into_iter().enumerate() {
                let Some(own) = own else { continue };
                match self.prefixes.node(known).pages[group] {
                    Some(page) if page != own && tokens.len() == BLOCK_TOKENS => {
                        self.pools[group].hold(page);
                        sequence.pages[group][block] = Some(page);
                        self.pools[group].release(program, own);
                    }
                    Some(_) => {}
                    None => {
                        self.pools[group].hold(own);
                        self.prefixes.node_mut(known).pages[group] = Some(own);
                    }
                }
            }
            return known;
        }
        for (group, page) in own.iter().enumerate() {
            page.iter().for_each(|&page| self.pools[group].hold(page));
        }
        let node = self.prefixes.insert(owner, parent, tokens, own);
        // Shorter prefixes of the same block are now redundant.
        for shorter in self.prefixes.covered_by(owner, parent, tokens) {
            let mut gone = self.prefixes.remove(shorter);
            self.prefixes.node_mut(node).checkpoints.append(&mut gone.checkpoints);
            self.release_node(program, gone);
        }
        if self.prefixes.len() > MOST_NODES
            && let Some(oldest) = self.prefixes.oldest(Node::is_loose).filter(|&oldest| oldest != node)
        {
            let gone = self.prefixes.remove(oldest);
            self.release_node(program, gone);
        }
        node
    }

    /// A block's owner: everyone if it and all before it are within the shared prefix.
    fn owner_of(&self, sequence: &Sequence, block: usize, tokens: usize) -> u64 {
        let end = block * BLOCK_TOKENS + tokens;
        let is_shared =
            tokens == BLOCK_TOKENS && self.shared.get(..end).is_some_and(|shared| shared == &sequence.tokens[..end]);
        if is_shared { EVERYONE } else { sequence.owner }
    }

    /// Publishes the whole sequence, including its last partial block, with a copy of its recurrent state: a later prompt can
    /// continue from here.
    pub fn checkpoint(&mut self, program: &mut dyn Program, sequence: &mut Sequence) {
        self.keep_end(program, sequence, true);
    }

    fn keep_end(&mut self, program: &mut dyn Program, sequence: &mut Sequence, copy: bool) {
        self.commit(program, sequence);
        let whole = sequence.path.len() * BLOCK_TOKENS;
        let tail = sequence.tokens[whole..].to_vec();
        let node = match (tail.is_empty(), sequence.path.last()) {
            (true, None) => return,
            (true, Some(&last)) => last,
            (false, _) => self.publish(program, sequence, sequence.path.len(), &tail),
        };
        let within = self.prefixes.node(node).tokens.len();
        let known = self.prefixes.node(node).checkpoints.iter().any(|(tokens, _)| *tokens == within);
        if !self.layout.has_recurrent() || known {
            return;
        }
        let kept = match copy {
            true => self.copy_recurrent(program, sequence),
            false => Ok(self.take_recurrent(sequence)),
        };
        if let Ok(pages) = kept {
            self.prefixes.node_mut(node).checkpoints.push((within, pages));
        }
    }

    fn take_recurrent(&self, sequence: &mut Sequence) -> Vec<Option<PageId>> {
        let groups = self.layout.groups.iter().zip(&mut sequence.pages);
        groups.map(|(group, pages)| if group.is_recurrent() { pages.pop().flatten() } else { None }).collect()
    }

    /// Copies a sequence's recurrent pages, one for each recurrent group.
    fn copy_recurrent(
        &mut self,
        program: &mut dyn Program,
        sequence: &Sequence,
    ) -> Result<Vec<Option<PageId>>, StateError> {
        let mut copies = vec![None; self.layout.groups.len()];
        for group in 0..copies.len() {
            if !self.layout.groups[group].is_recurrent() {
                continue;
            }
            let Some(page) = sequence.pages[group].first().copied().flatten() else { continue };
            match self.take(program, group) {
                Ok(copy) => {
                    program.copy(group, page, copy);
                    copies[group] = Some(copy);
                }
                Err(error) => {
                    self.release_pages(program, &copies);
                    return Err(error);
                }
            }
        }
        Ok(copies)
    }

    /// Marks the sequence's current length, so that [`StateCache::truncate`] can return to it. Costs a copy of recurrent state.
    ///
    /// # Errors
    /// If there is no room for the copy.
    pub fn mark(&mut self, program: &mut dyn Program, sequence: &mut Sequence) -> Result<(), StateError> {
        let pages = self.copy_recurrent(program, sequence)?;
        sequence.marks.push((sequence.len(), pages));
        Ok(())
    }

    /// Drops the tokens from `length` on. `Ok(false)`: no copy of a recurrent state at that length, nothing changed.
    ///
    /// # Errors
    /// If there is no room to copy a page that others hold; the sequence must then be discarded.
    pub fn truncate(
        &mut self,
        program: &mut dyn Program,
        sequence: &mut Sequence,
        length: usize,
    ) -> Result<bool, StateError> {
        if length >= sequence.len() {
            return Ok(true);
        }
        if self.layout.has_recurrent() && length > 0 {
            let Some(at) = sequence.marks.iter().position(|(tokens, _)| *tokens == length) else { return Ok(false) };
            let (_, pages) = sequence.marks.swap_remove(at);
            for (group, page) in pages.into_iter().enumerate() {
                if let Some(page) = page {
                    let own = sequence.pages[group][0].replace(page).expect("the sequence has a state");
                    self.pools[group].release(program, own);
                }
            }
        }
        let kept = std::mem::take(&mut sequence.marks);
        let (stay, gone): (Vec<_>, Vec<_>) = kept.into_iter().partition(|(tokens, _)| *tokens <= length);
        gone.iter().for_each(|(_, pages)| self.release_pages(program, pages));
        sequence.marks = stay;
        sequence.tokens.truncate(length);
        for node in sequence.path.drain((length / BLOCK_TOKENS).min(sequence.path.len())..) {
            self.prefixes.node_mut(node).holders -= 1;
        }
        for group in 0..self.layout.groups.len() {
            let recurrent = self.layout.groups[group].is_recurrent();
            let keep = if recurrent { usize::from(length > 0) } else { length.div_ceil(BLOCK_TOKENS) };
            while sequence.pages[group].len() > keep {
                if let Some(page) = sequence.pages[group].pop().flatten() {
                    self.pools[group].release(program, page);
                }
            }
            // Pages that others hold are never written again.
            if let (false, Some(Some(page))) =
                (recurrent || length.is_multiple_of(BLOCK_TOKENS), sequence.pages[group].last().copied())
                && !self.pools[group].is_held_once(page)
            {
                let copy = self.take(program, group)?;
                program.copy(group, page, copy);
                *sequence.pages[group].last_mut().expect("it has a last page") = Some(copy);
                self.pools[group].release(program, page);
            }
        }
        Ok(true)
    }

    /// Ends a sequence. Its state stays cached for a later prompt of the same caller with the same prefix, until evicted.
    pub fn end(&mut self, program: &mut dyn Program, mut sequence: Sequence) {
        if !sequence.is_empty() {
            self.keep_end(program, &mut sequence, false);
        }
        self.discard(program, sequence);
    }

    /// Drops a sequence whose state is invalid (its step failed).
    pub fn discard(&mut self, program: &mut dyn Program, sequence: Sequence) {
        sequence.path.iter().for_each(|&node| self.prefixes.node_mut(node).holders -= 1);
        for (group, pages) in sequence.pages.into_iter().enumerate() {
            pages.into_iter().flatten().for_each(|page| self.pools[group].release(program, page));
        }
        sequence.marks.iter().for_each(|(_, pages)| self.release_pages(program, pages));
    }

    /// What its sequences keep.
    pub(super) fn layout(&self) -> &StateLayout {
        &self.layout
    }

    /// A page that nobody holds; `None`: there is none, or no memory for one.
    pub(super) fn take_free(&mut self, program: &mut dyn Program, group: usize) -> Option<PageId> {
        self.pools[group].take(program).ok().flatten()
    }

    pub(super) fn release_pages(&mut self, program: &mut dyn Program, pages: &[Option<PageId>]) {
        for (group, page) in pages.iter().enumerate() {
            page.iter().for_each(|&page| self.pools[group].release(program, page));
        }
    }

    fn release_node(&mut self, program: &mut dyn Program, node: Node) {
        self.release_pages(program, &node.pages);
        node.checkpoints.iter().for_each(|(_, pages)| self.release_pages(program, pages));
    }

    /// Takes a page for exclusive use, evicting cached prefixes if needed.
    fn take(&mut self, program: &mut dyn Program, group: usize) -> Result<PageId, StateError> {
        loop {
            match self.pools[group].take(program) {
                Ok(Some(page)) => return Ok(page),
                Ok(None) if self.give_up(program, group) => {}
                Ok(None) => return Err(StateError::NoRoom),
                // What is kept goes before a running sequence fails for lack of memory.
                Err(_) if (0..self.pools.len()).any(|group| self.give_up(program, group)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether nothing but the tree of prefixes holds a page.
    pub(super) fn is_only_kept(&self, group: usize, page: PageId) -> bool {
        self.pools[group].is_held_once(page)
    }

    /// Evicts a group's least recently used cached page; `false` if there is none.
    pub(super) fn give_up(&mut self, program: &mut dyn Program, group: usize) -> bool {
        let pool = &self.pools[group];
        let kept_only = |node: &Node| node.pages[group].is_some_and(|page| pool.is_held_once(page));
        match self.layout.groups[group] {
            StateGroup::Recurrent { .. } => {
                let Some(oldest) = self.prefixes.oldest(|node| !node.checkpoints.is_empty()) else { return false };
                let (_, pages) = self.prefixes.node_mut(oldest).checkpoints.remove(0);
                self.release_pages(program, &pages);
            }
            StateGroup::Paged { window: Some(_), .. } => {
                let Some(oldest) = self.prefixes.oldest(kept_only) else { return false };
                let page = self.prefixes.node_mut(oldest).pages[group].take();
                page.iter().for_each(|&page| self.pools[group].release(program, page));
            }
            StateGroup::Paged { window: None, .. } => {
                let Some(oldest) = self.prefixes.oldest(|node| node.is_loose() && kept_only(node)) else {
                    return false;
                };
                let gone = self.prefixes.remove(oldest);
                self.release_node(program, gone);
            }
        }
        self.evicted += 1;
        true
    }
}
