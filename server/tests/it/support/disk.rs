//! Disks for tests: one that records what is asked of it, so that a power cut can be played at any
//! moment, and one that fails.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use luge_server::store::embedded::disk::{Disk, DiskFile, RealDisk};

/// What the disk can tear a write at.
const SECTOR: usize = 512;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A file, whatever its name is.
type FileId = usize;

/// One thing that was asked of the disk, and that it did. Paths are below the recording's root.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// The folder was there before, or lasts for other reasons.
    FoundFolder(PathBuf),
    /// The file was there before, with this content.
    Found(PathBuf, FileId, Vec<u8>),
    CreateFolder(PathBuf),
    Create(PathBuf, FileId),
    Write(FileId, u64, Vec<u8>),
    Reserve(FileId, u64),
    SetLength(FileId, u64),
    /// Covers what had been recorded before the sync began, which is this many operations.
    Sync(FileId, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// As for `Sync`.
    SyncFolder(PathBuf, usize),
}

/// Does everything in a real folder, and records it.
#[derive(Clone)]
pub(crate) struct RecordingDisk {
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    operations: Vec<Operation>,
    /// The files by their present names.
    files: BTreeMap<PathBuf, FileId>,
    next: FileId,
}

struct RecordingFile {
    inner: Arc<dyn DiskFile>,
    id: FileId,
    state: Arc<Mutex<State>>,
}

impl RecordingDisk {
    /// Records what happens in this folder; what is in it lasts already.
    pub(crate) fn new(root: &Path) -> Self {
        let disk = Self {
            root: root.to_owned(),
            state: Arc::default(),
        };
        disk.find(root);
        disk
    }

    /// What was recorded so far.
    pub(crate) fn recording(&self) -> Vec<Operation> {
        self.state.lock().unwrap().operations.clone()
    }

    /// How many operations were recorded so far.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().operations.len()
    }

    fn find(&self, folder: &Path) {
        let mut state = self.state.lock().unwrap();
        state
            .operations
            .push(Operation::FoundFolder(self.below(folder)));
        drop(state);
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.find(&path);
            } else {
                let content = fs::read(&path).unwrap();
                let mut state = self.state.lock().unwrap();
                let id = state.name(self.below(&path));
                state
                    .operations
                    .push(Operation::Found(self.below(&path), id, content));
            }
        }
    }

    fn below(&self, path: &Path) -> PathBuf {
        // Empty for the root itself, and for what is above it.
        path.strip_prefix(&self.root)
            .unwrap_or(Path::new(""))
            .into()
    }

    fn record(&self, operation: Operation) {
        self.state.lock().unwrap().operations.push(operation);
    }

    fn file(&self, inner: Arc<dyn DiskFile>, id: FileId) -> Arc<dyn DiskFile> {
        let state = Arc::clone(&self.state);
        Arc::new(RecordingFile { inner, id, state })
    }
}

impl State {
    fn name(&mut self, path: PathBuf) -> FileId {
        let id = self.next;
        self.next += 1;
        self.files.insert(path, id);
        id
    }
}

impl Disk for RecordingDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        RealDisk.create_folder(path)?;
        for folder in self
            .below(path)
            .ancestors()
            .collect::<Vec<_>>()
            .iter()
            .rev()
        {
            self.record(Operation::CreateFolder(folder.to_path_buf()));
        }
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(folder)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inner = RealDisk.create(path)?;
        let below = self.below(path);
        let mut state = self.state.lock().unwrap();
        let id = state.name(below.clone());
        state.operations.push(Operation::Create(below, id));
        drop(state);
        Ok(self.file(inner, id))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inner = RealDisk.open(path)?;
        let id = self.state.lock().unwrap().files[&self.below(path)];
        Ok(self.file(inner, id))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)?;
        let (from, to) = (self.below(from), self.below(to));
        let mut state = self.state.lock().unwrap();
        rename(&mut state.files, &from, &to);
        state.operations.push(Operation::Rename(from, to));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)?;
        let mut state = self.state.lock().unwrap();
        state.files.remove(&self.below(path));
        state.operations.push(Operation::Remove(self.below(path)));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // As for files, there is no real sync.
        let covered = self.count();
        if !path.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        if path.starts_with(&self.root) {
            self.record(Operation::SyncFolder(self.below(path), covered));
        }
        Ok(())
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path)
    }
}

impl RecordingFile {
    fn record(&self, operation: Operation) {
        self.state.lock().unwrap().operations.push(operation);
    }
}

/// No real sync: the recording tells what it would have kept.
impl DiskFile for RecordingFile {
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_all_at(bytes, offset)?;
        self.record(Operation::Write(self.id, offset, bytes.to_vec()));
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.inner.reserve(bytes)?;
        self.record(Operation::Reserve(self.id, bytes));
        Ok(())
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_length(bytes)?;
        self.record(Operation::SetLength(self.id, bytes));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let covered = state.operations.len();
        state.operations.push(Operation::Sync(self.id, covered));
        Ok(())
    }
}

