//! Lists of bounded length, so that a small body can't become a large value.
//!
//! An element of a list takes as little as one byte of a body and a hundred bytes of memory.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The most elements of a list of keys, operations, entries or settings that is decoded at all.
/// A server's own limits on them are lower.
pub const MAX_LIST_ELEMENTS: usize = 65_536;

/// Decodes a list, of at most [`MAX_LIST_ELEMENTS`].
pub(crate) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(ListVisitor(PhantomData))
}

/// Decodes a list or nil.
pub(crate) fn optional_list<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_option(OptionVisitor(ListVisitor(PhantomData)))
}

/// Decodes a map of texts or nil.
pub(crate) fn optional_map<'de, D>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_option(OptionVisitor(MapVisitor))
}

fn check<E: Error>(elements: usize) -> Result<(), E> {
    if elements > MAX_LIST_ELEMENTS {
        return Err(E::custom(format_args!(
            "a list of more than {MAX_LIST_ELEMENTS} elements"
        )));
    }
    Ok(())
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        // What a peer says of the length is no reason to take much memory.
        const MAX_TRUSTED: usize = 64;
        let announced = sequence.size_hint().unwrap_or(0);
        check(announced)?;
        let mut elements = Vec::with_capacity(announced.min(MAX_TRUSTED));
        while let Some(element) = sequence.next_element()? {
            elements.push(element);
            check(elements.len())?;
        }
        Ok(elements)
    }
}

struct MapVisitor;

impl<'de> Visitor<'de> for MapVisitor {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        check(entries.size_hint().unwrap_or(0))?;
        let mut map = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry()? {
            map.insert(name, value);
            check(map.len())?;
        }
        Ok(map)
    }
}

/// A visitor that takes nil, too, in the place of what `V` takes.
struct OptionVisitor<V>(V);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OptionVisitor<ListVisitor<T>> {
    type Value = Option<Vec<T>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(formatter)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self.0).map(Some)
    }
}

impl<'de> Visitor<'de> for OptionVisitor<MapVisitor> {
    type Value = Option<BTreeMap<String, String>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(formatter)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self.0).map(Some)
    }
}
