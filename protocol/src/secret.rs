//! What proves who a user is, unable to get into a log.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret: on the wire a text. Its `Debug` form leaves it out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret<'a>(#[serde(borrow)] Cow<'a, str>);

impl Secret<'_> {
    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Secret<'a> {
    fn from(secret: &'a str) -> Self {
        Self(Cow::Borrowed(secret))
    }
}

impl From<String> for Secret<'_> {
    fn from(secret: String) -> Self {
        Self(Cow::Owned(secret))
    }
}

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use crate::{Command, Hello, Request};

    #[test]
    fn a_secret_goes_over_the_wire_and_into_no_debug_form() {
        let hello = Command::Hello(Hello {
            versions: vec![1],
            client: None,
            credentials: Some("open sesame".into()),
        });
        assert!(!format!("{hello:?}").contains("sesame"), "{hello:?}");
        let body = Request::new(1, hello.clone()).encode();
        let request = Request::decode(&body).unwrap();
        assert_eq!(request.command, hello);
        let Command::Hello(hello) = request.command else {
            panic!("not a hello");
        };
        assert_eq!(hello.credentials.unwrap().reveal(), "open sesame");
    }
}
