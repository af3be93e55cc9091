//! Modules: pushing, activating, rolling back, listing, showing, removing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use luge_protocol::{
    Command, Grant, HookOverride, Isolation, LimitsRequest, ModuleActivate, ModuleDescription,
    ModuleName, ModulePush, ModuleShow, ModuleStats, ModuleSummary, NoArguments, StatsReply,
};

use crate::client::Client;
use crate::error::Error;

/// How a module is pushed. The default: no configuration, the server's limits, hooks as described, and the keys
/// that the module asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// What the module's functions read as their configuration.
    pub config: BTreeMap<String, String>,
    /// Limits of each call; what is left out is the server's default.
    pub limits: LimitsRequest,
    /// What to change of the hooks that the module describes.
    pub overrides: Vec<HookOverride<'static>>,
    /// The keys that the module's functions may use, of those that it asks for; all of them if `None`.
    pub grant: Option<Grant>,
    /// Whether instances are kept between requests; as the module says if `None`.
    pub isolation: Option<Isolation>,
    /// Keeps the version without putting it in force; [`Client::module_activate`] does that later.
    pub inactive: bool,
    /// Checks the module and answers what the push would do, and changes nothing.
    pub dry_run: bool,
}

impl Client {
    /// Registers a module, or a new version of it, and answers the version. Its
    /// [`change`](ModuleDescription::change) tells what became of it: a push of what is kept already
    /// makes no new version.
    ///
    /// `module` is a WebAssembly binary or its text form (WAT), which is translated here.
    ///
    /// # Errors
    /// [`Error::Wat`] where the text can't be translated; `invalid_module` where the server refuses
    /// the module, in a sentence that says why; `too_large` where the versions that must be kept take
    /// more than a module may. What was in force before stays so.
    pub async fn module_push(
        &self,
        name: &str,
        module: &[u8],
        options: PushOptions,
    ) -> Result<ModuleDescription, Error> {
        let wasm = translate(module)?;
        let unlimited = options.limits == LimitsRequest::default();
        let push = ModulePush {
            name: name.into(),
            wasm: luge_protocol::Value(wasm),
            config: (!options.config.is_empty()).then_some(options.config),
            limits: (!unlimited).then_some(options.limits),
            overrides: (!options.overrides.is_empty()).then_some(options.overrides),
            inactive: options.inactive.then_some(true),
            dry_run: options.dry_run.then_some(true),
            grant: options.grant,
            isolation: options.isolation,
        };
        self.request(Command::ModulePush(Box::new(push))).await
    }

    /// Every module with its versions, in the order of their names.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn module_list(&self) -> Result<Vec<ModuleSummary>, Error> {
        self.request(Command::ModuleList(NoArguments {})).await
    }

    /// The active version of a module, in full; the newest where none is active.
    ///
    /// # Errors
    /// `not_found` where there is no module of this name.
    pub async fn module_show(&self, name: &str) -> Result<ModuleDescription, Error> {
        let (name, version) = (name.into(), None);
        self.request(Command::ModuleShow(ModuleShow { name, version }))
            .await
    }

    /// A version of a module, in full.
    ///
    /// # Errors
    /// `not_found` where there is no module of this name, or no such version of it.
    pub async fn module_show_version(
        &self,
        name: &str,
        version: u64,
    ) -> Result<ModuleDescription, Error> {
        let (name, version) = (name.into(), Some(version));
        self.request(Command::ModuleShow(ModuleShow { name, version }))
            .await
    }

    /// Puts a version in force that is kept, for all requests that begin later.
    ///
    /// # Errors
    /// `not_found` where there is no module of this name, or no such version of it;
    /// `invalid_module` where the server does not take it any more. What was in force before stays so.
    pub async fn module_activate(
        &self,
        name: &str,
        version: u64,
    ) -> Result<ModuleDescription, Error> {
        let name = name.into();
        self.request(Command::ModuleActivate(ModuleActivate { name, version }))
            .await
    }

    /// Puts the version in force that was active before this one. A second rollback goes back
    /// further; none returns to what was rolled back from.
    ///
    /// # Errors
    /// `not_found` where there is no module of this name, or nothing to go back to; and as
    /// [`Client::module_activate`].
    pub async fn module_rollback(&self, name: &str) -> Result<ModuleDescription, Error> {
        let name = name.into();
        self.request(Command::ModuleRollback(ModuleName { name }))
            .await
    }

    /// What was counted of the functions of a module, or of all modules, since the server's start.
    ///
    /// # Errors
    /// `not_found` where there is none of this name.
    pub async fn module_stats(&self, name: Option<&str>) -> Result<StatsReply, Error> {
        let name = name.map(Cow::from);
        self.request(Command::ModuleStats(ModuleStats { name }))
            .await
    }

    /// Removes a module with all its versions. Calls that run go on to their end.
    ///
    /// # Errors
    /// `not_found` where there is none of this name.
    pub async fn module_remove(&self, name: &str) -> Result<(), Error> {
        let name = name.into();
        self.request(Command::ModuleRemove(ModuleName { name }))
            .await
    }
}

/// The binary of a module that may be in text form.
fn translate(module: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    if !is_text(module) {
        return Ok(Cow::Borrowed(module));
    }
    wat::parse_bytes(module).map_err(|error| Error::Wat(error.to_string()))
}

/// A text begins, after whitespace, with a parenthesis or a comment; a binary begins with a zero byte.
fn is_text(module: &[u8]) -> bool {
    let text = module.trim_ascii_start();
    text.starts_with(b"(") || text.starts_with(b";;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_translated_and_a_binary_stays_as_it_is() {
        let binary = wat::parse_str("(module)").unwrap();
        assert_eq!(translate(&binary).unwrap(), binary);
        for text in [
            "(module)",
            "  \n(module)",
            ";; a comment\n(module)",
            "(; a ;)(module)",
        ] {
            assert_eq!(translate(text.as_bytes()).unwrap(), binary, "{text}");
        }
    }

    #[test]
    fn what_is_neither_goes_to_the_server_which_refuses_it() {
        for bytes in [&b"\x7fELF"[..], b""] {
            assert_eq!(&*translate(bytes).unwrap(), bytes);
        }
    }

    #[test]
    fn an_error_in_the_text_is_shown_with_its_place() {
        let error = translate(b"(module\n  (fun))").unwrap_err().to_string();
        assert!(error.starts_with("the module's text can't be translated: "));
        assert!(error.contains("2:4"), "{error}");
    }
}
