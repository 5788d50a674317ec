//! Where the item that a path names is defined. The search is Rust's: from the block outwards to
//! the module, or from `crate`, `self` and `super`, then down the modules and through re-exports.
//!
//! A path into another crate has no definition here. Where a module does not declare the name,
//! because a macro writes the item, the path ends at that module's file.

use crate::{
    scope::{Binding, Name, Scope, Space},
    tree::{FileId, ModuleId, Package},
};

/// What a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    Module(ModuleId),
    Item(FileId, Space),
}

impl Definition {
    pub fn meets(self, space: Space) -> bool {
        match self {
            Self::Module(_) => space.meets(Space::Type),
            Self::Item(_, own) => own.meets(space),
        }
    }
}

/// Where a path is written: a module, and the blocks around it from the outermost.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub module: ModuleId,
    pub blocks: &'a [Scope],
}

/// The `use` lines that are being followed. One that leads back to itself brings in nothing.
type Trail = Vec<*const Name>;

impl Package {
    /// The definitions of a path; several when it names, say, a function and a module.
    pub fn resolve(&self, place: Place<'_>, name: &Name) -> Vec<Definition> {
        self.follow(place, name, &mut Vec::new())
    }

    pub fn file_of(&self, definition: Definition) -> FileId {
        match definition {
            Definition::Module(module) => self.modules[module].file,
            Definition::Item(file, _) => file,
        }
    }

    fn follow(&self, place: Place<'_>, name: &Name, trail: &mut Trail) -> Vec<Definition> {
        let mut segments = name.segments.iter().map(String::as_str);
        let Some(first) = segments.next() else { return Vec::new() };
        let space = |last: bool| if last { Space::Any } else { Space::Type };
        let mut at = match first {
            _ if name.global => self.other_crate(first),
            "crate" => vec![Definition::Module(self.modules[place.module].root)],
            "self" => vec![Definition::Module(place.module)],
            "super" => self.above(place.module),
            "Self" => Vec::new(),
            _ => self.lexical(place, first, space(name.segments.len() == 1), trail),
        };
        while let Some(segment) = segments.next() {
            let wanted = space(segments.len() == 0);
            let mut next = Vec::new();
            for definition in at {
                match definition {
                    Definition::Module(module) if segment == "super" => {
                        next.extend(self.above(module));
                    }
                    Definition::Module(module) if segment == "self" => {
                        next.push(Definition::Module(module));
                    }
                    Definition::Module(module) => {
                        let inner = self.in_module(module, (segment, wanted), place.module, trail);
                        if inner.is_empty() {
                            next.push(Definition::Item(self.modules[module].file, Space::Any));
                        }
                        next.extend(inner);
                    }
                    // A variant, an associated item, or something in another crate.
                    Definition::Item(file, space) if space.meets(Space::Type) => {
                        next.push(Definition::Item(file, Space::Any));
                    }
                    Definition::Item(..) => {}
                }
            }
            at = next;
        }
        at
    }

    fn above(&self, module: ModuleId) -> Vec<Definition> {
        self.modules[module].parent.map(Definition::Module).into_iter().collect()
    }

    /// The package's library, for its programs.
    fn other_crate(&self, name: &str) -> Vec<Definition> {
        let library = self.library.as_ref().filter(|(library, _)| library == name);
        library.map(|(_, root)| Definition::Module(*root)).into_iter().collect()
    }

    fn lexical(
        &self,
        place: Place<'_>,
        name: &str,
        wanted: Space,
        trail: &mut Trail,
    ) -> Vec<Definition> {
        for (depth, block) in place.blocks.iter().enumerate().rev() {
            let here = Place { module: place.module, blocks: &place.blocks[..=depth] };
            let found = self.in_scope(block, here, (name, wanted), place.module, trail);
            if !found.is_empty() {
                return found;
            }
        }
        let found = self.in_module(place.module, (name, wanted), place.module, trail);
        if found.is_empty() { self.other_crate(name) } else { found }
    }

    fn in_module(
        &self,
        module: ModuleId,
        name: (&str, Space),
        from: ModuleId,
        trail: &mut Trail,
    ) -> Vec<Definition> {
        let here = Place { module, blocks: &[] };
        self.in_scope(&self.modules[module].scope, here, name, from, trail)
    }

    /// What a name in a namespace means in a scope to a module `from` that looks into it.
    fn in_scope(
        &self,
        scope: &Scope,
        here: Place<'_>,
        name: (&str, Space),
        from: ModuleId,
        trail: &mut Trail,
    ) -> Vec<Definition> {
        let mut found = Vec::new();
        for (binding, seen) in scope.names.get(name.0).into_iter().flatten() {
            if seen.is_some_and(|around| !self.is_inside(from, around)) {
                continue;
            }
            match binding {
                Binding::Module(module) => found.push(Definition::Module(*module)),
                Binding::Item(file, space) => found.push(Definition::Item(*file, *space)),
                Binding::Use(path) => {
                    let Some(target) = self.through(here, path, trail) else { continue };
                    if target.is_empty() {
                        // Of another crate: this file is where it comes from.
                        let file = self.modules[here.module].file;
                        found.push(Definition::Item(file, Space::Any));
                    }
                    found.extend(target);
                }
            }
        }
        found.retain(|definition| definition.meets(name.1));
        if !found.is_empty() {
            return found;
        }
        // What is declared hides what a glob brings.
        for (path, seen) in &scope.globs {
            if seen.is_some_and(|around| !self.is_inside(from, around)) {
                continue;
            }
            for target in self.through(here, path, trail).into_iter().flatten() {
                if let Definition::Module(module) = target
                    && !trail.contains(&std::ptr::from_ref(path))
                {
                    trail.push(path);
                    found.extend(self.in_module(module, name, here.module, trail));
                    trail.pop();
                }
            }
        }
        found
    }

    /// Follows a `use` line, unless it is being followed already.
    fn through(&self, here: Place<'_>, path: &Name, trail: &mut Trail) -> Option<Vec<Definition>> {
        if trail.contains(&std::ptr::from_ref(path)) {
            return None;
        }
        trail.push(path);
        let found = self.follow(here, path, trail);
        trail.pop();
        Some(found)
    }
}
