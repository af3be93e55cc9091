//! The attributes of `luge-udf`, which re-exports and documents them: nobody depends on this crate directly.
//!
//! Each attribute leaves its function as it is and adds a type of the same name that knows how to run it
//! (types and functions have separate names), and on wasm32 two exports: the function's and its describer's.

mod function;
mod hook;
mod json;
mod module;
mod procedure;

use proc_macro::TokenStream;

/// Exports a function as a procedure; see `luge_udf::procedure`.
#[proc_macro_attribute]
pub fn procedure(options: TokenStream, item: TokenStream) -> TokenStream {
    expanded(procedure::expand(options.into(), item.into()))
}

/// Exports a function as a hook; see `luge_udf::hook`.
#[proc_macro_attribute]
pub fn hook(options: TokenStream, item: TokenStream) -> TokenStream {
    expanded(hook::expand(options.into(), item.into()))
}

/// Describes the module; see `luge_udf::module`.
#[proc_macro]
pub fn module(fields: TokenStream) -> TokenStream {
    expanded(module::expand(fields.into()))
}

fn expanded(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(syn::Error::into_compile_error).into()
}
