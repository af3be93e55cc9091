//! The folder that a store lives in.
//!
//! ```text
//!   luge-data/
//!     LOCK      held by the server that has the folder open
//!     FORMAT    "luge-format 2" and the store's id
//!     STATE     whether a server runs on it, since which boot, or how the index was left
//!     log/      what was committed since the base, and before it what the index may still need
//!     base/     a copy of everything as of some commit
//!     sled/     the index: can be lost
//! ```

use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::{Disk, read_full_at};
use super::log::LogEnd;
use crate::store::{Sequence, StoreError};

/// The version of what lies in the folder.
const FORMAT: u32 = 2;

/// The FORMAT file of a first start that did not come to its end.
const BEGUN: &str = "FORMAT.new";

/// What STATE begins with while a store that stopped in order is opened.
const REOPENING: &str = "stopped, reopening ";

/// STATE while a backup is brought into the folder.
const RESTORING: &str = "restoring\n";

/// The longest text file that is read here.
const MAX_TEXT_BYTES: u64 = 64 << 10;

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
    /// It has a store's log, and not the file that says whose it is.
    #[error(
        "the folder {0} has a log and no file FORMAT, so it is not known what wrote it; put that file back, or restore a backup into an empty folder"
    )]
    WithoutFormat(PathBuf),
    /// It holds no store.
    #[error("the folder {0} holds no Luge data")]
    Absent(PathBuf),
    /// It should be empty.
    #[error("the folder {0} is not empty; a backup is restored into an empty one")]
    NotEmpty(PathBuf),
    /// A backup was to be brought into it.
    #[error(
        "the restore into {folder} did not come to its end ({why}); delete the folder and restore again"
    )]
    HalfRestored {
        /// The folder.
        folder: PathBuf,
        /// What ended it.
        why: String,
    },
    /// It was written by another release.
    #[error(
        "the data folder {folder} has format {found}, and this release reads format {FORMAT}; use the release that wrote it"
    )]
    OtherFormat {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: u32,
    },
    /// One of its files is not what it should be.
    #[error("{0}")]
    Damaged(String),
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
    /// The index can't be opened, not even a new one.
    #[error("sled can't open {folder}: {error}")]
    Index {
        /// sled's folder.
        folder: PathBuf,
        /// What came back.
        error: String,
    },
}

/// An open, locked folder.
pub(super) struct Folder {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    id: [u8; 16],
    /// Whether it has been a store before.
    is_ours: bool,
    /// Whether the server stopped in order.
    is_stopped: AtomicBool,
    /// Whether the index may be wrong.
    is_doubtful: AtomicBool,
    /// Holds the lock for as long as the store is open.
    _lock: File,
}

impl Folder {
    /// Locks the folder, and makes it where there is none.
    pub(super) fn open(
        path: &Path,
        disk: Arc<dyn Disk>,
        new_id: [u8; 16],
    ) -> Result<Self, FolderError> {
        Self::open_for(path, disk, new_id, false)
    }

