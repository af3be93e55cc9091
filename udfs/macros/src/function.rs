//! What procedures and hooks have in common.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Expr, ExprLit, ItemFn, Lit, Meta};

/// Names that mean something else among a module's exports.
fn reserved(name: &str) -> bool {
    name.starts_with('_')
        || name.starts_with("luge_")
        || name.starts_with("metadata_")
        || ["memory", "metadata"].contains(&name)
}

/// Refuses what cannot be exported.
pub(crate) fn check(function: &ItemFn) -> syn::Result<()> {
    let signature = &function.sig;
    let name = &signature.ident;
    if reserved(&name.to_string()) {
        return Err(syn::Error::new_spanned(
            name,
            "this name is reserved; exports may not be `memory` or `metadata` nor \
            begin with `_`, `luge_` or `metadata_`",
        ));
    }
    if let Some(token) = &signature.asyncness {
        return Err(syn::Error::new_spanned(
            token,
            "an exported function cannot be async",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(
            &signature.generics,
            "an exported function cannot be generic; \
            write elided lifetimes as `'_`",
        ));
    }
    Ok(())
}

/// The first paragraph of the doc comment, in one line.
pub(crate) fn description(attributes: &[Attribute]) -> String {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(text),
                    ..
                }) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        });
    lines
        .skip_while(String::is_empty)
        .take_while(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The function itself, the type that runs it, and on wasm32 its exports.
pub(crate) fn exported(
    function: &ItemFn,
    kind: &TokenStream,
    line: &str,
    body: &TokenStream,
) -> TokenStream {
    let (visibility, name) = (&function.vis, &function.sig.ident);
    let export = name.to_string();
    let describer = format!("metadata_{export}");
    let documentation = format!("The export `{export}`, for `luge_udf::testing`.");
    quote! {
        #function

        #[doc = #documentation]
        #[allow(non_camel_case_types, dead_code, reason = "named as the function that it stands for")]
        #[derive(Debug)]
        #visibility struct #name {}

        impl ::luge_udf::export::Function for #name {
            const NAME: &'static str = #export;
            const METADATA: &'static str = #line;
            const KIND: ::luge_udf::export::Kind = #kind;

            fn run() -> i32 {
                #body
            }
        }

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[allow(unsafe_code, reason = "the export's name is part of the ABI")]
            #[unsafe(export_name = #export)]
            extern "C" fn run() -> i32 {
                ::luge_udf::export::call::<#name>()
            }

            #[allow(unsafe_code, reason = "the export's name is part of the ABI")]
            #[unsafe(export_name = #describer)]
            extern "C" fn describe() -> i32 {
                ::luge_udf::export::describe(#line)
            }
        };
    }
}
