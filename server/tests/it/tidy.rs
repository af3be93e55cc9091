//! Rules that a reader would otherwise have to trust: the arrows between the parts, the size of
//! functions and files, and words that one thing has.

use std::fs;
use std::path::{Path, PathBuf};

/// Each part of the server, and what it may use. What is not named here joins the others.
const ARROWS: &[(&str, &[&str])] = &[
    ("store", &["store"]),
    ("store/embedded", &["store"]),
    ("transaction", &["store", "transaction"]),
    ("function", &["store", "transaction", "function"]),
    ("command", &["store", "transaction", "function", "command"]),
    (
        "session",
        &["store", "transaction", "function", "command", "session"],
    ),
    ("udf", &["store", "transaction", "function", "udf"]),
    ("net", &["store", "function", "session", "net"]),
];

/// Crates that only one part may name.
const OWNERS: &[(&str, &str)] = &[
    ("sled::", "store/embedded"),
    ("wasmtime::", "udf"),
    ("tokio::net", "net"),
    ("rustls::", "net"),
    ("hyper::", "net"),
    ("prometheus_client::", "metrics"),
    ("luge_client", "demo"),
];

/// Nothing in the core reads a clock or touches a file.
const FORBIDDEN_IN_THE_CORE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::net",
    "std::thread",
    "getrandom",
];

const CORE: &[&str] = &["store", "transaction", "function", "command", "session"];

const MAX_FUNCTION_LINES: usize = 70;
const MAX_FILE_LINES: usize = 560;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The file's path below `src`, and its text without comments.
fn sources() -> Vec<(String, String)> {
    let root = source();
    let read = |path: PathBuf| {
        let name = path
            .strip_prefix(&root)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        (name, code.collect::<Vec<_>>().join("\n"))
    };
    files(&root).into_iter().map(read).collect()
}

/// The part that a file belongs to: the longest that fits.
fn part(file: &str) -> Option<&'static str> {
    let fits = |part: &&str| file.starts_with(&format!("{part}/"));
    ARROWS
        .iter()
        .map(|(part, _)| *part)
        .filter(fits)
        .max_by_key(|part| part.len())
}

#[test]
fn the_arrows_point_one_way() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let Some(part) = part(&file) else { continue };
        let (_, allowed) = ARROWS.iter().find(|(name, _)| *name == part).unwrap();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let used: String = rest
                .chars()
                .take_while(|it| it.is_ascii_lowercase() || *it == '_')
                .collect();
            let is_part = ARROWS.iter().any(|(name, _)| *name == used)
                || used == "config"
                || used == "server";
            if is_part && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{file} uses {used}; {part} may use {allowed:?}"));
            }
            if used == "store" && rest.starts_with("store::embedded") && part != "store/embedded" {
                wrong.push(format!(
                    "{file} uses store::embedded, which only server.rs joins"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn sled_wasmtime_and_sockets_are_named_in_one_place_each() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        for (name, owner) in OWNERS {
            let is_own = file.starts_with(&format!("{owner}/")) || file == format!("{owner}.rs");
            if !is_own && code.contains(name) && !(file == "server.rs" && *name == "tokio::net") {
                wrong.push(format!("{file} names {name}, which belongs to {owner}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_reads_no_clock_and_touches_no_file() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let in_core = part(&file).is_some_and(|part| CORE.contains(&part));
        for word in FORBIDDEN_IN_THE_CORE {
            if in_core && code.contains(word) {
                wrong.push(format!("{file} names {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn functions_and_files_stay_short() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let lines: Vec<&str> = code.lines().collect();
        if lines.len() > MAX_FILE_LINES {
            wrong.push(format!("{file} has {} lines of code", lines.len()));
        }
        for (at, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            let words = trimmed
                .trim_start_matches("pub(super) ")
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ")
                .trim_start_matches("async ");
            if !words.starts_with("fn ") {
                continue;
            }
            let indent = line.len() - trimmed.len();
            let end = format!("{}}}", " ".repeat(indent));
            let body = lines[at..].iter().take_while(|line| **line != end).count();
            // A declaration without a body ends with a semicolon before any brace opens.
            let opening = lines[at..]
                .iter()
                .find(|line| line.ends_with('{') || line.ends_with(';'));
            let is_declaration = opening.is_some_and(|line| line.ends_with(';'));
            let length = if is_declaration || body == lines.len() - at {
                0
            } else {
                body
            };
            if length > MAX_FUNCTION_LINES {
                wrong.push(format!(
                    "{file}: `{}` has {length} lines",
                    words.split('(').next().unwrap()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_map_in_the_architecture_is_of_this_country() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("../ARCHITECTURE.md")).unwrap();
    let named: Vec<&str> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.ends_with(".rs"))
        .collect();
    let there = [files(&root.join("src")), files(&root.join("tests"))].concat();
    for name in &named {
        let name = name.trim_start_matches("server/");
        let exists = there.iter().any(|path| path.ends_with(name));
        assert!(exists, "there is no {name}");
    }
    for path in files(&root.join("src/store/embedded")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_in_log = path.parent().unwrap().ends_with("log");
        assert!(
            is_in_log || named.contains(&name),
            "{name} is not on the map"
        );
    }
}

#[test]
fn nothing_is_left_for_later() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folders = [
        "server/src",
        "protocol/src",
        "client/src",
        "udfs/sdk/src",
        "udfs/macros/src",
        "udfs/examples",
        "benches",
    ];
    let words = [
        "todo!",
        "unimplemented!",
        "TODO",
        "FIXME",
        "XXX",
        "HACK",
        "#[ignore",
    ];
    let mut wrong = Vec::new();
    for folder in folders {
        for file in files(&root.join(folder))
            .iter()
            .filter(|file| !file.to_string_lossy().contains("/target/"))
        {
            let text = fs::read_to_string(file).unwrap();
            for word in words.iter().filter(|word| text.contains(**word)) {
                wrong.push(format!("{} has {word}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
