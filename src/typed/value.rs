//! Types that are values.

use std::borrow::Borrow;

#[cfg(feature = "serde")]
use serde::{Serialize, de::DeserializeOwned};

/// A type whose values are values of a keyspace. Of a type of your own, say how it becomes bytes; or wrap it in `Json` (feature `serde`).
pub trait TypedValue: Sized + Borrow<Self::Borrowed> {
    /// What may be put in its place: `str` for `String`, otherwise the type itself.
    type Borrowed: ?Sized;

    /// Appends its bytes; `None` if it has none, and then it cannot be put.
    fn to_bytes(value: &Self::Borrowed, to: &mut Vec<u8>) -> Option<()>;

    /// The value that has these bytes; `None` if there is none.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl TypedValue for $type {
            type Borrowed = $type;

            fn to_bytes(value: &$type, to: &mut Vec<u8>) -> Option<()> {
                to.extend_from_slice(&value.to_be_bytes());
                Some(())
            }

            fn from_bytes(bytes: &[u8]) -> Option<$type> {
                bytes.try_into().ok().map(<$type>::from_be_bytes)
            }
        }
    )+};
}
numbers!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64);

/// Types whose bytes are those that they have as a key.
macro_rules! as_keys {
    ($($type:ty),+) => {$(
        impl TypedValue for $type {
            type Borrowed = <$type as super::TypedKey>::Borrowed;

            fn to_bytes(value: &Self::Borrowed, to: &mut Vec<u8>) -> Option<()> {
                <$type as super::TypedKey>::encode(value, to);
                Some(())
            }

            fn from_bytes(bytes: &[u8]) -> Option<$type> {
                <$type as super::TypedKey>::decode(bytes)
            }
        }
    )+};
}
as_keys!((), bool, char, String, Vec<u8>);

impl<const N: usize> TypedValue for [u8; N] {
    type Borrowed = [u8; N];

    fn to_bytes(value: &[u8; N], to: &mut Vec<u8>) -> Option<()> {
        to.extend_from_slice(value);
        Some(())
    }

    fn from_bytes(bytes: &[u8]) -> Option<[u8; N]> {
        bytes.try_into().ok()
    }
}

/// Anything that serde knows, as JSON: a field that is added later, with a default, does not make older entries unreadable.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = forelog::Engine::in_memory()?;
/// use forelog::typed::{Json, TypedKeyspace};
/// use forelog::{CommitMode, Lsn, Outcome};
/// // A struct that derives Serialize and Deserialize does as well.
/// let orders = TypedKeyspace::<u64, Json<(String, Vec<CommitMode>)>>::create(&engine, "orders")?;
/// let modes = vec![CommitMode::Sync, "within:5ms".parse()?];
/// let mut batch = engine.batch()?;
/// batch.typed(&orders).put(&7, &Json(("bread".into(), modes.clone())))?;
/// batch.commit()?;
/// let order = engine.snapshot()?.typed(&orders).get(&7)?.expect("it was put");
/// assert_eq!(order.0, ("bread".into(), modes));
/// assert_eq!(serde_json::to_string(&(Outcome::Lost, Lsn::new(8)))?, r#"["lost",8]"#);
/// # Ok(()) }
/// ```
///
/// It is what JSON makes of it: a number that is none or infinite becomes `null`, and so do `Some(())` and `Some(None)`. What JSON cannot hold at all, such as
/// a map whose keys are lists, is refused when it is put.
#[cfg(feature = "serde")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Json<T>(pub T);

#[cfg(feature = "serde")]
impl<T: Serialize + DeserializeOwned> TypedValue for Json<T> {
    type Borrowed = Json<T>;

    fn to_bytes(value: &Json<T>, to: &mut Vec<u8>) -> Option<()> {
        serde_json::to_writer(to, &value.0).ok()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Json<T>> {
        serde_json::from_slice(bytes).ok().map(Json)
    }
}
