//! Which files make a crate.

use super::{error, lines};

#[test]
fn a_file_that_no_module_is() {
    let text = "//- lib.rs\nmod a;\n//- a.rs\nfn x() {}\n//- a/lost.rs\nfn y() {}\n";
    assert_eq!(error(text), "a/lost.rs: no `mod` line leads to this file");
}

#[test]
fn a_module_that_has_no_file_or_two() {
    assert_eq!(error("//- lib.rs\nfn x() {}\nmod a;\n"), "lib.rs:2: module a has no file");
    let two = "//- lib.rs\nmod a;\n//- a.rs\nfn x() {}\n//- a/mod.rs\nfn x() {}\n";
    assert!(error(two).starts_with("lib.rs:1: module a has two files"));
}

#[test]
fn what_does_not_parse_and_what_is_not_understood() {
    assert!(error("//- lib.rs\nmod a;\n//- a.rs\nfn x( {}\n").starts_with("a.rs:"));
    let inside = "//- lib.rs\nfn x() {\n    mod y {}\n}\n";
    assert_eq!(error(inside), "lib.rs:2: a module inside a function");
    assert!(error("//- other.rs\nfn x() {}\n").contains("there is no lib.rs"));
}

#[test]
fn a_file_inside_itself() {
    let text = "//- lib.rs\nmod a;\n//- a.rs\n#[path = \"a.rs\"]\nmod b;\n";
    assert_eq!(error(text), "a.rs: this file is a module inside itself");
}

#[test]
fn files_of_tests_are_reached_and_say_nothing() {
    let text = "//- lib.rs\nmod a;\n#[cfg(test)]\nmod tests;\n//- a.rs\npub fn f() {}\n\
        //- tests.rs\nmod more;\nuse crate::a;\n//- tests/more.rs\nuse crate::a::f;\n";
    assert_eq!(error(text), "");
    assert!(lines(text).is_empty());
}

#[test]
fn a_path_attribute() {
    let text = "//- lib.rs\n#[path = \"other/place.rs\"]\nmod a;\n\
        fn x() { a::child::f(); deep::b::g() }\n\
        mod deep {\n    pub mod b;\n    #[path = \"c.rs\"]\n    mod d;\n}\n\
        //- other/place.rs\npub mod child;\n//- other/child.rs\npub fn f() {}\n\
        //- deep/b.rs\npub fn g() { super::d::h() }\n//- deep/c.rs\npub fn h() {}\n";
    assert_eq!(
        lines(text),
        [
            "deep/b.rs -> deep/c.rs: super::d::h (1)",
            "lib.rs -> deep/b.rs: deep::b::g (3)",
            "lib.rs -> other/child.rs: a::child::f (3)",
        ]
    );
}

#[test]
fn a_path_attribute_of_an_inline_module() {
    let text = "//- lib.rs\nmod a;\n\
        //- a.rs\n#[path = \"other\"]\nmod b {\n    pub mod c;\n}\nfn x() { b::c::f() }\n\
        //- other/c.rs\npub fn f() {}\n";
    assert_eq!(lines(text), ["a.rs -> other/c.rs: b::c::f (5)"]);
}

#[test]
fn one_module_with_a_file_for_each_system() {
    let text = "//- lib.rs\nmod a;\nfn x() { a::f() }\n\
        //- a/mod.rs\n#[cfg(unix)]\n#[path = \"unix.rs\"]\nmod system;\n\
        #[cfg(not(unix))]\n#[path = \"other.rs\"]\nmod system;\npub use system::f;\n\
        //- a/unix.rs\npub fn f() {}\n//- a/other.rs\npub fn f() {}\n";
    assert_eq!(
        lines(text),
        [
            "a/mod.rs -> a/other.rs: system::f (7)",
            "a/mod.rs -> a/unix.rs: system::f (7)",
            "lib.rs -> a/other.rs: a::f (2)",
            "lib.rs -> a/unix.rs: a::f (2)",
        ]
    );
}

#[test]
fn programs_name_the_library_and_modules_of_their_own() {
    let text = "//- lib.rs\npub mod a;\n//- a.rs\npub fn f() {}\n\
        //- bin/one.rs\nfn main() { it::a::f() }\n\
        //- bin/two/main.rs\nmod b;\nuse it::a;\nfn main() { b::g(); crate::b::g(); a::f() }\n\
        //- bin/two/b.rs\npub fn g() {}\n";
    assert_eq!(
        lines(text),
        [
            "bin/one.rs -> a.rs: it::a::f (1)",
            "bin/two/main.rs -> a.rs: a::f (3), it::a (2)",
            "bin/two/main.rs -> bin/two/b.rs: b::g (3), crate::b::g (3)",
        ]
    );
}
