use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::DecodeError;

/// Deeper messages are refused: each level takes a few hundred bytes of the guest's stack.
const MAX_DEPTH: u32 = 64;

/// Reads one value after another from the front of the bytes.
pub(super) struct Decoder<'de> {
    rest: &'de [u8],
    depth: u32,
}

/// The head of one value: what it is, and how many bytes or parts belong to it.
enum Head {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Single(f32),
    Double(f64),
    Text(u32),
    Binary(u32),
    List(u32),
    Map(u32),
}

impl<'de> Decoder<'de> {
    pub(super) const fn new(bytes: &'de [u8]) -> Self {
        Self {
            rest: bytes,
            depth: 0,
        }
    }

    /// Nothing may follow the value.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError::new("there are bytes after the value"))
    }

    fn take(&mut self, length: u32) -> Result<&'de [u8], DecodeError> {
        let (taken, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length))
            .ok_or_else(|| DecodeError::new("the message ends within a value"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A big-endian number of `N` bytes.
    fn number<const N: u32>(&mut self) -> Result<u64, DecodeError> {
        Ok(self
            .take(N)?
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The same with a sign.
    fn signed<const N: u32>(&mut self) -> Result<Head, DecodeError> {
        let unused = 64 - 8 * N;
        let number = self.number::<N>()? << unused;
        Ok(Head::Signed(number.cast_signed() >> unused))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most four bytes are read"
    )]
    fn length<const N: u32>(&mut self) -> Result<u32, DecodeError> {
        Ok(self.number::<N>()? as u32)
    }

    fn head(&mut self) -> Result<Head, DecodeError> {
        let marker = self.take(1)?.first().copied().unwrap_or_default();
        Ok(match marker {
            0x00..=0x7f => Head::Unsigned(marker.into()),
            0x80..=0x8f => Head::Map(u32::from(marker & 0x0f)),
            0x90..=0x9f => Head::List(u32::from(marker & 0x0f)),
            0xa0..=0xbf => Head::Text(u32::from(marker & 0x1f)),
            0xc0 => Head::Nil,
            0xc2 | 0xc3 => Head::Bool(marker == 0xc3),
            0xc4 => Head::Binary(self.length::<1>()?),
            0xc5 => Head::Binary(self.length::<2>()?),
            0xc6 => Head::Binary(self.length::<4>()?),
            0xca => Head::Single(f32::from_bits(self.length::<4>()?)),
            0xcb => Head::Double(f64::from_bits(self.number::<8>()?)),
            0xcc => Head::Unsigned(self.number::<1>()?),
            0xcd => Head::Unsigned(self.number::<2>()?),
            0xce => Head::Unsigned(self.number::<4>()?),
            0xcf => Head::Unsigned(self.number::<8>()?),
            0xd0 => self.signed::<1>()?,
            0xd1 => self.signed::<2>()?,
            0xd2 => self.signed::<4>()?,
            0xd3 => self.signed::<8>()?,
            0xd9 => Head::Text(self.length::<1>()?),
            0xda => Head::Text(self.length::<2>()?),
            0xdb => Head::Text(self.length::<4>()?),
            0xdc => Head::List(self.length::<2>()?),
            0xdd => Head::List(self.length::<4>()?),
            0xde => Head::Map(self.length::<2>()?),
            0xdf => Head::Map(self.length::<4>()?),
            0xe0..=0xff => Head::Signed(i64::from(marker.cast_signed())),
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => {
                return Err(DecodeError::new("extension types are not supported"));
            }
        })
    }

    fn text(&mut self, length: u32) -> Result<&'de str, DecodeError> {
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::new("a text is not UTF-8"))
    }

    /// Runs `read` one level deeper.
    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        if self.depth == MAX_DEPTH {
            return Err(DecodeError::new("the message is nested too deeply"));
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn list<V: Visitor<'de>>(&mut self, count: u32, visitor: V) -> Result<V::Value, DecodeError> {
        self.nested(|decoder| {
            let mut parts = Parts {
                decoder,
                left: count,
                field: None,
            };
            let value = visitor.visit_seq(&mut parts)?;
            parts.finish()?;
            Ok(value)
        })
    }

    fn map<V: Visitor<'de>>(&mut self, count: u32, visitor: V) -> Result<V::Value, DecodeError> {
        self.nested(|decoder| {
            let mut parts = Parts {
                decoder,
                left: count,
                field: None,
            };
            let value = visitor.visit_map(&mut parts)?;
            parts.finish()?;
            Ok(value)
        })
    }
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.head()? {
            Head::Nil => visitor.visit_unit(),
            Head::Bool(value) => visitor.visit_bool(value),
            Head::Unsigned(value) => visitor.visit_u64(value),
            Head::Signed(value) => visitor.visit_i64(value),
            Head::Single(value) => visitor.visit_f32(value),
            Head::Double(value) => visitor.visit_f64(value),
            Head::Text(length) => visitor.visit_borrowed_str(self.text(length)?),
            Head::Binary(length) => visitor.visit_borrowed_bytes(self.take(length)?),
            Head::List(count) => self.list(count, visitor),
            Head::Map(count) => self.map(count, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if let Some((0xc0, rest)) = self.rest.split_first() {
            self.rest = rest;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    /// A variant is its name, or a map of its name to its contents.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.head()? {
            Head::Text(length) => visitor.visit_enum(self.text(length)?.into_deserializer()),
            Head::Map(1) => self.nested(|decoder| visitor.visit_enum(Variant { decoder })),
            _ => Err(DecodeError::new(
                "expected the name of a variant, or a map from it to its contents",
            )),
        }
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// What is left of a list or map.
struct Parts<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: u32,
    /// The map's last key, for the error's path.
    field: Option<&'de str>,
}

impl Parts<'_, '_> {
    fn finish(&self) -> Result<(), DecodeError> {
        if self.left == 0 {
            return Ok(());
        }
        Err(DecodeError::new("a list has more items than expected"))
    }

    fn size_hint(&self) -> Option<usize> {
        // A head promises what it likes; each part takes at least one byte.
        usize::try_from(self.left)
            .ok()
            .map(|left| left.min(self.decoder.rest.len()))
    }
}

impl<'de> SeqAccess<'de> for &mut Parts<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Parts::size_hint(self)
    }
}

impl<'de> MapAccess<'de> for &mut Parts<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        let mut ahead = Decoder::new(self.decoder.rest);
        self.field = <&str>::deserialize(&mut ahead).ok();
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        seed.deserialize(&mut *self.decoder)
            .map_err(|error| error.within(self.field))
    }

    fn size_hint(&self) -> Option<usize> {
        Parts::size_hint(self)
    }
}

/// An enum's map, at its only key.
struct Variant<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), DecodeError> {
        let variant = seed.deserialize(&mut *self.decoder)?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        <()>::deserialize(self.decoder)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        seed.deserialize(self.decoder)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.decoder.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.decoder.deserialize_any(visitor)
    }
}
