//! The files and modules of a package's `src`: all that `mod` lines reach from `lib.rs`, `main.rs`
//! and the programs in `bin`. A module without a file is an error, and so is a file that no module
//! tree reaches.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Expr, ExprLit, Item, ItemMod, Lit, Meta, Visibility, ext::IdentExt as _};

use crate::{
    cfg,
    scope::{Binding, Scope, Seen},
};

pub type FileId = usize;
pub type ModuleId = usize;

pub struct Package {
    /// Their paths below `src`, with `/` on every system.
    pub files: Vec<String>,
    pub modules: Vec<Module>,
    /// The library's name in Rust and its root. Programs of the package name it as a crate.
    pub library: Option<(String, ModuleId)>,
}

pub struct Module {
    pub file: FileId,
    pub parent: Option<ModuleId>,
    pub root: ModuleId,
    /// Whether it, or a module around it, is there in tests only.
    pub only_tests: bool,
    /// Without the modules among them.
    pub items: Vec<Item>,
    pub scope: Scope,
}

impl Package {
    /// Reads the package whose library is called `name` and whose code is in `src`.
    pub fn read(name: &str, src: &Path) -> Result<Self, String> {
        let src = src.canonicalize().map_err(|error| format!("{}: {error}", src.display()))?;
        let mut on_disk = BTreeSet::new();
        list(&src, &mut on_disk)?;
        let package = Self { files: Vec::new(), modules: Vec::new(), library: None };
        let mut loader = Loader { src: &src, package, errors: Vec::new() };
        for root in roots(&src, &on_disk) {
            let id = loader.file(&root, None, false, true);
            if root == src.join("lib.rs") {
                loader.package.library = id.map(|id| (name.to_owned(), id));
            }
        }
        let Loader { package, mut errors, .. } = loader;
        let reached: BTreeSet<&str> = package.files.iter().map(String::as_str).collect();
        for path in &on_disk {
            let path = relative(&src, path)?;
            if !reached.contains(path.as_str()) {
                errors.push(format!("{path}: no `mod` line leads to this file"));
            }
        }
        if package.modules.is_empty() {
            errors.push(format!("{}: there is no lib.rs, main.rs or bin", src.display()));
        }
        if errors.is_empty() { Ok(package) } else { Err(errors.join("\n")) }
    }

    /// Whether `module` is `around` or inside it.
    pub fn is_inside(&self, module: ModuleId, around: ModuleId) -> bool {
        let mut at = Some(module);
        while let Some(module) = at {
            if module == around {
                return true;
            }
            at = self.modules[module].parent;
        }
        false
    }

    /// Who sees what a module declares with this visibility.
    pub fn seen(&self, module: ModuleId, visibility: &Visibility) -> Seen {
        match visibility {
            Visibility::Public(_) => None,
            Visibility::Inherited => Some(module),
            Visibility::Restricted(restricted) => {
                let mut at = module;
                for segment in &restricted.path.segments {
                    if segment.ident == "crate" {
                        at = self.modules[module].root;
                    } else if segment.ident == "super" {
                        at = self.modules[at].parent.unwrap_or(at);
                    } else if segment.ident != "self" {
                        let name = segment.ident.unraw().to_string();
                        let bound = self.modules[at].scope.names.get(&name);
                        let inner = bound.into_iter().flatten().find_map(|(binding, _)| {
                            if let Binding::Module(inner) = binding { Some(*inner) } else { None }
                        });
                        at = inner.unwrap_or(at);
                    }
                }
                Some(at)
            }
        }
    }
}

fn list(folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    let fail = |error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_dir() {
            list(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(path);
        }
    }
    Ok(())
}

fn roots(src: &Path, on_disk: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let bin = src.join("bin");
    let is_root = |path: &&PathBuf| {
        let (folder, name) = (path.parent(), path.file_name());
        let in_folder = folder.and_then(Path::parent) == Some(bin.as_path());
        path.as_path() == src.join("lib.rs")
            || path.as_path() == src.join("main.rs")
            || folder == Some(bin.as_path())
            || in_folder && name.is_some_and(|name| name == "main.rs")
    };
    on_disk.iter().filter(is_root).cloned().collect()
}

fn relative(src: &Path, path: &Path) -> Result<String, String> {
    let below = path.strip_prefix(src).map_err(|_| format!("{} is not in src", path.display()))?;
    let parts = below.components().map(|part| part.as_os_str().to_string_lossy());
    Ok(parts.collect::<Vec<_>>().join("/"))
}

