use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser as _;
use syn::{FnArg, ItemFn, Type};

use crate::function::{check, description, exported};
use crate::json::Line;

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let function: ItemFn = syn::parse2(item)?;
    check(&function)?;
    let read_only = read_only(options)?;
    let line = Line::new()
        .text("procedure", &function.sig.ident.to_string())
        .raw("read_only", if read_only { "true" } else { "false" })
        .text_if_any("description", &description(&function.attrs))
        .line();
    let kind = quote!(::luge_udf::export::Kind::Procedure { read_only: #read_only });
    let body = body(&function)?;
    Ok(exported(&function, &kind, &line, &body))
}

fn read_only(options: TokenStream) -> syn::Result<bool> {
    let mut read_only = false;
    syn::meta::parser(|option| {
        if !option.path.is_ident("read_only") {
            return Err(option.error("expected `read_only`"));
        }
        read_only = true;
        Ok(())
    })
    .parse2(options)?;
    Ok(read_only)
}

fn argument(function: &ItemFn) -> syn::Result<Option<&Type>> {
    let mut inputs = function.sig.inputs.iter();
    match (inputs.next(), inputs.next()) {
        (None, _) => Ok(None),
        (Some(FnArg::Typed(argument)), None) => Ok(Some(&argument.ty)),
        _ => Err(syn::Error::new_spanned(
            &function.sig.inputs,
            "a procedure takes one argument or none; several go into a struct",
        )),
    }
}

fn body(function: &ItemFn) -> syn::Result<TokenStream> {
    let name = &function.sig.ident;
    let call = match argument(function)? {
        None => quote!(let returned = #name();),
        Some(argument) => quote! {
            let input = export::input();
            let argument = match (&export::Argument::<#argument>::new()).take(&input) {
                Ok(argument) => argument,
                Err(error) => return export::unreadable(&error),
            };
            let returned = #name(argument);
        },
    };
    Ok(quote! {
        #[allow(unused_imports, reason = "which of them is used depends on the types")]
        use ::luge_udf::export::{
            self, BytesArgument as _, ChosenCode as _, DefaultCode as _, FallibleReturn as _,
            InfallibleReturn as _, RawReply as _, TypedArgument as _, TypedReply as _,
        };
        #[allow(clippy::needless_borrow, clippy::let_unit_value, clippy::unit_arg, reason = "depends on the types")]
        {
            #call
            match (&returned).fallibility().split(returned) {
                Ok(reply) => {
                    (&reply).form().write(reply);
                    0
                }
                Err(refusal) => {
                    let code = (&refusal).refusal_code();
                    (&refusal).form().write(refusal);
                    code
                }
            }
        }
    })
}
