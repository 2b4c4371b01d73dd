//! Sequences and the pages they hold; kept prefixes are given up, least recently used first, when pages run out.

use super::pool::Pool;
use super::prefix::{EVERYONE, Node, NodeId, PrefixTree};
use crate::TokenId;
use crate::device::{DeviceError, Program};
use crate::plan::{BLOCK_TOKENS, PageId, StateGroup, StateLayout};

/// Nodes of kept prefixes at the most: recurrent models have nodes without pages, which nothing else would bound.
const MOST_NODES: usize = 1 << 16;

/// Why a sequence cannot grow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Every page is held by a sequence that runs.
    #[error("no room is left for what the sequences keep")]
    NoRoom,
    /// The device has no memory for a page.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A sequence's tokens that have state, and the pages that hold it.
#[derive(Debug, Default)]
pub struct Sequence {
    owner: u64,
    tokens: Vec<TokenId>,
    /// For each group its pages, in order of position; `None`: a window has passed it. Recurrent groups have one.
    pages: Vec<Vec<Option<PageId>>>,
    /// The whole blocks at the beginning that are known to others.
    path: Vec<NodeId>,
    /// Copies of recurrent states at earlier lengths: `(tokens, a page for each recurrent group)`.
    marks: Vec<(usize, Vec<Option<PageId>>)>,
}

impl Sequence {
    /// Positions with state (or about to get it in the step being built).
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Takes back the tokens from `length` on, of which none was computed yet. Their pages stay for those to come.
    pub fn forget_from(&mut self, length: usize) {
        self.tokens.truncate(length);
    }

    /// The pages of each group.
    pub fn pages(&self) -> &[Vec<Option<PageId>>] {
        &self.pages
    }
}

/// What is kept for the sequences of one model: a fixed number of pages of each group.
#[derive(Debug)]
pub struct StateCache {
    layout: StateLayout,
    pools: Vec<Pool>,
    prefixes: PrefixTree,
    /// What prompts of all callers may begin with, known to all.
    shared: Vec<TokenId>,
}

impl StateCache {
    /// A cache for `sequences` sequences of `positions` positions at once, in steps of at most `step_tokens` rows of each.
    pub fn new(layout: &StateLayout, sequences: usize, positions: usize, step_tokens: usize) -> Self {
        let pages = Self::pages(layout, sequences, positions, step_tokens);
        let pools = pages.into_iter().enumerate().map(|(group, pages)| Pool::new(group, pages)).collect();
        Self { layout: layout.clone(), pools, prefixes: PrefixTree::default(), shared: Vec::new() }
    }

    /// Lets all callers share the whole blocks at the beginning of these tokens: what everyone's prompt begins with and no
    /// caller wrote.
    pub fn share(&mut self, tokens: Vec<TokenId>) {
        self.shared = tokens;
    }

    /// Pages of each group that such a cache holds at the most.
    pub fn pages(layout: &StateLayout, sequences: usize, positions: usize, step_tokens: usize) -> Vec<usize> {
        let pages = layout.groups.iter().map(|group| {
            let whole = positions.div_ceil(BLOCK_TOKENS);
            let held = group.pages(positions, step_tokens);
            match group {
                // Whoever goes on from within a page has a copy beside the original.
                StateGroup::Paged { window: None, .. } => held + 1,
                // As much again for what ended sequences leave to their successors.
                StateGroup::Paged { window: Some(_), .. } => (2 * held + 1).min(whole + 1),
                // The sequence's own, and copies after its prompt and where the last one ended.
                StateGroup::Recurrent { .. } => 3,
            }
        });
        pages.map(|pages| pages * sequences).collect()
    }

    /// Tokens for which there is room for certain in one more sequence.
    pub fn room(&self) -> usize {
        let paged = self.layout.groups.iter().zip(&self.pools).filter(|(group, _)| !group.is_recurrent());
        paged.map(|(_, pool)| pool.free_pages() * BLOCK_TOKENS).min().unwrap_or(usize::MAX)
    }

    /// Pages of a group that nobody holds.
    pub fn free_pages(&self, group: usize) -> usize {
        self.pools[group].free_pages()
    }

    /// Begins a sequence of `owner` with the longest kept beginning of `prompt`; at least the prompt's last token is left to
    /// compute. The length of the result says how many tokens need no computing.
    pub fn begin(&mut self, program: &mut dyn Program, owner: u64, prompt: &[TokenId]) -> Sequence {
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        let found = self.prefixes.find(owner, usable);
        let mut nodes = found.path.clone();
        nodes.extend(found.partial.map(|(node, _)| node));
        let mut sequence = self.empty(owner);
        for length in self.lengths(&nodes, found.len()) {
            match self.resume(program, &mut sequence, &nodes, &usable[..length], found.path.len()) {
                Ok(()) => return sequence,
                // No room for a copy: what is there is still of use up to a shorter length.
                Err(_) => self.discard(program, std::mem::replace(&mut sequence, self.empty(owner))),
            }
        }
        sequence
    }

    fn empty(&self, owner: u64) -> Sequence {
        Sequence { owner, pages: vec![Vec::new(); self.layout.groups.len()], ..Sequence::default() }
    }

    /// Lengths at which a sequence can go on, longest first, of `known` tokens along `nodes`.
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

    /// Whether every page that is looked back to from `length` is still there.
    fn windows_are_held(&self, nodes: &[NodeId], length: usize) -> bool {
        self.layout.groups.iter().enumerate().all(|(group, shape)| {
            let mut blocks = self.first_seen(group, length)..length.div_ceil(BLOCK_TOKENS);
            shape.is_recurrent() || blocks.all(|block| self.prefixes.node(nodes[block]).pages[group].is_some())
        })
    }

