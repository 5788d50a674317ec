//! Each kind of path, and what it leads to.

use super::{lines, pairs};

/// `lib.rs` with `a`, `b` and `c`; `b` has a function, a type and a constant.
fn with_a(a: &str) -> String {
    format!(
        "//- lib.rs\nmod a;\nmod b;\nmod c;\n\
         //- a.rs\n{a}\n\
         //- b.rs\npub fn f() {{}}\npub struct T;\npub enum E {{ V }}\npub const C: u8 = 0;\n\
         pub mod in_b {{ pub fn g() {{}} }}\npub trait Tr {{}}\n\
         //- c.rs\npub use crate::b::T;\npub use crate::b as renamed;\npub fn h() {{}}\n"
    )
}

const C_TO_B: &str = "c.rs -> b.rs: crate::b (2), crate::b::T (1)";

#[track_caller]
fn a_has(a: &str, expected: &[&str]) {
    let mut expected = expected.to_vec();
    expected.push(C_TO_B);
    assert_eq!(lines(&with_a(a)), expected, "{a}");
}

#[test]
fn a_use() {
    a_has(
        "use crate::b::T;\nuse super::b::f;",
        &["a.rs -> b.rs: crate::b::T (1), super::b::f (2)"],
    );
    a_has("use std::fmt;\nuse serde::b::T;\nuse ::b::f;", &[]);
}

#[test]
fn a_group_with_a_new_name() {
    let a = "use crate::{\n    b::{T as Other, in_b::{self, g}},\n    c,\n};\nfn x() { c::h() }";
    let to_b = "a.rs -> b.rs: crate::b::T (2), crate::b::in_b (2), crate::b::in_b::g (2)";
    a_has(a, &[to_b, "a.rs -> c.rs: c::h (5), crate::c (3)"]);
}

#[test]
fn a_module_under_a_new_name() {
    let a = "use crate::c as d;\nfn x() { d::h(); d::renamed::f(); }";
    a_has(a, &["a.rs -> b.rs: d::renamed::f (2)", "a.rs -> c.rs: crate::c (1), d::h (2)"]);
}

#[test]
fn a_path_in_a_body() {
    a_has("fn x() {\n    super::b::f();\n}", &["a.rs -> b.rs: super::b::f (2)"]);
    a_has("fn x() { let y = crate::b::C; }", &["a.rs -> b.rs: crate::b::C (1)"]);
    a_has(
        "fn x(y: u8) { match y { crate::b::C => {} _ => {} } }",
        &["a.rs -> b.rs: crate::b::C (1)"],
    );
}

#[test]
fn a_use_in_a_body() {
    let a = "fn x() {\n    use crate::b as y;\n    { y::f(); }\n}\nfn z() { y::f() }";
    a_has(a, &["a.rs -> b.rs: crate::b (2), y::f (3)"]);
}

#[test]
fn a_path_in_a_type() {
    a_has("struct X(Vec<Option<crate::b::T>>);", &["a.rs -> b.rs: crate::b::T (1)"]);
    a_has("fn x<Y: super::b::Tr>() {}", &["a.rs -> b.rs: super::b::Tr (1)"]);
    a_has("impl super::b::Tr for u8 {}", &["a.rs -> b.rs: super::b::Tr (1)"]);
    a_has("fn x() { <u8 as super::b::Tr>::y() }", &["a.rs -> b.rs: super::b::Tr::y (1)"]);
    a_has(
        "fn x(y: &dyn super::b::Tr) -> impl super::b::Tr {}",
        &["a.rs -> b.rs: super::b::Tr (1)"],
    );
}

#[test]
fn a_variant_is_where_its_enum_is() {
    a_has("use crate::b::E::V;", &["a.rs -> b.rs: crate::b::E::V (1)"]);
    a_has("use crate::b::E::*;", &["a.rs -> b.rs: crate::b::E (1)"]);
}

#[test]
fn a_path_in_a_macro() {
    a_has("fn x() { matches!(y, super::b::E::V | Z) }", &["a.rs -> b.rs: super::b::E::V (1)"]);
    let a = "fn x() {\n    tracing::info!(\n        b = 1, %y, \"{}\", &[crate::b::C]);\n}";
    a_has(a, &["a.rs -> b.rs: crate::b::C (3)"]);
    let a = "use super::b;\nfn x() { format!(\"{}\", b::C) }";
    a_has(a, &["a.rs -> b.rs: b::C (2), super::b (1)"]);
    a_has(
        "x! { use super::{b::{f, T as Y}, c::*}; }",
        &["a.rs -> b.rs: super::b::T (1), super::b::f (1)", "a.rs -> c.rs: super::c (1)"],
    );
    a_has("x!(0..super::b::C);", &["a.rs -> b.rs: super::b::C (1)"]);
    // A field, a method, what goes on with a type, another crate, a lifetime.
    a_has(
        "use super::b;\nx!(y.b::<z>(), <T>::b::f(), ::b::f(), 'b);",
        &["a.rs -> b.rs: super::b (1)"],
    );
}

