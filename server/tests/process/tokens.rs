//! Tokens: made, listed and removed by the program, taken over by a server that runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use luge_client::{Client, ClientBuilder, Error, ErrorCode, WatchOptions};
use tempfile::TempDir;

use crate::support::{Ended, Served, program, run};

/// A folder for data and for tokens, and what is done to the tokens there.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where the tokens are, if nothing else is said.
    fn file(&self) -> PathBuf {
        self.folder.path().join("data.tokens")
    }

    fn token<const N: usize>(&self, arguments: [&str; N]) -> Ended {
        let mut command = program(["token"]);
        command.args(arguments).arg("--data").arg(self.data());
        run(command)
    }

    /// Makes a token.
    fn add(&self, name: &str, role: &str) -> String {
        let ended = self.token(["add", name, "--role", role]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let token = ended.stdout.strip_suffix('\n').unwrap().to_owned();
        assert!(!ended.stderr.contains(&token), "{}", ended.stderr);
        token
    }

    fn serve(&self) -> Served {
        Served::start(&self.data())
    }

    fn refused(&self) -> Ended {
        let data = self.data();
        run(program([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data",
            data.to_str().unwrap(),
        ]))
    }
}

fn with_token(token: &str) -> ClientBuilder {
    Client::builder().token(token)
}

