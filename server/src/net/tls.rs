//! TLS: the certificate and its key, which can be replaced while connections go on, and the handshake.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use luge_protocol::ErrorCode;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::NetOptions;
use super::farewell::{refusal, say_farewell};
use super::foreign;
use crate::secrets::{self, SecretError};

/// The longest file with certificates or a key, in bytes. A chain has a few KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The first byte of a TLS connection. A frame that begins so would be longer than any limit.
const HANDSHAKE: u8 = 0x16;

/// Why a certificate and its key can't be used, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key's file.
    #[error(transparent)]
    Key(#[from] SecretError),
    /// A file is not there.
    #[error("{what} {} is not there", .path.display())]
    Missing {
        /// What it should be.
        what: &'static str,
        /// Where it should lie.
        path: PathBuf,
    },
    /// A file can't be read.
    #[error("can't read {what} {}: {source}", .path.display())]
    Io {
        /// What it is.
        what: &'static str,
        /// Where it lies.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file has something else in it.
    #[error("{} has no {what} in PEM form", .path.display())]
    Form {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// They do not go together, or are of a kind that is not supported.
    #[error("the certificate {} and the key {} can't be used together: {source}", .certificate.display(), .key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// What a server proves itself with. New connections get what is in force when they come.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Reads a certificate, with the chain behind it, and its key, both in PEM form.
    ///
    /// # Errors
    /// They can't be used.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            config: ArcSwap::new(read(certificate, key)?),
        })
    }

    /// Reads both again.
    ///
    /// # Errors
    /// They can't be used, and those before stay in force.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.config.store(read(&self.certificate, &self.key)?);
        Ok(())
    }

    /// Does the handshake until `deadline`. A peer that speaks something else is told so; nothing where
    /// that has been the end.
    pub(super) async fn accept(
        &self,
        socket: TcpStream,
        deadline: Instant,
        options: &NetOptions,
    ) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        let peeked = timeout_at(deadline, socket.peek(&mut first)).await;
        if !matches!(peeked, Ok(Ok(1))) {
            return None;
        }
        if first != [HANDSHAKE] {
            refuse_plain(socket, deadline, options).await;
            return None;
        }
        let acceptor = TlsAcceptor::from(self.config.load_full());
        match timeout_at(deadline, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a handshake failed");
                None
            }
            Err(_) => None,
        }
    }
}

/// Tells a peer without TLS, in its own protocol, what this port is.
async fn refuse_plain(mut socket: TcpStream, deadline: Instant, options: &NetOptions) {
    let mut header = [0; 4];
    if !matches!(
        timeout_at(deadline, socket.read_exact(&mut header)).await,
        Ok(Ok(_))
    ) {
        return;
    }
    let farewell = foreign::farewell(header).unwrap_or_else(|| {
        let message = "this port speaks TLS, and the connection began without it; connect with TLS";
        refusal(ErrorCode::BadRequest, message.to_owned())
    });
    let (mut source, mut sink) = socket.into_split();
    say_farewell(&mut source, &mut sink, &farewell, options.write_timeout).await;
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let what = "the certificate";
    let file = match File::open(certificate) {
        Ok(file) => file,
        Err(source) => {
            let path = certificate.to_owned();
            return Err(match source.kind() {
                io::ErrorKind::NotFound => TlsError::Missing { what, path },
                _ => TlsError::Io { what, path, source },
            });
        }
    };
    let bytes = read_bounded(what, certificate, file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| TlsError::Form {
        what: "certificate",
        path: certificate.to_owned(),
    })?;
    let what = "the key";
    let file = secrets::open(what, key)?.ok_or_else(|| TlsError::Missing {
        what,
        path: key.to_owned(),
    })?;
    let bytes = read_bounded(what, key, file)?;
    let secret = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsError::Form {
        what: "private key",
        path: key.to_owned(),
    })?;
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, secret))
        .map(Arc::new)
        .map_err(|source| TlsError::Pair {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            source,
        })
}

/// The beginning of a file; of one that is too long, so much that it can't be read as what it should be.
fn read_bounded(what: &'static str, path: &Path, file: File) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
    read.map_err(|source| TlsError::Io {
        what,
        path: path.to_owned(),
        source,
    })?;
    Ok(bytes)
}
