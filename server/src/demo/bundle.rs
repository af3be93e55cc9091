//! The modules that the demonstration pushes, under their paths in the repository, so that its commands
//! can be typed there as they are shown.

macro_rules! bundle {
    ($($path:literal)*) => {
        const FILES: &[(&str, &[u8])] = &[$(($path, include_bytes!(concat!("../../../", $path)))),*];
    };
}

bundle! {
    "udfs/examples/built/audit_log.wasm"
    "udfs/examples/built/bank.wasm"
    "udfs/examples/built/greeter.wasm"
    "udfs/examples/built/json_validator.wasm"
    "udfs/examples/built/masker.wasm"
    "udfs/examples/built/rate_limiter.wasm"
    "udfs/examples/built/text.wasm"
    "server/src/demo/modules/greedy.wat"
    "server/src/demo/modules/lower.wat"
}

/// The bytes of a bundled file.
pub(super) fn file(path: &str) -> Result<&'static [u8], String> {
    FILES
        .iter()
        .find(|(name, _)| *name == path)
        .map(|(_, bytes)| *bytes)
        .ok_or_else(|| format!("no file {path} is bundled"))
}
