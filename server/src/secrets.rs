//! Files that others must have no access to.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What others than the file's owner must not be allowed: its group may read it, and no more.
const FORBIDDEN_MODE: u32 = 0o027;

/// Why a file is not read, in one sentence that has nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Others have access to it.
    #[error("others than its owner have access to {what} {}, which has the mode {mode:04o}; take it away with `chmod 600 {}`", .path.display(), .path.display())]
    Access {
        /// What it is.
        what: &'static str,
        /// Where it lies.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The operating system refused.
    #[error("can't open {what} {}: {source}", .path.display())]
    Io {
        /// What it is.
        what: &'static str,
        /// Where it lies.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Opens a file; nothing where it is not there.
///
/// # Errors
/// Others than its owner can change it, others than its owner and its group can read it, or it can't be
/// opened.
pub(crate) fn open(what: &'static str, path: &Path) -> Result<Option<File>, SecretError> {
    let failed = |source| SecretError::Io {
        what,
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    let path = path.to_owned();
    match mode & FORBIDDEN_MODE {
        0 => Ok(Some(file)),
        _ => Err(SecretError::Access { what, path, mode }),
    }
}