/// Builds in the empty folder `target` what a disk may hold after a power cut before operation `upto`:
/// everything that was synced, and of the rest what the seed decides. Writes are there, missing or
/// torn, in any choice of them; a file's length may have grown without its content; names that were
/// not synced are the new or the old ones. Seed 0 loses all that may be lost, seed 1 nothing.
pub(crate) fn image(recording: &[Operation], upto: usize, seed: u64, target: &Path) {
    let mut names: BTreeMap<PathBuf, Node> = BTreeMap::new();
    let mut pending_names: Vec<(usize, &Operation)> = Vec::new();
    let mut files: HashMap<FileId, Content<'_>> = HashMap::new();
    for (at, operation) in recording.iter().enumerate() {
        let is_found = matches!(operation, Operation::FoundFolder(_) | Operation::Found(..));
        if at >= upto && !is_found {
            break;
        }
        match operation {
            Operation::FoundFolder(_) => change_names(&mut names, operation),
            Operation::Found(_, id, content) => {
                files.entry(*id).or_default().durable = content.clone();
                change_names(&mut names, operation);
            }
            Operation::CreateFolder(_)
            | Operation::Create(..)
            | Operation::Rename(..)
            | Operation::Remove(_) => pending_names.push((at, operation)),
            Operation::Write(id, ..) | Operation::Reserve(id, _) | Operation::SetLength(id, _) => {
                files.entry(*id).or_default().pending.push((at, operation));
            }
            Operation::Sync(id, covered) => files.entry(*id).or_default().sync(*covered),
            Operation::SyncFolder(folder, covered) => {
                pending_names.retain(|(at, operation)| {
                    let is_kept = at < covered && lies_in(operation, folder);
                    if is_kept {
                        change_names(&mut names, operation);
                    }
                    !is_kept
                });
            }
        }
    }
    let mut dice = Dice::new(seed);
    for (_, operation) in pending_names {
        if dice.keeps() {
            change_names(&mut names, operation);
        }
    }
    for (path, node) in names {
        let path = target.join(path);
        match node {
            Node::Folder => drop(fs::create_dir(&path)),
            // A file of a folder that is not there is not there either.
            Node::File(id) => {
                let content = files.remove(&id).unwrap_or_default().roll(&mut dice);
                drop(fs::write(&path, content));
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(FileId),
}

#[derive(Default)]
struct Content<'a> {
    durable: Vec<u8>,
    /// Changes that no sync covers, with their places in the recording.
    pending: Vec<(usize, &'a Operation)>,
}

impl Content<'_> {
    fn sync(&mut self, covered: usize) {
        for (_, operation) in self.pending.extract_if(.., |(at, _)| *at < covered) {
            change_content(&mut self.durable, operation);
        }
    }

    fn roll(mut self, dice: &mut Dice) -> Vec<u8> {
        for (_, operation) in &self.pending {
            if dice.keeps() {
                change_content(&mut self.durable, operation);
            } else if let Operation::Write(_, offset, bytes) = operation {
                tear(
                    &mut self.durable,
                    usize::try_from(*offset).unwrap(),
                    bytes,
                    dice,
                );
            }
        }
        self.durable
    }
}

/// Of a write that is not there as a whole, some sectors may be, and the length that it gave the file.
fn tear(content: &mut Vec<u8>, offset: usize, bytes: &[u8], dice: &mut Dice) {
    if dice.loses() {
        return;
    }
    let end = offset + bytes.len();
    content.resize(content.len().max(end), 0);
    let mut at = offset;
    while at < end {
        let sector_end = end.min((at / SECTOR + 1) * SECTOR);
        if dice.keeps() {
            content[at..sector_end].copy_from_slice(&bytes[at - offset..sector_end - offset]);
        }
        at = sector_end;
    }
}

fn change_content(content: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Write(_, offset, bytes) => {
            let offset = usize::try_from(*offset).unwrap();
            let end = offset + bytes.len();
            content.resize(content.len().max(end), 0);
            content[offset..end].copy_from_slice(bytes);
        }
        Operation::Reserve(_, bytes) => {
            let length = usize::try_from(*bytes).unwrap();
            content.resize(content.len().max(length), 0);
        }
        Operation::SetLength(_, bytes) => content.resize(usize::try_from(*bytes).unwrap(), 0),
        _ => {}
    }
}

/// Does a change of names, if what it is about is there: what it rests on may have been lost.
fn change_names(names: &mut BTreeMap<PathBuf, Node>, operation: &Operation) {
    match operation {
        Operation::FoundFolder(path) | Operation::CreateFolder(path) => {
            names.insert(path.clone(), Node::Folder);
        }
        Operation::Found(path, id, _) | Operation::Create(path, id) => {
            names.insert(path.clone(), Node::File(*id));
        }
        Operation::Rename(from, to) => rename(names, from, to),
        Operation::Remove(path) => drop(names.remove(path)),
        _ => {}
    }
}

/// Renames a file, or a folder with all that is in it.
fn rename<T>(names: &mut BTreeMap<PathBuf, T>, from: &Path, to: &Path) {
    let moved: Vec<PathBuf> = names
        .keys()
        .filter(|path| path.starts_with(from))
        .cloned()
        .collect();
    for path in moved {
        let rest = path.strip_prefix(from).unwrap();
        let new = if rest.as_os_str().is_empty() {
            to.to_owned()
        } else {
            to.join(rest)
        };
        if let Some(node) = names.remove(&path) {
            names.insert(new, node);
        }
    }
}

/// A rename lasts with the sync of the folder that it leads to.
fn lies_in(operation: &Operation, folder: &Path) -> bool {
    match operation {
        Operation::CreateFolder(path)
        | Operation::Create(path, _)
        | Operation::Remove(path)
        | Operation::Rename(_, path) => path.parent().unwrap_or(Path::new("")) == folder,
        _ => false,
    }
}

struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// splitmix64.
    fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn keeps(&mut self) -> bool {
        match self.seed {
            0 => false,
            1 => true,
            _ => self.roll().is_multiple_of(2),
        }
    }

    fn loses(&mut self) -> bool {
        !self.keeps()
    }
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// EIO.
    Broken,
    /// ENOSPC.
    Full,
    /// Half of a write is done, then EIO; other operations fail at once.
    Short,
}

