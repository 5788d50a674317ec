//! Which code is for tests alone. Such code makes no edge.

use syn::{Attribute, Expr, ImplItem, Item, Meta, Stmt, Token, TraitItem, punctuated::Punctuated};

/// Whether an item, field, arm or statement with these attributes is absent from a build without
/// tests.
pub fn only_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().is_ident("cfg") {
            let predicate = attribute.parse_args::<Meta>();
            return predicate.is_ok_and(|predicate| without_tests(&predicate) == Some(false));
        }
        attribute.path().is_ident("test")
    })
}

/// Whether an attribute is a `cfg_attr` that does nothing in a build without tests.
pub fn only_in_tests(attribute: &Attribute) -> bool {
    let parts = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    attribute.path().is_ident("cfg_attr")
        && parts.is_ok_and(|parts| parts.first().and_then(without_tests) == Some(false))
}

/// What a `cfg` predicate comes to in a build without tests. `None`: other things decide.
fn without_tests(predicate: &Meta) -> Option<bool> {
    let Meta::List(list) = predicate else {
        return predicate.path().is_ident("test").then_some(false);
    };
    let inner = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
    let mut inner = inner.iter().map(without_tests);
    let name = list.path.get_ident()?.to_string();
    match name.as_str() {
        "not" => inner.next()?.map(|value| !value),
        // `all` is false as soon as one part is, `any` is true as soon as one part is.
        "all" | "any" => {
            let decisive = name == "any";
            let mut open = false;
            for value in inner {
                match value {
                    Some(value) if value == decisive => return Some(decisive),
                    Some(_) => {}
                    None => open = true,
                }
            }
            (!open).then_some(!decisive)
        }
        _ => None,
    }
}

/// The attributes of whichever variant `$node` is; none for the variants that have none.
macro_rules! attributes {
    ($node:expr, $kind:ident: $($variant:ident)+) => {
        match $node {
            $($kind::$variant(node) => &node.attrs,)+
            _ => &[],
        }
    };
}

pub fn of_item(item: &Item) -> &[Attribute] {
    attributes!(item, Item: Const Enum ExternCrate Fn ForeignMod Impl Macro Mod Static Struct Trait
        TraitAlias Type Union Use)
}

pub fn of_impl_item(item: &ImplItem) -> &[Attribute] {
    attributes!(item, ImplItem: Const Fn Type Macro)
}

pub fn of_trait_item(item: &TraitItem) -> &[Attribute] {
    attributes!(item, TraitItem: Const Fn Type Macro)
}

pub fn of_statement(statement: &Stmt) -> &[Attribute] {
    match statement {
        Stmt::Local(local) => &local.attrs,
        Stmt::Item(item) => of_item(item),
        Stmt::Expr(expression, _) => of_expression(expression),
        Stmt::Macro(invocation) => &invocation.attrs,
    }
}

pub fn of_expression(expression: &Expr) -> &[Attribute] {
    attributes!(expression, Expr: Array Assign Async Await Binary Block Break Call Cast Closure
        Const Continue Field ForLoop Group If Index Infer Let Lit Loop Macro Match MethodCall
        Paren Path Range RawAddr Reference Repeat Return Struct Try TryBlock Tuple Unary Unsafe
        While Yield)
}