#[test]
fn a_path_in_the_body_of_macro_rules() {
    let a = "macro_rules! x {\n    ($b:ident) => {\n        $crate::b::f($b::f)\n    };\n}";
    a_has(a, &["a.rs -> b.rs: crate::b::f (3)"]);
}

#[test]
fn a_path_in_an_attribute() {
    a_has("#[x(crate::b::f)]\nstruct X;", &["a.rs -> b.rs: crate::b::f (1)"]);
    let a = "struct X {\n    #[serde(rename = \"b\", with = \"super::b\")]\n    x: u8,\n}";
    a_has(a, &["a.rs -> b.rs: super::b (2)"]);
    a_has("/// crate::b::f, [`super::b::f`]\n#[derive(Debug)]\nstruct X;", &[]);
}

#[test]
fn a_re_export_is_followed() {
    a_has("use crate::c::T;", &["a.rs -> b.rs: crate::c::T (1)"]);
    a_has("use crate::c::renamed::in_b::g;", &["a.rs -> b.rs: crate::c::renamed::in_b::g (1)"]);
    let through_two = "//- lib.rs\nmod a;\nmod store;\n//- a.rs\nuse crate::store::Tx;\n\
        //- store/mod.rs\nmod sql;\npub use self::sql::Tx;\n\
        //- store/sql/mod.rs\nmod tx;\npub(super) use tx::*;\n\
        //- store/sql/tx.rs\npub struct Tx;\n";
    let mod_rs = "store/sql/mod.rs -> store/sql/tx.rs: tx (2)";
    let outer = "store/mod.rs -> store/sql/tx.rs: self::sql::Tx (2)";
    assert_eq!(
        lines(through_two),
        ["a.rs -> store/sql/tx.rs: crate::store::Tx (1)", outer, mod_rs]
    );
}

#[test]
fn a_glob() {
    let a = "use crate::c::*;\nfn x(y: T) { h() }";
    a_has(a, &["a.rs -> b.rs: T (2)", "a.rs -> c.rs: crate::c (1), h (2)"]);
    a_has("use crate::c::*;\nx!('T, y.h, z::T);", &["a.rs -> c.rs: crate::c (1)"]);
    // A function hides no module of its name.
    let a = "use crate::b::*;\nfn in_b() {}\nfn x() { in_b::g() }";
    a_has(a, &["a.rs -> b.rs: crate::b (1), in_b::g (3)"]);
    // What the file declares hides what a glob brings.
    a_has("use crate::c::*;\nstruct T;\nfn x(y: T) {}", &["a.rs -> c.rs: crate::c (1)"]);
}

#[test]
fn globs_of_each_other_come_to_an_end() {
    let text = "//- lib.rs\nmod a;\nmod b;\n\
        //- a.rs\npub use crate::b::*;\npub struct A;\nfn x(_: Nowhere, _: B) {}\n\
        //- b.rs\npub use crate::a::*;\npub struct B;\n";
    assert_eq!(lines(text), ["a.rs -> b.rs: B (3), crate::b (1)", "b.rs -> a.rs: crate::a (1)"]);
}

#[test]
fn a_glob_brings_only_what_can_be_seen() {
    let text = "//- lib.rs\nmod a;\nmod b;\n//- a.rs\nuse crate::b::*;\nfn x() { secret::f() }\n\
        //- b.rs\nmod secret;\n//- b/secret.rs\npub fn f() {}\n";
    assert_eq!(lines(text), ["a.rs -> b.rs: crate::b (1)"]);
}

#[test]
fn an_inline_module() {
    let a = "use super::b;\nmod x {\n    use super::b::f;\n    fn y() { \
             b::f(); super::super::c::h(); }\n}";
    let to_b = "a.rs -> b.rs: super::b (1), super::b::f (3)";
    a_has(a, &[to_b, "a.rs -> c.rs: super::super::c::h (4)"]);
    a_has("fn x() { super::b::in_b::g() }", &["a.rs -> b.rs: super::b::in_b::g (1)"]);
    let a = "use super::b;\nmod x {\n    use super::*;\n    fn y() { b::f() }\n}";
    a_has(a, &["a.rs -> b.rs: b::f (4), super::b (1)"]);
}

