//! What a running server takes over anew when it is told to: its tokens, and its certificate with the key.

use std::sync::Arc;

use crate::config::Config;
use crate::net::Tls;
use crate::server::EmbeddedCore;
use crate::session::Authority;
use crate::tokens::{self, TokensError, TokensFile};

/// Takes over what lies in files beside the configuration. Settings themselves stay.
#[derive(Clone)]
pub struct Reloader {
    core: Arc<EmbeddedCore>,
    tls: Option<Arc<Tls>>,
    config: Config,
}

impl Reloader {
    pub(crate) fn new(core: Arc<EmbeddedCore>, tls: Option<Arc<Tls>>, config: Config) -> Self {
        Self { core, tls, config }
    }

    /// Reads the files again, and says in the log what came of it. What can't be used leaves in force what
    /// there was.
    pub fn reload(&self) {
        let mut taken_over = Vec::new();
        let had_tokens = self.has_tokens();
        match self.reload_tokens() {
            Ok(told) => {
                tracing::info!("tokens: {told}");
                if had_tokens || self.has_tokens() {
                    taken_over.push("tokens");
                }
            }
            Err(error) => tracing::error!("tokens: what was in force stays: {error}"),
        }
        match self.tls.as_deref().map(Tls::reload) {
            Some(Ok(())) => {
                tracing::info!("tls: new connections get the certificate as it is now");
                taken_over.push("certificate");
            }
            Some(Err(error)) => tracing::error!("tls: what was in force stays: {error}"),
            None => {}
        }
        let what = match taken_over.is_empty() {
            true => "nothing".to_owned(),
            false => taken_over.join(" and "),
        };
        tracing::info!("reloaded: {what}; a change of settings needs a restart");
    }

    fn has_tokens(&self) -> bool {
        matches!(*self.core.current_authority(), Authority::Tokens(_))
    }

    fn reload_tokens(&self) -> Result<String, TokensError> {
        let authority = tokens::authority(&self.config)?;
        match (&authority, TokensFile::find(&self.config)) {
            (Authority::Open, Some(file)) if self.has_tokens() => {
                return Err(TokensError::Gone(file.path().to_owned()));
            }
            _ => {}
        }
        let told = tell(&authority);
        self.core.set_authority(authority);
        Ok(told)
    }
}

/// What an authority amounts to, for the log.
pub(crate) fn tell(authority: &Authority) -> String {
    match authority {
        Authority::Open => "none, so whoever reaches the server may do everything".to_owned(),
        Authority::Tokens(tokens) if tokens.is_empty() => {
            "none in the file, so nobody may do anything until one is added; without the file, a restart serves whoever reaches the server".to_owned()
        }
        Authority::Tokens(tokens) => format!("{} in force", tokens.len()),
    }
}
