//! What procedures may take and return, and how they refuse.
//!
//! A procedure takes one argument or none. `&[u8]` and `Vec<u8>` get the bytes as they came; every other type
//! is read from MessagePack with serde, and may borrow (`struct Transfer<'a>`). It returns a value, or a
//! `Result`: `Vec<u8>` is sent as it is, everything else is written as MessagePack. An `Err` undoes the call's
//! writes, and the client gets `rejected` with the code and the payload.

use serde::Serialize;

use crate::message_pack;

/// The code of a refusal whose type does not choose one.
pub const REFUSED: i32 = 1;

/// The code of a call whose arguments could not be read; the payload is a text that says why.
pub const UNREADABLE_ARGUMENTS: i32 = -1;

/// Chooses the code of a refusal by its type; without this, it is [`REFUSED`].
///
/// ```
/// # use serde::Serialize;
/// #[derive(Serialize)]
/// enum Refused { UnknownAccount { account: String }, Short { missing: u64 } }
///
/// impl luge_udf::RefusalCode for Refused {
///     fn code(&self) -> i32 {
///         match self {
///             Refused::UnknownAccount { .. } => 10,
///             Refused::Short { .. } => 11,
///         }
///     }
/// }
/// ```
pub trait RefusalCode {
    /// Any number but 0, which would be success and is sent as [`REFUSED`]; -1 is
    /// [`UNREADABLE_ARGUMENTS`] to the client.
    fn code(&self) -> i32;
}

/// A refusal as code and bytes, for procedures that do not use serde.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// As in [`RefusalCode`].
    pub code: i32,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Refusal {
    /// A refusal with a value as its payload, in MessagePack.
    ///
    /// # Panics
    /// Where the type's own `Serialize` fails.
    pub fn new<T: Serialize + ?Sized>(code: i32, payload: &T) -> Self {
        match message_pack::encode(payload) {
            Ok(payload) => Self { code, payload },
            Err(_) => panic!("the refusal cannot be written as MessagePack"),
        }
    }
}