/// Fails one operation that changes something, or all from that one on.
#[derive(Clone)]
pub(crate) struct FailingDisk {
    inner: Arc<dyn Disk>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    /// Operations so far.
    count: usize,
    /// The operation that fails, how, and whether all after it do as well.
    failure: Option<(usize, Failure, bool)>,
    /// What the disk says that it has left, if that is not the truth.
    free_bytes: Option<u64>,
    /// Whether syncs of files fail.
    are_syncs_broken: bool,
}

struct FailingFile {
    inner: Arc<dyn DiskFile>,
    plan: Arc<Mutex<Plan>>,
}

impl FailingDisk {
    pub(crate) fn new(inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            plan: Arc::default(),
        }
    }

    /// Fails the operation that comes after `after` others.
    pub(crate) fn fail(&self, after: usize, failure: Failure, from_then_on: bool) {
        let mut plan = self.plan.lock().unwrap();
        plan.failure = Some((plan.count + after, failure, from_then_on));
    }

    /// Fails nothing any more.
    pub(crate) fn heal(&self) {
        self.plan.lock().unwrap().failure = None;
    }

    /// Fails every sync of a file from now on.
    pub(crate) fn break_syncs(&self) {
        self.plan.lock().unwrap().are_syncs_broken = true;
    }

    /// Says that so much is left.
    pub(crate) fn leave(&self, free_bytes: u64) {
        self.plan.lock().unwrap().free_bytes = Some(free_bytes);
    }

    /// How many operations there were.
    pub(crate) fn count(&self) -> usize {
        self.plan.lock().unwrap().count
    }

    fn file(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let plan = Arc::clone(&self.plan);
        Arc::new(FailingFile { inner, plan })
    }
}

impl Failure {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Broken | Self::Short => EIO,
            Self::Full => ENOSPC,
        })
    }
}

/// Counts an operation, and tells whether it fails.
fn step(plan: &Mutex<Plan>) -> Result<(), Failure> {
    let mut plan = plan.lock().unwrap();
    let at = plan.count;
    plan.count += 1;
    match plan.failure {
        Some((first, failure, from_then_on)) if at == first || (from_then_on && at > first) => {
            Err(failure)
        }
        _ => Ok(()),
    }
}

impl Disk for FailingDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        step(&self.plan).map_err(Failure::error)?;
        self.inner.create_folder(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.inner.list(folder)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        step(&self.plan).map_err(Failure::error)?;
        self.inner.create(path).map(|file| self.file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open(path).map(|file| self.file(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(&self.plan).map_err(Failure::error)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        step(&self.plan).map_err(Failure::error)?;
        self.inner.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        step(&self.plan).map_err(Failure::error)?;
        self.inner.sync_folder(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let told = self.plan.lock().unwrap().free_bytes;
        told.map_or_else(|| self.inner.free_bytes(path), Ok)
    }
}

impl DiskFile for FailingFile {
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match step(&self.plan) {
            Ok(()) => self.inner.write_all_at(bytes, offset),
            Err(failure) => {
                if failure == Failure::Short {
                    self.inner.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                }
                Err(failure.error())
            }
        }
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        step(&self.plan).map_err(Failure::error)?;
        self.inner.reserve(bytes)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        step(&self.plan).map_err(Failure::error)?;
        self.inner.set_length(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        step(&self.plan).map_err(Failure::error)?;
        if self.plan.lock().unwrap().are_syncs_broken {
            return Err(Failure::Broken.error());
        }
        self.inner.sync()
    }
}
