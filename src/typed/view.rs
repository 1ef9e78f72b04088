//! A typed keyspace as a transaction, a snapshot or a batch has it.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use super::{PrefixOf, TypedKey, TypedKeyspace, TypedValue};
use crate::base::error::Result;
use crate::index::{Key, Value};
use crate::txn::{Entries, Keyspace, Snapshot, Transaction, WriteBatch};

/// What entries are read from: a transaction or a snapshot.
pub trait Reads: sealed::Sealed {
    #[doc(hidden)]
    fn read(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Value>>;
    #[doc(hidden)]
    fn read_range(&mut self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<Entries>;
    #[doc(hidden)]
    fn read_prefix(&mut self, keyspace: &Keyspace, prefix: &[u8]) -> Result<Entries>;
}

/// What writes go to: a transaction or a batch.
pub trait Writes: sealed::Sealed {
    #[doc(hidden)]
    fn write(&mut self, keyspace: &Keyspace, key: &[u8], value: Option<&[u8]>) -> Result<()>;
    #[doc(hidden)]
    fn write_range(&mut self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<()>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &mut super::Transaction {}
    impl Sealed for &super::Snapshot {}
    impl Sealed for &mut super::WriteBatch {}
}

/// A typed keyspace as `S` has it: [`Transaction::typed`], [`Snapshot::typed`], [`WriteBatch::typed`].
pub struct Typed<'k, S, K, V> {
    on: S,
    keyspace: &'k TypedKeyspace<K, V>,
}

impl Transaction {
    /// Its view of a typed keyspace.
    pub fn typed<'k, K, V>(&mut self, keyspace: &'k TypedKeyspace<K, V>) -> Typed<'k, &mut Self, K, V> {
        Typed { on: self, keyspace }
    }
}

impl Snapshot {
    /// Its view of a typed keyspace.
    pub fn typed<'k, K, V>(&self, keyspace: &'k TypedKeyspace<K, V>) -> Typed<'k, &Self, K, V> {
        Typed { on: self, keyspace }
    }
}

impl WriteBatch {
    /// Its view of a typed keyspace.
    pub fn typed<'k, K, V>(&mut self, keyspace: &'k TypedKeyspace<K, V>) -> Typed<'k, &mut Self, K, V> {
        Typed { on: self, keyspace }
    }
}

fn bytes_of<K: TypedKey>(key: &K::Borrowed) -> Vec<u8> {
    let mut bytes = Vec::new();
    K::encode(key, &mut bytes);
    bytes
}

fn bounds_of<K: TypedKey>(range: &impl RangeBounds<K>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let bytes = |bound: Bound<&K>| bound.map(|key| bytes_of::<K>(key.borrow()));
    (bytes(range.start_bound()), bytes(range.end_bound()))
}

fn slices(range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (range.0.as_ref().map(Vec::as_slice), range.1.as_ref().map(Vec::as_slice))
}

impl<S: Reads, K: TypedKey, V: TypedValue> Typed<'_, S, K, V> {
    /// The value of `key`.
    ///
    /// # Errors
    /// As [`Transaction::get`]; [`WrongType`](crate::ErrorKind::WrongType).
    pub fn get(&mut self, key: &K::Borrowed) -> Result<Option<V>> {
        let found = self.on.read(self.keyspace.keyspace(), &bytes_of::<K>(key))?;
        found.map(|value| self.keyspace.value(&value)).transpose()
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn contains(&mut self, key: &K::Borrowed) -> Result<bool> {
        Ok(self.on.read(self.keyspace.keyspace(), &bytes_of::<K>(key))?.is_some())
    }

    /// The entries in a range of keys, in their order; backwards with [`Iterator::rev`].
    ///
    /// # Errors
    /// As [`Transaction::range`].
    pub fn range(&mut self, range: impl RangeBounds<K>) -> Result<TypedEntries<K, V>> {
        let range = bounds_of(&range);
        let entries = self.on.read_range(self.keyspace.keyspace(), slices(&range))?;
        Ok(self.entries(entries))
    }

    /// All entries.
    ///
    /// # Errors
    /// As [`Transaction::range`].
    pub fn iter(&mut self) -> Result<TypedEntries<K, V>> {
        self.range(..)
    }

    /// The entries whose keys begin so: `&(7,)` for keys of the type `(u64, String)`, or a `str` for `String`.
    ///
    /// # Errors
    /// As [`Transaction::range`].
    pub fn prefix<P: PrefixOf<K> + ?Sized>(&mut self, prefix: &P) -> Result<TypedEntries<K, V>> {
        let mut bytes = Vec::new();
        prefix.encode_prefix(&mut bytes);
        let entries = self.on.read_prefix(self.keyspace.keyspace(), &bytes)?;
        Ok(self.entries(entries))
    }

    /// The entry with the smallest key.
    ///
    /// # Errors
    /// As [`Typed::get`].
    pub fn first(&mut self) -> Result<Option<(K, V)>> {
        self.iter()?.next().transpose()
    }

    /// The entry with the largest key.
    ///
    /// # Errors
    /// As [`Typed::get`].
    pub fn last(&mut self) -> Result<Option<(K, V)>> {
        self.iter()?.next_back().transpose()
    }

    fn entries(&self, entries: Entries) -> TypedEntries<K, V> {
        TypedEntries { entries, keyspace: self.keyspace.clone() }
    }
}

