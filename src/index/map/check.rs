//! For tests: the invariants of a whole tree.

use super::super::key::Key;
use super::branch::Node;
use super::btree::BTree;
use super::known::Known;

/// The size of a tree.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Shape {
    pub(in super::super) nodes: usize,
    /// The number of levels, leaves included.
    pub(in super::super) height: usize,
}

impl<const N: usize, const ROOM: usize> BTree<N, ROOM> {
    pub(in super::super) fn shape(&self) -> Shape {
        fn walk<const N: usize, const ROOM: usize>(node: &Node<N, ROOM>) -> Shape {
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

    /// Panics unless the invariants hold: order in each node and across nodes, equal depth of leaves, no empty leaf.
    pub(in super::super) fn check(&self) {
        if let Node::Branch(branch) = &self.root {
            assert!(branch.children().len() > 1);
        }
        check(self, &self.root, None, None);
    }
}

/// Checks a subtree with keys from `low` on and below `high`; returns its height.
fn check<const N: usize, const ROOM: usize>(
    map: &BTree<N, ROOM>,
    node: &Node<N, ROOM>,
    low: Option<&Key>,
    high: Option<&Key>,
) -> usize {
    let knows = |known: &Known| {
        assert!(known.forgot <= map.forgot && known.complete_from <= map.complete_from, "{known:?}");
    };
    match node {
        Node::Bare(known) => {
            knows(known);
            1
        }
        Node::Leaf(id) => {
            let leaf = &map.leaves[*id];
            assert!(leaf.len() <= N && leaf.len() > 0);
            leaf.check();
            knows(&leaf.known);
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
                let below = check(map, child, low, separators.get(index).or(high));
                assert!(*height.get_or_insert(below) == below);
            }
            1 + height.unwrap_or_default()
        }
    }
}