#[test]
fn a_child_module_needs_no_use() {
    let text = "//- lib.rs\nmod a;\n//- a/mod.rs\nmod b;\nfn x() { b::f() }\n\
        //- a/b.rs\npub fn f() {}\n";
    assert_eq!(lines(text), ["a/mod.rs -> a/b.rs: b::f (2)"]);
    let alone = "//- lib.rs\nmod a;\n//- a.rs\nmod b;\n//- a/b.rs\npub fn f() {}\n";
    assert!(pairs(alone).is_empty());
}

#[test]
fn what_has_the_name_of_something_else() {
    // A function and a module, a variable and a module, a crate and a module elsewhere.
    a_has(
        "fn b() {}\nuse super::b;\nfn x() { b(); b::f(); }",
        &["a.rs -> b.rs: b::f (3), super::b (2)"],
    );
    a_has("fn x() { let b = 1; b.f() }", &[]);
    let text = "//- lib.rs\nmod a;\nmod store;\n//- a.rs\nuse openmls::Kind;\n\
        //- store/mod.rs\nmod openmls;\nmod tx;\n//- store/openmls.rs\npub struct Kind;\n\
        //- store/tx.rs\nuse openmls::Kind;\nuse super::openmls::Kind as Ours;\n";
    assert_eq!(lines(text), ["store/tx.rs -> store/openmls.rs: super::openmls::Kind (2)"]);
}

#[test]
fn what_comes_from_another_crate_through_a_module() {
    let text = "//- lib.rs\nmod a;\nmod b;\n//- a.rs\nuse crate::b::RoomId;\n\
        //- b.rs\npub use ruma::RoomId;\n";
    assert_eq!(lines(text), ["a.rs -> b.rs: crate::b::RoomId (1)"]);
}

#[test]
fn what_a_macro_writes_is_in_the_macros_file() {
    a_has("use crate::b::Written;", &["a.rs -> b.rs: crate::b::Written (1)"]);
}

#[test]
fn pub_in_is_no_edge() {
    let text = "//- lib.rs\nmod a;\nconst X: u8 = a::b::F;\n//- a.rs\npub(super) mod b;\n\
        //- a/b.rs\npub(in crate::a) struct X;\npub(super) struct Y;\n\
        pub(crate) const F: u8 = 0;\n";
    assert_eq!(lines(text), ["lib.rs -> a/b.rs: a::b::F (2)"]);
}

#[test]
fn code_for_tests_is_skipped() {
    for a in [
        "#[cfg(test)]\nuse crate::b;",
        "#[cfg(all(test, unix))]\nfn x() { crate::b::f() }",
        "#[cfg(test)]\nmod tests {\n    use crate::b;\n}",
        "#[cfg(test)]\nimpl crate::b::Tr for u8 {}",
        "struct X {\n    #[cfg(test)]\n    y: crate::b::T,\n}",
        "struct X;\nimpl X {\n    #[cfg(test)]\n    fn x() { crate::b::f() }\n}",
        "fn x() {\n    #[cfg(test)]\n    crate::b::f();\n}",
        "fn x() {\n    #[cfg(test)]\n    let y = crate::b::C;\n}",
        "fn x() {\n    #[cfg(test)]\n    {\n        crate::b::f();\n    }\n}",
        "fn x() { match y {\n    #[cfg(test)]\n    Y => crate::b::f(),\n    _ => {}\n} }",
        "#[test]\nfn x() { crate::b::f() }",
        "#[cfg_attr(test, x(crate::b::f))]\nstruct X;",
        "#![cfg(test)]\nuse crate::b;",
    ] {
        a_has(a, &[]);
    }
}

#[test]
fn names_for_tests_mean_nothing_elsewhere() {
    let a = "#[cfg(test)]\nuse crate::b as y;\n#[cfg(not(test))]\nuse crate::c as y;\n\
        fn x() { y::h() }";
    a_has(a, &["a.rs -> c.rs: crate::c (4), y::h (5)"]);
    let crate_and_module = "//- lib.rs\n#[cfg(test)]\nmod rand;\nfn x() { rand::f() }\n\
        //- rand.rs\npub fn f() {}\n";
    assert!(pairs(crate_and_module).is_empty());
}

#[test]
fn other_conditions_are_not_skipped() {
    for a in [
        "#[cfg(not(test))]\nuse crate::b;",
        "#[cfg(any(test, unix))]\nuse crate::b;",
        "#[cfg(feature = \"test-hooks\")]\nuse crate::b;",
        "#[cfg(not(all(test, unix)))]\nuse crate::b;",
    ] {
        a_has(a, &["a.rs -> b.rs: crate::b (2)"]);
    }
}
