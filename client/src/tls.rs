//! TLS: whom to trust, and by which name the server is known.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::Error;

/// The longest file of roots, in bytes. All of an operating system's have a quarter of that.
const MAX_ROOTS_BYTES: u64 = 1 << 20;

/// How a server proves who it is. As it is, by a certificate that the operating system trusts, for the
/// host of the address. TLS 1.3 is spoken and nothing older.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    roots: Option<PathBuf>,
    server_name: Option<String>,
}

impl Tls {
    /// Trusts the certificates in this file alone, in PEM form, in place of the operating system's. A
    /// server's own certificate may stand there, too, if it is none of an authority.
    #[must_use]
    pub fn roots(mut self, file: impl Into<PathBuf>) -> Self {
        self.roots = Some(file.into());
        self
    }

    /// The name that must be in the server's certificate, where it is not the host of the address.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Does the handshake with the server at `address`.
    pub(crate) async fn connect(
        &self,
        address: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let name = self.server_name.as_deref().unwrap_or(host(address));
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| Error::Tls(format!("`{name}` is no name that a certificate can have")))?;
        let roots = self.roots.clone();
        // Files are read, of the operating system's roots a good many.
        let roots = tokio::task::spawn_blocking(move || match roots {
            Some(file) => read_roots(&file),
            None => platform_roots(),
        });
        let roots = roots
            .await
            .map_err(|error| Error::Tls(error.to_string()))??;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connected = TlsConnector::from(Arc::new(config)).connect(server, stream);
        connected.await.map_err(|error| Error::Tls(reason(&error)))
    }
}

/// The host of `host:port`, where the host may be an address of IPv6 in brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn read_roots(file: &Path) -> Result<RootCertStore, Error> {
    let wrong = |what: &str| Error::Tls(format!("the roots {}: {what}", file.display()));
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MAX_ROOTS_BYTES).read_to_end(&mut bytes));
    read.map_err(|error| wrong(&error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| wrong(&error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| wrong(&error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(wrong("it has no certificate in PEM form")),
        false => Ok(roots),
    }
}

fn platform_roots() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    match roots.is_empty() {
        true => Err(Error::Tls(
            "no certificates that this system trusts were found; name a file of roots".to_owned(),
        )),
        false => Ok(roots),
    }
}

/// Why a handshake failed, with what can be done about it where that is known.
fn reason(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(inner) = inner else {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => {
                "the server ended the connection during the handshake".to_owned()
            }
            _ => error.to_string(),
        };
    };
    let hint = match inner {
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server speaks no TLS at this port, or none that is as new as 1.3"
        }
        rustls::Error::InvalidMessage(_) => "the server speaks no TLS at this port",
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            "no root that is trusted has signed the server's certificate; name the file of one that has"
        }
        rustls::Error::InvalidCertificate(CertificateError::Other(_)) => {
            "a certificate of an authority can't be a server's own: make that with CA:FALSE"
        }
        _ => return inner.to_string(),
    };
    format!("{hint} ({inner})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_stands_before_the_port() {
        for (address, expected) in [
            ("localhost:5843", "localhost"),
            ("127.0.0.1:5843", "127.0.0.1"),
            ("[::1]:5843", "::1"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(host(address), expected);
        }
    }
}