    fn open_for(
        path: &Path,
        disk: Arc<dyn Disk>,
        new_id: [u8; 16],
        restores: bool,
    ) -> Result<Self, FolderError> {
        if !path.try_exists().map_err(at("read", path))? {
            disk.create_folder(path)
                .map_err(at("create the data folder", path))?;
            if let Some(parent) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
                disk.sync_folder(parent).map_err(at("sync", parent))?;
            }
        }
        let format = path.join("FORMAT");
        let begun = path.join(BEGUN);
        let is_ours = format.try_exists().map_err(at("read", &format))?;
        let is_begun = begun.try_exists().map_err(at("read", &begun))?;
        if !is_ours && !is_begun && !is_empty(path).map_err(at("read the data folder", path))? {
            refuse_half_restored(&*disk, path)?;
            return Err(without_format(path, FolderError::Foreign));
        }
        let lock = lock(path)?;
        let id = if is_ours {
            Some(read_format(&*disk, &format)?)
        } else if is_begun {
            // Where it is torn, nothing was made after it.
            read_format(&*disk, &begun).ok()
        } else {
            None
        };
        let folder = Self {
            path: path.to_owned(),
            disk,
            id: id.unwrap_or(new_id),
            is_ours,
            is_stopped: AtomicBool::new(false),
            is_doubtful: AtomicBool::new(false),
            _lock: lock,
        };
        match restores {
            // Before it has an id: until the restore has come to its end, no server should take this
            // for a first start.
            true => folder.write("STATE", RESTORING)?,
            false => refuse_half_restored(&*folder.disk, path)?,
        }
        if id.is_none() {
            folder.begin()?;
        }
        Ok(folder)
    }

    /// Gives the folder its id, before anything is made that bears it.
    fn begin(&self) -> Result<(), FolderError> {
        let id = u128::from_be_bytes(self.id);
        let text = format!("luge-format {FORMAT}\nstore {id:032x}\n");
        let begun = self.path.join(BEGUN);
        let write = || {
            self.create(&begun, &text)?;
            self.disk.sync_folder(&self.path)
        };
        write().map_err(at("write", &begun))
    }

    /// Locks a folder that must be a store's.
    pub(super) fn open_existing(path: &Path, disk: Arc<dyn Disk>) -> Result<Self, FolderError> {
        let format = path.join("FORMAT");
        if !format.try_exists().map_err(at("read", &format))? {
            refuse_half_restored(&*disk, path)?;
            return Err(without_format(path, FolderError::Absent));
        }
        Self::open(path, disk, [0; 16])
    }

    /// Locks a folder that must be empty, or not there yet, and is to be filled from a backup:
    /// [`Self::note_stopped`] ends that.
    pub(super) fn open_empty(
        path: &Path,
        disk: Arc<dyn Disk>,
        new_id: [u8; 16],
    ) -> Result<Self, FolderError> {
        let is_empty = match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            entries => entries.map_err(at("read", path))?.next().is_none(),
        };
        if !is_empty {
            refuse_half_restored(&*disk, path)?;
            return Err(FolderError::NotEmpty(path.to_owned()));
        }
        Self::open_for(path, disk, new_id, true)
    }

    /// Why the folder can't be used, where a restore did not come to its end.
    pub(super) fn half_restored(&self, why: impl Into<String>) -> FolderError {
        FolderError::HalfRestored {
            folder: self.path.clone(),
            why: why.into(),
        }
    }

    pub(super) fn id(&self) -> [u8; 16] {
        self.id
    }

    pub(super) fn is_ours(&self) -> bool {
        self.is_ours
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(super) fn base(&self) -> PathBuf {
        self.path.join("base")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.path.join("sled")
    }

    /// Makes the folders of a store.
    pub(super) fn make_folders(&self) -> Result<(), FolderError> {
        for folder in [self.log(), self.base()] {
            self.disk
                .create_folder(&folder)
                .map_err(at("create", &folder))?;
        }
        self.disk
            .sync_folder(&self.path)
            .map_err(at("sync", &self.path))
    }

    /// Makes the folder a store's: the last step of a first start.
    pub(super) fn claim(&self) -> Result<(), FolderError> {
        if self.is_ours {
            return Ok(());
        }
        let format = self.path.join("FORMAT");
        let claimed = self
            .disk
            .rename(&self.path.join(BEGUN), &format)
            .and_then(|()| self.disk.sync_folder(&self.path));
        claimed.map_err(at("write", &format))
    }

    /// Notes that a server runs, since this boot of the machine.
    pub(super) fn note_running(&self, boot: &str) -> Result<(), FolderError> {
        self.write("STATE", &format!("running {boot}\n"))
    }

    /// Notes that the index of a store that stopped in order is about to be opened, which touches its
    /// files and so breaks their seal: should this start be killed or refused, the index is still
    /// trusted, and the log must still have the mark that ended it.
    pub(super) fn note_reopening(&self, boot: &str) -> Result<(), FolderError> {
        if self.was_stopped() {
            self.write("STATE", &format!("{REOPENING}{boot}\n"))?;
        }
        Ok(())
    }

    /// To be called when the server stops in order. How the index's files are left is noted when the
    /// folder is dropped, after the index: while sled is open it moves its pages about, also when
    /// nothing is asked of it.
    pub(super) fn seal_when_closed(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Notes that the server stopped in order, and how the index's files were left.
    pub(super) fn note_stopped(&self) -> Result<(), FolderError> {
        sync_all(&self.index()).map_err(at("sync", &self.index()))?;
        let seal = seal(&self.index()).map_err(at("read", &self.index()))?;
        self.write("STATE", &format!("stopped\n{seal}"))
    }

    /// Notes that the index can't be trusted.
    pub(super) fn note_doubt(&self) -> Result<(), FolderError> {
        self.is_doubtful.store(true, Ordering::Release);
        self.write("STATE", "doubtful\n")
    }

    /// Whether the index is as a server of this boot left it.
    pub(super) fn is_index_trusted(&self, boot: &str) -> bool {
        let Ok(state) = self.read("STATE") else {
            return false;
        };
        match state.split_once('\n') {
            // Without a name for the boot, each start counts as one of its own.
            Some((running, _)) if running.starts_with("running ") => {
                !boot.is_empty() && running == format!("running {boot}")
            }
            Some((reopening, _)) if reopening.starts_with(REOPENING) => {
                !boot.is_empty() && reopening == format!("{REOPENING}{boot}")
            }
            Some(("stopped", sealed)) => seal(&self.index()).is_ok_and(|seal| seal == sealed),
            _ => false,
        }
    }

    /// Whether the last server stopped in order.
    fn was_stopped(&self) -> bool {
        self.read("STATE")
            .is_ok_and(|state| state.starts_with("stopped\n") || state.starts_with(REOPENING))
    }

    /// A base is right only with the log through its end, a store has a log, and one that stopped in
    /// order has the mark that ended it.
    pub(super) fn check_reach(
        &self,
        base_end: Option<Sequence>,
        end: &LogEnd,
    ) -> Result<(), FolderError> {
        const ADVICE: &str =
            "put the log back, or restore a backup into an empty folder with `luge-server restore`";
        let log = self.log();
        if end.segments.is_empty() && self.is_ours {
            let log = log.display();
            return Err(FolderError::Damaged(format!(
                "the log in {log} is gone; {ADVICE}"
            )));
        }
        if self.was_stopped() && !end.is_clean {
            let (log, last) = (log.display(), end.last);
            let place = end.cut.as_ref().map_or_else(String::new, |cut| {
                format!(": {}, byte {}: {}", cut.file.display(), cut.offset, cut.why)
            });
            return Err(FolderError::Damaged(format!(
                "the log in {log} has lost its end, behind commit {last}{place}; the server had stopped in order; {ADVICE}"
            )));
        }
        match base_end {
            Some(base_end) if base_end > end.last => {
                let (log, last) = (log.display(), end.last);
                Err(FolderError::Damaged(format!(
                    "the log in {log} ends at commit {last}, and the base needs it through {base_end}; {ADVICE}"
                )))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn index_error(&self, error: &StoreError) -> FolderError {
        FolderError::Index {
            folder: self.index(),
            error: error.to_string(),
        }
    }

    /// Sets the index's folder aside, in the place of the one that was set aside before.
    pub(super) fn set_index_aside(&self) -> Result<Option<PathBuf>, FolderError> {
        let index = self.index();
        if !index.exists() {
            return Ok(None);
        }
        if !self.is_ours {
            // Nothing was promised yet.
            fs::remove_dir_all(&index).map_err(at("remove", &index))?;
            return Ok(None);
        }
        let aside = self.path.join("sled.aside");
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(at("remove", &aside))?;
        }
        fs::rename(&index, &aside).map_err(at("set aside", &index))?;
        Ok(Some(aside))
    }

    fn read(&self, name: &str) -> Result<String, FolderError> {
        read_text(&*self.disk, &self.path.join(name))
    }

    /// Replaces a small file, whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<(), FolderError> {
        let (path, new) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let write = || {
            self.create(&new, text)?;
            self.disk.rename(&new, &path)?;
            self.disk.sync_folder(&self.path)
        };
        write().map_err(at("write", &path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A doubt may have come while the server stopped.
        let is_doubtful = self.is_doubtful.load(Ordering::Acquire);
        if is_doubtful || !self.is_stopped.load(Ordering::Acquire) {
            return;
        }
        // Without the seal the index is made anew after the next start of the machine; nothing is lost.
        if let Err(error) = self.note_stopped() {
            tracing::warn!(%error, "the state of the index can't be noted");
        }
    }
}

impl Folder {
    /// Writes a new file, in the place of one that was begun.
    fn create(&self, path: &Path, text: &str) -> io::Result<()> {
        if path.try_exists()? {
            self.disk.remove(path)?;
        }
        let file = self.disk.create(path)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync()
    }
}

/// What a folder is that does not say whose it is.
fn without_format(path: &Path, otherwise: fn(PathBuf) -> FolderError) -> FolderError {
    let path = path.to_owned();
    match path.join("log").is_dir() && path.join("STATE").is_file() {
        true => FolderError::WithoutFormat(path),
        false => otherwise(path),
    }
}

/// Refuses a folder whose restore did not come to its end.
fn refuse_half_restored(disk: &dyn Disk, path: &Path) -> Result<(), FolderError> {
    let state = read_text(disk, &path.join("STATE"));
    if state.is_ok_and(|state| state == RESTORING) {
        return Err(FolderError::HalfRestored {
            folder: path.to_owned(),
            why: "it was interrupted, or still runs".to_owned(),
        });
    }
    Ok(())
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |error| FolderError::Io {
        action,
        path,
        error,
    }
}

/// The names, lengths and times of the index's files: what would differ had anyone touched them.
fn seal(index: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    let mut folders = vec![index.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let since = about
                .modified()?
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            let name = entry.path();
            let name = name.strip_prefix(index).unwrap_or(&name).to_owned();
            files.push((name, about.len(), since.as_nanos()));
        }
    }
    files.sort();
    let mut text = String::new();
    for (name, length, nanos) in files {
        let _ = writeln!(text, "{} {length} {nanos}", name.display());
    }
    Ok(text)
}

/// Makes the index's files durable: sled itself never waits for the disk.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            File::open(path)?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Whether there is nothing in the folder, but for the lock of a first start that did not get further.
fn is_empty(path: &Path) -> io::Result<bool> {
    for file in fs::read_dir(path)? {
        if file?.file_name() != "LOCK" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lock(path: &Path) -> Result<File, FolderError> {
    let file = path.join("LOCK");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file)
        .map_err(at("open", &file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(FolderError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(at("lock", &file)(error)),
    }
}

fn read_text(disk: &dyn Disk, path: &Path) -> Result<String, FolderError> {
    let read = || {
        let file = disk.open(path)?;
        let length = file.length()?.min(MAX_TEXT_BYTES);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let filled = read_full_at(&*file, &mut bytes, 0)?;
        bytes.truncate(filled);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_err(at("read", path))
}

fn read_format(disk: &dyn Disk, file: &Path) -> Result<[u8; 16], FolderError> {
    let text = read_text(disk, file)?;
    let damaged = || {
        FolderError::Damaged(format!(
            "the file {} is damaged: it should begin with \"luge-format {FORMAT}\"",
            file.display()
        ))
    };
    let mut lines = text.lines();
    let found: u32 = lines
        .next()
        .and_then(|line| line.strip_prefix("luge-format "))
        .and_then(|number| number.parse().ok())
        .ok_or_else(damaged)?;
    if found != FORMAT {
        return Err(FolderError::OtherFormat {
            folder: file.parent().unwrap_or(file).to_owned(),
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
