//! Batches: reads and writes in order, all or none of them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use luge_protocol::{
    Check, Command, Condition, Exists, Expire, Found, Get, Incr, IncrReply, Key, Operation,
    OperationReply, Persist, SetReply, Value,
};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use crate::bounded::Bounded;
use crate::client::{Client, milliseconds};
use crate::data::SetOptions;
use crate::error::Error;

/// Operations that are carried out in order, as one transaction. Reads see the writes before them.
///
/// ```no_run
/// # async fn example(client: luge_client::Client) -> Result<(), luge_client::Error> {
/// use luge_client::{Batch, Condition};
///
/// let batch = Batch::new()
///     .check("order:7", Condition::Absent)
///     .set("order:7", "two sleds")
///     .incr("orders", 1);
/// let replies = client.batch(batch).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    operations: Vec<Operation<'static>>,
}

impl Batch {
    /// Without operations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a key. Answered with [`OperationReply::Get`].
    #[must_use]
    pub fn get(self, key: impl AsRef<[u8]>) -> Self {
        let key = owned(key);
        self.with(Operation::Get(Get { key }))
    }

    /// Stores a value that does not expire. Answered with [`OperationReply::Set`].
    #[must_use]
    pub fn set(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.set_with(key, value, SetOptions::default())
    }

    /// Stores a value in the way that the options say. Answered with [`OperationReply::Set`].
    #[must_use]
    pub fn set_with(
        self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Self {
        let mut set = options.command(&[], &[]);
        set.key = owned(key);
        set.value = Value(Cow::Owned(value.as_ref().to_vec()));
        self.with(Operation::Set(set))
    }

    /// Deletes keys. Answered with [`OperationReply::Count`]: how many were present.
    #[must_use]
    pub fn del<K: AsRef<[u8]>>(self, keys: &[K]) -> Self {
        let keys = keys.iter().map(owned).collect();
        self.with(Operation::Del(Exists { keys }))
    }

    /// Adds to a number. Answered with [`OperationReply::Incr`].
    #[must_use]
    pub fn incr(self, key: impl AsRef<[u8]>, delta: i64) -> Self {
        let (key, delta) = (owned(key), Some(delta));
        self.with(Operation::Incr(Incr { key, delta }))
    }

    /// Gives a key a time to live. Answered with [`OperationReply::Changed`].
    #[must_use]
    pub fn expire(self, key: impl AsRef<[u8]>, after: Duration) -> Self {
        let (key, ttl_ms) = (owned(key), milliseconds(after));
        self.with(Operation::Expire(Expire { key, ttl_ms }))
    }

    /// Takes a key's time to live away. Answered with [`OperationReply::Changed`].
    #[must_use]
    pub fn persist(self, key: impl AsRef<[u8]>) -> Self {
        let key = owned(key);
        self.with(Operation::Persist(Persist { key }))
    }

    /// Undoes the whole batch unless the condition holds. Answered with [`OperationReply::Done`].
    #[must_use]
    pub fn check(self, key: impl AsRef<[u8]>, condition: Condition) -> Self {
        let key = owned(key);
        self.with(Operation::Check(Check { key, condition }))
    }

    fn with(mut self, operation: Operation<'static>) -> Self {
        self.operations.push(operation);
        self
    }
}

impl Client {
    /// Carries out a batch, and answers one reply for each operation, in order.
    ///
    /// # Errors
    /// As [`Client::request`]; `precondition_failed` with the operation's position and the key's
    /// current version in the details. Then nothing was changed.
    pub async fn batch(&self, batch: Batch) -> Result<Vec<OperationReply>, Error> {
        let kinds: Vec<Kind> = batch.operations.iter().map(Kind::of).collect();
        let command = Command::Batch(luge_protocol::Batch {
            operations: batch.operations,
        });
        let replies: Bounded<AnyReply> = self.request(command).await?;
        if replies.0.len() != kinds.len() {
            let (asked, answered) = (kinds.len(), replies.0.len());
            return Err(Error::Protocol(format!(
                "{answered} replies for {asked} operations"
            )));
        }
        let pairs = kinds.into_iter().zip(replies.0);
        pairs.map(|(kind, reply)| reply.typed(kind)).collect()
    }
}

fn owned(key: impl AsRef<[u8]>) -> Key<'static> {
    Key(Cow::Owned(key.as_ref().to_vec()))
}

