use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::EncodeError;

/// The first bytes of the forms with a length of 8, 16 and 32 bits; 0 where there is no such form.
type Markers = [u8; 3];
const BINARY: Markers = [0xc4, 0xc5, 0xc6];
const TEXT: Markers = [0xd9, 0xda, 0xdb];
const LIST: Markers = [0, 0xdc, 0xdd];
const MAP: Markers = [0, 0xde, 0xdf];

pub(super) struct Encoder<'a> {
    output: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    pub(super) const fn new(output: &'a mut Vec<u8>) -> Self {
        Self { output }
    }

    /// A length in its shortest form. `short`: the first byte and the bound of the form within one byte.
    fn length(&mut self, length: usize, short: Option<(u8, u8)>, markers: Markers) {
        let [byte, word, long] = markers;
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length), _) if short.is_some_and(|(_, bound)| length < bound) => {
                self.output
                    .push(short.map_or(0, |(first, _)| first) | length);
            }
            (Ok(length), _) if byte != 0 => self.output.extend([byte, length]),
            (_, Ok(length)) => self.prefixed(word, &length.to_be_bytes()),
            // A guest's memory has no more bytes than this.
            _ => self.prefixed(
                long,
                &u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes(),
            ),
        }
    }

    fn prefixed(&mut self, marker: u8, bytes: &[u8]) {
        self.output.push(marker);
        self.output.extend_from_slice(bytes);
    }

    fn unsigned(&mut self, value: u64) {
        match value {
            0..0x80 => self.output.push(value.to_le_bytes()[0]),
            0x80..0x100 => self.prefixed(0xcc, &value.to_be_bytes()[7..]),
            0x100..0x1_0000 => self.prefixed(0xcd, &value.to_be_bytes()[6..]),
            0x1_0000..0x1_0000_0000 => self.prefixed(0xce, &value.to_be_bytes()[4..]),
            _ => self.prefixed(0xcf, &value.to_be_bytes()),
        }
    }

    fn signed(&mut self, value: i64) {
        match value {
            0.. => self.unsigned(value.unsigned_abs()),
            -0x20..0 => self.output.push(value.to_le_bytes()[0]),
            -0x80..-0x20 => self.prefixed(0xd0, &value.to_be_bytes()[7..]),
            -0x8000..-0x80 => self.prefixed(0xd1, &value.to_be_bytes()[6..]),
            -0x8000_0000..-0x8000 => self.prefixed(0xd2, &value.to_be_bytes()[4..]),
            _ => self.prefixed(0xd3, &value.to_be_bytes()),
        }
    }

    fn text(&mut self, text: &str) {
        self.length(text.len(), Some((0xa0, 32)), TEXT);
        self.output.extend_from_slice(text.as_bytes());
    }

    fn list(self, length: Option<usize>) -> Parts<'a> {
        self.begin(length, (0x90, 16), LIST)
    }

    fn map(self, length: Option<usize>) -> Parts<'a> {
        self.begin(length, (0x80, 16), MAP)
    }

    /// A length that is not known yet gets the long form, filled in at the end.
    fn begin(mut self, length: Option<usize>, short: (u8, u8), markers: Markers) -> Parts<'a> {
        let unknown = length.is_none().then(|| {
            self.prefixed(markers[2], &[0; 4]);
            Unknown {
                end_of_length: self.output.len(),
                count: 0,
            }
        });
        if let Some(length) = length {
            self.length(length, Some(short), markers);
        }
        Parts {
            output: self.output,
            unknown,
        }
    }

    /// `{"variant": …}`, as every variant with contents is written.
    fn variant(mut self, name: &str) -> Self {
        self.output.push(0x81);
        self.text(name);
        self
    }
}

/// A number of parts that is counted while they are written.
struct Unknown {
    end_of_length: usize,
    count: u32,
}

/// The parts of a list or map that has begun.
pub(super) struct Parts<'a> {
    output: &'a mut Vec<u8>,
    unknown: Option<Unknown>,
}

impl Parts<'_> {
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        if let Some(unknown) = &mut self.unknown {
            unknown.count += 1;
        }
        self.value(value)
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(Encoder::new(self.output))
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), EncodeError> {
        Encoder::new(self.output).text(name);
        self.value(value)
    }

    #[expect(clippy::unnecessary_wraps, reason = "serde's signature")]
    fn finish(self) -> Result<(), EncodeError> {
        let Some(Unknown {
            end_of_length,
            count,
        }) = self.unknown
        else {
            return Ok(());
        };
        if let Some(length) = self.output.get_mut(end_of_length - 4..end_of_length) {
            length.copy_from_slice(&count.to_be_bytes());
        }
        Ok(())
    }
}

impl<'a> Serializer for Encoder<'a> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.output.push(0xc2 | u8::from(value));
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), EncodeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), EncodeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), EncodeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(mut self, value: i64) -> Result<(), EncodeError> {
        self.signed(value);
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<(), EncodeError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), EncodeError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), EncodeError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(mut self, value: u64) -> Result<(), EncodeError> {
        self.unsigned(value);
        Ok(())
    }

    fn serialize_f32(mut self, value: f32) -> Result<(), EncodeError> {
        self.prefixed(0xca, &value.to_be_bytes());
        Ok(())
    }

    fn serialize_f64(mut self, value: f64) -> Result<(), EncodeError> {
        self.prefixed(0xcb, &value.to_be_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(mut self, value: &str) -> Result<(), EncodeError> {
        self.text(value);
        Ok(())
    }

    fn serialize_bytes(mut self, value: &[u8]) -> Result<(), EncodeError> {
        self.length(value.len(), None, BINARY);
        self.output.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        self.output.push(0xc0);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self.variant(variant))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Parts<'a>, EncodeError> {
        Ok(self.list(length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Parts<'a>, EncodeError> {
        Ok(self.list(Some(length)))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        length: usize,
    ) -> Result<Parts<'a>, EncodeError> {
        Ok(self.list(Some(length)))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Parts<'a>, EncodeError> {
        Ok(self.variant(variant).list(Some(length)))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Parts<'a>, EncodeError> {
        Ok(self.map(length))
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        length: usize,
    ) -> Result<Parts<'a>, EncodeError> {
        Ok(self.map(Some(length)))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Parts<'a>, EncodeError> {
        Ok(self.variant(variant).map(Some(length)))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl SerializeSeq for Parts<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.part(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl SerializeTuple for Parts<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.part(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl SerializeTupleStruct for Parts<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.part(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl SerializeTupleVariant for Parts<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.part(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.part(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.value(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl SerializeStructVariant for Parts<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}
