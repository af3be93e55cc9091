//! The first request: which protocol is spoken, and by whom.

use std::sync::Arc;

use bytes::Bytes;
use luge_protocol::{ErrorCode, ErrorReply, Hello, HelloReply, PROTOCOL_VERSION};

use super::Session;
use crate::function::{Identity, Runtime};
use crate::store::Store;

/// The server's name and release.
pub(super) const SERVER: &str = concat!("luge ", env!("CARGO_PKG_VERSION"));

/// The longest name that a client may give itself, in bytes: it goes into logs.
const MAX_CLIENT_NAME_BYTES: usize = 128;

impl<S: Store, R: Runtime<S::Snapshot>> Session<S, R> {
    pub(super) fn greet(&mut self, hello: &Hello<'_>) -> Result<HelloReply, ErrorReply> {
        if !hello.versions.contains(&PROTOCOL_VERSION) {
            let message = format!(
                "this server speaks version {PROTOCOL_VERSION} of the protocol, and the client offers {:?}",
                hello.versions
            );
            return Err(ErrorReply::new(ErrorCode::Unsupported, message));
        }
        if hello.credentials.is_some() {
            let message = "this server has no accounts; leave the credentials out";
            return Err(ErrorReply::new(ErrorCode::Unsupported, message));
        }
        let client = hello.client.as_deref().unwrap_or_default();
        if client.len() > MAX_CLIENT_NAME_BYTES {
            let length = client.len();
            let message = format!(
                "a client's name of {length} bytes exceeds the limit of {MAX_CLIENT_NAME_BYTES}"
            );
            return Err(ErrorReply::new(ErrorCode::TooLarge, message));
        }
        let client = (!client.is_empty()).then(|| client.to_owned());
        self.identity = Arc::new(Identity {
            client,
            ..(*self.identity).clone()
        });
        self.is_greeted = true;
        Ok(HelloReply {
            version: PROTOCOL_VERSION,
            server: SERVER.to_owned(),
            store: Bytes::copy_from_slice(&self.core.store.id()),
            limits: self.core.told_limits(),
        })
    }
}
