//! The library and the command line by TLS, against a real server.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use luge_client::{Client, Error, ErrorCode, Tls};
use luge_server::session::Role;
use luge_server::testing::{TestServer, start, start_with};
use luge_server::tokens::TokensFile;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// A server by TLS for one user, and what that user needs.
struct Place {
    folder: TempDir,
    server: TestServer,
    token: String,
}

impl Place {
    async fn start() -> Self {
        Self::start_as("localhost").await
    }

    /// A server with a certificate for this name.
    async fn start_as(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = vec![name.to_owned(), "127.0.0.1".to_owned()];
        let names = if name == "localhost" {
            names
        } else {
            vec![name.to_owned()]
        };
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let mut token = String::new();
        let server = start_with(|config| {
            config.tls_cert = folder.path().join("cert.pem");
            config.tls_key = folder.path().join("key.pem");
            config.tokens_file = folder.path().join("users");
            std::fs::write(&config.tls_cert, made.cert.pem()).unwrap();
            std::fs::write(&config.tls_key, made.signing_key.serialize_pem()).unwrap();
            let own = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&config.tls_key, own).unwrap();
            let file = TokensFile::find(config).unwrap();
            token = file.add("anna", Role::Admin).unwrap();
        })
        .await;
        Self {
            folder,
            server,
            token,
        }
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn trusted(&self) -> Tls {
        Tls::default().roots(self.certificate())
    }

    async fn connect(&self, tls: Tls) -> Result<Client, Error> {
        let builder = Client::builder().token(&*self.token).tls(tls);
        builder.connect(self.server.address()).await
    }
}

/// Why there is no TLS.
#[track_caller]
fn why(outcome: Result<Client, Error>) -> String {
    match outcome {
        Err(Error::Tls(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn requests_large_values_and_streams_go_by_tls() {
    let place = Place::start().await;
    let client = place.connect(place.trusted()).await.unwrap();
    let value: Vec<u8> = (0..1 << 20)
        .map(|byte: u32| byte.to_le_bytes()[1])
        .collect();
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let (client, value) = (client.clone(), value.clone());
            tokio::spawn(async move { client.set(format!("large{number}"), value).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for number in 0..8 {
        let found = client.get(format!("large{number}")).await.unwrap().unwrap();
        assert!(found == value, "large{number}");
    }
    let mut copy = Vec::new();
    client.backup(&mut copy).await.unwrap();
    assert!(copy.len() > 8 << 20);
    place.server.stop().unwrap();
    // The server has said that this is the end.
    let ended = client.ping().await.unwrap_err();
    assert!(matches!(ended, Error::Closed), "{ended:?}");
}

#[tokio::test]
async fn a_server_that_is_not_trusted_or_has_another_name_is_told_nothing() {
    let (place, other) = (Place::start().await, Place::start().await);
    let untrusted = why(place.connect(other.trusted()).await);
    assert!(untrusted.contains("no root that is trusted"), "{untrusted}");
    let misnamed = why(place
        .connect(place.trusted().server_name("example.org"))
        .await);
    assert!(misnamed.contains("example.org"), "{misnamed}");
    let platform = why(place.connect(Tls::default()).await);
    assert!(platform.contains("trust"), "{platform}");
    let nameless = why(place.connect(place.trusted().server_name("a b")).await);
    assert!(nameless.contains("`a b` is no name"), "{nameless}");
    let elsewhere = Place::start_as("luge.example.org").await;
    why(elsewhere.connect(elsewhere.trusted()).await);
    let named = elsewhere.trusted().server_name("luge.example.org");
    elsewhere
        .connect(named)
        .await
        .unwrap()
        .ping()
        .await
        .unwrap();
}

#[tokio::test]
async fn roots_that_can_t_be_read_are_named() {
    let place = Place::start().await;
    let nowhere = why(place.connect(Tls::default().roots("/nowhere.pem")).await);
    assert!(nowhere.starts_with("the roots /nowhere.pem: "), "{nowhere}");
    let file = place.folder.path().join("empty.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let empty = why(place.connect(Tls::default().roots(&file)).await);
    assert!(
        empty.contains("empty.pem: it has no certificate"),
        "{empty}"
    );
}

#[tokio::test]
async fn tls_where_the_server_has_none_and_none_where_it_has_is_told_in_a_sentence() {
    let (place, open) = (Place::start().await, start().await);
    let without = Client::connect(place.server.address()).await.unwrap_err();
    assert_eq!(without.code(), Some(ErrorCode::BadRequest));
    assert!(
        without.to_string().contains("this port speaks TLS"),
        "{without}"
    );
    let builder = Client::builder().tls(place.trusted());
    let with = why(builder.connect(open.address()).await);
    assert!(
        with.starts_with("the server speaks no TLS at this port"),
        "{with}"
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answered = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail.example.org\r\n").await.unwrap();
        stream
    };
    let (mail, _stream) = tokio::join!(builder.connect(address), answered);
    let mail = why(mail);
    assert!(
        mail.starts_with("the server speaks no TLS at this port"),
        "{mail}"
    );
}

/// Runs `luge` with nothing of its own in the environment but these.
async fn luge(place: &Place, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_luge"));
    for name in ["LUGE_TOKEN", "LUGE_TOKEN_FILE", "LUGE_TLS", "LUGE_TLS_CA"] {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .args(["--token", &place.token])
        .args(["--addr", &place.server.address().to_string()])
        .envs(environment.iter().copied());
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    run.await.unwrap()
}

#[tokio::test]
async fn the_command_line_connects_by_tls_as_flags_or_the_environment_say() {
    let place = Place::start().await;
    let roots = place.certificate();
    let roots = roots.to_str().unwrap();
    let set = luge(&place, &["set", "k", "v", "--tls-ca", roots], &[]).await;
    assert!(set.stdout.starts_with(b"ok (version "), "{set:?}");
    let got = luge(&place, &["get", "k"], &[("LUGE_TLS_CA", roots)]).await;
    assert_eq!(
        (got.stdout.as_slice(), got.stderr.as_slice()),
        (&b"v\n"[..], &b""[..])
    );
    let named = ["ping", "--tls-name", "localhost"];
    let named = luge(&place, &named, &[("LUGE_TLS", "1"), ("LUGE_TLS_CA", roots)]).await;
    assert_eq!(named.stdout, b"pong\n", "{named:?}");
    for (arguments, environment, told) in [
        (
            &["ping"][..],
            &[][..],
            "error: bad_request: this port speaks TLS",
        ),
        (&["ping", "--tls"], &[], "error: tls: "),
        (&["ping"], &[("LUGE_TLS", "1")], "error: tls: "),
        (
            &["ping"],
            &[("LUGE_TLS", "0"), ("LUGE_TLS_CA", "")],
            "error: bad_request: ",
        ),
        (
            &["ping", "--tls-ca", "/nowhere"],
            &[],
            "error: tls: no TLS with the server: the roots /nowhere",
        ),
    ] {
        let failed = luge(&place, arguments, environment).await;
        let stderr = String::from_utf8(failed.stderr).unwrap();
        assert_eq!(failed.status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with(told), "{arguments:?}: {stderr}");
    }
}
