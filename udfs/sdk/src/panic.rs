//! Tells the log what a panic said: a trap alone has only its back-trace.

#[cfg(all(target_arch = "wasm32", feature = "panic-log"))]
pub(crate) fn install() {
    std::panic::set_hook(Box::new(log));
}

#[cfg(not(all(target_arch = "wasm32", feature = "panic-log")))]
pub(crate) const fn install() {}

#[cfg(all(target_arch = "wasm32", feature = "panic-log"))]
fn log(panic: &std::panic::PanicHookInfo<'_>) {
    use crate::log::{Level, write};

    let message = panic.payload_as_str().unwrap_or("no message");
    let text = match panic.location() {
        Some(place) => {
            let line = crate::decimal::format(place.line().into());
            ["panicked at ", place.file(), ":", &line, ": ", message].concat()
        }
        None => ["panicked: ", message].concat(),
    };
    write(Level::Error, &text);
}
