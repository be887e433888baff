//! A list that cannot be longer than the protocol allows, checked before it is read.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// At most `N` values. Reading one refuses a longer list before any room is made for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bounded<T, const N: usize>(Vec<T>);

/// A list was longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} values where at most {max} are allowed")]
pub struct TooMany {
    /// How many there were.
    pub len: usize,
    /// How many are allowed.
    pub max: usize,
}

impl<T, const N: usize> Bounded<T, N> {
    /// A list of nothing.
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// The first `N` values; what follows is dropped.
    pub fn truncated(values: impl IntoIterator<Item = T>) -> Self {
        Self(values.into_iter().take(N).collect())
    }

    /// The values as an ordinary vector.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const N: usize> Default for Bounded<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> TryFrom<Vec<T>> for Bounded<T, N> {
    type Error = TooMany;

    fn try_from(values: Vec<T>) -> Result<Self, TooMany> {
        match values.len() {
            len if len > N => Err(TooMany { len, max: N }),
            _ => Ok(Self(values)),
        }
    }
}

impl<T, const N: usize> Deref for Bounded<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const N: usize> IntoIterator for Bounded<T, N> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T, const N: usize> IntoIterator for &'a Bounded<T, N> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: Serialize, const N: usize> Serialize for Bounded<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Bounded<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for BoundedVisitor<T, N> {
    type Value = Bounded<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {N} values")
    }

    /// The announced length is refused when it is too long; it never decides how much is reserved,
    /// since a short message may announce a long list. Room grows with what has been read.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        if let Some(len) = seq.size_hint().filter(|len| *len > N) {
            return Err(A::Error::invalid_length(len, &self));
        }
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            if values.len() == N {
                return Err(A::Error::invalid_length(N + 1, &self));
            }
            values.push(value);
        }
        Ok(Bounded(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_at_its_limit_passes_and_one_more_does_not() {
        let fits = postcard::to_stdvec(&vec![7u32; 3]).unwrap();
        let read: Bounded<u32, 3> = postcard::from_bytes(&fits).unwrap();
        assert_eq!(&*read, [7; 3]);
        let long = postcard::to_stdvec(&vec![7u32; 4]).unwrap();
        assert!(postcard::from_bytes::<Bounded<u32, 3>>(&long).is_err());
        let error = Bounded::<u32, 3>::try_from(vec![7; 4]).unwrap_err();
        assert_eq!(error, TooMany { len: 4, max: 3 });
    }

    #[test]
    fn an_announced_length_beyond_the_limit_is_refused_before_any_value_is_read() {
        /// Panics when read: the length alone must decide.
        #[derive(Debug)]
        struct Untouchable;
        impl<'de> Deserialize<'de> for Untouchable {
            fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                panic!("a value of a refused list was read")
            }
        }
        let announces_a_hundred = [100; 101];
        assert!(postcard::from_bytes::<Bounded<Untouchable, 8>>(&announces_a_hundred).is_err());
    }

    #[test]
    fn a_length_that_the_bytes_cannot_hold_is_refused_without_reserving_it() {
        let announces_many = postcard::to_stdvec(&u64::from(u32::MAX)).unwrap();
        assert!(postcard::from_bytes::<Bounded<u64, { usize::MAX }>>(&announces_many).is_err());
    }

    #[test]
    fn truncating_keeps_the_first_values() {
        assert_eq!(&*Bounded::<_, 2>::truncated([1, 2, 3]), [1, 2]);
    }
}
