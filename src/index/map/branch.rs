//! The nodes above the leaves.

use super::super::key::Key;
use super::heads::Heads;
use super::known::Known;
use super::leaf::Leaf;
use super::pool::{Id, Pool};
use super::row::Row;
use super::shape::{FULL, New};

/// The leaves of a map.
pub(super) type Leaves<const N: usize, const ROOM: usize> = Pool<Leaf<N, ROOM>>;

/// A subtree. All its leaves are at the same depth, and so are its bare nodes.
#[derive(Debug)]
pub(super) enum Node<const N: usize, const ROOM: usize> {
    /// A leaf with at least one entry.
    Leaf(Id),
    /// In the place of a leaf: a range without a record. It takes no memory of the leaves' pool.
    Bare(Box<Known>),
    Branch(Box<Branch<N, ROOM>>),
}

/// Up to `N` children, and one separator fewer. A separator is above all keys of the child before it, and not above any
/// key of the child behind it.
#[derive(Debug)]
pub(super) struct Branch<const N: usize, const ROOM: usize> {
    heads: Heads<N>,
    children: Row<Node<N, ROOM>, N>,
    separators: Vec<Key>,
}

/// The new right sibling of a node that split, and the separator before it.
pub(super) type Split<const N: usize, const ROOM: usize> = (Key, Node<N, ROOM>);

impl<const N: usize, const ROOM: usize> Node<N, ROOM> {
    /// A node at most this full is merged with a sibling, if both together are at most [`Node::DENSE`].
    const SPARSE: usize = FULL / 4;
    const DENSE: usize = FULL - FULL / 4;

    /// How full it is, of [`FULL`]; 0 if it is empty.
    fn fullness(&self, leaves: &Leaves<N, ROOM>) -> usize {
        match self {
            Node::Leaf(leaf) => leaves[*leaf].fullness(),
            Node::Bare(_) => 0,
            Node::Branch(branch) => (branch.children.len() * FULL).div_ceil(N),
        }
    }

