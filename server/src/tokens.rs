//! The file of tokens: who may do what, one user a line.
//!
//! ```text
//! # Luge's tokens …
//! anna data sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! ```
//!
//! The tokens themselves are nowhere: the file has what each one hashes to. It is replaced as a whole, so
//! that nobody reads half of a change, and it must be its owner's alone, since whoever can write it can
//! give himself any role.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::secrets::{self, SecretError};
use crate::session::{Authority, Role, Token, TokenHash};

/// What every token begins with, so that one that got into the wrong place is recognised.
pub const TOKEN_PREFIX: &str = "luge_";

/// A token's randomness, in bytes: nobody can guess so much.
const TOKEN_BYTES: usize = 32;

/// The most tokens of a server: each `hello` is compared with all of them, which takes some 10 ns each.
pub const MAX_TOKENS: usize = 10_000;

/// The longest file, in bytes: so many tokens with their longest names, and as much again of comments.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The longest name, in bytes: it goes into logs, and functions are told.
pub const MAX_NAME_BYTES: usize = 64;

const HEADER: &str = "\
# Luge's tokens: name, role, and the SHA-256 of the token, which is not kept. Change it with
# `luge-server token`, and have a running server take it over with SIGHUP.
";

/// What is wrong with a file of tokens, in one sentence that has no part of a token.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The setting names a file that is not there.
    #[error("the tokens file {} is not there; make it with `luge-server token add NAME --role admin --tokens-file {}`, or leave the setting tokens_file out", .0.display(), .0.display())]
    Missing(PathBuf),
    /// It was there when the server started.
    #[error("the tokens file {} is not there any more; only a restart without it opens a server", .0.display())]
    Gone(PathBuf),
    /// The data folder has no name that the file's could be made of.
    #[error(
        "the data folder has no name of its own, so the tokens file needs one: set tokens_file"
    )]
    Nameless,
    /// Tokens, and a server that asks nobody.
    #[error("no_auth serves everybody, and the tokens file {} says who may do what; leave no_auth out, or move the file away", .0.display())]
    Contradiction(PathBuf),
    /// It can't be opened, or others have access to it.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It is longer than any that could be meant.
    #[error("the tokens file {} is longer than {MAX_FILE_BYTES} bytes", .0.display())]
    TooLong(PathBuf),
    /// A line that can't be read. What it says may be a token, and is not repeated.
    #[error("line {line} of the tokens file {} {what}", .path.display())]
    Line {
        /// Where it lies.
        path: PathBuf,
        /// Which, from 1 on.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// No room for another one.
    #[error("the limit of {MAX_TOKENS} tokens is reached; remove one before")]
    TooMany,
    /// It can't be a name.
    #[error(
        "the name {0:?} is none; a name has 1 to {MAX_NAME_BYTES} letters, digits and characters of _-.@"
    )]
    Name(String),
    /// It is somebody's.
    #[error("{0} has a token already; remove it before, or choose another name")]
    Taken(String),
    /// It is nobody's.
    #[error("{name} has no token in {}", .path.display())]
    Unknown {
        /// The name.
        name: String,
        /// Where was looked.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("can't {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Who may do what on a server of this configuration, as its file has it now.
///
/// # Errors
/// The file can't be used. A file that the configuration names must be there.
pub fn authority(config: &Config) -> Result<Authority, TokensError> {
    let Some(file) = TokensFile::find(config) else {
        return Ok(Authority::Open);
    };
    let is_named = !config.tokens_file.as_os_str().is_empty();
    match (file.read()?, config.no_auth) {
        (None, false) if is_named => Err(TokensError::Missing(file.0)),
        (None, _) => Ok(Authority::Open),
        (Some(_), true) => Err(TokensError::Contradiction(file.0)),
        (Some(text), false) => Ok(Authority::Tokens(file.parse(&text)?)),
    }
}

/// A file of tokens, which may not be there yet.
pub struct TokensFile(PathBuf);

impl TokensFile {
    /// The file that a configuration means: the one that it names, or that beside the data folder.
    /// None where the data folder has no name.
    #[must_use]
    pub fn find(config: &Config) -> Option<Self> {
        if !config.tokens_file.as_os_str().is_empty() {
            return Some(Self(config.tokens_file.clone()));
        }
        // Not inside of it: a backup that is restored brings no tokens, and takes none away.
        let folder = std::path::absolute(&config.data).ok()?;
        let mut name = folder.file_name()?.to_owned();
        name.push(".tokens");
        Some(Self(folder.with_file_name(name)))
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its tokens; none where it is not there.
    ///
    /// # Errors
    /// It can't be read, is not its owner's alone, or has a line that is none.
    pub fn tokens(&self) -> Result<Vec<Token>, TokensError> {
        self.parse(&self.read()?.unwrap_or_default())
    }

    /// Makes a token, and answers it: it is not kept, and nobody can tell it again.
    ///
    /// # Errors
    /// The name is none or somebody's, or the file can't be read or written.
    pub fn add(&self, name: &str, role: Role) -> Result<String, TokensError> {
        if !is_name(name) {
            return Err(TokensError::Name(name.to_owned()));
        }
        let mut random = [0; TOKEN_BYTES];
        getrandom::fill(&mut random)
            .map_err(|error| self.io("make a random token for", io::Error::other(error)))?;
        let secret = format!("{TOKEN_PREFIX}{}", hex(&random));
        let hash = Token::hash_of(&secret);
        self.change(|text, tokens| {
            if tokens.iter().any(|token| token.name == name) {
                return Err(TokensError::Taken(name.to_owned()));
            }
            if tokens.len() >= MAX_TOKENS {
                return Err(TokensError::TooMany);
            }
            let begun = if text.is_empty() { HEADER } else { text };
            let newline = if begun.ends_with('\n') { "" } else { "\n" };
            Ok(format!(
                "{begun}{newline}{name} {role} sha256:{}\n",
                hex(&hash)
            ))
        })?;
        Ok(secret)
    }

    /// Takes a user's token out of the file.
    ///
    /// # Errors
    /// There is none, or the file can't be read or written.
    pub fn remove(&self, name: &str) -> Result<(), TokensError> {
        self.change(|text, tokens| {
            if !tokens.iter().any(|token| token.name == name) {
                let (name, path) = (name.to_owned(), self.0.clone());
                return Err(TokensError::Unknown { name, path });
            }
            let is_kept = |line: &&str| line.split_whitespace().next() != Some(name);
            let kept = text.lines().filter(is_kept);
            Ok(kept.map(|line| format!("{line}\n")).collect())
        })
    }

    /// Replaces the file as a whole, one program at a time.
    fn change(
        &self,
        change: impl FnOnce(&str, &[Token]) -> Result<String, TokensError>,
    ) -> Result<(), TokensError> {
        // A link stays one, and what it leads to is replaced.
        let path = fs::canonicalize(&self.0).unwrap_or_else(|_| self.0.clone());
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let lock = File::open(folder).map_err(|error| self.io("open the folder of", error))?;
        lock.lock()
            .map_err(|error| self.io("lock the folder of", error))?;
        let text = self.read()?.unwrap_or_default();
        let changed = change(&text, &self.parse(&text)?)?;
        replace(&path, changed.as_bytes()).map_err(|error| self.io("write", error))?;
        lock.sync_all()
            .map_err(|error| self.io("sync the folder of", error))
    }

    /// The text; nothing where there is no file.
    fn read(&self) -> Result<Option<String>, TokensError> {
        let Some(file) = secrets::open("the tokens file", &self.0)? else {
            return Ok(None);
        };
        let mut text = String::new();
        let mut file = file.take(MAX_FILE_BYTES + 1);
        file.read_to_string(&mut text)
            .map_err(|error| self.io("read the tokens file", error))?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(TokensError::TooLong(self.0.clone()));
        }
        Ok(Some(text))
    }

    fn parse(&self, text: &str) -> Result<Vec<Token>, TokensError> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut names = std::collections::HashSet::new();
        for (line, words) in (1..).zip(text.lines()) {
            let wrong = |what: &str| TokensError::Line {
                path: self.0.clone(),
                line,
                what: what.to_owned(),
            };
            let words = words.trim();
            if words.is_empty() || words.starts_with('#') {
                continue;
            }
            let token = parse_line(words).map_err(wrong)?;
            if !names.insert(token.name.clone()) {
                return Err(wrong("has a name that a line before it has"));
            }
            if tokens.len() >= MAX_TOKENS {
                return Err(TokensError::TooMany);
            }
            tokens.push(token);
        }
        Ok(tokens)
    }

    fn io(&self, action: &'static str, source: io::Error) -> TokensError {
        let path = self.0.clone();
        TokensError::Io {
            action,
            path,
            source,
        }
    }
}

fn parse_line(line: &str) -> Result<Token, &'static str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, role, hash] = words[..] else {
        return Err("is not of the form NAME ROLE sha256:HASH");
    };
    if !is_name(name) {
        return Err("has a name that is none");
    }
    let role = role
        .parse()
        .map_err(|_| "has a role that is not data, deploy or admin")?;
    let hash = hash.strip_prefix("sha256:").and_then(unhex);
    let hash = hash.ok_or("has a hash that is not sha256: and 64 hexadecimal digits")?;
    let name = name.to_owned();
    Ok(Token { name, role, hash })
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// Writes a new file beside the old one and gives it its name. It keeps owner and mode of the old one, so
/// that a server under another user can still read it; a first one is its maker's alone.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    if let Ok(old) = fs::metadata(path) {
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<TokenHash> {
    let mut hash = TokenHash::default();
    if digits.len() != 2 * hash.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}
