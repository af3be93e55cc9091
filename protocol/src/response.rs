//! Responses: `[id, {"ok": reply}]` or `[id, {"err": [code, message, details]}]`.

use rmp::decode;
use serde::{Deserialize, Serialize};

use crate::error::{DecodeError, ErrorReply};
use crate::request::{MAX_DEPTH, RequestId, Source, is_at_end};

/// What a request is answered with. `R` is the type of its reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Response<R> {
    /// The request's number; 0 where the request's own could not be read.
    pub id: RequestId,
    /// The reply, or why there is none.
    pub outcome: Result<R, ErrorReply>,
}

#[derive(Serialize)]
enum OutcomeRef<'a, R> {
    #[serde(rename = "ok")]
    Ok(&'a R),
    #[serde(rename = "err")]
    Err(&'a ErrorReply),
}

#[derive(Deserialize)]
enum Outcome<R> {
    #[serde(rename = "ok")]
    Ok(R),
    #[serde(rename = "err")]
    Err(ErrorReply),
}

impl<R: Serialize> Response<R> {
    /// Appends the response as a body to `target`.
    ///
    /// # Errors
    /// Only where a reply's own `Serialize` fails; none of this crate's does.
    pub fn encode(&self, target: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error> {
        let outcome = match &self.outcome {
            Ok(reply) => OutcomeRef::Ok(reply),
            Err(error) => OutcomeRef::Err(error),
        };
        rmp_serde::encode::write_named(target, &(self.id, outcome))
    }
}

impl<'de, R: Deserialize<'de>> Response<R> {
    /// Decodes a body whose reply is of type `R`; [`response_id`] tells beforehand whose it is.
    ///
    /// # Errors
    /// The body is not a response, or its reply is not of type `R`.
    pub fn decode(body: &'de [u8]) -> Result<Self, DecodeError> {
        let mut source = Source::from_read_ref(body);
        source.set_max_depth(MAX_DEPTH);
        let (id, outcome) = <(u64, Outcome<R>)>::deserialize(&mut source)
            .map_err(|error| DecodeError::new(format!("not a response: {error}")))?;
        if !is_at_end(&mut source) {
            return Err(DecodeError::of(
                id,
                "bytes follow the response in its frame",
            ));
        }
        let outcome = match outcome {
            Outcome::Ok(reply) => Ok(reply),
            Outcome::Err(error) => Err(error),
        };
        Ok(Self { id, outcome })
    }
}

/// The id of the request that a body answers.
///
/// # Errors
/// The body does not begin as a response does.
pub fn response_id(body: &[u8]) -> Result<RequestId, DecodeError> {
    let mut rest = body;
    match decode::read_array_len(&mut rest) {
        Ok(2) => {}
        _ => return Err(DecodeError::new("a response is an array of 2 elements")),
    }
    decode::read_int(&mut rest)
        .map_err(|_| DecodeError::new("a response's id is an unsigned integer"))
}
