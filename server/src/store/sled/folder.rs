//! The folder that a store lives in.
//!
//! ```text
//!   luge-data/
//!     LOCK      held by the server that has the folder open
//!     FORMAT    "luge-format 1" and the store's id
//!     sled/     the tree
//! ```

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::layout::{self, Progress};

/// The version of what lies in the folder.
const FORMAT: u32 = 1;

/// How far the sequence skips ahead after an unclean stop, so that a number that some reader may
/// have seen before the stop is never given to another commit.
const SKIP_AFTER_UNCLEAN_STOP: u64 = 1_000_000;

/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process has it.
    #[error(
        "the data folder {0} is in use by another server; stop that one, or choose another folder with --data"
    )]
    Locked(PathBuf),
    /// It has files, and none of them says that it is ours.
    #[error("the folder {0} is not empty and holds no Luge data; choose another one with --data")]
    Foreign(PathBuf),
    /// It was written by a newer release.
    #[error(
        "the data folder {folder} has format {found}, and this release reads up to {FORMAT}; use the release that wrote it"
    )]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The tree that belongs to it is gone, or is another one.
    #[error(
        "the data folder {0} has lost its tree: {0}/sled holds no store's progress; put the folder back as it was, or choose another one with --data"
    )]
    Lost(PathBuf),
    /// Its FORMAT file says nothing.
    #[error("the file {0} is damaged: it should begin with \"luge-format {FORMAT}\"")]
    Damaged(PathBuf),
    /// The operating system refused.
    #[error("can't {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        error: io::Error,
    },
    /// sled refused.
    #[error(
        "sled can't open {folder}: {error}; restore the folder from a copy, or choose another one with --data"
    )]
    Sled {
        /// sled's folder.
        folder: PathBuf,
        /// What came back.
        error: String,
    },
}

/// An open, locked folder.
pub(super) struct Folder {
    path: PathBuf,
    id: [u8; 16],
    /// Whether it has been a store before.
    is_ours: bool,
    /// Holds the lock for as long as the store is open.
    _lock: File,
    /// Separate files of sled that are on disk already.
    synced: HashSet<std::ffi::OsString>,
    data: Option<File>,
}

impl Folder {
    pub(super) fn open(path: &Path, new_id: [u8; 16]) -> Result<Self, FolderError> {
        let at = |action, path: &Path| {
            let path = path.to_owned();
            move |error| FolderError::Io {
                action,
                path,
                error,
            }
        };
        fs::create_dir_all(path).map_err(at("create the data folder", path))?;
        let format = path.join("FORMAT");
        let is_ours = format.try_exists().map_err(at("read", &format))?;
        if !is_ours && !is_new(path).map_err(at("read the data folder", path))? {
            return Err(FolderError::Foreign(path.to_owned()));
        }
        let lock = lock(path)?;
        let id = if is_ours {
            read_format(path, &format)?
        } else {
            new_id
        };
        Ok(Self {
            path: path.to_owned(),
            id,
            is_ours,
            _lock: lock,
            synced: HashSet::new(),
            data: None,
        })
    }

    pub(super) fn id(&self) -> [u8; 16] {
        self.id
    }

    pub(super) fn open_sled(&self, cache_bytes: u64) -> Result<sled::Db, FolderError> {
        let config = sled::Config::new()
            .path(self.sled())
            .cache_capacity(cache_bytes);
        config
            .open()
            .map_err(|error| self.sled_error(&error.to_string()))
    }

    /// Reads where the last run stopped, and marks the folder as running.
    pub(super) fn begin_run(
        &self,
        tree: &sled::Tree,
        database: &sled::Db,
    ) -> Result<Progress, FolderError> {
        let last = Progress::read(tree).map_err(|error| self.sled_error(&error.to_string()))?;
        let last = match last {
            Some(last) => last,
            None if self.is_ours => return Err(FolderError::Lost(self.path.clone())),
            None => Progress {
                is_clean: true,
                ..Progress::default()
            },
        };
        let skip = if last.is_clean {
            0
        } else {
            SKIP_AFTER_UNCLEAN_STOP
        };
        let start = Progress {
            sequence: last.sequence + skip,
            is_clean: false,
            ..last
        };
        tree.insert(layout::PROGRESS_KEY, start.encode())
            .and_then(|_| database.flush())
            .map_err(|error| self.sled_error(&error.to_string()))?;
        self.finish(&self.path.join("FORMAT"))
            .map_err(|error| FolderError::Io {
                action: "write",
                path: self.path.clone(),
                error,
            })?;
        Ok(start)
    }