async fn refusal(server: &Served, builder: ClientBuilder) -> Option<ErrorCode> {
    builder.connect(server.address).await.unwrap_err().code()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_token_is_printed_once_and_lets_its_user_in() {
    let place = Place::new();
    let (anna, root) = (place.add("anna", "data"), place.add("root", "admin"));
    assert!(anna.starts_with("luge_") && anna.len() == 69, "{anna}");
    assert_ne!(anna, root);
    let listed = place.token(["list"]).prints();
    assert_eq!(listed, "data    anna\nadmin   root\n");
    assert_eq!(mode(&place.file()), 0o600);
    let kept = fs::read_to_string(place.file()).unwrap();
    for token in [&anna, &root] {
        assert!(!kept.contains(&token["luge_".len()..]), "{kept}");
    }
    let server = place.serve();
    let client = with_token(&anna).connect(server.address).await.unwrap();
    client.set("k", "v").await.unwrap();
    let forbidden = client.module_list().await.unwrap_err();
    assert_eq!(forbidden.code(), Some(ErrorCode::Forbidden));
    let admin = with_token(&root).connect(server.address).await.unwrap();
    admin.backup(&mut Vec::new()).await.unwrap();
    let unauthenticated = Some(ErrorCode::Unauthenticated);
    assert_eq!(refusal(&server, Client::builder()).await, unauthenticated);
    assert_eq!(refusal(&server, with_token("anna")).await, unauthenticated);
    let log = server.stop("-TERM").join("\n");
    for token in [&anna, &root] {
        assert!(!log.contains(token.as_str()), "{log}");
    }
}

#[tokio::test]
async fn a_running_server_takes_changed_tokens_over_at_sighup() {
    let place = Place::new();
    let anna = place.add("anna", "data");
    let server = place.serve();
    let client = with_token(&anna).connect(server.address).await.unwrap();
    let ben = place.add("ben", "admin");
    let unauthenticated = Some(ErrorCode::Unauthenticated);
    assert_eq!(refusal(&server, with_token(&ben)).await, unauthenticated);
    let told = server.reload();
    assert!(told.contains("tokens: 2 in force"), "{told}");
    let other = with_token(&ben).connect(server.address).await.unwrap();
    client.ping().await.unwrap();

    let removed = place.token(["remove", "anna"]);
    assert_eq!((removed.stdout.as_str(), removed.code), ("", Some(0)));
    client.ping().await.unwrap();
    server.reload();
    assert_eq!(client.ping().await.unwrap_err().code(), unauthenticated);
    assert_eq!(refusal(&server, with_token(&anna)).await, unauthenticated);
    other.ping().await.unwrap();
    place
        .token(["remove", "anna"])
        .refuses(&["anna", "data.tokens"]);
}

/// Whoever removed the last one was not told that nobody could do anything any more.
#[tokio::test]
async fn without_the_last_token_nobody_is_served_and_the_program_says_so() {
    let place = Place::new();
    let none = place.token(["list"]);
    let note = "is open to whoever reaches it";
    assert!(none.stderr.contains("data.tokens") && none.stderr.contains(note));
    place.add("ben", "data");
    let anna = place.add("anna", "data");
    let server = place.serve();
    let warning = "has no tokens: a server with it serves nobody; add one, or delete the file";
    let removed = place.token(["remove", "ben"]);
    assert!(!removed.stderr.contains(warning), "{}", removed.stderr);
    let removed = place.token(["remove", "anna"]);
    assert!(removed.stderr.contains(warning), "{}", removed.stderr);
    let listed = place.token(["list"]);
    assert!(listed.stderr.contains(warning), "{}", listed.stderr);
    assert!(server.reload().contains("nobody may do anything"));
    let unauthenticated = Some(ErrorCode::Unauthenticated);
    for builder in [with_token(&anna), Client::builder()] {
        assert_eq!(refusal(&server, builder).await, unauthenticated);
    }
}

/// It said `reloaded` also where there was nothing to reload.
#[test]
fn what_was_taken_over_at_sighup_is_told() {
    let place = Place::new();
    let server = place.serve();
    let nothing = "reloaded: nothing; a change of settings needs a restart";
    assert!(server.reload().contains(nothing));
    place.add("anna", "data");
    let tokens = "reloaded: tokens; a change of settings needs a restart";
    assert!(server.reload().contains(tokens));
    fs::write(place.file(), "garbled").unwrap();
    assert!(server.reload().contains(nothing));
}

#[tokio::test]
async fn a_connection_that_only_watches_ends_with_its_token() {
    let place = Place::new();
    let (anna, root) = (place.add("anna", "data"), place.add("root", "admin"));
    let server = place.serve();
    let watcher = with_token(&anna).connect(server.address).await.unwrap();
    let writer = with_token(&root).connect(server.address).await.unwrap();
    let mut watch = watcher.watch("", WatchOptions::default()).await.unwrap();
    writer.set("k", "v").await.unwrap();
    assert!(watch.next().await.unwrap().is_some());
    place.token(["remove", "anna"]);
    server.reload();
    // Nothing is asked on its connection: the server ends it by itself.
    let ended = watch.next().await.unwrap_err();
    assert!(matches!(ended, Error::Ended(_)), "{ended}");
    assert_eq!(ended.code(), Some(ErrorCode::Unauthenticated));
    writer.ping().await.unwrap();
}

#[tokio::test]
async fn an_open_server_that_gets_tokens_ends_the_connections_that_have_none() {
    let place = Place::new();
    let server = place.serve();
    let early = server.client().await;
    early.set("k", "v").await.unwrap();
    let anna = place.add("anna", "data");
    early.ping().await.unwrap();
    server.reload();
    assert_eq!(
        early.ping().await.unwrap_err().code(),
        Some(ErrorCode::Unauthenticated)
    );
    let client = with_token(&anna).connect(server.address).await.unwrap();
    assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn a_file_that_can_t_be_used_leaves_the_tokens_in_force_and_is_told_in_the_log() {
    let place = Place::new();
    let anna = place.add("anna", "data");
    let server = place.serve();
    let client = with_token(&anna).connect(server.address).await.unwrap();
    let good = fs::read_to_string(place.file()).unwrap();
    let secret = "luge_which-somebody-pasted";
    for (text, named) in [
        (format!("{good}{secret}\n"), "line 4"),
        (format!("{good}ben boss sha256:00\n"), "line 4"),
        (format!("{good}ben data {secret}\n"), "line 4"),
        (format!("{good}a/b data sha256:00\n"), "line 4"),
        (good.repeat(2), "line 6"),
        ("\u{0}".repeat(5 << 20), "longer than"),
    ] {
        fs::write(place.file(), text).unwrap();
        let told = server.reload();
        assert!(told.contains("ERROR"), "{told}");
        assert!(
            told.contains(named) && told.contains("data.tokens"),
            "{told}"
        );
        assert!(!told.contains(secret), "{told}");
        client.ping().await.unwrap();
    }
    fs::remove_file(place.file()).unwrap();
    let told = server.reload();
    assert!(told.contains("is not there any more"), "{told}");
    fs::write(place.file(), &good).unwrap();
    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(server.reload().contains("chmod 600"));
    client.ping().await.unwrap();
    with_token(&anna).connect(server.address).await.unwrap();
}

#[test]
fn a_server_does_not_start_with_tokens_that_can_t_be_used() {
    let place = Place::new();
    place.add("anna", "data");
    let path = place.file();
    let named = path.to_str().unwrap();
    for mode in [0o604, 0o602, 0o620, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        place
            .refused()
            .refuses(&[named, &format!("{mode:04o}"), "chmod 600"]);
        place.token(["list"]).refuses(&[named]);
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(place.token(["list"]).prints(), "data    anna\n");
    fs::write(&path, "anna data\n").unwrap();
    place
        .refused()
        .refuses(&[named, "line 1", "NAME ROLE sha256:HASH"]);
    assert!(!place.data().exists(), "nothing was begun");
}

#[test]
fn a_file_that_the_settings_name_must_be_there_and_goes_with_no_open_server() {
    let place = Place::new();
    let named = place.folder.path().join("users");
    let serve = |more: &[&str]| {
        let mut command = program(["serve", "--listen", "127.0.0.1:0"]);
        command.arg("--data").arg(place.data()).args(more);
        command
    };
    let file = named.to_str().unwrap();
    run(serve(&["--tokens-file", file])).refuses(&[file, "is not there", "token add"]);
    let added = place.token(["add", "anna", "--role", "deploy", "--tokens-file", file]);
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    assert!(!place.file().exists());
    run(serve(&["--tokens-file", file, "--no-auth"])).refuses(&[file, "no_auth"]);
    place.add("ben", "data");
    run(serve(&["--no-auth"])).refuses(&["data.tokens", "no_auth"]);
}

#[test]
fn names_and_roles_that_are_none_or_taken_are_refused_and_the_file_stays() {
    let place = Place::new();
    for name in ["", "a b", "a/b", "ä", "#", &"x".repeat(65)] {
        place
            .token(["add", name, "--role", "data"])
            .refuses(&["1 to 64"]);
    }
    assert!(!place.file().exists());
    place.add("anna", "data");
    let kept = fs::read_to_string(place.file()).unwrap();
    place
        .token(["add", "anna", "--role", "admin"])
        .refuses(&["anna", "already"]);
    let usage = place.token(["add", "ben", "--role", "boss"]);
    assert_eq!(usage.code, Some(2));
    assert!(
        usage.stderr.contains("data, deploy or admin"),
        "{}",
        usage.stderr
    );
    assert_eq!(fs::read_to_string(place.file()).unwrap(), kept);
}

#[test]
fn comments_mode_and_links_stay_when_tokens_change() {
    let place = Place::new();
    let target = place.folder.path().join("users");
    fs::write(&target, "").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&target, place.file()).unwrap();
    place.add("anna", "data");
    let text = fs::read_to_string(&target).unwrap() + "# of the night shift";
    fs::write(&target, &text).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
    place.add("ben", "admin");
    place.token(["remove", "anna"]);
    let text = fs::read_to_string(&target).unwrap();
    assert!(text.starts_with("# Luge's tokens"), "{text}");
    assert!(
        text.contains("\n# of the night shift\nben admin sha256:"),
        "{text}"
    );
    assert_eq!(mode(&target), 0o640);
    assert!(fs::symlink_metadata(place.file()).unwrap().is_symlink());
    assert_eq!(place.token(["list"]).prints(), "admin   ben\n");
}

#[test]
fn users_who_are_added_at_the_same_time_are_all_there() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let place = &place;
            scope.spawn(move || place.add(&format!("user-{number}"), "data"));
        }
    });
    assert_eq!(place.token(["list"]).prints().lines().count(), 8);
}

