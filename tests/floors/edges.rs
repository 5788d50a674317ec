//! Which file names what of which other file. All code outside tests counts: `use` lines, paths in
//! bodies, types and attributes, and the tokens between the brackets of macros. A `mod` line, a
//! `pub(in …)` and a method call make no edge.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Span, TokenStream};
use syn::{
    Arm, Attribute, Block, Expr, ExprPath, Field, FieldValue, ImplItem, Item, Macro, Meta,
    PatIdent, Path, Stmt, TraitItem, Variant, Visibility, ext::IdentExt as _, visit, visit::Visit,
};

use crate::{
    cfg,
    resolve::{Definition, Place},
    scope::{self, Name, Scope, Space},
    tokens,
    tree::{FileId, ModuleId, Package},
};

/// What one file names of another, with the lines on which it does.
pub type Names = BTreeMap<String, BTreeSet<usize>>;

/// From the file that names to the file that defines.
pub type Edges = BTreeMap<(FileId, FileId), Names>;

/// All edges between the files of a package.
pub fn of(package: &Package) -> Result<Edges, String> {
    let mut reader =
        Reader { package, module: 0, blocks: Vec::new(), edges: Edges::new(), errors: Vec::new() };
    for (id, module) in package.modules.iter().enumerate() {
        if !module.only_tests {
            reader.module = id;
            for item in &module.items {
                reader.visit_item(item);
            }
        }
    }
    if reader.errors.is_empty() { Ok(reader.edges) } else { Err(reader.errors.join("\n")) }
}

/// One line an edge: `from -> to: name (lines), name (lines)`.
pub fn line(package: &Package, edge: (FileId, FileId), names: &Names) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|(name, lines)| {
            let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
            format!("{name} ({})", lines.join(", "))
        })
        .collect();
    format!("{} -> {}: {}", package.files[edge.0], package.files[edge.1], names.join(", "))
}

/// Goes through a module's code and remembers what it names.
struct Reader<'a> {
    package: &'a Package,
    module: ModuleId,
    blocks: Vec<Scope>,
    edges: Edges,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn file(&self) -> FileId {
        self.package.modules[self.module].file
    }

    /// Adds the edges to the files that define a name.
    fn name(&mut self, name: &Name, space: Space, line: usize) {
        let place = Place { module: self.module, blocks: &self.blocks };
        for definition in self.package.resolve(place, name) {
            if !definition.meets(space) {
                continue;
            }
            let edge = (self.file(), self.package.file_of(definition));
            if edge.0 != edge.1 {
                let names = self.edges.entry(edge).or_default();
                names.entry(name.text()).or_default().insert(line);
            }
        }
    }

    /// Adds the edges of a path in code. A single word that this file declares or imports by name
    /// adds nothing, because its `use` line has the edge. A word that a glob brings adds one.
    fn path(&mut self, name: &Name, space: Space, line: usize) {
        if let [word] = name.segments.as_slice() {
            let module = &self.package.modules[self.module].scope;
            let mut scopes = self.blocks.iter().chain([module]);
            if scopes.any(|scope| scope.names.contains_key(word)) {
                return;
            }
            let place = Place { module: self.module, blocks: &self.blocks };
            let found = self.package.resolve(place, name);
            if found.iter().any(|definition| matches!(definition, Definition::Module(_))) {
                return;
            }
        }
        self.name(name, space, line);
    }

    fn block_scope(&mut self, block: &Block) -> Scope {
        let mut scope = Scope::default();
        for statement in &block.stmts {
            match statement {
                Stmt::Item(Item::Mod(item)) if !cfg::only_for_tests(&item.attrs) => {
                    let (file, line) = (self.file(), line_of(item.ident.span()));
                    let file = &self.package.files[file];
                    self.errors.push(format!("{file}:{line}: a module inside a function"));
                }
                Stmt::Item(item) => scope.declare(item, self.file(), &|_| None),
                _ => {}
            }
        }
        scope
    }
}

fn line_of(span: Span) -> usize {
    span.start().line
}

fn first_line(path: &Path) -> usize {
    path.segments.first().map_or(0, |segment| line_of(segment.ident.span()))
}

/// The attributes that name code in strings: `#[serde(with = "hex")]`.
const CODE_IN_STRINGS: &[&str] = &["cbor", "serde", "tls_codec"];

/// The attributes whose words are no paths.
const WORDS: &[&str] =
    &["allow", "cfg", "deny", "derive", "doc", "expect", "forbid", "path", "warn"];

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if cfg::only_for_tests(cfg::of_item(item)) {
            return;
        }
        match item {
            Item::Use(item) => {
                for leaf in scope::leaves(item) {
                    self.name(&leaf.name, Space::Any, leaf.line);
                }
            }
            Item::Mod(_) => {}
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !cfg::only_for_tests(cfg::of_impl_item(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !cfg::only_for_tests(cfg::of_trait_item(item)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if !cfg::only_for_tests(cfg::of_statement(statement)) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        if !cfg::only_for_tests(cfg::of_expression(expression)) {
            visit::visit_expr(self, expression);
        }
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        if !cfg::only_for_tests(&arm.attrs) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_field(&mut self, field: &'ast Field) {
        if !cfg::only_for_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_field_value(&mut self, field: &'ast FieldValue) {
        if !cfg::only_for_tests(&field.attrs) {
            visit::visit_field_value(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast Variant) {
        if !cfg::only_for_tests(&variant.attrs) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let scope = self.block_scope(block);
        self.blocks.push(scope);
        visit::visit_block(self, block);
        self.blocks.pop();
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast Path) {
        self.path(&Name::new(path), Space::Any, first_line(path));
        visit::visit_path(self, path);
    }

    fn visit_expr_path(&mut self, expression: &'ast ExprPath) {
        if let Some(around) = &expression.qself {
            self.visit_qself(around);
        }
        self.path(&Name::new(&expression.path), Space::Value, first_line(&expression.path));
        visit::visit_path(self, &expression.path);
    }

    fn visit_type_path(&mut self, path: &'ast syn::TypePath) {
        if let Some(around) = &path.qself {
            self.visit_qself(around);
        }
        self.path(&Name::new(&path.path), Space::Type, first_line(&path.path));
        visit::visit_path(self, &path.path);
    }

    fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
        // A constant or a variant, unless it is a new variable.
        let word = pattern.ident.unraw().to_string();
        if word.starts_with(char::is_uppercase) {
            let name = Name { global: false, segments: vec![word] };
            self.path(&name, Space::Value, line_of(pattern.ident.span()));
        }
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        if invocation.path.segments.len() > 1 {
            self.visit_path(&invocation.path);
        }
        self.visit_token_stream(&invocation.tokens);
    }

    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        for (name, line) in tokens::names(tokens.clone()) {
            self.path(&name, Space::Any, line);
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let path = attribute.path();
        let is_one_of = |words: &[&str]| words.iter().any(|word| path.is_ident(word));
        if is_one_of(WORDS) || cfg::only_in_tests(attribute) {
            return;
        }
        if path.segments.len() > 1 {
            self.visit_path(path);
        }
        match &attribute.meta {
            Meta::Path(_) => {}
            Meta::NameValue(pair) => self.visit_expr(&pair.value),
            Meta::List(list) => {
                if is_one_of(CODE_IN_STRINGS) {
                    for (name, line) in tokens::names_in_strings(list.tokens.clone()) {
                        self.name(&name, Space::Any, line);
                    }
                }
                self.visit_token_stream(&list.tokens);
            }
        }
    }
}
