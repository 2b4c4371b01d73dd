//! Tokens with cached state, as a tree of blocks: a node's path from the root is all the tokens before it.
//!
//! Tokens are compared, not hashes of them, so prefixes cannot collide. Each caller has its own tree (`owner`): what one caller
//! wrote is never found by another. What belongs to everyone, a bundle's system prompt, is under [`EVERYONE`], and callers' trees
//! continue from there. Nodes with less than a whole block of tokens are leaves.

use std::collections::HashMap;

use crate::TokenId;
use crate::plan::{BLOCK_TOKENS, PageId};

/// The owner of what all callers share.
pub const EVERYONE: u64 = u64::MAX;

/// Index of a node.
pub(super) type NodeId = usize;

/// A block of tokens, and its cached state.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: Option<NodeId>,
    children: Vec<NodeId>,
    owner: u64,
    /// At most [`BLOCK_TOKENS`].
    pub(super) tokens: Vec<TokenId>,
    /// A page for each group; `None` for recurrent ones and evicted pages.
    pub(super) pages: Vec<Option<PageId>>,
    /// Recurrent states after this many of the node's tokens, a page for each recurrent group.
    pub(super) checkpoints: Vec<(usize, Vec<Option<PageId>>)>,
    /// Running sequences that use it.
    pub(super) holders: u32,
    /// When it was last used.
    used: u64,
}

impl Node {
    /// Whose it is.
    pub(super) fn owner(&self) -> u64 {
        self.owner
    }

    /// When it was last used, on the tree's own clock.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Whether nothing depends on it.
    pub(super) fn is_loose(&self) -> bool {
        self.children.is_empty() && self.holders == 0
    }
}

/// The cached part of a prompt.
#[derive(Debug, Default)]
pub(super) struct Match {
    /// Whole blocks, in order.
    pub(super) path: Vec<NodeId>,
    /// A node that shares a prefix with what follows, and the length of that prefix.
    pub(super) partial: Option<(NodeId, usize)>,
}

impl Match {
    /// Number of cached tokens.
    pub(super) fn len(&self) -> usize {
        self.path.len() * BLOCK_TOKENS + self.partial.map_or(0, |(_, common)| common)
    }
}

/// The trees of all callers.
#[derive(Debug, Default)]
pub(super) struct PrefixTree {
    nodes: Vec<Option<Node>>,
    vacant: Vec<NodeId>,
    roots: HashMap<u64, Vec<NodeId>>,
    clock: u64,
    /// Tokens of all nodes.
    tokens: usize,
}

