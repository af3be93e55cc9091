//! Commands on keys and values.

use std::time::Duration;

use bytes::Bytes;
use luge_protocol::{
    Command, Condition, Del, DelReply, Exists, Expire, Found, Get, Incr, IncrReply, Key, Mget,
    Persist, Range, Set, SetReply, Ttl,
};

use crate::bounded::Bounded;
use crate::client::{Client, milliseconds};
use crate::error::Error;

/// A value and the version that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// The sequence of the commit that wrote it; 0 for a value that a hook answered.
    pub version: u64,
}

/// When a key that is written expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    #[default]
    Never,
    /// When it would have expired anyway.
    Keep,
    /// After this time, in whole milliseconds, at least one.
    After(Duration),
}

/// How to store a value. The default: without a condition, never expiring, the old value not returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// When the key expires.
    pub expiry: Expiry,
    /// What must hold for the write to happen.
    pub condition: Option<Condition>,
    /// Whether to answer the value that the key had.
    pub return_old: bool,
}

/// What a write answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetOutcome {
    /// The version of what was stored.
    pub version: u64,
    /// The value before, where it was asked for and there was one.
    pub old: Option<Bytes>,
}

/// How long a key will live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeToLive {
    /// There is no such key.
    Absent,
    /// It does not expire.
    Forever,
    /// It expires after this time.
    Left(Duration),
}

/// What deleting a part of a range answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeDeletion {
    /// How many keys were deleted.
    pub deleted: u64,
    /// The start of what remains of the range; none when it is done.
    pub next: Option<Bytes>,
}

/// What adding to a number answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// The new number; none where a hook does not let it out.
    pub number: Option<i64>,
    /// The version of what was stored.
    pub version: u64,
}

impl Client {
    /// The value of a key, if it is present.
    ///
    /// # Errors
    /// As [`Client::request`]; `blocked` where a hook refuses.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let found = self.get_versioned(key).await?;
        Ok(found.map(|found| found.value))
    }

    /// The value of a key with its version, for a later write under the condition that it is still
    /// the same.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_versioned(&self, key: impl AsRef<[u8]>) -> Result<Option<Versioned>, Error> {
        let key = Key::from(key.as_ref());
        let found: Option<Found> = self.request(Command::Get(Get { key })).await?;
        Ok(found.map(Versioned::from))
    }

    /// The values of several keys, of one moment, in the order of the keys.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn mget<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Versioned>>, Error> {
        let mget = Command::Mget(Mget { keys: wire(keys) });
        let found: Bounded<Option<Found>> = self.request(mget).await?;
        if found.0.len() != keys.len() {
            let (asked, answered) = (keys.len(), found.0.len());
            return Err(Error::Protocol(format!(
                "{answered} values for {asked} keys"
            )));
        }
        let values = found.0.into_iter();
        Ok(values.map(|found| found.map(Versioned::from)).collect())
    }

    /// Stores a value that does not expire, and answers its version.
    ///
    /// # Errors
    /// As [`Client::request`]; `blocked` where a hook refuses, `too_large` beyond the server's limits.
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<u64, Error> {
        let outcome = self.set_with(key, value, SetOptions::default()).await?;
        Ok(outcome.version)
    }

    /// Stores a value in the way that the options say.
    ///
    /// # Errors
    /// As [`Client::set`]; `precondition_failed` where the condition does not hold, with the key's
    /// current version in the details.
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<SetOutcome, Error> {
        let set = options.command(key.as_ref(), value.as_ref());
        let SetReply(version, old) = self.request(Command::Set(set)).await?;
        Ok(SetOutcome { version, old })
    }

    /// Deletes keys, and answers how many were present.
    ///
    /// # Errors
    /// As [`Client::request`]; `blocked` where a hook refuses one of them.
    pub async fn del<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<u64, Error> {
        let del = Del {
            keys: Some(wire(keys)),
            range: None,
            limit: None,
        };
        let DelReply(deleted, _) = self.request(Command::Del(del)).await?;
        Ok(deleted)
    }

    /// Deletes at most `limit` keys from `start` up to, and not including, `end`; an empty `end`
    /// reaches to the last key. Where more remain, the answer tells where to go on.
    ///
    /// # Errors
    /// As [`Client::del`].
    pub async fn del_range(
        &self,
        start: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
        limit: u64,
    ) -> Result<RangeDeletion, Error> {
        let range = Range {
            start: start.as_ref().into(),
            end: end.as_ref().into(),
        };
        let del = Del {
            keys: None,
            range: Some(range),
            limit: Some(limit),
        };
        let DelReply(deleted, next) = self.request(Command::Del(del)).await?;
        Ok(RangeDeletion { deleted, next })
    }

    /// How many of the keys are present; one that is named twice counts twice.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn exists<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<u64, Error> {
        let keys = wire(keys);
        self.request(Command::Exists(Exists { keys })).await
    }

    /// Gives a key a time to live, and answers whether the key is present.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn expire(&self, key: impl AsRef<[u8]>, after: Duration) -> Result<bool, Error> {
        let expire = Expire {
            key: key.as_ref().into(),
            ttl_ms: milliseconds(after),
        };
        self.request(Command::Expire(expire)).await
    }

    /// How long a key will live.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn ttl(&self, key: impl AsRef<[u8]>) -> Result<TimeToLive, Error> {
        let key = key.as_ref().into();
        let left: Option<u64> = self.request(Command::Ttl(Ttl { key })).await?;
        Ok(match left {
            None => TimeToLive::Absent,
            Some(0) => TimeToLive::Forever,
            Some(left) => TimeToLive::Left(Duration::from_millis(left)),
        })
    }

    /// Takes a key's time to live away, and answers whether it had one.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let key = key.as_ref().into();
        self.request(Command::Persist(Persist { key })).await
    }

    /// Adds to the number that a key holds as decimal text; an absent key holds 0.
    ///
    /// # Errors
    /// As [`Client::set`]; `bad_request` where the value is not a number, or the result beyond 64 bits.
    pub async fn incr(&self, key: impl AsRef<[u8]>, delta: i64) -> Result<Sum, Error> {
        let incr = Incr {
            key: key.as_ref().into(),
            delta: Some(delta),
        };
        let IncrReply(number, version) = self.request(Command::Incr(incr)).await?;
        Ok(Sum { number, version })
    }
}

impl SetOptions {
    pub(crate) fn command<'a>(self, key: &'a [u8], value: &'a [u8]) -> Set<'a> {
        let (ttl_ms, keep_ttl) = match self.expiry {
            Expiry::Never => (None, None),
            Expiry::Keep => (None, Some(true)),
            Expiry::After(time) => (Some(milliseconds(time)), None),
        };
        Set {
            key: key.into(),
            value: value.into(),
            ttl_ms,
            keep_ttl,
            condition: self.condition,
            return_old: self.return_old.then_some(true),
        }
    }
}

impl From<Found> for Versioned {
    fn from(Found(value, version): Found) -> Self {
        Self { value, version }
    }
}

fn wire<K: AsRef<[u8]>>(keys: &[K]) -> Vec<Key<'_>> {
    keys.iter().map(|key| Key::from(key.as_ref())).collect()
}
