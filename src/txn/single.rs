//! Calls of a transaction on one entry, or on the first and the last: what programs write again and again.

use super::{Keyspace, Transaction};
use crate::base::error::Result;
use crate::index::{Key, Value};

impl Transaction {
    /// The entry with the smallest key. Only a key up to it that appears, changes or goes is a conflict.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn first(&mut self, keyspace: &Keyspace) -> Result<Option<(Key, Value)>> {
        self.iter(keyspace)?.next().transpose()
    }

    /// The entry with the largest key. Only a key from it on that appears, changes or goes is a conflict.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn last(&mut self, keyspace: &Keyspace) -> Result<Option<(Key, Value)>> {
        self.iter(keyspace)?.next_back().transpose()
    }

    /// Takes the entry with the smallest key out: the front of a queue. Who adds entries behind it is no conflict.
    ///
    /// Each call passes the entries that this transaction has taken before. To take thousands in one transaction, delete what
    /// [`Transaction::iter`] shows.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = forelog::Engine::in_memory()?;
    /// # let jobs = engine.create_keyspace("jobs")?;
    /// # let mut batch = engine.batch()?;
    /// # for id in 1..3_u64 { batch.put(&jobs, id.to_be_bytes(), "work")?; }
    /// # batch.commit()?;
    /// let mut tx = engine.begin()?;
    /// let (id, job) = tx.pop_first(&jobs)?.expect("there is one");
    /// // Somebody else adds one meanwhile.
    /// # let mut batch = engine.batch()?;
    /// batch.put(&jobs, 3_u64.to_be_bytes(), "more work")?;
    /// batch.commit()?;
    /// tx.commit()?;
    /// assert_eq!((&id[..], &job[..]), (&1_u64.to_be_bytes()[..], &b"work"[..]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`] and [`Transaction::delete`].
    pub fn pop_first(&mut self, keyspace: &Keyspace) -> Result<Option<(Key, Value)>> {
        let first = self.first(keyspace)?;
        self.without(keyspace, first)
    }

    /// Takes the entry with the largest key out.
    ///
    /// # Errors
    /// As [`Transaction::pop_first`].
    pub fn pop_last(&mut self, keyspace: &Keyspace) -> Result<Option<(Key, Value)>> {
        let last = self.last(keyspace)?;
        self.without(keyspace, last)
    }

    fn without(&mut self, keyspace: &Keyspace, entry: Option<(Key, Value)>) -> Result<Option<(Key, Value)>> {
        if let Some((key, _)) = &entry {
            self.delete(keyspace, key)?;
        }
        Ok(entry)
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn contains(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(keyspace, key)?.is_some())
    }

    /// The values of these keys, in their order.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn get_many<K: AsRef<[u8]>>(
        &mut self,
        keyspace: &Keyspace,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Value>>> {
        keys.into_iter().map(|key| self.get(keyspace, key)).collect()
    }

    /// Removes `key`, and returns its value, if it was there.
    ///
    /// # Errors
    /// As [`Transaction::get`] and [`Transaction::delete`].
    pub fn take(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let found = self.get(keyspace, &key)?;
        if found.is_some() {
            self.delete(keyspace, key)?;
        }
        Ok(found)
    }

    /// Sets `key` to what `change` makes of its value, or removes it for `None`. Returns the value before.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = forelog::Engine::in_memory()?;
    /// # let visits = engine.create_keyspace("visits")?;
    /// let mut tx = engine.begin()?;
    /// tx.update(&visits, "page", |count| Some(vec![count.map_or(1, |count| count[0] + 1)]))?;
    /// tx.commit()?;
    /// # assert_eq!(engine.snapshot()?.get(&visits, "page")?.unwrap(), [1]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`] and [`Transaction::put`].
    pub fn update<V: AsRef<[u8]>>(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        change: impl FnOnce(Option<&[u8]>) -> Option<V>,
    ) -> Result<Option<Value>> {
        let found = self.get(keyspace, &key)?;
        match change(found.as_deref()) {
            Some(value) => self.put(keyspace, key, value)?,
            None if found.is_some() => self.delete(keyspace, key)?,
            None => {}
        }
        Ok(found)
    }

    /// Sets `key` to `value`, unless it is there: then its value is returned, and nothing changes.
    ///
    /// # Errors
    /// As [`Transaction::get`] and [`Transaction::put`].
    pub fn put_if_absent(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Option<Value>> {
        let found = self.get(keyspace, &key)?;
        if found.is_none() {
            self.put(keyspace, key, value)?;
        }
        Ok(found)
    }

    /// Sets `key` to `new`, or removes it for `None`, if its value is `expected`: `None` for a key that is not there. Returns
    /// whether it was.
    ///
    /// # Errors
    /// As [`Transaction::get`] and [`Transaction::put`].
    pub fn compare_and_swap(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        let found = self.get(keyspace, &key)?;
        let is_expected = found.as_deref() == expected;
        match new {
            _ if !is_expected => {}
            Some(value) => self.put(keyspace, key, value)?,
            None if found.is_some() => self.delete(keyspace, key)?,
            None => {}
        }
        Ok(is_expected)
    }
}
