//! How to get into a server: the token, and TLS.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use luge_client::{Client, ClientBuilder, DEFAULT_PORT, Tls};

use crate::args::{Arguments, address};
use crate::failure::Failure;

/// The longest file with a token, in bytes. A token has far less; a file with more is another one.
const MAX_TOKEN_FILE_BYTES: u64 = 4096;

/// Connections as the arguments say, and where they say nothing, the environment.
///
/// # Errors
/// The token's file can't be read.
pub(crate) fn builder(arguments: &Arguments) -> Result<ClientBuilder, Failure> {
    let mut builder = Client::builder();
    if let Some(token) = token(arguments)? {
        builder = builder.token(token);
    }
    if let Some(tls) = tls(arguments) {
        builder = builder.tls(tls);
    }
    Ok(builder)
}

/// Where the server is, as the arguments say, or the environment, or by default on this machine.
///
/// # Errors
/// The environment has something that is no address.
pub(crate) fn server(arguments: &Arguments) -> Result<String, Failure> {
    if let Some(address) = &arguments.addr {
        return Ok(address.clone());
    }
    let Some(given) = variable("LUGE_ADDR") else {
        return Ok(format!("127.0.0.1:{DEFAULT_PORT}"));
    };
    let given = given.to_string_lossy();
    address(&given).map_err(|what| {
        let message = format!("LUGE_ADDR is `{given}`: {what}");
        Failure::local("usage", message)
    })
}

/// A variable of the environment. One that is empty is as good as none.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether a variable asks for something: it is there, and does not say no.
fn is_on(name: &str) -> bool {
    variable(name).is_some_and(|value| {
        let value = value.to_string_lossy().to_lowercase();
        !["0", "f", "false", "n", "no", "off"].contains(&&*value)
    })
}

fn tls(arguments: &Arguments) -> Option<Tls> {
    let Arguments {
        tls,
        tls_ca,
        tls_name,
        ..
    } = arguments;
    let variable = || variable("LUGE_TLS_CA").map(PathBuf::from);
    let tls_ca = tls_ca.clone().or_else(variable);
    let is_wanted = *tls || is_on("LUGE_TLS") || tls_ca.is_some() || tls_name.is_some();
    let mut wanted = Tls::default();
    if let Some(file) = tls_ca {
        wanted = wanted.roots(file);
    }
    if let Some(name) = tls_name {
        wanted = wanted.server_name(name);
    }
    is_wanted.then_some(wanted)
}

fn token(arguments: &Arguments) -> Result<Option<String>, Failure> {
    match (&arguments.token, &arguments.token_file) {
        (Some(token), _) => return Ok(Some(token.0.clone())),
        (None, Some(file)) => return read_token(file).map(Some),
        (None, None) => {}
    }
    if let Some(token) = variable("LUGE_TOKEN") {
        let token = token.into_string();
        let token = token.map_err(|_| Failure::local("usage", "LUGE_TOKEN is no text"))?;
        return Ok(Some(token));
    }
    let file = variable("LUGE_TOKEN_FILE");
    file.map(|file| read_token(Path::new(&file))).transpose()
}

/// The token that is a file's whole text, but for white space around it.
fn read_token(path: &Path) -> Result<String, Failure> {
    let wrong = |what: &str| Failure::local("file", format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|error| wrong(&error.to_string()))?;
    let mut text = String::new();
    file.take(MAX_TOKEN_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| wrong(&error.to_string()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(wrong(
            "the file is empty; it should have the token that `luge-server token add` prints",
        ));
    }
    let is_one = !token.contains(char::is_whitespace);
    if !is_one || text.len() as u64 > MAX_TOKEN_FILE_BYTES {
        return Err(wrong(
            "the file has more than a token, which is one word; it should have what `luge-server token add` prints, and nothing else",
        ));
    }
    Ok(token.to_owned())
}