#[tokio::test]
async fn with_tokens_an_address_that_others_can_reach_is_served() {
    let place = Place::new();
    let anna = place.add("anna", "data");
    let mut command = program(["serve", "--listen", "0.0.0.0:0"]);
    command.arg("--data").arg(place.data());
    let server = Served::start_command(command);
    let address = format!("127.0.0.1:{}", server.address.port());
    let client = with_token(&anna).connect(&address).await.unwrap();
    client.ping().await.unwrap();
    let stranger = Client::connect(&address).await.unwrap_err();
    assert_eq!(stranger.code(), Some(ErrorCode::Unauthenticated));
}

#[tokio::test]
async fn a_server_that_was_told_to_ask_nobody_takes_no_tokens_over() {
    let place = Place::new();
    let mut command = program(["serve", "--listen", "127.0.0.1:0", "--no-auth"]);
    command.arg("--data").arg(place.data());
    let server = Served::start_command(command);
    let client = server.client().await;
    place.add("anna", "data");
    let told = server.reload();
    assert!(told.contains("ERROR") && told.contains("no_auth"), "{told}");
    client.ping().await.unwrap();
    server.client().await.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_whose_last_user_was_removed_serves_nobody() {
    let place = Place::new();
    let anna = place.add("anna", "admin");
    place.token(["remove", "anna"]);
    let server = place.serve();
    for builder in [with_token(&anna), Client::builder()] {
        let refused = refusal(&server, builder).await;
        assert_eq!(refused, Some(ErrorCode::Unauthenticated));
    }
}

#[test]
fn the_configuration_shows_where_tokens_are_and_no_token() {
    let place = Place::new();
    let token = place.add("anna", "data");
    let mut command = program(["config"]);
    command.arg("--data").arg(place.data());
    command
        .env("LUGE_TOKEN", &token)
        .env("LUGE_TOKEN_FILE", "x");
    let printed = run(command).prints();
    assert!(printed.contains("\ntokens_file = \"\"\n"), "{printed}");
    assert!(!printed.contains(&token));
}
