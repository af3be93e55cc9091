//! The embedded store beside sled used directly: the same threads, keys and values, in one run.
//!
//! `cargo run --release -p luge-benches --bin store -- [--keys N] [--seconds S] [--only NAME] [--quick]`

mod measure;
mod reads;
mod restart;
mod timed_disk;
mod writes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use luge_server::server::SystemClock;
use luge_server::store::embedded::disk::{Disk, RealDisk};
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedStore, SyncPolicy};

/// The length of keys, in bytes.
pub(crate) const KEY_BYTES: usize = 16;

/// The length of values, in bytes.
pub(crate) const VALUE_BYTES: usize = 64;

/// What is asked for on the command line.
pub(crate) struct Settings {
    /// Keys in the store.
    pub(crate) keys: u64,
    /// How long each measurement runs.
    pub(crate) time: Duration,
    /// Threads that read.
    pub(crate) readers: usize,
    /// Threads that write.
    pub(crate) writers: usize,
    only: Option<String>,
}

fn main() {
    let mut settings = Settings {
        keys: 200_000,
        time: Duration::from_secs(5),
        readers: 2,
        writers: 50,
        only: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| usage(&argument));
        match argument.as_str() {
            "--keys" => settings.keys = number(&value()),
            "--seconds" => settings.time = Duration::from_secs(number(&value())),
            "--only" => settings.only = Some(value()),
            "--quick" => {
                settings.keys = 20_000;
                settings.time = Duration::from_millis(300);
            }
            // A process of its own, to be killed: see `restart`.
            "--overwrite-until-killed" => restart::overwrite(Path::new(&value()), settings.keys),
            _ => usage(&argument),
        }
    }
    println!(
        "{} keys of {KEY_BYTES} bytes, values of {VALUE_BYTES}; {} readers, {} writers, {:?} each",
        settings.keys, settings.readers, settings.writers, settings.time
    );
    let parts: [Part; 8] = [
        ("reads", reads::run),
        ("scan", reads::scan),
        ("overwrite", writes::overwrite),
        ("sustained", writes::sustained),
        ("insert", writes::insert),
        ("durability", writes::durability),
        ("transaction", writes::transaction),
        ("restart", restart::run),
    ];
    for (name, part) in parts {
        if settings.only.as_deref().is_none_or(|only| only == name) {
            println!("\n== {name}");
            part(&settings);
        }
    }
}

/// A name and what it measures.
type Part = (&'static str, fn(&Settings));

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| usage(text))
}

fn usage(at: &str) -> ! {
    eprintln!("error: {at:?} is not understood; --keys N, --seconds S, --only NAME, --quick");
    std::process::exit(2)
}

/// The key of a number, such that neighbours in number are none in order.
pub(crate) fn key(number: u64) -> [u8; KEY_BYTES] {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    (u128::from(mixed) << 64 | u128::from(number)).to_be_bytes()
}

/// Options of a store that syncs on the clock.
pub(crate) fn everysec() -> EmbeddedOptions {
    EmbeddedOptions {
        sync: SyncPolicy::Interval(Duration::from_secs(1)),
        ..EmbeddedOptions::default()
    }
}

/// Opens our store.
pub(crate) fn open(folder: &Path, options: EmbeddedOptions) -> EmbeddedStore {
    open_on(RealDisk, folder, options)
}

/// The same on a disk of the caller's.
pub(crate) fn open_on(disk: impl Disk, folder: &Path, options: EmbeddedOptions) -> EmbeddedStore {
    let disk = Arc::new(disk);
    EmbeddedStore::open(folder, [7; 16], disk, Box::new(SystemClock), options)
        .expect("the folder is ours")
}

/// Opens sled as its users do.
pub(crate) fn open_sled(folder: &Path) -> sled::Db {
    sled::open(folder).expect("the folder is ours")
}

/// Opens sled and fills it.
pub(crate) fn open_loaded_sled(folder: &Path, keys: u64) -> sled::Db {
    let sled = open_sled(folder);
    for number in 0..keys {
        sled.insert(key(number), &[b'v'; VALUE_BYTES][..])
            .expect("it is stored");
    }
    sled
}

/// A folder on the disk of the checkout: the usual one for temporary files may be in memory.
pub(crate) fn folder() -> tempfile::TempDir {
    let target = PathBuf::from("target");
    let root = if target.is_dir() { target } else { ".".into() };
    tempfile::tempdir_in(root).expect("a folder")
}
