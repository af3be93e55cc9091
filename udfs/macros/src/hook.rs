use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::parse::Parser as _;
use syn::{FnArg, ItemFn, LitInt, LitStr, Token, Type};

use crate::function::{check, description, exported};
use crate::json::{Line, quoted};

/// The commands' names, and the variants of `Command` that stand for them.
const COMMANDS: [(&str, &str); 5] = [
    ("get", "Get"),
    ("set", "Set"),
    ("del", "Del"),
    ("expire", "Expire"),
    ("call", "Call"),
];

#[derive(Default)]
struct Options {
    request: bool,
    response: bool,
    /// Indices into `COMMANDS`; all where it is empty.
    commands: Vec<usize>,
    prefix: Option<Prefix>,
    order: i32,
    on_failure: Option<String>,
}

enum Prefix {
    Text(String),
    Hex(String, Vec<u8>),
}

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let function: ItemFn = syn::parse2(item)?;
    check(&function)?;
    let options = parse(options)?;
    let name = function.sig.ident.to_string();
    let line = line(&name, &options, &description(&function.attrs));
    let body = body(&function, options.response)?;
    Ok(exported(&function, &kind(&options), &line, &body))
}

fn parse(tokens: TokenStream) -> syn::Result<Options> {
    let mut options = Options::default();
    syn::meta::parser(|option| {
        let name = option
            .path
            .get_ident()
            .map(ToString::to_string)
            .unwrap_or_default();
        match name.as_str() {
            "request" => options.request = true,
            "response" => options.response = true,
            "commands" => options.commands = commands(&option.value()?.parse()?)?,
            "prefix" | "prefix_hex" if options.prefix.is_some() => {
                return Err(option.error("the prefix is given twice"));
            }
            "prefix" => {
                options.prefix = Some(Prefix::Text(option.value()?.parse::<LitStr>()?.value()))
            }
            "prefix_hex" => options.prefix = Some(hex(&option.value()?.parse()?)?),
            "order" => {
                let value = option.value()?;
                let minus = value.parse::<Option<Token![-]>>()?.is_some();
                let order = value.parse::<LitInt>()?.base10_parse::<i32>()?;
                options.order = if minus { -order } else { order };
            }
            "on_failure" => options.on_failure = Some(on_failure(&option.value()?.parse()?)?),
            _ => {
                return Err(option.error(
                    "expected `request`, `response`, `commands`, `prefix`, `prefix_hex`, \
                    `order` or `on_failure`",
                ));
            }
        }
        Ok(())
    })
    .parse2(tokens)?;
    if options.request == options.response {
        return Err(syn::Error::new(
            proc_macro2::Span::call_site(),
            "say when the hook runs: `#[hook(request, …)]`, before the command, or `#[hook(response, …)]`, after it",
        ));
    }
    Ok(options)
}

fn commands(list: &LitStr) -> syn::Result<Vec<usize>> {
    let text = list.value();
    let names = text.split([',', ' ']).filter(|name| !name.is_empty());
    let indices = names.map(|name| {
        COMMANDS.iter().position(|(known, _)| *known == name).ok_or_else(|| {
            let message = format!("`{name}` is not one of the commands that hooks see: get, set, del, expire, call");
            syn::Error::new_spanned(list, message)
        })
    });
    let mut indices = indices.collect::<syn::Result<Vec<_>>>()?;
    indices.sort_unstable();
    indices.dedup();
    if indices.is_empty() {
        return Err(syn::Error::new_spanned(
            list,
            "without commands the hook can never run; leave `commands` out \
            for all five",
        ));
    }
    Ok(indices)
}

fn hex(digits: &LitStr) -> syn::Result<Prefix> {
    let text = digits.value().to_ascii_lowercase();
    let bytes = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.len() == 2 && !pair.starts_with('+'))?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes = bytes.collect::<Option<Vec<u8>>>();
    let bytes = bytes
        .ok_or_else(|| syn::Error::new_spanned(digits, "expected pairs of hexadecimal digits"))?;
    Ok(Prefix::Hex(text, bytes))
}

fn on_failure(choice: &LitStr) -> syn::Result<String> {
    match choice.value() {
        value if value == "block" || value == "continue" => Ok(value),
        _ => Err(syn::Error::new_spanned(
            choice,
            "expected \"block\" or \"continue\"",
        )),
    }
}

impl Options {
    fn chosen(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let chosen = |(index, command)| {
            (self.commands.is_empty() || self.commands.contains(&index)).then_some(command)
        };
        COMMANDS.into_iter().enumerate().filter_map(chosen)
    }
}

fn line(name: &str, options: &Options, description: &str) -> String {
    let commands: Vec<String> = options
        .chosen()
        .map(|(command, _)| quoted(command))
        .collect();
    let line = Line::new()
        .text("hook", name)
        .text(
            "phase",
            if options.request {
                "request"
            } else {
                "response"
            },
        )
        .raw("commands", &format!("[{}]", commands.join(",")));
    let line = match &options.prefix {
        Some(Prefix::Hex(digits, _)) => line.text("prefix_hex", digits),
        Some(Prefix::Text(text)) => line.text("prefix", text),
        None => line.text("prefix", ""),
    };
    line.raw("order", &options.order.to_string())
        .text(
            "on_failure",
            options.on_failure.as_deref().unwrap_or("block"),
        )
        .text_if_any("description", description)
        .line()
}

fn kind(options: &Options) -> TokenStream {
    let response = options.response;
    let commands = options.chosen().map(|(_, variant)| {
        let variant = quote::format_ident!("{variant}");
        quote!(::luge_udf::export::Command::#variant)
    });
    let prefix = Literal::byte_string(match &options.prefix {
        Some(Prefix::Hex(_, bytes)) => bytes,
        Some(Prefix::Text(text)) => text.as_bytes(),
        None => &[],
    });
    quote! {
        ::luge_udf::export::Kind::Hook { response: #response, commands: &[#(#commands),*], prefix: #prefix }
    }
}

fn body(function: &ItemFn, response: bool) -> syn::Result<TokenStream> {
    let name = &function.sig.ident;
    let arguments = [
        quote!(::luge_udf::export::Request),
        quote!(::luge_udf::export::Response),
    ];
    let inputs = &function.sig.inputs;
    if inputs.len() > if response { 2 } else { 1 } {
        return Err(syn::Error::new_spanned(
            inputs,
            if response {
                "a response hook takes `request: &Request` and `response: &mut Response`, or less"
            } else {
                "a request hook takes `request: &Request` or `request: &mut Request`, or nothing"
            },
        ));
    }
    let passed = inputs
        .iter()
        .zip(&arguments)
        .map(|(input, argument)| match input {
            FnArg::Typed(typed) => match typed.ty.as_ref() {
                Type::Reference(reference) if reference.mutability.is_some() => {
                    Ok(quote!(&mut #argument::current()))
                }
                Type::Reference(_) => Ok(quote!(&#argument::current())),
                other => Err(syn::Error::new_spanned(other, "expected a reference")),
            },
            FnArg::Receiver(receiver) => {
                Err(syn::Error::new_spanned(receiver, "a hook is not a method"))
            }
        });
    let passed = passed.collect::<syn::Result<Vec<_>>>()?;
    let answer = if response {
        quote!(answer_response)
    } else {
        quote!(answer_request)
    };
    Ok(quote!(::luge_udf::export::#answer(#name(#(#passed),*))))
}
