//! The modules of one crate, and which of them names which: read from its sources, without a
//! compiler.
//!
//! Code that is compiled for tests alone is left out: a test may look at whatever it tests.
//! Re-exports are followed to the module that has the item, so an arrow can't hide behind one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Names from the crate's root down; the root's own is empty.
pub(crate) type Name = Vec<String>;

/// A path that stands in a module's source.
#[derive(Debug)]
struct Mention {
    segments: Vec<String>,
    line: usize,
}

#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    mentions: Vec<Mention>,
    /// What it re-exports, by the name it has here.
    exports: HashMap<String, Vec<String>>,
    /// Modules that it re-exports everything of.
    globs: Vec<Vec<String>>,
}

/// One module names something of another one.
#[derive(Clone, Debug)]
pub(crate) struct Arrow {
    pub(crate) from: Name,
    /// Its crate is another one if this is given.
    pub(crate) other_crate: Option<String>,
    pub(crate) to: Name,
    pub(crate) place: String,
}

#[derive(Debug, Default)]
pub(crate) struct Crate {
    modules: BTreeMap<Name, Module>,
    pub(crate) n_reexports: usize,
}

impl Crate {
    /// Reads the crate whose root is `src/lib.rs` or `src/main.rs` in `folder`.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut read = Self::default();
        let source = folder.join("src");
        let root = if source.join("lib.rs").exists() {
            "lib.rs"
        } else {
            "main.rs"
        };
        read.read_file(Vec::new(), source.join(root), &source);
        read
    }

    fn read_file(&mut self, name: Name, file: PathBuf, folder: &Path) {
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let tokens: TokenStream = text
            .parse()
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        self.modules.insert(
            name.clone(),
            Module {
                file,
                ..Module::default()
            },
        );
        self.read_items(&name, tokens, folder);
    }

    /// `folder`: where files of this module's children are.
    fn read_items(&mut self, name: &Name, tokens: TokenStream, folder: &Path) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let (mut at, mut is_public, mut is_for_tests) = (0, false, false);
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(mark) if mark.as_char() == '#' => {
                    let attribute = tokens
                        .get(at + 1)
                        .map(ToString::to_string)
                        .unwrap_or_default();
                    is_for_tests |= is_of_tests(&attribute);
                    at += 2;
                }
                _ if is_for_tests => {
                    at = end_of_item(&tokens, at);
                    (is_public, is_for_tests) = (false, false);
                }
                TokenTree::Ident(word) if word == "pub" => {
                    is_public = true;
                    at += 1;
                }
                TokenTree::Ident(word) if word == "use" => {
                    let end = end_of_item(&tokens, at);
                    self.read_use(name, &tokens[at + 1..end], is_public);
                    (at, is_public) = (end, false);
                }
                TokenTree::Ident(word) if word == "mod" && at + 2 < tokens.len() => {
                    self.read_module(name, &tokens[at + 1].to_string(), &tokens[at + 2], folder);
                    (at, is_public) = (at + 3, false);
                }
                TokenTree::Group(group) => {
                    is_public &= group.delimiter() == Delimiter::Parenthesis;
                    self.read_items(name, group.stream(), folder);
                    at += 1;
                }
                TokenTree::Ident(word) => {
                    let line = word.span().start().line;
                    let is_field = at > 0 && is_mark(&tokens[at - 1], &['.']);
                    let (segments, end) = path_at(&tokens, at);
                    if segments.len() > 1 && !is_field {
                        self.mention(name, segments, line);
                    }
                    (at, is_public) = (end, false);
                }
                _ => at += 1,
            }
        }
    }

    fn read_module(&mut self, parent: &Name, child: &str, body: &TokenTree, folder: &Path) {
        let name: Name = parent.iter().cloned().chain([child.to_owned()]).collect();
        let inside = folder.join(child);
        if let TokenTree::Group(group) = body {
            let file = self.modules[parent].file.clone();
            self.modules.insert(
                name.clone(),
                Module {
                    file,
                    ..Module::default()
                },
            );
            return self.read_items(&name, group.stream(), &inside);
        }
        let files = [folder.join(format!("{child}.rs")), inside.join("mod.rs")];
        let file = files.iter().find(|file| file.exists());
        self.read_file(
            name,
            file.unwrap_or_else(|| panic!("no file of module {child}: {files:?}"))
                .clone(),
            &inside,
        );
    }

    fn mention(&mut self, name: &Name, segments: Vec<String>, line: usize) {
        self.modules
            .get_mut(name)
            .expect("a module")
            .mentions
            .push(Mention { segments, line });
    }

    /// A `use`, as far as its semicolon.
    fn read_use(&mut self, name: &Name, tokens: &[TokenTree], is_public: bool) {
        let line = tokens.first().map_or(0, |token| token.span().start().line);
        let mut paths = Vec::new();
        use_paths(&[], tokens, &mut paths);
        for (path, as_name) in paths {
            if is_public {
                self.n_reexports += 1;
                let module = self.modules.get_mut(name).expect("a module");
                match as_name {
                    Some(as_name) => drop(module.exports.insert(as_name, path.clone())),
                    None => module.globs.push(path.clone()),
                }
            }
            self.mention(name, path, line);
        }
    }

    /// All arrows of the crate that leave a module, and those to the crates named.
    pub(crate) fn arrows(&self, crates: &[&str]) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (from, module) in &self.modules {
            for mention in &module.mentions {
                let place = format!("{}:{}", module.file.display(), mention.line);
                let first = mention.segments[0].as_str();
                if crates.contains(&first) && !self.has_child(from, first) {
                    let to = mention.segments[1..].to_vec();
                    arrows.push(Arrow {
                        from: from.clone(),
                        other_crate: Some(first.to_owned()),
                        to,
                        place,
                    });
                } else if let Some(to) = self.resolve(from, &mention.segments, &mut HashSet::new())
                    && to != *from
                {
                    arrows.push(Arrow {
                        from: from.clone(),
                        other_crate: None,
                        to,
                        place,
                    });
                }
            }
        }
        arrows
    }

    fn has_child(&self, name: &Name, child: &str) -> bool {
        let child: Name = name.iter().cloned().chain([child.to_owned()]).collect();
        self.modules.contains_key(&child)
    }

    /// The module that has what the path names, as seen from `from`; none: it is not this crate's.
    fn resolve(
        &self,
        from: &Name,
        path: &[String],
        seen: &mut HashSet<(Name, String)>,
    ) -> Option<Name> {
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (parent(from)?, &path[1..]),
            child if self.has_child(from, child) => (from.clone(), path),
            _ => return None,
        };
        while let [segment, following @ ..] = rest {
            if segment == "super" {
                at = parent(&at)?;
            } else if self.has_child(&at, segment) {
                at.push(segment.clone());
            } else {
                return Some(self.export(&at, segment, seen).unwrap_or(at));
            }
            rest = following;
        }
        Some(at)
    }

    /// Where an item comes from that module `at` re-exports.
    fn export(&self, at: &Name, item: &str, seen: &mut HashSet<(Name, String)>) -> Option<Name> {
        if !seen.insert((at.clone(), item.to_owned())) {
            return None;
        }
        let module = self.modules.get(at)?;
        if let Some(path) = module.exports.get(item) {
            return self.resolve(at, path, seen);
        }
        module.globs.iter().find_map(|glob| {
            let within = self.resolve(at, glob, seen)?;
            self.export(&within, item, seen)
        })
    }
}

