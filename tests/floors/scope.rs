//! The names that a module, or a block of a function, declares: its items, and what its `use` lines
//! bring in. A scope holds what was written; `resolve` finds out what it means.

use std::collections::HashMap;

use syn::{Fields, Item, UseTree, Visibility, ext::IdentExt as _};

use crate::{
    cfg,
    tree::{FileId, ModuleId},
};

/// A path as it is written, without generic arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Whether it begins with `::`, and so with another crate.
    pub global: bool,
    pub segments: Vec<String>,
}

impl Name {
    pub fn new(path: &syn::Path) -> Self {
        let segments = path.segments.iter().map(|segment| segment.ident.unraw().to_string());
        Self { global: path.leading_colon.is_some(), segments: segments.collect() }
    }

    pub fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// In which of Rust's namespaces an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Type,
    Value,
    /// In both, or it is not known.
    Any,
}

impl Space {
    pub fn meets(self, other: Self) -> bool {
        self == other || self == Self::Any || other == Self::Any
    }
}

/// What a name in a scope stands for.
#[derive(Clone, Debug)]
pub enum Binding {
    Module(ModuleId),
    Item(FileId, Space),
    Use(Name),
}

/// Who may see a name: everyone in the crate (`None`), or a module and those below it.
pub type Seen = Option<ModuleId>;

#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub names: HashMap<String, Vec<(Binding, Seen)>>,
    pub globs: Vec<(Name, Seen)>,
}

impl Scope {
    pub fn bind(&mut self, name: String, binding: Binding, seen: Seen) {
        self.names.entry(name).or_default().push((binding, seen));
    }

    /// Adds what an item declares. Modules are bound by whoever made them.
    pub fn declare(&mut self, item: &Item, file: FileId, seen: &dyn Fn(&Visibility) -> Seen) {
        if cfg::only_for_tests(cfg::of_item(item)) {
            return;
        }
        let (ident, visibility, space) = match item {
            Item::Const(item) => (&item.ident, &item.vis, Space::Value),
            Item::Enum(item) => (&item.ident, &item.vis, Space::Type),
            Item::Fn(item) => (&item.sig.ident, &item.vis, Space::Value),
            Item::Static(item) => (&item.ident, &item.vis, Space::Value),
            Item::Struct(item) => {
                let named = matches!(item.fields, Fields::Named(_));
                (&item.ident, &item.vis, if named { Space::Type } else { Space::Any })
            }
            Item::Trait(item) => (&item.ident, &item.vis, Space::Type),
            Item::TraitAlias(item) => (&item.ident, &item.vis, Space::Type),
            Item::Type(item) => (&item.ident, &item.vis, Space::Type),
            Item::Union(item) => (&item.ident, &item.vis, Space::Type),
            Item::ExternCrate(item) => {
                let ident = item.rename.as_ref().map_or(&item.ident, |(_, rename)| rename);
                if item.ident == "self" {
                    let root = Name { global: false, segments: vec!["crate".into()] };
                    self.bind(ident.unraw().to_string(), Binding::Use(root), seen(&item.vis));
                    return;
                }
                (ident, &item.vis, Space::Type)
            }
            Item::Use(item) => {
                let seen = seen(&item.vis);
                for leaf in leaves(item) {
                    match leaf.binds {
                        Some(name) if name != "_" => self.bind(name, Binding::Use(leaf.name), seen),
                        Some(_) => {}
                        None => self.globs.push((leaf.name, seen)),
                    }
                }
                return;
            }
            _ => return,
        };
        self.bind(ident.unraw().to_string(), Binding::Item(file, space), seen(visibility));
    }
}

/// One of the paths of a `use`.
pub struct Leaf {
    /// The path; of a glob, what stands before the `*`.
    pub name: Name,
    /// The name that it binds; a glob binds none of its own.
    pub binds: Option<String>,
    pub line: usize,
}

pub fn leaves(item: &syn::ItemUse) -> Vec<Leaf> {
    let mut found = Vec::new();
    let mut prefix = Name { global: item.leading_colon.is_some(), segments: Vec::new() };
    collect(&item.tree, &mut prefix, &mut found);
    found
}

fn collect(tree: &UseTree, prefix: &mut Name, found: &mut Vec<Leaf>) {
    let (ident, rename) = match tree {
        UseTree::Path(path) => {
            prefix.segments.push(path.ident.unraw().to_string());
            collect(&path.tree, prefix, found);
            prefix.segments.pop();
            return;
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                collect(tree, prefix, found);
            }
            return;
        }
        UseTree::Glob(glob) => {
            let line = glob.star_token.spans[0].start().line;
            found.push(Leaf { name: prefix.clone(), binds: None, line });
            return;
        }
        UseTree::Name(name) => (&name.ident, &name.ident),
        UseTree::Rename(rename) => (&rename.ident, &rename.rename),
    };
    let mut name = prefix.clone();
    // `a::{self}` is `a`.
    if ident != "self" || name.segments.is_empty() {
        name.segments.push(ident.unraw().to_string());
    }
    let binds = if rename == "self" {
        name.segments.last().cloned().unwrap_or_default()
    } else {
        rename.unraw().to_string()
    };
    found.push(Leaf { name, binds: Some(binds), line: ident.span().start().line });
}