    /// Makes the folder a store's, once its tree is on disk.
    fn finish(&self, format: &Path) -> io::Result<()> {
        File::open(self.sled().join("db"))?.sync_all()?;
        sync_folder(&self.sled())?;
        sync_folder(&self.path)?;
        if self.is_ours {
            Ok(())
        } else {
            write_format(&self.path, format, self.id)
        }
    }

    /// Makes what sled has flushed durable. sled's own flush hands the bytes to the disk and does not
    /// wait for the disk's cache, nor does it sync the separate files that it makes for large nodes.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.sync_separate_files()?;
        let data = match &self.data {
            Some(data) => data,
            None => self.data.insert(File::open(self.sled().join("db"))?),
        };
        data.sync_data()
    }

    fn sync_separate_files(&mut self) -> io::Result<()> {
        let folder = self.sled().join("blobs");
        let files = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            files => files?,
        };
        let mut present = HashSet::new();
        let mut is_changed = false;
        for file in files {
            let file = file?;
            let name = file.file_name();
            if !self.synced.contains(&name) {
                match File::open(file.path()) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    opened => opened?.sync_all()?,
                }
                is_changed = true;
            }
            present.insert(name);
        }
        self.synced = present;
        if is_changed {
            sync_folder(&folder)
        } else {
            Ok(())
        }
    }

    fn sled(&self) -> PathBuf {
        self.path.join("sled")
    }

    fn sled_error(&self, error: &str) -> FolderError {
        FolderError::Sled {
            folder: self.sled(),
            error: error.to_owned(),
        }
    }
}

/// Whether the folder is ours to use: empty, but for what a first run leaves that got no further
/// than to its tree. It writes the FORMAT file last.
fn is_new(path: &Path) -> io::Result<bool> {
    let mut names = Vec::new();
    for file in fs::read_dir(path)? {
        names.push(file?.file_name());
    }
    let is_begun = names.iter().any(|name| name == "LOCK");
    let is_left_over = |name: &std::ffi::OsString| {
        is_begun
            && ["LOCK", "FORMAT.new", "sled"]
                .iter()
                .any(|other| name == other)
    };
    Ok(names.iter().all(is_left_over))
}

fn lock(path: &Path) -> Result<File, FolderError> {
    let file = path.join("LOCK");
    let io_error = |action, error| FolderError::Io {
        action,
        path: file.clone(),
        error,
    };
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file)
        .map_err(|error| io_error("open", error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(FolderError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error("lock", error)),
    }
}

fn read_format(path: &Path, file: &Path) -> Result<[u8; 16], FolderError> {
    let text = fs::read_to_string(file).map_err(|error| FolderError::Io {
        action: "read",
        path: file.to_owned(),
        error,
    })?;
    let damaged = || FolderError::Damaged(file.to_owned());
    let mut lines = text.lines();
    let found: u32 = lines
        .next()
        .and_then(|line| line.strip_prefix("luge-format "))
        .and_then(|number| number.parse().ok())
        .ok_or_else(damaged)?;
    if found > FORMAT {
        return Err(FolderError::Newer {
            folder: path.to_owned(),
            found,
        });
    }
    let id = lines
        .next()
        .and_then(|line| line.strip_prefix("store "))
        .ok_or_else(damaged)?;
    u128::from_str_radix(id, 16)
        .map(u128::to_be_bytes)
        .map_err(|_| damaged())
}

fn write_format(path: &Path, file: &Path, id: [u8; 16]) -> io::Result<()> {
    let new = path.join("FORMAT.new");
    let mut writer = File::create(&new)?;
    writeln!(
        writer,
        "luge-format {FORMAT}\nstore {:032x}",
        u128::from_be_bytes(id)
    )?;
    writer.sync_all()?;
    fs::rename(&new, file)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
