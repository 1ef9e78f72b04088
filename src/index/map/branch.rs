//! The nodes above the leaves.

use super::super::key::Key;
use super::heads::Heads;
use super::leaf::Leaf;
use super::pool::{Id, Pool};
use super::row::Row;
use super::shape::{FULL, New};

/// The leaves of a map.
pub(super) type Leaves<const N: usize> = Pool<Leaf<N>>;

/// A subtree. All its leaves are at the same depth.
#[derive(Debug)]
pub(super) enum Node<const N: usize> {
    Leaf(Id),
    Branch(Box<Branch<N>>),
}

/// Up to `N` children, and one separator fewer. A separator is above all keys of the child before it, and not above any
/// key of the child behind it.
#[derive(Debug)]
pub(super) struct Branch<const N: usize> {
    heads: Heads<N>,
    children: Row<Node<N>, N>,
    separators: Vec<Key>,
}

/// The new right sibling of a node that split, and the separator before it.
pub(super) type Split<const N: usize> = (Key, Node<N>);

impl<const N: usize> Node<N> {
    /// A node at most this full is merged with a sibling, if both together are at most [`Node::DENSE`].
    const SPARSE: usize = FULL / 4;
    const DENSE: usize = FULL - FULL / 4;

    /// How full it is, of [`FULL`]; 0 if it is empty.
    fn fullness(&self, leaves: &Leaves<N>) -> usize {
        match self {
            Node::Leaf(leaf) => leaves[*leaf].fullness(),
            Node::Branch(branch) => (branch.children.len() * FULL).div_ceil(N),
        }
    }

    /// Inserts an entry whose key is not there. If the node splits, returns the new right sibling.
    pub(super) fn insert(&mut self, new: &New<'_>, leaves: &mut Leaves<N>) -> Option<Split<N>> {
        match self {
            Node::Leaf(id) => {
                let leaf = &mut leaves[*id];
                let (Ok(index) | Err(index)) = leaf.search(new.key);
                if leaf.has_room(new) {
                    leaf.insert(index, new);
                    return None;
                }
                let behind = leaves.add();
                let (left, right) = leaves.two_mut(*id, behind);
                Some((left.split(right, index, new), Node::Leaf(behind)))
            }
            Node::Branch(branch) => {
                let index = branch.route(new.key);
                let split = branch.children[index].insert(new, leaves)?;
                branch.insert_behind(index, split).map(|(separator, right)| (separator, Node::Branch(right)))
            }
        }
    }

    /// Removes an entry, if it is there. The node may become empty.
    pub(super) fn remove(&mut self, key: &[u8], leaves: &mut Leaves<N>) -> Option<()> {
        match self {
            Node::Leaf(id) => {
                let leaf = &mut leaves[*id];
                let index = leaf.search(key).ok()?;
                leaf.remove(index);
                Some(())
            }
            Node::Branch(branch) => {
                let index = branch.route(key);
                branch.children[index].remove(key, leaves)?;
                branch.mend(index, leaves);
                Some(())
            }
        }
    }

    /// The leaf that has `key`, or would have it.
    pub(super) fn leaf_of(&mut self, key: &[u8]) -> &mut Id {
        match self {
            Node::Leaf(id) => id,
            Node::Branch(branch) => {
                let index = branch.route(key);
                branch.children[index].leaf_of(key)
            }
        }
    }

    /// Adds the ids of the leaves below to `ids`, in order.
    pub(super) fn leaf_ids(&self, ids: &mut Vec<Id>) {
        match self {
            Node::Leaf(id) => ids.push(*id),
            Node::Branch(branch) => {
                for index in 0..branch.children.len() {
                    branch.children[index].leaf_ids(ids);
                }
            }
        }
    }

    /// Appends the contents of `right`, the next node on the same level.
    fn append(&mut self, separator: Key, right: Node<N>, leaves: &mut Leaves<N>) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                let taken = leaves.take(right);
                leaves[*left].append_all(taken);
            }
            (Node::Branch(left), Node::Branch(right)) => left.append(separator, *right),
            _ => unreachable!("all leaves are equally deep"),
        }
    }
}

