//! MessagePack for serde, small: what typed arguments, replies and refusals travel in.
//!
//! Structs are written as maps with the fields' names, so that the command line can show them as JSON; maps
//! and arrays are both read. The bytes are those of `rmp-serde`, which is made for everything: a small module with
//! it is 40 KiB larger.
//!
//! Encoding costs fuel with the size of the value, decoding a little more. A message is refused rather
//! than followed below 64 levels.

mod decode;
mod encode;
mod error;

pub use error::{DecodeError, EncodeError};

use serde::{Deserialize, Serialize};

/// Writes a value as MessagePack.
///
/// # Errors
/// Where the type's own `Serialize` fails, or uses 128-bit numbers, which MessagePack does not have.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut output = Vec::with_capacity(128);
    value.serialize(encode::Encoder::new(&mut output))?;
    Ok(output)
}

/// Reads a value from MessagePack; it may borrow its texts from `bytes`. No bytes at all read as nil.
///
/// # Errors
/// Where the bytes are not one MessagePack value of this shape; the error says what was expected, and where.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    const NIL: &[u8] = &[0xc0];
    let mut decoder = decode::Decoder::new(if bytes.is_empty() { NIL } else { bytes });
    let value = T::deserialize(&mut decoder)?;
    decoder.finish()?;
    Ok(value)
}