/// What decides the form of an operation's reply.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Get,
    Set,
    Count,
    Incr,
    Changed,
    Done,
}

impl Kind {
    fn of(operation: &Operation<'_>) -> Self {
        match operation {
            Operation::Get(_) => Self::Get,
            Operation::Set(_) => Self::Set,
            Operation::Del(_) => Self::Count,
            Operation::Incr(_) => Self::Incr,
            Operation::Expire(_) | Operation::Persist(_) => Self::Changed,
            Operation::Check(_) => Self::Done,
        }
    }
}

/// The reply of any operation, before it is known which.
#[derive(Debug)]
enum AnyReply {
    Nil,
    Bool(bool),
    Count(u64),
    Pair(Part, Part),
}

#[derive(Debug)]
enum Part {
    Nil,
    Unsigned(u64),
    Negative(i64),
    Bytes(Bytes),
}

impl AnyReply {
    fn typed(self, kind: Kind) -> Result<OperationReply, Error> {
        Ok(match (kind, self) {
            (Kind::Get, Self::Nil) => OperationReply::Get(None),
            (Kind::Get, Self::Pair(Part::Bytes(value), Part::Unsigned(version))) => {
                OperationReply::Get(Some(Found(value, version)))
            }
            (Kind::Set, Self::Pair(Part::Unsigned(version), old)) => {
                OperationReply::Set(SetReply(version, old.bytes()?))
            }
            (Kind::Count, Self::Count(count)) => OperationReply::Count(count),
            (Kind::Incr, Self::Pair(number, Part::Unsigned(version))) => {
                OperationReply::Incr(IncrReply(number.signed()?, version))
            }
            (Kind::Changed, Self::Bool(changed)) => OperationReply::Changed(changed),
            (Kind::Done, Self::Nil) => OperationReply::Done(()),
            (_, other) => return Err(unexpected(&other)),
        })
    }
}

impl Part {
    fn bytes(self) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Nil => Ok(None),
            Self::Bytes(bytes) => Ok(Some(bytes)),
            other => Err(unexpected(&other)),
        }
    }

    fn signed(self) -> Result<Option<i64>, Error> {
        match self {
            Self::Nil => Ok(None),
            Self::Negative(number) => Ok(Some(number)),
            Self::Unsigned(number) => i64::try_from(number)
                .map(Some)
                .map_err(|_| unexpected(&number)),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(reply: &impl fmt::Debug) -> Error {
    let shown: String = format!("{reply:?}").chars().take(80).collect();
    Error::Protocol(format!("an operation is not answered with {shown}"))
}

impl<'de> Deserialize<'de> for AnyReply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyReplyVisitor)
    }
}

struct AnyReplyVisitor;

impl<'de> Visitor<'de> for AnyReplyVisitor {
    type Value = AnyReply;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the reply of an operation")
    }

    fn visit_unit<E>(self) -> Result<AnyReply, E> {
        Ok(AnyReply::Nil)
    }

    fn visit_bool<E>(self, value: bool) -> Result<AnyReply, E> {
        Ok(AnyReply::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<AnyReply, E> {
        Ok(AnyReply::Count(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<AnyReply, A::Error> {
        use serde::de::Error;
        let first = sequence.next_element()?;
        let second = sequence.next_element()?;
        let (Some(first), Some(second)) = (first, second) else {
            return Err(A::Error::invalid_length(0, &"an array of 2"));
        };
        Ok(AnyReply::Pair(first, second))
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor)
    }
}

struct PartVisitor;

impl Visitor<'_> for PartVisitor {
    type Value = Part;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nil, an integer or bytes")
    }

    fn visit_unit<E>(self) -> Result<Part, E> {
        Ok(Part::Nil)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Part, E> {
        Ok(Part::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Part, E> {
        Ok(u64::try_from(value).map_or(Part::Negative(value), Part::Unsigned))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Part, E> {
        Ok(Part::Bytes(Bytes::copy_from_slice(value)))
    }
}
