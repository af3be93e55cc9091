//! The first request: which protocol is spoken, and by whom; and what whoever it is may ask for.

use std::sync::Arc;

use bytes::Bytes;
use luge_protocol::{
    Command, ErrorCode, ErrorReply, Hello, HelloReply, PROTOCOL_VERSION, Response,
};
use tokio::sync::watch;

use super::authority::{Unadmitted, needed};
use super::{Authority, Core, Role, Session, refusal};
use crate::function::{Identity, Runtime};
use crate::store::Store;

/// The server's name and release.
pub(super) const SERVER: &str = concat!("luge ", env!("CARGO_PKG_VERSION"));

/// The longest name that a client may give itself, in bytes: it goes into logs.
const MAX_CLIENT_NAME_BYTES: usize = 128;

/// How often a session may say hello without a token of the server's. A mistake or two are a person's;
/// whoever tries more has to connect again.
const MAX_REFUSED_GREETINGS: u32 = 3;

impl<S: Store, R: Runtime<S::Snapshot>> Core<S, R> {
    /// Puts other tokens in force. Sessions whose token is not among them, or allows less now, are
    /// over.
    pub fn set_authority(&self, authority: Authority) {
        self.authority.send_replace(Arc::new(authority));
    }

    /// Who may do what.
    pub fn current_authority(&self) -> Arc<Authority> {
        Arc::clone(&self.authority.borrow())
    }

    /// Who may do what, as it is and as it changes.
    pub(super) fn authority(&self) -> watch::Receiver<Arc<Authority>> {
        self.authority.subscribe()
    }
}

impl<S: Store, R: Runtime<S::Snapshot>> Session<S, R> {
    pub(super) fn greet(&mut self, hello: &Hello<'_>) -> Result<HelloReply, ErrorReply> {
        if !hello.versions.contains(&PROTOCOL_VERSION) {
            let message = format!(
                "this server speaks version {PROTOCOL_VERSION} of the protocol, and the client offers {:?}",
                hello.versions
            );
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
        let authority = Arc::clone(&self.authority.borrow_and_update());
        let secret = hello.credentials.as_ref().map(|secret| secret.reveal());
        let (grant, user) = match authority.admit(secret) {
            Ok((grant, user)) => (grant, user.map(str::to_owned)),
            Err(why) => return Err(self.refuse_greeting(why)),
        };
        let client = (!client.is_empty()).then(|| client.to_owned());
        self.identity = Arc::new(Identity {
            client,
            user,
            ..(*self.identity).clone()
        });
        self.grant = Some(grant);
        Ok(HelloReply {
            version: PROTOCOL_VERSION,
            server: SERVER.to_owned(),
            store: Bytes::copy_from_slice(&self.core.store.id()),
            limits: self.core.told_limits(),
        })
    }

    fn refuse_greeting(&mut self, why: Unadmitted) -> ErrorReply {
        if why == Unadmitted::Needless {
            return refusal::needless_token();
        }
        self.refused_greetings += 1;
        if self.refused_greetings >= MAX_REFUSED_GREETINGS {
            self.over = Some(refusal::too_many_greetings(MAX_REFUSED_GREETINGS));
        }
        let (peer, connection) = (&self.identity.peer, self.identity.connection);
        tracing::warn!(peer, connection, "a hello without a token of this server's");
        match why {
            Unadmitted::Missing => refusal::missing_token(),
            _ => refusal::unknown_token(),
        }
    }

    /// Who may do what, as it changes from now on.
    pub fn authority(&self) -> watch::Receiver<Arc<Authority>> {
        self.authority.clone()
    }

    /// Whether the session was greeted, and may ask for something.
    pub fn is_admitted(&self) -> bool {
        self.grant.is_some()
    }

    /// Whether nothing more will be answered: its token is no longer in force, or too many greetings
    /// were refused.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Looks whether the authority has changed, and what that leaves of the session.
    ///
    /// # Errors
    /// The session is over.
    pub fn renew(&mut self) -> Result<(), ErrorReply> {
        if self.authority.has_changed().unwrap_or(false) {
            let authority = Arc::clone(&self.authority.borrow_and_update());
            if let Some(grant) = &self.grant {
                self.grant = authority.renew(grant, self.identity.user.as_deref());
                if self.grant.is_none() {
                    self.over = Some(refusal::revoked_token());
                }
            }
        }
        match &self.over {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    /// Whether the session may read and write keys, and nothing has changed since that was found out.
    pub(super) fn may_use_data(&self) -> bool {
        let may_use = self.grant.is_some_and(|grant| grant.role >= Role::Data);
        may_use && self.over.is_none() && matches!(self.authority.has_changed(), Ok(false))
    }

    /// Whether the session may ask for this now.
    pub(super) fn check(&mut self, command: &Command<'_>) -> Result<(), ErrorReply> {
        self.renew()?;
        let Some(needed) = needed(command) else {
            return Ok(());
        };
        match &self.grant {
            None => Err(refusal::ungreeted(command.name())),
            Some(grant) if grant.role < needed => {
                Err(refusal::weak_role(command, needed, grant.role))
            }
            Some(_) => Ok(()),
        }
    }

    /// Takes out of an error what only those may see who deploy: how a module looks inside.
    pub(super) fn veil<T>(&self, response: &mut Response<T>) {
        let may_deploy = self.grant.is_some_and(|grant| grant.role >= Role::Deploy);
        if let Err(ErrorReply(_, _, Some(details))) = &mut response.outcome
            && !may_deploy
        {
            details.backtrace = None;
            details.log = None;
        }
    }
}