    /// The first block that a group's layers look back to from `length` positions.
    fn first_seen(&self, group: usize, length: usize) -> usize {
        match self.layout.groups[group] {
            StateGroup::Paged { window: Some(window), .. } => (length + 1).saturating_sub(window) / BLOCK_TOKENS,
            _ => 0,
        }
    }

    /// Takes over the pages of `tokens`, which are kept along `nodes`, the first `whole` of them whole blocks.
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
                // What a window has passed is left to be given up.
                let page = self.prefixes.node(node).pages[group].filter(|_| block >= first);
                page.iter().for_each(|&page| self.pools[group].hold(page));
                sequence.pages[group].push(page);
            }
            // The rest lies in a page that this sequence will go on writing: it gets a copy of its own.
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

    /// Gives back what windows have passed; before a step's first row of the sequence.
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
    /// Where there is no room for it; nothing changed then, but for kept prefixes that were given up.
    pub fn push(
        &mut self,
        program: &mut dyn Program,
        sequence: &mut Sequence,
        token: TokenId,
    ) -> Result<(), StateError> {
        let block = sequence.tokens.len() / BLOCK_TOKENS;
        for group in 0..self.layout.groups.len() {
            let wanted = if self.layout.groups[group].is_recurrent() { 1 } else { block + 1 };
            // After an error, some groups have their page already.
            if sequence.pages[group].len() < wanted {
                let page = self.take(program, group)?;
                sequence.pages[group].push(Some(page));
            }
        }
        sequence.tokens.push(token);
        Ok(())
    }

    /// Makes the blocks that have become full known to others. Only once the step that computed them is through.
    pub fn commit(&mut self, program: &mut dyn Program, sequence: &mut Sequence) {
        while (sequence.path.len() + 1) * BLOCK_TOKENS <= sequence.tokens.len() {
            let block = sequence.path.len();
            let tokens = sequence.tokens[block * BLOCK_TOKENS..(block + 1) * BLOCK_TOKENS].to_vec();
            let node = self.publish(program, sequence, block, &tokens);
            self.prefixes.node_mut(node).holders += 1;
            sequence.path.push(node);
        }
    }

    /// The node of a block of the sequence. Where others have the same tokens already, their pages take the place of its own:
    /// they hold the same bits.
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
        // Shorter beginnings of the same block are of no use beside it.
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

    /// Whose a block is: everyone's, where it and all before it are a whole beginning of what all share.
    fn owner_of(&self, sequence: &Sequence, block: usize, tokens: usize) -> u64 {
        let end = block * BLOCK_TOKENS + tokens;
        let is_shared =
            tokens == BLOCK_TOKENS && self.shared.get(..end).is_some_and(|shared| shared == &sequence.tokens[..end]);
        if is_shared { EVERYONE } else { sequence.owner }
    }

    /// Makes all of the sequence known, its last block too, and keeps a copy of its recurrent state: a later prompt can go on
    /// from here.
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

    /// Copies of the recurrent pages of a sequence, a page for each recurrent group.
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

    /// Remembers the sequence's length, so that [`StateCache::truncate`] can come back to it. Costs a copy of what is recurrent.
    ///
    /// # Errors
    /// Where there is no room for the copy.
    pub fn mark(&mut self, program: &mut dyn Program, sequence: &mut Sequence) -> Result<(), StateError> {
        let pages = self.copy_recurrent(program, sequence)?;
        sequence.marks.push((sequence.len(), pages));
        Ok(())
    }

    /// Takes the tokens from `length` on back. `Ok(false)`: a recurrent state at that length was not kept, and nothing changed.
    ///
    /// # Errors
    /// Where there is no room for the copy of a page that others hold; the sequence is to be discarded then.
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
            // A page that others hold is not written again.
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

    /// Ends a sequence. What it holds is kept for a later prompt of the same caller that begins alike, until room is needed.
    pub fn end(&mut self, program: &mut dyn Program, mut sequence: Sequence) {
        if !sequence.is_empty() {
            self.keep_end(program, &mut sequence, false);
        }
        self.discard(program, sequence);
    }

    /// Drops a sequence whose state cannot be trusted (its step failed).
    pub fn discard(&mut self, program: &mut dyn Program, sequence: Sequence) {
        sequence.path.iter().for_each(|&node| self.prefixes.node_mut(node).holders -= 1);
        for (group, pages) in sequence.pages.into_iter().enumerate() {
            pages.into_iter().flatten().for_each(|page| self.pools[group].release(program, page));
        }
        sequence.marks.iter().for_each(|(_, pages)| self.release_pages(program, pages));
    }

    fn release_pages(&mut self, program: &mut dyn Program, pages: &[Option<PageId>]) {
        for (group, page) in pages.iter().enumerate() {
            page.iter().for_each(|&page| self.pools[group].release(program, page));
        }
    }

    fn release_node(&mut self, program: &mut dyn Program, node: Node) {
        self.release_pages(program, &node.pages);
        node.checkpoints.iter().for_each(|(_, pages)| self.release_pages(program, pages));
    }

    /// A page of one's own; kept prefixes are given up for it where they must.
    fn take(&mut self, program: &mut dyn Program, group: usize) -> Result<PageId, StateError> {
        loop {
            if let Some(page) = self.pools[group].take(program)? {
                return Ok(page);
            }
            if !self.give_up(program, group) {
                return Err(StateError::NoRoom);
            }
        }
    }

    /// Gives up the kept page of a group that was used least recently; `false` where none can be.
    fn give_up(&mut self, program: &mut dyn Program, group: usize) -> bool {
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
        true
    }
}
