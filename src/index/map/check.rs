//! For tests: the invariants of a whole tree.

use super::super::key::Key;
use super::Map;
use super::branch::{Leaves, Node};

/// The size of a tree.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Shape {
    pub(in super::super) nodes: usize,
    /// The number of levels, leaves included.
    pub(in super::super) height: usize,
}

impl<const N: usize> Map<N> {
    pub(in super::super) fn shape(&self) -> Shape {
        fn walk<const N: usize>(node: &Node<N>) -> Shape {
            let Node::Branch(branch) = node else { return Shape { nodes: 1, height: 1 } };
            branch.children().iter().map(walk).fold(Shape { nodes: 1, height: 1 }, |all, child| Shape {
                nodes: all.nodes + child.nodes,
                height: child.height + 1,
            })
        }
        walk(&self.root)
    }

    /// The number of leaves, free ones included.
    pub(in super::super) fn leaf_count(&self) -> usize {
        self.leaves.len()
    }

    /// Panics unless the invariants hold: order in each node and across nodes, equal depth of leaves, no empty node.
    pub(in super::super) fn check(&self) {
        if let Node::Branch(branch) = &self.root {
            assert!(branch.children().len() > 1);
        }
        check(&self.root, &self.leaves, None, None, matches!(self.root, Node::Leaf(_)));
    }
}

/// Checks a subtree with keys from `low` on and below `high`; returns its height.
fn check<const N: usize>(
    node: &Node<N>,
    leaves: &Leaves<N>,
    low: Option<&Key>,
    high: Option<&Key>,
    may_be_empty: bool,
) -> usize {
    match node {
        Node::Leaf(id) => {
            let leaf = &leaves[*id];
            assert!(leaf.len() <= N && (may_be_empty || leaf.len() > 0));
            leaf.check();
            for index in 0..leaf.len() {
                let key = leaf.key(index);
                assert!(low.is_none_or(|low| **low <= *key) && high.is_none_or(|high| *key < **high));
            }
            1
        }
        Node::Branch(branch) => {
            branch.check();
            let separators = branch.separators();
            let mut height = None;
            for (index, child) in branch.children().iter().enumerate() {
                let low = index.checked_sub(1).map(|index| &separators[index]).or(low);
                let below = check(child, leaves, low, separators.get(index).or(high), false);
                assert!(*height.get_or_insert(below) == below);
            }
            1 + height.unwrap_or_default()
        }
    }
}
