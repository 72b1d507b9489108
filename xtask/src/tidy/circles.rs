//! Circles of files: files that import items of each other, directly or through others. A parent's `mod` lines and
//! re-exports are not imports, and neither is what only tests use.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::file::{Complaint, File};

/// One complaint for each circle of files in `files`.
pub fn check(files: &[File]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let roots: BTreeSet<&str> = files.iter().filter_map(|file| source_folder(&file.path)).collect();
    for root in roots {
        let inside = |file: &&File| file.path.starts_with(root) && file.path.ends_with(".rs");
        let sources: Vec<(&str, &str)> =
            files.iter().filter(inside).filter_map(|file| Some((&*file.path, file.text.as_deref()?))).collect();
        let house = House::read(root, &sources);
        complaints.extend(house.circles().into_iter().map(|circle| house.complaint(&circle)));
    }
    complaints
}

/// The folder of a crate's sources, for the root file of its library or program.
fn source_folder(path: &str) -> Option<&str> {
    ["lib.rs", "main.rs"].iter().find_map(|file| path.strip_suffix(file)).filter(|folder| folder.ends_with("src/"))
}

/// Module names from the crate's root.
type ModulePath = Vec<String>;

/// A file of a crate.
#[derive(Default)]
struct Module {
    file: String,
    /// Names that the file re-exports, and what they stand for.
    exports: BTreeMap<String, ModulePath>,
    /// Modules that it re-exports whole.
    globs: Vec<ModulePath>,
    /// Names that the file defines.
    defined: BTreeSet<String>,
    /// Absolute paths of items that its code names.
    named: BTreeSet<ModulePath>,
    /// Child modules that are files for tests alone.
    tests: BTreeSet<String>,
}

/// The files of a crate by module path.
struct House {
    modules: BTreeMap<ModulePath, Module>,
}

impl House {
    fn read(root: &str, sources: &[(&str, &str)]) -> Self {
        let is_library = sources.iter().any(|(file, _)| file[root.len()..] == *"lib.rs");
        let top = if is_library { "lib" } else { "main" };
        let mut modules: BTreeMap<ModulePath, Module> = sources
            .iter()
            .map(|&(file, text)| {
                let path = module_path(&file[root.len()..], top);
                let module = syn::parse_file(text).map(|parsed| Reader::read(&path, &parsed));
                (path, Module { file: file.to_owned(), ..module.unwrap_or_default() })
            })
            .collect();
        let tests: BTreeSet<ModulePath> = modules
            .iter()
            .flat_map(|(path, module)| module.tests.iter().map(|name| [&path[..], std::slice::from_ref(name)].concat()))
            .collect();
        modules.retain(|path, _| !(1..=path.len()).any(|end| tests.contains(&path[..end])));
        House { modules }
    }

    /// The module whose file defines the item at an absolute path; `None` for a module itself and for items that no file defines.
    fn home(&self, path: &[String], depth: usize) -> Option<&ModulePath> {
        let (mut at, mut rest) = (self.modules.get_key_value(&[][..])?.0, path);
        while let Some((first, after)) = rest.split_first() {
            let child = [&at[..], std::slice::from_ref(first)].concat();
            match self.modules.get_key_value(&child) {
                Some((child, _)) => (at, rest) = (child, after),
                None => break,
            }
        }
        let name = rest.first()?;
        let module = &self.modules[at];
        if depth == 0 || module.defined.contains(name) {
            return Some(at);
        }
        if let Some(target) = module.exports.get(name) {
            return self.home(&[target, &rest[1..]].concat(), depth - 1);
        }
        let globs = module.globs.iter().filter_map(|glob| self.home(&[glob, rest].concat(), depth - 1));
        globs.into_iter().find(|home| self.modules[*home].defined.contains(name))
    }

    /// Imports of a module: module and name.
    fn imports(&self, path: &ModulePath) -> BTreeMap<&ModulePath, BTreeSet<&str>> {
        let mut imports: BTreeMap<&ModulePath, BTreeSet<&str>> = BTreeMap::new();
        for named in &self.modules[path].named {
            if let Some(home) = self.home(named, 8).filter(|home| *home != path) {
                imports.entry(home).or_default().insert(named.last().map_or("", String::as_str));
            }
        }
        imports
    }