struct Loader<'a> {
    src: &'a Path,
    package: Package,
    errors: Vec<String>,
}

/// Where the modules of a module are looked for.
struct Folders {
    /// What `#[path]` starts from.
    paths: PathBuf,
    children: PathBuf,
}

impl Loader<'_> {
    /// Reads a module that is a file. `owns` says that its folder is its own, as a `mod.rs`'s is.
    fn file(
        &mut self,
        path: &Path,
        parent: Option<ModuleId>,
        only_tests: bool,
        owns: bool,
    ) -> Option<ModuleId> {
        let read = || -> Result<_, String> {
            let fail = |error| format!("{}: {error}", path.display());
            let path = path.canonicalize().map_err(fail)?;
            let text = fs::read_to_string(&path).map_err(fail)?;
            let name = relative(self.src, &path)?;
            let file = syn::parse_file(&text)
                .map_err(|error| format!("{name}:{}: {error}", error.span().start().line))?;
            Ok((path, name, file))
        };
        let (path, name, syntax) = match read() {
            Ok(read) => read,
            Err(error) => {
                self.errors.push(error);
                return None;
            }
        };
        let file = self.package.files.iter().position(|known| *known == name);
        let file = file.unwrap_or_else(|| {
            self.package.files.push(name.clone());
            self.package.files.len() - 1
        });
        let mut around = parent;
        while let Some(module) = around {
            if self.package.modules[module].file == file {
                // An inline module of the same file is no circle: only files are read here.
                self.errors.push(format!("{name}: this file is a module inside itself"));
                return None;
            }
            around = self.package.modules[module].parent;
        }
        let folder = path.parent().unwrap_or(self.src).to_owned();
        let children = match path.file_stem() {
            Some(stem) if !owns => folder.join(stem),
            _ => folder.clone(),
        };
        let only_tests = only_tests || cfg::only_for_tests(&syntax.attrs);
        let folders = Folders { paths: folder, children };
        Some(self.module(file, parent, only_tests, syntax.items, &folders))
    }

    fn module(
        &mut self,
        file: FileId,
        parent: Option<ModuleId>,
        only_tests: bool,
        items: Vec<Item>,
        folders: &Folders,
    ) -> ModuleId {
        let id = self.package.modules.len();
        let root = parent.map_or(id, |parent| self.package.modules[parent].root);
        let (items, scope) = (items, Scope::default());
        let module = Module { file, parent, root, only_tests, items: Vec::new(), scope };
        self.package.modules.push(module);
        let mut others = Vec::new();
        for item in items {
            match item {
                Item::Mod(inner) => self.inner(id, inner, folders),
                item => others.push(item),
            }
        }
        let mut scope = std::mem::take(&mut self.package.modules[id].scope);
        for item in &others {
            scope.declare(item, file, &|visibility| self.package.seen(id, visibility));
        }
        let module = &mut self.package.modules[id];
        (module.scope, module.items) = (scope, others);
        id
    }

    fn inner(&mut self, outer: ModuleId, item: ItemMod, folders: &Folders) {
        let Module { file, only_tests, .. } = self.package.modules[outer];
        let only_tests = only_tests || cfg::only_for_tests(&item.attrs);
        let name = item.ident.unraw().to_string();
        let path = path_attribute(&item.attrs);
        let child = if let Some((_, items)) = item.content {
            let folder = match path {
                Some(path) => folders.paths.join(path),
                None => folders.children.join(&name),
            };
            let folders = Folders { paths: folder.clone(), children: folder };
            Some(self.module(file, Some(outer), only_tests, items, &folders))
        } else if let Some(path) = path {
            self.file(&folders.paths.join(path), Some(outer), only_tests, true)
        } else {
            let beside = folders.children.join(format!("{name}.rs"));
            let inside = folders.children.join(&name).join("mod.rs");
            match (beside.is_file(), inside.is_file()) {
                (true, false) => self.file(&beside, Some(outer), only_tests, false),
                (false, true) => self.file(&inside, Some(outer), only_tests, true),
                (found, _) => {
                    let line = item.ident.span().start().line;
                    let what = if found { "two files" } else { "no file" };
                    let from = &self.package.files[file];
                    self.errors.push(format!("{from}:{line}: module {name} has {what}"));
                    None
                }
            }
        };
        if let Some(child) = child {
            let seen = self.package.seen(outer, &item.vis);
            // Code outside tests cannot name what is only there in tests.
            if !only_tests {
                self.package.modules[outer].scope.bind(name, Binding::Module(child), seen);
            }
        }
    }
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}