impl<const N: usize> Branch<N> {
    pub(super) fn new(children: Row<Node<N>, N>, separators: Vec<Key>) -> Box<Self> {
        let mut branch = Box::new(Branch { heads: Heads::new(), children, separators });
        branch.rebuild();
        branch
    }

    pub(super) fn over(left: Node<N>, (separator, right): Split<N>) -> Box<Self> {
        let (mut children, mut separators) = (Row::new(), Vec::with_capacity(N));
        children.push(left);
        children.push(right);
        separators.push(separator);
        Branch::new(children, separators)
    }

    pub(super) fn children(&self) -> &Row<Node<N>, N> {
        &self.children
    }

    /// The child, if there is only one.
    pub(super) fn pop_only_child(&mut self) -> Option<Node<N>> {
        if self.children.len() == 1 { self.children.pop() } else { None }
    }

    /// The index of the child that has `key`, or would have it.
    #[inline]
    pub(super) fn route(&self, key: &[u8]) -> usize {
        match self.heads.search(key, |_| (), |index| &self.separators[index]) {
            Ok(index) => index + 1,
            Err(index) => index,
        }
    }

    /// Inserts the new right sibling of the child at `index`. If this branch splits, returns the new right sibling of
    /// the branch.
    fn insert_behind(&mut self, index: usize, split: Split<N>) -> Option<(Key, Box<Self>)> {
        if self.children.len() < N {
            self.put_behind(index, split);
            return None;
        }
        let (mut children, mut separators) = (Row::new(), Vec::with_capacity(N));
        if index + 1 == N {
            // As with leaves, keys that arrive in order leave full branches behind.
            children.push(split.1);
            return Some((split.0, Branch::new(children, separators)));
        }
        let middle = N / 2;
        children.take_from(&mut self.children, middle);
        separators.extend(self.separators.drain(middle..));
        let separator = self.separators.pop()?;
        let mut right = Branch::new(children, separators);
        self.heads.truncate(0);
        self.rebuild();
        match index.checked_sub(middle) {
            Some(index) => right.put_behind(index, split),
            None => self.put_behind(index, split),
        }
        Some((separator, right))
    }

    fn put_behind(&mut self, index: usize, (separator, node): Split<N>) {
        let separators = &self.separators;
        self.heads.insert(index, &separator, |index| &separators[index]);
        self.separators.insert(index, separator);
        self.children.insert(index + 1, node);
    }

    /// Drops the child at `index` if it is empty, or merges it with a sibling if it is sparse.
    fn mend(&mut self, index: usize, leaves: &mut Leaves<N>) {
        let fullness = self.children[index].fullness(leaves);
        if fullness == 0 {
            if let Some(Node::Leaf(empty)) = self.children.remove(index) {
                leaves.take(empty);
            }
            if !self.separators.is_empty() {
                self.remove_separator(index.saturating_sub(1));
            }
        } else if fullness <= Node::<N>::SPARSE {
            let fits = |other: &usize| {
                *other < self.children.len() && self.children[*other].fullness(leaves) + fullness <= Node::<N>::DENSE
            };
            if let Some(left) = index.checked_sub(1).filter(fits) {
                self.merge(left, leaves);
            } else if fits(&(index + 1)) {
                self.merge(index, leaves);
            }
        }
    }

    /// Merges the child at `index` with the one behind it.
    fn merge(&mut self, index: usize, leaves: &mut Leaves<N>) {
        let separator = self.remove_separator(index);
        if let Some(right) = self.children.remove(index + 1) {
            self.children[index].append(separator, right, leaves);
        }
    }

    fn remove_separator(&mut self, index: usize) -> Key {
        self.heads.remove(index);
        self.separators.remove(index)
    }

    fn append(&mut self, separator: Key, mut right: Branch<N>) {
        self.children.take_from(&mut right.children, 0);
        self.separators.push(separator);
        self.separators.append(&mut right.separators);
        self.rebuild();
    }

    fn rebuild(&mut self) {
        let separators = &self.separators;
        self.heads.rebuild(separators.len(), |index| &separators[index]);
    }

    /// Panics unless the branch is in order.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.children.len(), self.separators.len() + 1);
        self.heads.check(self.separators.len(), |index| &self.separators[index]);
    }

    #[cfg(test)]
    pub(super) fn separators(&self) -> &[Key] {
        &self.separators
    }
}
