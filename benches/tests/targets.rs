//! The bytes in `fuzz/corpus`, and the protocol's golden frames, fed to what takes any bytes: whole, cut
//! short, and with each byte turned.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect fails, and says where"
)]

use std::fs;
use std::path::{Path, PathBuf};

use luge_benches::targets::TARGETS;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder, in order.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The golden frames, of which each line is bytes with a comment behind them.
fn golden() -> Vec<Vec<u8>> {
    let frame = |text: Vec<u8>| -> Vec<u8> {
        let text = String::from_utf8(text).unwrap();
        let lines = text.lines().map(|line| line.split('#').next().unwrap());
        let digits = lines.flat_map(str::split_whitespace);
        digits
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect()
    };
    files(&root().join("protocol/tests/golden"))
        .into_iter()
        .map(frame)
        .collect()
}

/// The bytes, and what lies next to them.
fn feed(target: fn(&[u8]), bytes: &[u8], has_neighbours: bool) {
    target(bytes);
    if !has_neighbours {
        return;
    }
    for at in 0..bytes.len() {
        target(&bytes[..at]);
        let mut turned = bytes.to_vec();
        turned[at] ^= 0xff;
        target(&turned);
    }
}

#[test]
fn the_kept_bytes_and_their_neighbours_end_no_target() {
    for (name, target) in TARGETS {
        let kept = files(&root().join("fuzz/corpus").join(name));
        assert!(!kept.is_empty(), "fuzz/corpus/{name} is empty");
        for bytes in kept {
            // Compiling takes its time.
            feed(target, &bytes, name != "modules" && bytes.len() < 1_000);
        }
    }
}

#[test]
fn the_golden_frames_and_their_neighbours_end_no_target() {
    let golden = golden();
    assert!(golden.len() > 80);
    for (name, target) in TARGETS {
        if name == "modules" {
            continue;
        }
        for frame in golden.iter().filter(|frame| frame.len() < 1_000) {
            feed(target, frame, name == "frames");
            feed(target, &frame[4..], true);
        }
    }
}
