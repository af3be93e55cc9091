//! Authority: who may do what.
//!
//! A server with tokens serves only sessions whose `hello` carries one of them. What a session may do
//! is its token's role, and each command needs one. The tokens are one immutable value, which is
//! replaced as a whole; sessions see the new one before their next request.

use std::fmt;
use std::str::FromStr;

use luge_protocol::Command;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

/// What a token allows. Each role allows what those before it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Keys, calls and watches.
    Data,
    /// Modules, too.
    Deploy,
    /// Everything.
    Admin,
}

impl Role {
    /// Every role, the weakest first.
    pub const ALL: [Self; 3] = [Self::Data, Self::Deploy, Self::Admin];

    /// The name, as files and commands have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == name);
        found.ok_or_else(|| "a role is data, deploy or admin".to_owned())
    }
}

/// The role that a command needs. `hello` needs none: it is what gives one.
pub(super) fn needed(command: &Command<'_>) -> Option<Role> {
    match command {
        Command::Hello(_) => None,
        // It tells what hooks of `get` keep back, and leaves no trace for those that count or record.
        Command::Call(call) if call.dry_run == Some(true) => Some(Role::Deploy),
        Command::Ping(_)
        | Command::Info(_)
        | Command::Get(_)
        | Command::Set(_)
        | Command::Del(_)
        | Command::Exists(_)
        | Command::Expire(_)
        | Command::Ttl(_)
        | Command::Persist(_)
        | Command::Incr(_)
        | Command::Mget(_)
        | Command::Scan(_)
        | Command::Batch(_)
        | Command::Call(_)
        | Command::Watch(_)
        | Command::Flush(_)
        | Command::Stop(_) => Some(Role::Data),
        Command::ModulePush(_)
        | Command::ModuleList(_)
        | Command::ModuleShow(_)
        | Command::ModuleActivate(_)
        | Command::ModuleRollback(_)
        | Command::ModuleRemove(_)
        | Command::ModuleStats(_) => Some(Role::Deploy),
        Command::Backup(_) | Command::CallsList(_) | Command::CallsKill(_) | Command::Logs(_) => {
            Some(Role::Admin)
        }
    }
}

/// SHA-256 of a token. A token is 32 random bytes in text form, so nobody can guess at what a hash is
/// of, and a slow one would add nothing.
pub type TokenHash = [u8; 32];

/// One user's token, as the server keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The user.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// What is kept of the token itself.
    pub hash: TokenHash,
}

impl Token {
    /// The hash of a token.
    #[must_use]
    pub fn hash_of(secret: &str) -> TokenHash {
        Sha256::digest(secret).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Token({} {})", self.name, self.role)
    }
}

/// Who may do what on a server.
#[derive(Clone, Debug, Default)]
pub enum Authority {
    /// Whoever reaches it may do everything, and nobody has a name.
    #[default]
    Open,
    /// Whoever has one of these tokens may do what its role allows; nobody else may do anything.
    Tokens(Vec<Token>),
}

/// What a session may do, and by which token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) role: Role,
    /// None where the server is open.
    hash: Option<TokenHash>,
}

/// Why a `hello` is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unadmitted {
    /// The server has tokens, and there was none.
    Missing,
    /// It is none of the server's.
    Unknown,
    /// The server has no tokens, and there was one.
    Needless,
}

impl Authority {
    /// What a token grants, and to whom.
    pub(super) fn admit(&self, secret: Option<&str>) -> Result<(Grant, Option<&str>), Unadmitted> {
        match (self, secret) {
            (Self::Open, None) => {
                let (role, hash) = (Role::Admin, None);
                Ok((Grant { role, hash }, None))
            }
            (Self::Open, Some(_)) => Err(Unadmitted::Needless),
            (Self::Tokens(_), None) => Err(Unadmitted::Missing),
            (Self::Tokens(tokens), Some(secret)) => {
                let hash = Token::hash_of(secret);
                let token = find(tokens, &hash).ok_or(Unadmitted::Unknown)?;
                let (role, hash) = (token.role, Some(hash));
                Ok((Grant { role, hash }, Some(&token.name)))
            }
        }
    }

    /// What is left of a grant that an earlier authority gave. Nothing where the token is gone, belongs
    /// to somebody else, or allows less than it did: what was begun under it must not go on.
    pub(super) fn renew(&self, grant: &Grant, user: Option<&str>) -> Option<Grant> {
        let renewed = match (self, &grant.hash) {
            (Self::Open, None) => Some(*grant),
            (Self::Tokens(tokens), Some(hash)) => find(tokens, hash)
                .filter(|token| Some(token.name.as_str()) == user)
                .map(|token| Grant {
                    role: token.role,
                    ..*grant
                }),
            _ => None,
        };
        renewed.filter(|renewed| renewed.role >= grant.role)
    }
}

/// Compares with every token, each in the same time, whatever is found.
fn find<'a>(tokens: &'a [Token], hash: &TokenHash) -> Option<&'a Token> {
    let mut found = 0;
    for (number, token) in (1_u64..).zip(tokens) {
        found.conditional_assign(&number, token.hash.ct_eq(hash));
    }
    tokens.get(usize::try_from(found).ok()?.checked_sub(1)?)
}
