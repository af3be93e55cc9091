use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Ident, LitStr, Token};

use crate::json::Line;

struct Fields {
    release: Option<String>,
    description: String,
}

impl Parse for Fields {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut fields = Self {
            release: None,
            description: String::new(),
        };
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            let value = input.parse::<LitStr>()?.value();
            match name.to_string().as_str() {
                "release" => fields.release = Some(value),
                "description" => fields.description = value,
                _ => {
                    return Err(syn::Error::new(
                        name.span(),
                        "expected `release` or `description`",
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(fields)
    }
}

pub(crate) fn expand(input: TokenStream) -> syn::Result<TokenStream> {
    let Fields {
        release,
        description,
    } = syn::parse2(input)?;
    let release = release
        .or_else(|| std::env::var("CARGO_PKG_VERSION").ok())
        .unwrap_or_default();
    let about = Line::new()
        .text_if_any("release", &release)
        .text_if_any("description", &description);
    let line = Line::new().raw("module", &about.object()).line();
    Ok(quote! {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[allow(unsafe_code, reason = "the export's name is part of the ABI")]
            #[unsafe(export_name = "metadata")]
            extern "C" fn describe() -> i32 {
                ::luge_udf::export::describe(#line)
            }
        };
    })
}