fn common_prefix(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

impl PrefixTree {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.nodes[id].as_ref().expect("the node is there")
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id].as_mut().expect("the node is there")
    }

    /// The children of `parent` visible to `owner`.
    fn children(&self, owner: u64, parent: Option<NodeId>) -> impl Iterator<Item = NodeId> {
        let roots = |owner: u64| self.roots.get(&owner).map_or(&[][..], |roots| roots);
        let (first, second) = match parent {
            Some(parent) => (&self.node(parent).children[..], &[][..]),
            None if owner == EVERYONE => (roots(owner), &[][..]),
            None => (roots(owner), roots(EVERYONE)),
        };
        let known = move |child: &NodeId| [owner, EVERYONE].contains(&self.node(*child).owner);
        first.iter().chain(second).copied().filter(known)
    }

    /// The child of `parent` with exactly these tokens.
    pub(super) fn child(&self, owner: u64, parent: Option<NodeId>, tokens: &[TokenId]) -> Option<NodeId> {
        self.children(owner, parent).find(|&child| self.node(child).tokens == tokens)
    }

    /// The longest cached prefix of `tokens`.
    pub(super) fn find(&mut self, owner: u64, tokens: &[TokenId]) -> Match {
        let mut found = Match::default();
        self.clock += 1;
        for block in tokens.chunks(BLOCK_TOKENS) {
            let parent = found.path.last().copied();
            let whole = (block.len() == BLOCK_TOKENS).then(|| self.child(owner, parent, block)).flatten();
            if let Some(child) = whole {
                self.node_mut(child).used = self.clock;
                found.path.push(child);
                continue;
            }
            let children = self.children(owner, parent);
            let best = children.map(|child| (child, common_prefix(&self.node(child).tokens, block)));
            found.partial = best.max_by_key(|&(_, common)| common).filter(|&(_, common)| common > 0);
            if let Some((child, _)) = found.partial {
                self.node_mut(child).used = self.clock;
            }
            break;
        }
        found
    }

    /// Adds a child of `parent`.
    pub(super) fn insert(
        &mut self,
        owner: u64,
        parent: Option<NodeId>,
        tokens: &[TokenId],
        pages: Vec<Option<PageId>>,
    ) -> NodeId {
        self.clock += 1;
        self.tokens += tokens.len();
        let node = Node {
            parent,
            children: Vec::new(),
            owner,
            tokens: tokens.to_vec(),
            pages,
            checkpoints: Vec::new(),
            holders: 0,
            used: self.clock,
        };
        let id = match self.vacant.pop() {
            Some(id) => {
                self.nodes[id] = Some(node);
                id
            }
            None => {
                self.nodes.push(Some(node));
                self.nodes.len() - 1
            }
        };
        match parent {
            Some(parent) => self.node_mut(parent).children.push(id),
            None => self.roots.entry(owner).or_default().push(id),
        }
        id
    }

    /// Removes a leaf.
    pub(super) fn remove(&mut self, id: NodeId) -> Node {
        let node = self.nodes[id].take().expect("the node is there");
        debug_assert!(node.is_loose());
        self.tokens -= node.tokens.len();
        self.vacant.push(id);
        match node.parent {
            Some(parent) => self.node_mut(parent).children.retain(|&child| child != id),
            None => {
                let roots = self.roots.get_mut(&node.owner).expect("its root is there");
                roots.retain(|&root| root != id);
                if roots.is_empty() {
                    self.roots.remove(&node.owner);
                }
            }
        }
        node
    }

    /// Partial leaves below `parent` that are prefixes of `tokens`.
    pub(super) fn covered_by(&self, owner: u64, parent: Option<NodeId>, tokens: &[TokenId]) -> Vec<NodeId> {
        // Only its own: a shorter node's contents move to the longer one, and must not change owner.
        let children = self.children(owner, parent).filter(|&child| self.node(child).owner == owner);
        children
            .filter(|&child| {
                let known = &self.node(child).tokens;
                known.len() < tokens.len() && tokens.starts_with(known)
            })
            .collect()
    }

    /// The nodes of these owners, each behind its parent.
    pub(super) fn parents_first(&self, owners: &[u64]) -> Vec<NodeId> {
        let known = |&id: &NodeId| owners.contains(&self.node(id).owner);
        let mut roots: Vec<u64> = self.roots.keys().copied().filter(|owner| owners.contains(owner)).collect();
        roots.sort_unstable();
        let mut order: Vec<NodeId> = roots.iter().flat_map(|owner| &self.roots[owner]).copied().collect();
        let mut at = 0;
        while at < order.len() {
            let children = &self.node(order[at]).children;
            order.extend(children.iter().copied().filter(known));
            at += 1;
        }
        order
    }

    /// Sets when a node was last used.
    pub(super) fn set_used(&mut self, id: NodeId, used: u64) {
        self.clock = self.clock.max(used);
        self.node_mut(id).used = used;
    }

    /// Marks a node as used now.
    pub(super) fn touch(&mut self, id: NodeId) {
        self.clock += 1;
        let now = self.clock;
        self.node_mut(id).used = now;
    }

    /// The least recently used of the nodes that `wanted` accepts.
    pub(super) fn oldest(&self, wanted: impl Fn(&Node) -> bool) -> Option<NodeId> {
        let nodes = self.nodes.iter().enumerate().filter_map(|(id, node)| Some((id, node.as_ref()?)));
        nodes.filter(|(_, node)| wanted(node)).min_by_key(|(_, node)| node.used).map(|(id, _)| id)
    }

    /// All nodes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// Tokens of all nodes.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.vacant.len()
    }
}
