//! The paths among tokens that Rust's grammar does not cover: between a macro's brackets, in the
//! body of a `macro_rules!`, and in an attribute.

use proc_macro2::{Delimiter, Literal, TokenStream, TokenTree};
use syn::ext::IdentExt as _;

use crate::scope::Name;

/// All paths, with their lines. One word is a path as well, unless it is a field, a method, a label
/// or what comes before a single `:`.
pub fn names(tokens: TokenStream) -> Vec<(Name, usize)> {
    let mut found = Vec::new();
    walk(tokens, &mut found);
    found
}

fn walk(tokens: TokenStream, found: &mut Vec<(Name, usize)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => {
                walk(group.stream(), found);
                at += 1;
            }
            TokenTree::Ident(_) if may_begin(&tokens, at) => {
                let global = is_path_separator(&tokens, at.wrapping_sub(2));
                at = path(&tokens, at, Name { global, segments: Vec::new() }, found);
            }
            _ => at += 1,
        }
    }
}

fn is_punct(tokens: &[TokenTree], at: usize, sign: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens, at, ':') && is_punct(tokens, at.wrapping_add(1), ':')
}

/// Whether a path may begin with the word at `at`.
fn may_begin(tokens: &[TokenTree], at: usize) -> bool {
    let before = |sign| at > 0 && is_punct(tokens, at - 1, sign);
    if before('\'') {
        return false;
    }
    if before('$') {
        return matches!(&tokens[at], TokenTree::Ident(ident) if ident == "crate");
    }
    if before('.') {
        // `..x` is a range.
        return at > 1 && is_punct(tokens, at - 2, '.');
    }
    if at > 1 && is_path_separator(tokens, at - 2) {
        // `::x` is a path of another crate, `<T>::x` and `$t::x` go on with something.
        return at == 2
            || match &tokens[at - 3] {
                TokenTree::Punct(punct) => punct.as_char() != '>',
                TokenTree::Group(group) => group.delimiter() != Delimiter::None,
                TokenTree::Ident(_) | TokenTree::Literal(_) => false,
            };
    }
    true
}

/// Reads a path on from the word at `at`, and all paths of a group as in a `use`. Returns where the
/// rest begins.
fn path(
    tokens: &[TokenTree],
    mut at: usize,
    mut name: Name,
    found: &mut Vec<(Name, usize)>,
) -> usize {
    let Some(TokenTree::Ident(first)) = tokens.get(at) else { return at + 1 };
    let line = first.span().start().line;
    while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
        name.segments.push(ident.unraw().to_string());
        at += 1;
        if !is_path_separator(tokens, at) {
            break;
        }
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(_)) => at += 2,
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in
                    inner.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ','))
                {
                    path(part, 0, name.clone(), found);
                }
                return at + 3;
            }
            // A glob, or generic arguments.
            _ => break,
        }
    }
    let single = name.segments.len() == 1;
    let is_key = is_punct(tokens, at, ':') && !is_path_separator(tokens, at);
    let is_macro =
        is_punct(tokens, at, '!') && matches!(tokens.get(at + 1), Some(TokenTree::Group(_)));
    if name.segments.last().is_some_and(|last| last == "self") && !single {
        name.segments.pop();
    }
    if !(single && (is_key || is_macro)) {
        found.push((name, line));
    }
    at
}

/// The keys whose text names code, in the attributes of serde, minicbor and tls_codec.
const CODE: &[&str] = &[
    "bound",
    "cbor_len",
    "crate",
    "decode_with",
    "default",
    "deserialize_with",
    "encode_with",
    "from",
    "getter",
    "into",
    "is_nil",
    "nil",
    "remote",
    "serialize_with",
    "skip_if",
    "skip_serializing_if",
    "try_from",
    "with",
];

/// The paths in texts such as that of `#[serde(with = "super::hex")]`.
pub fn names_in_strings(tokens: TokenStream) -> Vec<(Name, usize)> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => found.extend(names_in_strings(group.stream())),
            TokenTree::Literal(literal) if at > 1 && is_punct(&tokens, at - 1, '=') => {
                let key = tokens[at - 2].to_string();
                if CODE.contains(&key.as_str()) {
                    found.extend(names_in_string(literal));
                }
            }
            _ => {}
        }
    }
    found
}

fn names_in_string(literal: &Literal) -> Vec<(Name, usize)> {
    let line = literal.span().start().line;
    let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
    let tokens = text.ok().and_then(|text| text.value().parse().ok());
    let names = names(tokens.unwrap_or_default());
    names.into_iter().map(|(name, _)| (name, line)).collect()
}