impl<S: Writes, K: TypedKey, V: TypedValue> Typed<'_, S, K, V> {
    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// As [`Transaction::put`]; [`InvalidInput`](crate::ErrorKind::InvalidInput) if the value has no bytes.
    pub fn put(&mut self, key: &K::Borrowed, value: &V::Borrowed) -> Result<()> {
        let mut bytes = Vec::new();
        V::to_bytes(value, &mut bytes).ok_or_else(|| self.keyspace.unencodable())?;
        self.on.write(self.keyspace.keyspace(), &bytes_of::<K>(key), Some(&bytes))
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// As [`Transaction::delete`].
    pub fn delete(&mut self, key: &K::Borrowed) -> Result<()> {
        self.on.write(self.keyspace.keyspace(), &bytes_of::<K>(key), None)
    }

    /// Removes all keys of a range with one record: see [`Transaction::delete_range`].
    ///
    /// # Errors
    /// As there.
    pub fn delete_range(&mut self, range: impl RangeBounds<K>) -> Result<()> {
        self.on.write_range(self.keyspace.keyspace(), slices(&bounds_of(&range)))
    }
}

impl<K: TypedKey, V: TypedValue> Typed<'_, &mut Transaction, K, V> {
    /// Takes the entry with the smallest key out: see [`Transaction::pop_first`].
    ///
    /// # Errors
    /// As there; [`WrongType`](crate::ErrorKind::WrongType), and nothing is taken.
    pub fn pop_first(&mut self) -> Result<Option<(K, V)>> {
        let first = self.first()?;
        self.without(first)
    }

    /// Takes the entry with the largest key out.
    ///
    /// # Errors
    /// As [`Typed::pop_first`].
    pub fn pop_last(&mut self) -> Result<Option<(K, V)>> {
        let last = self.last()?;
        self.without(last)
    }

    fn without(&mut self, entry: Option<(K, V)>) -> Result<Option<(K, V)>> {
        if let Some((key, _)) = &entry {
            self.delete(key.borrow())?;
        }
        Ok(entry)
    }

    /// Removes `key`, and returns its value, if it was there.
    ///
    /// # Errors
    /// As [`Typed::pop_first`].
    pub fn take(&mut self, key: &K::Borrowed) -> Result<Option<V>> {
        let found = self.get(key)?;
        if found.is_some() {
            self.delete(key)?;
        }
        Ok(found)
    }

    /// Sets `key` to what `change` makes of its value, or removes it for `None`. Returns the value before.
    ///
    /// # Errors
    /// As [`Typed::get`] and [`Typed::put`].
    pub fn update(&mut self, key: &K::Borrowed, change: impl FnOnce(Option<&V>) -> Option<V>) -> Result<Option<V>> {
        let found = self.get(key)?;
        match change(found.as_ref()) {
            Some(value) => self.put(key, value.borrow())?,
            None if found.is_some() => self.delete(key)?,
            None => {}
        }
        Ok(found)
    }

    /// Sets `key` to `value`, unless it is there: then its value is returned, and nothing changes.
    ///
    /// # Errors
    /// As [`Typed::get`] and [`Typed::put`].
    pub fn put_if_absent(&mut self, key: &K::Borrowed, value: &V::Borrowed) -> Result<Option<V>> {
        let found = self.get(key)?;
        if found.is_none() {
            self.put(key, value)?;
        }
        Ok(found)
    }
}

impl<S, K, V> fmt::Debug for Typed<'_, S, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("keyspace", self.keyspace).finish_non_exhaustive()
    }
}

macro_rules! reads {
    ($($on:ty),+) => {$(
        impl Reads for $on {
            fn read(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Value>> {
                self.get(keyspace, key)
            }

            fn read_range(&mut self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<Entries> {
                self.range(keyspace, range)
            }

            fn read_prefix(&mut self, keyspace: &Keyspace, prefix: &[u8]) -> Result<Entries> {
                self.prefix(keyspace, prefix)
            }
        }
    )+};
}
reads!(&mut Transaction, &Snapshot);

macro_rules! writes {
    ($($on:ty),+) => {$(
        impl Writes for $on {
            fn write(&mut self, keyspace: &Keyspace, key: &[u8], value: Option<&[u8]>) -> Result<()> {
                match value {
                    Some(value) => self.put(keyspace, key, value),
                    None => self.delete(keyspace, key),
                }
            }

            fn write_range(&mut self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<()> {
                self.delete_range(keyspace, range)
            }
        }
    )+};
}
writes!(&mut Transaction, &mut WriteBatch);

/// The entries of a range with their types, in the order of the keys: see [`Entries`].
#[derive(Debug)]
pub struct TypedEntries<K, V> {
    entries: Entries,
    keyspace: TypedKeyspace<K, V>,
}

impl<K: TypedKey, V: TypedValue> TypedEntries<K, V> {
    fn typed(&self, entry: Result<(Key, Value)>) -> Result<(K, V)> {
        let (key, value) = entry?;
        Ok((self.keyspace.key(&key)?, self.keyspace.value(&value)?))
    }
}

impl<K: TypedKey, V: TypedValue> Iterator for TypedEntries<K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.entries.next()?;
        Some(self.typed(next))
    }
}

impl<K: TypedKey, V: TypedValue> DoubleEndedIterator for TypedEntries<K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let next = self.entries.next_back()?;
        Some(self.typed(next))
    }
}

impl<K: TypedKey, V: TypedValue> std::iter::FusedIterator for TypedEntries<K, V> {}
