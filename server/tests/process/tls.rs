//! Certificates: what a server begins with, and what it takes over while it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use luge_client::{Client, Error, Tls};
use tempfile::TempDir;

use crate::support::{Served, program, run};

/// A folder with the files of a server with TLS.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        place.renew();
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a new certificate and its key in place, and answers what trusts that one alone.
    fn renew(&self) -> Tls {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        fs::write(self.file("cert.pem"), &certificate).unwrap();
        fs::write(self.file("key.pem"), key).unwrap();
        fs::set_permissions(self.file("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        let number = fs::read_dir(self.folder.path()).unwrap().count();
        let roots = self.file(&format!("roots-{number}.pem"));
        fs::write(&roots, certificate).unwrap();
        Tls::default().roots(roots)
    }

    fn serve(&self) -> Command {
        let mut command = program(["serve", "--listen", "127.0.0.1:0"]);
        command
            .arg("--data")
            .arg(self.file("data"))
            .arg("--tls-cert")
            .arg(self.file("cert.pem"))
            .arg("--tls-key")
            .arg(self.file("key.pem"));
        command
    }
}

async fn connect(server: &Served, tls: &Tls) -> Result<Client, Error> {
    let builder = Client::builder().tls(tls.clone());
    builder.connect(server.address).await
}

fn is_untrusted(outcome: Result<Client, Error>) -> bool {
    matches!(outcome, Err(Error::Tls(why)) if why.contains("no root that is trusted"))
}

#[tokio::test]
async fn a_running_server_takes_a_new_certificate_over_at_sighup_and_goes_on_with_old_connections()
{
    let place = Place::new();
    let first = place.renew();
    let server = Served::start_command(place.serve());
    let early = connect(&server, &first).await.unwrap();
    early.set("k", "v").await.unwrap();
    let second = place.renew();
    assert!(is_untrusted(connect(&server, &second).await));
    let told = server.reload();
    assert!(told.contains("certificate as it is now"), "{told}");
    assert!(is_untrusted(connect(&server, &first).await));
    let late = connect(&server, &second).await.unwrap();
    assert_eq!(late.get("k").await.unwrap().as_deref(), Some(&b"v"[..]));
    early.ping().await.unwrap();
    server.stop("-TERM");
}

#[tokio::test]
async fn a_bad_new_pair_leaves_the_old_one_in_force_and_is_told_in_the_log() {
    let place = Place::new();
    let tls = place.renew();
    let server = Served::start_command(place.serve());
    let (certificate, key) = (place.file("cert.pem"), place.file("key.pem"));
    let good = fs::read_to_string(&certificate).unwrap();
    let good_key = fs::read_to_string(&key).unwrap();
    place.renew();
    let other = fs::read_to_string(&certificate).unwrap();
    let other_key = fs::read_to_string(&key).unwrap();
    for (new, new_key, named) in [
        (&other, &good_key, "can't be used together"),
        (&good, &other_key, "can't be used together"),
        (&String::new(), &good_key, "has no certificate in PEM form"),
        (&good, &good, "has no private key in PEM form"),
        (&"\n".repeat(2 << 20), &good_key, "has no certificate"),
    ] {
        fs::write(&certificate, new).unwrap();
        fs::write(&key, new_key).unwrap();
        let told = server.reload();
        assert!(told.contains("what was in force stays"), "{told}");
        assert!(told.contains(named), "{named}: {told}");
        assert!(!told.contains("BEGIN"), "{told}");
        connect(&server, &tls).await.unwrap();
    }
    fs::write(&certificate, &good).unwrap();
    fs::remove_file(&key).unwrap();
    assert!(server.reload().contains("key.pem is not there"));
    connect(&server, &tls).await.unwrap();
}

#[test]
fn a_server_does_not_start_with_a_pair_that_can_t_be_used() {
    let place = Place::new();
    let key = place.file("key.pem");
    let named = key.to_str().unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    run(place.serve()).refuses(&[named, "0644", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(&key, "no key").unwrap();
    run(place.serve()).refuses(&[named, "no private key"]);
    fs::remove_file(&key).unwrap();
    run(place.serve()).refuses(&[named, "is not there"]);
    fs::remove_file(place.file("cert.pem")).unwrap();
    run(place.serve()).refuses(&["cert.pem", "is not there"]);
    assert!(!place.file("data").exists(), "nothing was begun");
    let half = program(["config", "--tls-cert", "cert.pem"]);
    run(half).refuses(&["tls_cert", "tls_key", "needs both"]);
}
