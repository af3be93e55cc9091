use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Ident, Lit, LitStr, Token, bracketed};

use crate::json::{Line, quoted};

struct Fields {
    release: Option<String>,
    description: String,
    /// Empty where the module does not say.
    isolation: String,
    /// Prefixes of keys; nothing where the module does not say.
    read: Option<Vec<Vec<u8>>>,
    write: Option<Vec<Vec<u8>>>,
}

impl Parse for Fields {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut fields = Self {
            release: None,
            description: String::new(),
            isolation: String::new(),
            read: None,
            write: None,
        };
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            match name.to_string().as_str() {
                "release" => fields.release = Some(input.parse::<LitStr>()?.value()),
                "description" => fields.description = input.parse::<LitStr>()?.value(),
                "isolation" => fields.isolation = isolation(&input.parse()?)?,
                "read" => fields.read = Some(prefixes(input)?),
                "write" => fields.write = Some(prefixes(input)?),
                _ => {
                    return Err(syn::Error::new(
                        name.span(),
                        "expected `release`, `description`, `isolation`, `read` or `write`",
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

fn isolation(choice: &LitStr) -> syn::Result<String> {
    match choice.value() {
        value if value == "fresh" || value == "reuse" => Ok(value),
        _ => Err(syn::Error::new_spanned(
            choice,
            "expected \"fresh\" or \"reuse\"",
        )),
    }
}

/// `["user:", b"\xff"]`.
fn prefixes(input: ParseStream<'_>) -> syn::Result<Vec<Vec<u8>>> {
    let list;
    bracketed!(list in input);
    let list = Punctuated::<Lit, Token![,]>::parse_terminated(&list)?;
    let bytes = list.iter().map(|prefix| match prefix {
        Lit::Str(text) => Ok(text.value().into_bytes()),
        Lit::ByteStr(bytes) => Ok(bytes.value()),
        other => Err(syn::Error::new_spanned(
            other,
            "expected a prefix of keys: \"user:\", or b\"\\xff\" for any bytes",
        )),
    });
    bytes.collect()
}

/// The line that asks for keys; empty where the module does not say, which asks for all.
fn grant_line(fields: &Fields) -> String {
    if fields.read.is_none() && fields.write.is_none() {
        return String::new();
    }
    let named = [("read", &fields.read), ("write", &fields.write)];
    let grant = named.into_iter().fold(Line::new(), |line, (name, list)| {
        let all = list.as_deref().unwrap_or_default();
        let (texts, others): (Vec<_>, Vec<_>) =
            all.iter().partition(|it| std::str::from_utf8(it).is_ok());
        let texts: Vec<String> = texts
            .iter()
            .map(|it| quoted(&String::from_utf8_lossy(it)))
            .collect();
        let others: Vec<String> = others.iter().map(|it| quoted(&hex(it))).collect();
        let line = line.raw(name, &format!("[{}]", texts.join(",")));
        match others.is_empty() {
            true => line,
            false => line.raw(&format!("{name}_hex"), &format!("[{}]", others.join(","))),
        }
    });
    Line::new().raw("grant", &grant.object()).line()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `luge_udf::testing` knows of the grant.
fn granted(fields: &Fields) -> TokenStream {
    let list = |list: &Option<Vec<Vec<u8>>>| {
        let list = list.iter().flatten().map(|it| Literal::byte_string(it));
        quote! { &[#(#list as &[u8]),*] }
    };
    let (read, write) = (list(&fields.read), list(&fields.write));
    match fields.read.is_none() && fields.write.is_none() {
        true => quote! { ::core::option::Option::None },
        false => quote! {
            ::core::option::Option::Some(::luge_udf::export::Grant { read: #read, write: #write })
        },
    }
}

pub(crate) fn expand(input: TokenStream) -> syn::Result<TokenStream> {
    let fields: Fields = syn::parse2(input)?;
    let granted = granted(&fields);
    let grant_line = grant_line(&fields);
    let Fields {
        release,
        description,
        isolation,
        ..
    } = fields;
    let release = release
        .or_else(|| std::env::var("CARGO_PKG_VERSION").ok())
        .unwrap_or_default();
    let about = Line::new()
        .text_if_any("release", &release)
        .text_if_any("description", &description)
        .text_if_any("isolation", &isolation);
    let line = Line::new().raw("module", &about.object()).line() + &grant_line;
    Ok(quote! {
        #[doc = "The module, for `luge_udf::testing`."]
        #[cfg(not(target_arch = "wasm32"))]
        #[allow(non_camel_case_types, dead_code, reason = "named as the macro that makes it")]
        #[derive(Debug)]
        pub struct module {}

        #[cfg(not(target_arch = "wasm32"))]
        impl ::luge_udf::export::Module for module {
            const METADATA: &'static str = #line;
            const GRANT: ::core::option::Option<::luge_udf::export::Grant> = #granted;
        }

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
