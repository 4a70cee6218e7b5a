//! The `#[transform]` attribute of `etl-sdk`: see there.
//!
//! How it works: the function stays as it is, so that native tests call it. For wasm32 three exports of the guest ABI are added beside
//! it, which hand their arguments to `etl_sdk::guest::Guest`; elsewhere only a check that the signature fits.
//! What it refuses, at the place where it is wrong: arguments to the attribute, anything but a plain function, and other
//! parameters than `(&Record, &mut Output)` or `(&Record, &Config, &mut Output)`.
#![forbid(unsafe_code)]

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Type};

/// Makes a function the transform of this module: see the documentation of `etl-sdk`.
#[proc_macro_attribute]
pub fn transform(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let (arguments, item) = (TokenStream::from(arguments), TokenStream::from(item));
    // The function itself survives a mistake, so that the compiler does not also report it missing.
    expand(arguments, item.clone())
        .unwrap_or_else(|error| [error.into_compile_error(), item].into_iter().collect())
        .into()
}

fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    if !arguments.is_empty() {
        return Err(Error::new(
            arguments.span(),
            "#[transform] takes no arguments",
        ));
    }
    let function: ItemFn = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), "#[transform] goes on a function: fn my_module(record: &Record<'_>, out: &mut Output) -> Result<()>"))?;
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        return Err(Error::new(
            token.span(),
            "a transform cannot be async: a module has nothing to wait for",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(
            signature.generics.span(),
            "a transform cannot be generic: write the types out, and elide lifetimes",
        ));
    }
    let parameters: Vec<&Type> = signature
        .inputs
        .iter()
        .map(parameter)
        .collect::<Result<_, _>>()?;
    let (record, config, output) = match parameters.as_slice() {
        [record, output] => (*record, None, *output),
        [record, config, output] => (*record, Some(*config), *output),
        _ => {
            return Err(Error::new(
                signature.paren_token.span.join(),
                "a transform takes (record: &Record<'_>, out: &mut Output) or (record: &Record<'_>, config: &Config, out: &mut Output)",
            ));
        }
    };
    reference(
        record,
        false,
        "the first parameter of a transform is `&Record<'_>`",
    )?;
    reference(
        output,
        true,
        "the last parameter of a transform is `&mut Output`",
    )?;
    let config = match config {
        Some(config) => reference(
            config,
            false,
            "the second parameter of a transform is a reference to your config: `&Config`",
        )?,
        None => &syn::parse_quote!(::etl_sdk::NoConfig),
    };
    let name = &signature.ident;
    // A module that takes no config exports no etl_init_v1, so that a host can tell.
    let init = (parameters.len() == 3).then(|| {
        quote! {
            #[unsafe(no_mangle)]
            extern "C" fn etl_init_v1(pointer: usize, length: usize) -> u64 {
                GUEST.with_borrow_mut(|guest| guest.init(pointer, length))
            }
        }
    });
    // Errors about types then point at the signature.
    let check =
        quote_spanned! { signature.inputs.span() => ::etl_sdk::guest::check::<_, _>(#name) };
    Ok(quote! {
        #function

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static GUEST: ::core::cell::RefCell<::etl_sdk::guest::Guest<#config>> =
                    const { ::core::cell::RefCell::new(::etl_sdk::guest::Guest::new()) };
            }

            #[unsafe(no_mangle)]
            extern "C" fn etl_alloc_v1(length: usize) -> usize {
                GUEST.with_borrow_mut(|guest| guest.alloc(length))
            }

            #[unsafe(no_mangle)]
            extern "C" fn etl_process_v1(pointer: usize, length: usize) -> u64 {
                GUEST.with_borrow_mut(|guest| guest.process(pointer, length, &#name))
            }

            #init
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || #check;
    })
}

/// The type of a parameter that is not `self`.
fn parameter(argument: &FnArg) -> Result<&Type, Error> {
    match argument {
        FnArg::Typed(typed) => Ok(&typed.ty),
        FnArg::Receiver(receiver) => Err(Error::new(
            receiver.span(),
            "a transform is a free function, not a method",
        )),
    }
}

/// What a reference of the expected mutability refers to.
fn reference<'a>(parameter: &'a Type, mutable: bool, message: &str) -> Result<&'a Type, Error> {
    match parameter {
        Type::Reference(reference) if reference.mutability.is_some() == mutable => {
            Ok(&reference.elem)
        }
        _ => Err(Error::new(parameter.span(), message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: TokenStream, item: TokenStream) -> String {
        expand(arguments, item).expect_err("refused").to_string()
    }

    #[test]
    fn a_config_is_what_makes_a_module_export_init() {
        let without = quote!(
            fn module(record: &Record<'_>, out: &mut Output) -> Result<()> {
                Ok(())
            }
        );
        let with = quote!(
            fn module(record: &Record<'_>, config: &Config, out: &mut Output) -> Result<()> {
                Ok(())
            }
        );
        let without = expand(TokenStream::new(), without)
            .expect("accepted")
            .to_string();
        let with = expand(TokenStream::new(), with)
            .expect("accepted")
            .to_string();
        for expansion in [&without, &with] {
            assert!(expansion.contains("etl_alloc_v1") && expansion.contains("etl_process_v1"));
        }
        assert!(with.contains("etl_init_v1") && with.contains("Guest < Config >"));
        assert!(!without.contains("etl_init_v1"));
    }

    #[test]
    fn mistakes_are_named() {
        let none = TokenStream::new;
        let cases = [
            (
                quote!(name = "x"),
                quote!(
                    fn f() {}
                ),
                "takes no arguments",
            ),
            (
                none(),
                quote!(
                    struct Config;
                ),
                "goes on a function",
            ),
            (
                none(),
                quote!(
                    async fn f(record: &Record<'_>, out: &mut Output) {}
                ),
                "cannot be async",
            ),
            (
                none(),
                quote!(
                    fn f<T>(record: &Record<'_>, out: &mut Output) {}
                ),
                "cannot be generic",
            ),
            (
                none(),
                quote!(
                    fn f(&self, out: &mut Output) {}
                ),
                "not a method",
            ),
            (
                none(),
                quote!(
                    fn f(record: &Record<'_>) {}
                ),
                "takes (record",
            ),
            (
                none(),
                quote!(
                    fn f(record: Record<'_>, out: &mut Output) {}
                ),
                "first parameter of a transform is `&Record<'_>`",
            ),
            (
                none(),
                quote!(
                    fn f(record: &Record<'_>, out: &Output) {}
                ),
                "last parameter of a transform is `&mut Output`",
            ),
            (
                none(),
                quote!(
                    fn f(record: &Record<'_>, config: Config, out: &mut Output) {}
                ),
                "reference to your config",
            ),
        ];
        for (arguments, item, expected) in cases {
            let message = refusal(arguments, item);
            assert!(
                message.contains(expected),
                "{message:?} does not say {expected:?}"
            );
        }
    }
}