    /// Inserts an entry whose key is not there. If the node splits, returns the new right sibling.
    pub(super) fn insert(&mut self, new: &New<'_>, leaves: &mut Leaves<N, ROOM>) -> Option<Split<N, ROOM>> {
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
            Node::Bare(known) => {
                let id = leaves.add();
                leaves[id].known = **known;
                leaves[id].insert(0, new);
                *self = Node::Leaf(id);
                None
            }
            Node::Branch(branch) => {
                let index = branch.route(new.key);
                let split = branch.children[index].insert(new, leaves)?;
                branch.insert_behind(index, split).map(|(separator, right)| (separator, Node::Branch(right)))
            }
        }
    }

    /// Removes an entry, if it is there. A leaf may become bare.
    pub(super) fn remove(&mut self, key: &[u8], leaves: &mut Leaves<N, ROOM>) -> Option<()> {
        match self {
            Node::Leaf(id) => {
                let leaf = &mut leaves[*id];
                let index = leaf.search(key).ok()?;
                leaf.remove(index);
                self.bare_if_empty(leaves);
                Some(())
            }
            Node::Bare(_) => None,
            Node::Branch(branch) => {
                let index = branch.route(key);
                branch.children[index].remove(key, leaves)?;
                branch.mend(index, leaves);
                Some(())
            }
        }
    }

    /// Has the leaf that has `key` forget what `forget` takes from it, and mends the branches above.
    pub(super) fn forget(
        &mut self,
        key: &[u8],
        leaves: &mut Leaves<N, ROOM>,
        forget: &mut impl FnMut(&mut Leaf<N, ROOM>),
    ) {
        match self {
            Node::Leaf(id) => {
                forget(&mut leaves[*id]);
                self.bare_if_empty(leaves);
            }
            Node::Bare(_) => {}
            Node::Branch(branch) => {
                let index = branch.route(key);
                branch.children[index].forget(key, leaves, forget);
                branch.mend(index, leaves);
            }
        }
    }

    /// A leaf without an entry gives its memory back.
    pub(super) fn bare_if_empty(&mut self, leaves: &mut Leaves<N, ROOM>) {
        if let Node::Leaf(id) = self
            && leaves[*id].len() == 0
        {
            let known = leaves.take(*id).known;
            *self = Node::Bare(Box::new(known));
        }
    }

    /// What it knows, if it is a bare node, or has one below and nothing else.
    fn only_bare(&self) -> Option<Known> {
        match self {
            Node::Leaf(_) => None,
            Node::Bare(known) => Some(**known),
            Node::Branch(branch) if branch.children.len() == 1 => branch.children[0].only_bare(),
            Node::Branch(_) => None,
        }
    }

    /// The first node in the place of a leaf, or the last.
    fn outermost(&mut self, is_last: bool) -> &mut Node<N, ROOM> {
        match self {
            Node::Branch(branch) => {
                let index = if is_last { branch.children.len() - 1 } else { 0 };
                branch.children[index].outermost(is_last)
            }
            _ => self,
        }
    }

    /// The node in the place of a leaf that has `key`, or would have it.
    pub(super) fn node_of(&mut self, key: &[u8]) -> &mut Node<N, ROOM> {
        match self {
            Node::Leaf(_) | Node::Bare(_) => self,
            Node::Branch(branch) => {
                let index = branch.route(key);
                branch.children[index].node_of(key)
            }
        }
    }

    /// Makes `key` a separator, unless a range begins there. Returns the new right sibling, if there is one.
    pub(super) fn cut(&mut self, key: &[u8], leaves: &mut Leaves<N, ROOM>) -> Option<Split<N, ROOM>> {
        match self {
            Node::Leaf(id) => {
                let (Ok(index) | Err(index)) = leaves[*id].search(key);
                let behind = leaves.add();
                let (left, right) = leaves.two_mut(*id, behind);
                left.cut(right, index);
                let mut right = Node::Leaf(behind);
                right.bare_if_empty(leaves);
                self.bare_if_empty(leaves);
                Some((Key::from(key), right))
            }
            Node::Bare(known) => Some((Key::from(key), Node::Bare(known.clone()))),
            Node::Branch(branch) => {
                let index = branch.route(key);
                if index.checked_sub(1).is_some_and(|before| branch.separators[before].as_slice() == key) {
                    return None;
                }
                let split = branch.children[index].cut(key, leaves)?;
                branch.insert_behind(index, split).map(|(separator, right)| (separator, Node::Branch(right)))
            }
        }
    }

    /// Shows each node in the place of a leaf that has keys of `range`, whose bounds are separators or the ends.
    pub(super) fn each(
        &mut self,
        (low, high): (&[u8], Option<&[u8]>),
        leaves: &mut Leaves<N, ROOM>,
        show: &mut impl FnMut(&mut Node<N, ROOM>, &mut Leaves<N, ROOM>),
    ) {
        let Node::Branch(branch) = self else { return show(self, leaves) };
        let first = branch.route(low);
        // A separator is the lowest key of the child behind it.
        let end = high.map_or(branch.children.len(), |high| 1 + branch.separators.partition_point(|key| **key < *high));
        for index in first..end {
            branch.children[index].each((low, high), leaves, show);
        }
    }

    /// Adds the ids of the leaves below to `ids`, in order.
    pub(super) fn leaf_ids(&self, ids: &mut Vec<Id>) {
        match self {
            Node::Leaf(id) => ids.push(*id),
            Node::Bare(_) => {}
            Node::Branch(branch) => {
                for index in 0..branch.children.len() {
                    branch.children[index].leaf_ids(ids);
                }
            }
        }
    }

    /// Appends the contents of `right`, the next node on the same level.
    fn append(&mut self, separator: Key, right: Node<N, ROOM>, leaves: &mut Leaves<N, ROOM>) {
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

impl<const N: usize, const ROOM: usize> Branch<N, ROOM> {
    pub(super) fn new(children: Row<Node<N, ROOM>, N>, separators: Vec<Key>) -> Box<Self> {
        let mut branch = Box::new(Branch { heads: Heads::new(), children, separators });
        branch.rebuild();
        branch
    }

    pub(super) fn over(left: Node<N, ROOM>, (separator, right): Split<N, ROOM>) -> Box<Self> {
        let (mut children, mut separators) = (Row::new(), Vec::with_capacity(N));
        children.push(left);
        children.push(right);
        separators.push(separator);
        Branch::new(children, separators)
    }

    pub(super) fn children(&self) -> &Row<Node<N, ROOM>, N> {
        &self.children
    }

    /// The child, if there is only one.
    pub(super) fn pop_only_child(&mut self) -> Option<Node<N, ROOM>> {
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
    fn insert_behind(&mut self, index: usize, split: Split<N, ROOM>) -> Option<(Key, Box<Self>)> {
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

    fn put_behind(&mut self, index: usize, (separator, node): Split<N, ROOM>) {
        let separators = &self.separators;
        self.heads.insert(index, &separator, |index| &separators[index]);
        self.separators.insert(index, separator);
        self.children.insert(index + 1, node);
    }

    /// Leaves the range of the child at `index` to a sibling if it is bare, or merges it with one if it is sparse. Two
    /// ranges that know different things stay apart (rule 5).
    fn mend(&mut self, index: usize, leaves: &mut Leaves<N, ROOM>) {
        if let Some(known) = self.children[index].only_bare()
            && self.join_bare(index, known, leaves)
        {
            return;
        }
        let fullness = self.children[index].fullness(leaves);
        if fullness <= Node::<N, ROOM>::SPARSE {
            let fits = |other: &usize| {
                *other < self.children.len()
                    && self.are_alike(index, *other, leaves)
                    && self.children[*other].fullness(leaves) + fullness <= Node::<N, ROOM>::DENSE
            };
            if let Some(left) = index.checked_sub(1).filter(fits) {
                self.merge(left, leaves);
            } else if fits(&(index + 1)) {
                self.merge(index, leaves);
            }
        }
    }

    /// Whether two children are branches, or leaves that are alike.
    fn are_alike(&self, a: usize, b: usize, leaves: &Leaves<N, ROOM>) -> bool {
        match (&self.children[a], &self.children[b]) {
            (Node::Leaf(a), Node::Leaf(b)) => leaves[*a].known.is_like(&leaves[*b].known),
            (Node::Branch(_), Node::Branch(_)) => true,
            _ => false,
        }
    }

    /// Leaves the range of the child at `index`, in which there is one bare node and no other, to a sibling whose next node
    /// knows as much.
    fn join_bare(&mut self, index: usize, known: Known, leaves: &mut Leaves<N, ROOM>) -> bool {
        for sibling in [index.checked_sub(1), Some(index + 1)].into_iter().flatten() {
            if sibling == self.children.len() {
                return false;
            }
            let of_sibling = match self.children[sibling].outermost(sibling < index) {
                Node::Leaf(id) => &mut leaves[*id].known,
                Node::Bare(known) => known,
                Node::Branch(_) => unreachable!("the outermost node is none"),
            };
            if of_sibling.is_like(&known) {
                *of_sibling = of_sibling.join(known);
                self.children.remove(index);
                self.remove_separator(index.min(sibling));
                return true;
            }
        }
        false
    }

    /// Merges the child at `index` with the one behind it.
    fn merge(&mut self, index: usize, leaves: &mut Leaves<N, ROOM>) {
        let separator = self.remove_separator(index);
        if let Some(right) = self.children.remove(index + 1) {
            self.children[index].append(separator, right, leaves);
        }
    }

    fn remove_separator(&mut self, index: usize) -> Key {
        self.heads.remove(index);
        self.separators.remove(index)
    }

    fn append(&mut self, separator: Key, mut right: Branch<N, ROOM>) {
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

    pub(super) fn separators(&self) -> &[Key] {
        &self.separators
    }
}
