//! What one request may name and carry.

use luge_protocol::{ErrorCode, ErrorReply};

/// The bounds on requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLimits {
    /// A key, in bytes.
    pub max_key_bytes: usize,
    /// A value, in bytes.
    pub max_value_bytes: usize,
    /// Keys of one `mget`, `del` or `exists`, and parts of one `batch`.
    pub max_request_keys: usize,
    /// Entries of one page of a `scan`, and keys of one `del` of a range.
    pub max_page_entries: usize,
    /// Bytes of one page.
    pub max_page_bytes: usize,
}

impl CommandLimits {
    /// Refuses a key of no bytes or too many.
    pub(crate) fn check_key(&self, key: &[u8]) -> Result<(), ErrorReply> {
        if key.is_empty() {
            return Err(ErrorReply::new(
                ErrorCode::BadRequest,
                "a key has at least 1 byte",
            ));
        }
        self.check("key", key.len(), self.max_key_bytes, "max_key_bytes")
    }

    /// Refuses a value of too many bytes.
    pub(crate) fn check_value(&self, value: &[u8]) -> Result<(), ErrorReply> {
        self.check(
            "value",
            value.len(),
            self.max_value_bytes,
            "max_value_bytes",
        )
    }

    /// Refuses a request of too many keys.
    pub(super) fn check_count(&self, what: &str, count: usize) -> Result<(), ErrorReply> {
        let limit = self.max_request_keys;
        if count > limit {
            let message =
                format!("{count} {what} exceed the limit of {limit} (`max_request_keys`)");
            return Err(ErrorReply::new(ErrorCode::TooLarge, message));
        }
        Ok(())
    }

    /// The limit of a page, as asked for or by default.
    pub(super) fn page(&self, asked: Option<u64>, default: usize) -> Result<usize, ErrorReply> {
        let limit = asked.map_or(default, |asked| {
            usize::try_from(asked).unwrap_or(usize::MAX)
        });
        if limit == 0 || limit > self.max_page_entries {
            let max = self.max_page_entries;
            let message =
                format!("a limit of {limit} is outside of 1 to {max} (`max_page_entries`)");
            return Err(ErrorReply::new(ErrorCode::BadRequest, message));
        }
        Ok(limit)
    }

    fn check(
        &self,
        what: &str,
        length: usize,
        limit: usize,
        setting: &str,
    ) -> Result<(), ErrorReply> {
        if length > limit {
            let message =
                format!("{what} of {length} bytes exceeds the limit of {limit} (`{setting}`)");
            return Err(ErrorReply::new(ErrorCode::TooLarge, message));
        }
        Ok(())
    }
}