    /// Sets of modules that reach each other (Tarjan's strongly connected components, by plain reachability: crates are small).
    fn circles(&self) -> Vec<Vec<&ModulePath>> {
        let arrows: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> =
            self.modules.keys().map(|path| (path, self.imports(path).into_keys().collect())).collect();
        let reached: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> = arrows
            .keys()
            .map(|start| {
                let (mut seen, mut open) = (BTreeSet::new(), vec![*start]);
                while let Some(next) = open.pop() {
                    open.extend(arrows[next].iter().filter(|to| seen.insert(**to)));
                }
                (*start, seen)
            })
            .collect();
        let mut circles: Vec<Vec<&ModulePath>> = Vec::new();
        for (path, beyond) in &reached {
            if !beyond.contains(path) || circles.iter().any(|circle| circle.contains(path)) {
                continue;
            }
            circles.push(beyond.iter().copied().filter(|other| reached[other].contains(path)).collect());
        }
        circles
    }

    fn complaint(&self, circle: &[&ModulePath]) -> Complaint {
        let mut message = format!("a circle of {} files; let one of them know less:", circle.len());
        for path in circle {
            for (to, names) in self.imports(path).into_iter().filter(|(to, _)| circle.contains(to)) {
                let names: Vec<&str> = names.into_iter().collect();
                let (from, to) = (&self.modules[*path].file, &self.modules[to].file);
                message.push_str(&format!("\n    {from} takes {} from {to}", names.join(", ")));
            }
        }
        Complaint { path: self.modules[circle[0]].file.clone(), line: None, message }
    }
}

