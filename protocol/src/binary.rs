//! Byte strings that borrow from the frame they were decoded from.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A key: any bytes. On the wire a `bin`; a `str` is accepted, too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a>(pub Cow<'a, [u8]>);

/// A value: any bytes. On the wire a `bin`, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value<'a>(pub Cow<'a, [u8]>);

macro_rules! byte_string {
    ($name:ident) => {
        impl $name<'_> {
            /// The same bytes, borrowed from nothing.
            #[must_use]
            pub fn into_owned(self) -> $name<'static> {
                $name(Cow::Owned(self.0.into_owned()))
            }
        }

        impl Deref for $name<'_> {
            type Target = [u8];

            fn deref(&self) -> &[u8] {
                &self.0
            }
        }

        impl<'a> From<&'a [u8]> for $name<'a> {
            fn from(bytes: &'a [u8]) -> Self {
                Self(Cow::Borrowed(bytes))
            }
        }

        impl<'a> From<&'a str> for $name<'a> {
            fn from(text: &'a str) -> Self {
                Self(Cow::Borrowed(text.as_bytes()))
            }
        }

        impl<'a, const N: usize> From<&'a [u8; N]> for $name<'a> {
            fn from(bytes: &'a [u8; N]) -> Self {
                Self(Cow::Borrowed(bytes))
            }
        }

        impl<'a> From<&'a Vec<u8>> for $name<'a> {
            fn from(bytes: &'a Vec<u8>) -> Self {
                Self(Cow::Borrowed(bytes))
            }
        }

        impl<'a> From<&'a String> for $name<'a> {
            fn from(text: &'a String) -> Self {
                Self(Cow::Borrowed(text.as_bytes()))
            }
        }

        impl<'a> From<&'a bytes::Bytes> for $name<'a> {
            fn from(bytes: &'a bytes::Bytes) -> Self {
                Self(Cow::Borrowed(bytes))
            }
        }

        impl From<Vec<u8>> for $name<'_> {
            fn from(bytes: Vec<u8>) -> Self {
                Self(Cow::Owned(bytes))
            }
        }

        impl From<String> for $name<'_> {
            fn from(text: String) -> Self {
                Self(Cow::Owned(text.into_bytes()))
            }
        }

        impl Serialize for $name<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
    };
}

byte_string!(Key);
byte_string!(Value);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_bytes(BytesVisitor { accept_text: true })
            .map(Self)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_bytes(BytesVisitor { accept_text: false })
            .map(Self)
    }
}

struct BytesVisitor {
    accept_text: bool,
}

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.accept_text {
            "a key (bin or str)"
        } else {
            "a value (bin)"
        })
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        self.text(text).map(|text| Cow::Borrowed(text.as_bytes()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        self.text(text)
            .map(|text| Cow::Owned(text.as_bytes().to_vec()))
    }
}

impl BytesVisitor {
    fn text<E: Error>(self, text: &str) -> Result<&str, E> {
        if self.accept_text {
            return Ok(text);
        }
        Err(E::invalid_type(serde::de::Unexpected::Str(text), &self))
    }
}
