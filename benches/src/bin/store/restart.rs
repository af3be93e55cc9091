//! Restarts: how long a folder takes to be ready after a kill under full load, and without its index.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use luge_server::store::Store;
use tokio::runtime::Runtime;

use crate::measure::{folder_bytes, rate};
use crate::writes::{burst, load};
use crate::{Settings, everysec, folder, open};

/// Kills a process that overwrites, and measures the next opening.
pub(crate) fn run(settings: &Settings) {
    let folder = folder();
    let program = std::env::current_exe().expect("this program has a file");
    let mut writer = Command::new(program)
        .args([
            "--keys",
            &settings.keys.to_string(),
            "--overwrite-until-killed",
        ])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut loaded = String::new();
    if let Some(output) = writer.stdout.take() {
        use std::io::BufRead as _;
        let mut output = std::io::BufReader::new(output);
        output
            .read_line(&mut loaded)
            .expect("it says when it is loaded");
    }
    std::thread::sleep(settings.time * 4);
    writer.kill().expect("it is killed");
    writer.wait().expect("it is gone");
    println!(
        "killed after {:?} of full load; folder {} MiB",
        settings.time * 4,
        folder_bytes(folder.path()) >> 20
    );
    opening("ready after a kill", folder.path());
    std::fs::remove_dir_all(folder.path().join("sled")).expect("the index is there");
    opening("ready without an index", folder.path());
}

fn opening(what: &str, folder: &Path) {
    let began = Instant::now();
    let store = open(folder, everysec());
    println!("{what}: {:?}", began.elapsed());
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(store.close()).expect("it closes");
}

/// Overwrites until it is killed.
pub(crate) fn overwrite(folder: &Path, keys: u64) -> ! {
    let runtime = Runtime::new().expect("a runtime");
    let store = open(folder, everysec());
    load(&runtime, &store, keys);
    println!("loaded");
    loop {
        rate(50, Duration::from_secs(60), |_, random| {
            burst(&runtime, &store, || random.below(keys))
        });
    }
}