pub(crate) fn parent(name: &Name) -> Option<Name> {
    Some(name.split_last()?.1.to_vec())
}

/// Whether an attribute keeps its item out of the product.
fn is_of_tests(attribute: &str) -> bool {
    let text: String = attribute.chars().filter(|c| !c.is_whitespace()).collect();
    text.starts_with("[cfg(test)") || text.starts_with("[cfg(all(test") || text == "[test]"
}

/// The place behind the item's semicolon or its last brace.
fn end_of_item(tokens: &[TokenTree], from: usize) -> usize {
    let is_end = |token: &TokenTree| match token {
        TokenTree::Punct(mark) => matches!(mark.as_char(), ';' | ','),
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let is_use = matches!(&tokens[from], TokenTree::Ident(word) if word == "use");
    let is_semicolon =
        |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ';');
    let end = tokens[from..].iter().position(|token| {
        if is_use {
            is_semicolon(token)
        } else {
            is_end(token)
        }
    });
    end.map_or(tokens.len(), |n| from + n + 1)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon =
        |at| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
    is_colon(at) && is_colon(at + 1)
}

/// The names joined by `::` from the word at `at` on, and the place behind them.
fn path_at(tokens: &[TokenTree], mut at: usize) -> (Vec<String>, usize) {
    let mut segments = Vec::new();
    while let Some(TokenTree::Ident(word)) = tokens.get(at) {
        segments.push(word.to_string());
        at += 1;
        if !is_colons(tokens, at) || !matches!(tokens.get(at + 2), Some(TokenTree::Ident(_))) {
            break;
        }
        at += 2;
    }
    (segments, at)
}

/// Whether a token is one of these marks.
fn is_mark(token: &TokenTree, marks: &[char]) -> bool {
    matches!(token, TokenTree::Punct(mark) if marks.contains(&mark.as_char()))
}

/// All paths of a tree of `use`, with the name that each has from now on; none: all names of it.
fn use_paths(
    prefix: &[String],
    tokens: &[TokenTree],
    paths: &mut Vec<(Vec<String>, Option<String>)>,
) {
    for part in tokens.split(|token| is_mark(token, &[',', ';'])) {
        if part.is_empty() {
            continue;
        }
        let mut path = prefix.to_vec();
        let (segments, mut at) = path_at(part, 0);
        path.extend(segments);
        at += if is_colons(part, at) { 2 } else { 0 };
        match part.get(at) {
            Some(TokenTree::Group(group)) => {
                use_paths(
                    &path,
                    &group.stream().into_iter().collect::<Vec<_>>(),
                    paths,
                );
            }
            Some(TokenTree::Punct(mark)) if mark.as_char() == '*' => paths.push((path, None)),
            Some(TokenTree::Ident(word)) if word == "as" => {
                let name = part.get(at + 1).map(ToString::to_string);
                paths.push((path, Some(name.unwrap_or_default())));
            }
            _ => {
                if path.last().is_some_and(|last| last == "self") {
                    path.pop();
                }
                // Empty: `use<..>` of a bound.
                if let Some(name) = path.last().cloned() {
                    paths.push((path, Some(name)));
                }
            }
        }
    }
}
