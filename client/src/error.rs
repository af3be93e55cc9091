//! What can go wrong, by fault: the way to the server, the server's bytes, the caller's values, or
//! the server's answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use luge_protocol::{ErrorCode, ErrorDetails, ErrorReply};
use serde::de::DeserializeOwned;

/// Why a request was not answered with a reply.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be made.
    #[error("no connection to {address}")]
    Connect {
        /// The address as it was given.
        address: String,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// A connection was made, and TLS on it was not: the server's certificate is not trusted, it speaks
    /// none at this port, or the roots can't be read. Nothing was sent.
    #[error("no TLS with the server: {0}")]
    Tls(String),
    /// The connection broke. A write that was under way may have been carried out.
    #[error("the connection broke")]
    Io(#[source] Arc<io::Error>),
    /// The server closed the connection. A write that was under way may have been carried out.
    #[error("the server closed the connection")]
    Closed,
    /// The server sent what is not of the protocol's form.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// No answer came in time. A write may have been carried out.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The request is longer than the server takes. It was not sent.
    #[error("request of {bytes} bytes exceeds the server's limit of {limit}")]
    TooLarge {
        /// The request's length.
        bytes: usize,
        /// The limit that the server told.
        limit: usize,
    },
    /// The arguments of a call have no MessagePack form. Nothing was sent.
    #[error("the arguments can't be written as MessagePack: {0}")]
    Arguments(String),
    /// The output of a procedure, which succeeded, is not of the type that was asked for.
    #[error("the procedure's output is not of the wanted type: {0}")]
    Output(String),
    /// A module in text form can't be translated. Nothing was sent.
    #[error("the module's text can't be translated: {0}")]
    Wat(String),
    /// Too much of a watch arrived without being taken, and the watch was ended.
    #[error("the watch was not read for too long, and was ended; it can go on from {from}")]
    Behind {
        /// The first commit that was not handed out.
        from: u64,
    },
    /// A backup can't be written to where it should go.
    #[error("the copy can't be written")]
    Write(#[source] Arc<io::Error>),
    /// The server answered with an error.
    #[error("{0}")]
    Server(ErrorReply),
    /// The server ended the connection, and said why: it is full, or nothing was asked for too long.
    #[error("the server ended the connection: {0}")]
    Ended(ErrorReply),
}

impl Error {
    /// The server's code, where the server answered or said why it ended the connection.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Server(reply) | Self::Ended(reply) => Some(reply.code()),
            _ => None,
        }
    }

    /// What the server told for programs, where it answered with details.
    #[must_use]
    pub fn details(&self) -> Option<&ErrorDetails> {
        match self {
            Self::Server(reply) => reply.2.as_deref(),
            _ => None,
        }
    }

    /// Where a watch that ended so can go on: the `from` of another one. Some commits before it may
    /// be lost only where the code is `too_old` or `too_large`.
    #[must_use]
    pub fn resume_from(&self) -> Option<u64> {
        match self {
            Self::Behind { from } => Some(*from),
            other => other.details()?.sequence,
        }
    }

    /// What the procedure said, where it refused.
    #[must_use]
    pub fn rejected(&self) -> Option<Rejected> {
        if self.code() != Some(ErrorCode::Rejected) {
            return None;
        }
        let details = self.details().cloned().unwrap_or_default();
        Some(Rejected {
            module: details.module.unwrap_or_default(),
            function: details.function.unwrap_or_default(),
            code: details.code.unwrap_or_default(),
            payload: details.payload.unwrap_or_default(),
        })
    }
}

/// A procedure's refusal. Nothing of the call was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The module.
    pub module: String,
    /// The procedure.
    pub function: String,
    /// The number that the procedure returned; never 0.
    pub code: i32,
    /// What it wrote as output: bytes, by custom one MessagePack value.
    pub payload: Bytes,
}

impl Rejected {
    /// The payload as a value.
    ///
    /// # Errors
    /// [`Error::Output`] where it is not one MessagePack value of this type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        decode_output(&self.payload)
    }
}

/// The deepest nesting of a procedure's output that is decoded.
const MAX_OUTPUT_DEPTH: usize = 128;

/// Decodes what a procedure wrote, which is one MessagePack value and nothing else.
pub(crate) fn decode_output<T: DeserializeOwned>(output: &[u8]) -> Result<T, Error> {
    let mut rest = output;
    let mut source = rmp_serde::Deserializer::new(&mut rest);
    source.set_max_depth(MAX_OUTPUT_DEPTH);
    let value = T::deserialize(&mut source).map_err(|error| Error::Output(error.to_string()))?;
    if !rest.is_empty() {
        let (value, all) = (output.len() - rest.len(), output.len());
        return Err(Error::Output(format!(
            "the value ends after {value} of {all} bytes"
        )));
    }
    Ok(value)
}