/// `a/b.rs` and `a/b/mod.rs` -> `[a, b]`; nothing for the crate's root, `top`.
fn module_path(file: &str, top: &str) -> ModulePath {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == top { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Collects what a file names.
struct Reader {
    module: Module,
    /// The module path of the file, then of inline modules.
    at: ModulePath,
    /// Names that `use` brings into the file, and what they stand for.
    local: BTreeMap<String, ModulePath>,
    children: BTreeSet<String>,
    /// Paths as written, with the module they stand in.
    paths: Vec<(ModulePath, ModulePath)>,
}

impl Reader {
    fn read(path: &ModulePath, file: &syn::File) -> Module {
        let mut reader = Reader {
            module: Module::default(),
            at: path.clone(),
            local: BTreeMap::new(),
            children: BTreeSet::new(),
            paths: Vec::new(),
        };
        for item in &file.items {
            reader.declare(item);
        }
        reader.visit_file(file);
        for (at, written) in std::mem::take(&mut reader.paths) {
            if let Some(absolute) = reader.absolute(&at, &written) {
                reader.module.named.insert(absolute);
            }
        }
        reader.module
    }

    fn declare(&mut self, item: &syn::Item) {
        use syn::Item;
        let name = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::TraitAlias(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Union(item) => &item.ident,
            Item::Mod(item) => {
                let name = item.ident.to_string();
                if item.content.is_some() {
                    self.module.defined.insert(name);
                } else if is_test(&item.attrs) {
                    self.module.tests.insert(name);
                } else {
                    self.children.insert(name);
                }
                return;
            }
            Item::Macro(item) => match &item.ident {
                Some(name) => name,
                None => return,
            },
            _ => return,
        };
        self.module.defined.insert(name.to_string());
    }

    /// A path as written in module `at` from the crate's root; `None` where it leads out of the crate or is a local name.
    fn absolute(&self, at: &[String], written: &[String]) -> Option<ModulePath> {
        let (first, rest) = written.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" if !rest.is_empty() => Some([at, rest].concat()),
            "super" => {
                let (mut base, mut rest) = (at.split_last()?.1, rest);
                while let Some((first, after)) = rest.split_first().filter(|(first, _)| *first == "super") {
                    let _ = first;
                    (base, rest) = (base.split_last()?.1, after);
                }
                Some([base, rest].concat())
            }
            name => match self.local.get(name) {
                Some(target) => Some([target, rest].concat()),
                None if self.children.contains(name) && !rest.is_empty() => Some([at, written].concat()),
                None => None,
            },
        }
    }

    fn import(&mut self, tree: &syn::UseTree, before: &mut ModulePath, public: bool) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import(&path.tree, before, public);
                before.pop();
            }
            syn::UseTree::Name(name) => self.bring(&name.ident, &name.ident, before, public),
            syn::UseTree::Rename(rename) => self.bring(&rename.ident, &rename.rename, before, public),
            syn::UseTree::Glob(_) => {
                let whole = self.absolute(&self.at, before);
                if let (true, Some(whole)) = (public, whole) {
                    self.module.globs.push(whole);
                }
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, before, public));
            }
        }
    }

    fn bring(&mut self, name: &syn::Ident, local: &syn::Ident, before: &[String], public: bool) {
        let itself = name == "self";
        let written = if itself { before.to_vec() } else { [before, &[name.to_string()]].concat() };
        // A child module's item, by its bare name.
        let absolute = self.absolute(&self.at, &written);
        let Some(absolute) = absolute else { return };
        let local = if itself { before.last().cloned().unwrap_or_default() } else { local.to_string() };
        if public {
            self.module.exports.insert(local.clone(), absolute.clone());
        } else {
            self.module.named.insert(absolute.clone());
        }
        self.local.insert(local, absolute);
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.finish(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.finish(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.finish(&mut path);
    }

    fn finish(&mut self, path: &mut Vec<String>) {
        if !path.is_empty() {
            self.paths.push((self.at.clone(), std::mem::take(path)));
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.at.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.at.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let public = !matches!(item.vis, syn::Visibility::Inherited);
        self.import(&item.tree, &mut Vec::new(), public);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.paths.push((self.at.clone(), segments));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item;
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[cfg(test)]`, or `test` and something else.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    let names_test = |attribute: &syn::Attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string();
        let all = condition.strip_prefix("all").unwrap_or(&condition);
        list.path.is_ident("cfg")
            && all.split(['(', ',', ')']).any(|part| part.trim() == "test")
            && !all.starts_with("any")
    };
    attributes.iter().any(names_test)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(sources: &[(&str, &str)]) -> Vec<Vec<String>> {
        let house = House::read("a/src/", sources);
        house.circles().iter().map(|circle| circle.iter().map(|path| path.join("::")).collect()).collect()
    }

    #[test]
    fn files_that_import_each_other_are_a_circle() {
        let lib = ("a/src/lib.rs", "mod b; mod c; mod d; pub use b::B;");
        let found = circles(&[
            lib,
            ("a/src/b.rs", "use crate::c::C; pub struct B;"),
            ("a/src/c.rs", "pub struct C; fn f() { vec![crate::d::D] }"),
            // Through the parent's re-export.
            ("a/src/d.rs", "use crate::B; pub struct D;"),
        ]);
        assert_eq!(found, [["b", "c", "d"]]);
    }

    #[test]
    fn a_program_has_circles_too_and_code_for_other_crates_tests_is_code() {
        let found = circles(&[
            ("a/src/main.rs", "mod b; #[cfg(any(test, feature = \"testing\"))] mod c;"),
            ("a/src/b.rs", "use crate::c::C; pub struct B;"),
            ("a/src/c.rs", "use crate::b::B; pub struct C;"),
        ]);
        assert_eq!(found, [["b", "c"]]);
    }

    #[test]
    fn modules_reexports_and_tests_are_no_imports() {
        let found = circles(&[
            ("a/src/lib.rs", "mod b; mod c; pub use c::C; #[cfg(test)] mod tests;"),
            ("a/src/tests.rs", "use crate::c::C; pub struct T;"),
            ("a/src/b.rs", "use crate::c::C; pub struct B; #[cfg(test)] mod tests { use super::B; }"),
            ("a/src/c.rs", "pub struct C; #[cfg(test)] use crate::b::B; #[cfg(test)] mod tests { use crate::b::B; }"),
        ]);
        assert_eq!(found, [[""; 0]; 0]);
    }

    #[test]
    fn a_parent_that_uses_its_child_is_in_a_circle_with_it() {
        let child = ("a/src/b.rs", "use super::P; pub fn f() {}");
        for body in ["b::f()", "vec![b::f()]", "g()"] {
            let text = format!("mod b; pub use b::f as g; pub struct P; fn h() {{ {body} }}");
            assert_eq!(circles(&[("a/src/lib.rs", &text), child]), [["", "b"]], "{body}");
        }
        assert_eq!(circles(&[("a/src/lib.rs", "mod b; pub use b::f; pub struct P;"), child]), [[""; 0]; 0]);
    }
}
