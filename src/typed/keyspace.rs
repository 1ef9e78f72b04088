//! A keyspace that says what its keys and values are.

use std::fmt;
use std::marker::PhantomData;

use super::{TypedKey, TypedValue};
use crate::base::error::{Error, ErrorKind, Result};
use crate::engine::Engine;
use crate::txn::Keyspace;

/// A [`Keyspace`] with types for its keys and values: see the [module](crate::typed). Cheap to clone.
pub struct TypedKeyspace<K, V> {
    keyspace: Keyspace,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: TypedKey, V: TypedValue> TypedKeyspace<K, V> {
    /// [`Engine::create_keyspace`]: opens it if it is there.
    ///
    /// # Errors
    /// As there.
    pub fn create(engine: &Engine, name: &str) -> Result<Self> {
        engine.create_keyspace(name).map(Self::from)
    }

    /// [`Engine::open_keyspace`].
    ///
    /// # Errors
    /// As there.
    pub fn open(engine: &Engine, name: &str) -> Result<Self> {
        engine.open_keyspace(name).map(Self::from)
    }

    /// The keyspace without types.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    pub(super) fn key(&self, bytes: &[u8]) -> Result<K> {
        K::decode(bytes).ok_or_else(|| self.wrong::<K>("key"))
    }

    pub(super) fn value(&self, bytes: &[u8]) -> Result<V> {
        V::from_bytes(bytes).ok_or_else(|| self.wrong::<V>("value"))
    }

    pub(super) fn unencodable(&self) -> Error {
        let message =
            format!("a value for '{}' cannot be encoded as {}", self.keyspace.name(), std::any::type_name::<V>());
        Error::invalid_input(message)
    }

    fn wrong<T>(&self, what: &str) -> Error {
        let (name, wanted) = (self.keyspace.name(), std::any::type_name::<T>());
        let message = format!(
            "a {what} in '{name}' is no {wanted}: it was written with another type. Read the keyspace without types to see its bytes"
        );
        Error::new(ErrorKind::WrongType, message)
    }
}

impl<K, V> From<Keyspace> for TypedKeyspace<K, V> {
    fn from(keyspace: Keyspace) -> Self {
        TypedKeyspace { keyspace, types: PhantomData }
    }
}

impl<K, V> Clone for TypedKeyspace<K, V> {
    fn clone(&self) -> Self {
        Self::from(self.keyspace.clone())
    }
}

impl<K, V> fmt::Debug for TypedKeyspace<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedKeyspace").field(&self.keyspace).finish()
    }
}
