use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use luge_server::config::Config;
use luge_server::testing::TestServer;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::wire::{Peer, server};

/// A server with TLS, and its certificate.
fn with_tls(change: impl FnOnce(&mut Config)) -> (TestServer, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = server(|config| {
        config.tls_cert = certificate;
        config.tls_key = key;
        change(config);
    });
    (server, made.cert.der().clone())
}

/// The bytes that a client by TLS is told before the server closes.
fn told_by_tls(peer: Peer, certificate: CertificateDer<'static>) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut told = Vec::new();
    StreamOwned::new(connection, peer.0)
        .read_to_end(&mut told)
        .unwrap();
    told
}

#[test]
fn a_handshake_that_does_not_come_to_its_end_is_given_up() {
    let (server, _) = with_tls(|config| config.greeting_timeout_ms = 50);
    // Nothing at all, and the beginning of a handshake.
    for sent in [&b""[..], &[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]] {
        let mut peer = Peer::connect(server.address());
        peer.0.write_all(sent).unwrap();
        assert!(peer.is_closed());
    }
}

#[test]
fn after_the_handshake_a_hello_is_waited_for_no_longer_than_without_tls() {
    let (server, certificate) = with_tls(|config| config.greeting_timeout_ms = 1_500);
    let told = told_by_tls(Peer::connect(server.address()), certificate);
    let told = String::from_utf8_lossy(&told);
    assert!(
        told.contains("no `hello` was accepted within 1.5s"),
        "{told}"
    );
}

#[test]
fn handshakes_count_as_connections_and_one_more_is_told_so_by_tls() {
    let (server, certificate) = with_tls(|config| config.max_connections = 1);
    let silent = Peer::connect(server.address());
    let told = told_by_tls(Peer::connect(server.address()), certificate);
    let told = String::from_utf8_lossy(&told);
    assert!(
        told.contains("the limit of 1 connections is reached"),
        "{told}"
    );
    drop(silent);
}

#[test]
fn a_peer_without_tls_is_told_in_its_own_protocol() {
    let (server, _) = with_tls(|_| {});
    let mut plain = Peer::connect(server.address());
    plain.send_body(b"\x92\x01\x81\xa4ping\x90");
    let (id, error) = plain.error();
    let expected =
        "bad_request: this port speaks TLS, and the connection began without it; connect with TLS";
    assert_eq!((id, error.as_str()), (0, expected));
    assert!(plain.is_closed());
    let mut http = Peer::connect(server.address());
    http.0.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    http.0.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let mut garbage = Peer::connect(server.address());
    garbage.0.write_all(&[0x16; 64]).unwrap();
    let mut alert = Vec::new();
    let _ = garbage.0.read_to_end(&mut alert);
    assert!(alert.is_empty() || alert[0] == 21, "{alert:?}");
}
