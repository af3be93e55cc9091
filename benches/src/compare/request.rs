//! What is asked, in no server's protocol.

use crate::load::template::Key;

/// A key: a prefix, and which number follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it begins with.
    pub prefix: &'static str,
    /// Which number.
    pub key: Key,
}

/// The key that is drawn for a request.
#[must_use]
pub const fn drawn(prefix: &'static str) -> Place {
    let key = Key::Drawn;
    Place { prefix, key }
}

/// An argument of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A key, which Redis and Valkey want to be told of.
    Key(Place),
    /// A text.
    Text(String),
    /// A number.
    Number(u32),
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Reads a value.
    Get(Place),
    /// Writes one.
    Set(Place, String),
    /// Writes one so that [`Ask::Scan`] finds it.
    Insert(Place, String),
    /// Reads so many values in the order of their keys, from one on.
    Scan(Place, u32),
    /// Calls a function.
    Call(&'static str, Vec<Argument>),
    /// Writes a value that is checked by a function: on Luge by a hook around the plain command.
    CheckedSet(Place, String),
}
