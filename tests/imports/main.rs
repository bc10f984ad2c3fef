//! Who imports whom: no circle among the modules of a crate, and no arrow against the table.
//!
//! `IMPORTS_OF=FOLDER` looks at another checkout and says what is there, whether it is right or
//! not.

mod graph;
mod modules;
mod table;

use std::path::{Path, PathBuf};

use graph::{circles, siblings};
use modules::Crate;
use table::{BEFORE_ROOMS, CRATES, ROOMS};

/// What is wrong with one crate's imports, a line each.
fn faults(folder: &Path, name: &str) -> Vec<String> {
    let names: Vec<_> = CRATES.iter().map(|(_, name, _)| *name).collect();
    let read = Crate::read(folder);
    let arrows = read.arrows(&names);
    println!(
        "{name}: {} arrows, {} re-exports followed",
        arrows.len(),
        read.n_reexports
    );
    let mut faults = Vec::new();
    for (parent, among) in siblings(&arrows) {
        for circle in circles(&among) {
            let within =
                |(from, to): &&(String, String)| circle.contains(from) && circle.contains(to);
            let places: Vec<_> = among
                .keys()
                .filter(within)
                .map(|arrow| format!("{} → {} ({})", arrow.0, arrow.1, among[arrow]))
                .collect();
            faults.push(format!(
                "{name}::{}: a circle: {}",
                parent.join("::"),
                places.join(", ")
            ));
        }
    }
    let (_, _, others) = CRATES
        .iter()
        .find(|(_, known, _)| *known == name)
        .expect("a crate of the table");
    for arrow in &arrows {
        let from = arrow.from.first().map_or("", String::as_str);
        let (is_allowed, to) = match &arrow.other_crate {
            Some(other) => (
                other == name || others.contains(&other.as_str()),
                other.clone(),
            ),
            None => {
                let to = arrow.to.first().map_or("", String::as_str);
                (
                    from == to || may_import(name, from, to),
                    format!("{name}::{to}"),
                )
            }
        };
        if !is_allowed {
            faults.push(format!(
                "{name}::{from} imports {to}, which the table does not allow ({})",
                arrow.place
            ));
        }
    }
    faults
}

/// The root may import all of its rooms, and nobody the root.
fn may_import(name: &str, from: &str, to: &str) -> bool {
    let Some((_, rooms)) = ROOMS.iter().find(|(known, _)| *known == name) else {
        return true;
    };
    let (from, to) = (room_now(name, from), room_now(name, to));
    from.is_empty()
        || from == to
        || rooms.iter().any(|(room, others)| {
            *room == from && others.split_whitespace().any(|other| other == to)
        })
}

fn room_now<'m>(name: &str, module: &'m str) -> &'m str {
    BEFORE_ROOMS
        .iter()
        .find(|(before, _)| name == "weir" && *before == module)
        .map_or(module, |(_, now)| now)
}

#[test]
fn files_of_rooms_say_what_is_in_them_and_no_more() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = CRATES.iter().map(|(folder, ..)| *folder);
    let mut found = Vec::new();
    for folder in folders.chain(["benches", "tests/guest", "tests/rig"]) {
        for entry in walk(&root.join(folder)) {
            let text = std::fs::read_to_string(&entry).expect("a file");
            found.push((text.lines().count(), entry));
        }
    }
    assert!(found.len() > 20, "{} mod.rs files", found.len());
    let long: Vec<_> = found.iter().filter(|(n, _)| *n > 60).collect();
    assert!(long.is_empty(), "over 60 lines: {long:?}");
}

/// All `mod.rs` files under a folder, but for what was built.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(walk(&path));
        } else if path.ends_with("mod.rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn imports_have_no_circle_and_follow_the_table() {
    let other = std::env::var_os("IMPORTS_OF").map(PathBuf::from);
    let root = other
        .clone()
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let faults: Vec<_> = CRATES
        .iter()
        .flat_map(|(folder, name, _)| faults(&root.join(folder), name))
        .collect();
    for fault in &faults {
        println!("{fault}");
    }
    let n = faults.len();
    assert!(
        other.is_some() || n == 0,
        "{n} imports are wrong; see above"
    );
}

/// A crate of these files, by the name of one in the table.
fn faults_of(name: &str, files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (file, text) in files {
        let path = folder.path().join("src").join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    faults(folder.path(), name)
}

#[test]
fn circle_is_found_behind_a_reexport_and_in_a_path_within_code() {
    let root = (
        "lib.rs",
        "mod a; mod b; pub(crate) use b::deep::Item as Thing;",
    );
    let b = [
        ("b/mod.rs", "pub(crate) mod deep;"),
        (
            "b/deep.rs",
            "pub(crate) struct Item; fn f() { crate::a::g(); }",
        ),
    ];
    let through_code = (
        "a.rs",
        "pub(crate) fn g() { let _: Option<crate::Thing> = None; }",
    );
    let through_tree = (
        "a.rs",
        "use crate::{Thing, other::{self, X}}; pub(crate) fn g() {}",
    );
    for a in [through_code, through_tree] {
        let faults = faults_of("config", &[root, a, b[0], b[1]]);
        assert!(
            matches!(&faults[..], [one] if one.contains("a → b") && one.contains("b → a")),
            "{faults:?}"
        );
    }
    let one_way = ("a.rs", "pub(crate) fn g() {}");
    assert_eq!(
        faults_of("config", &[root, one_way, b[0], b[1]]),
        Vec::<String>::new()
    );
    // What tests alone import, and what stands in text and comments, is no arrow.
    let tests = "#[cfg(test)] mod tests { use crate::Thing; } #[test] fn t() { crate::Thing; } ";
    let text = "/// [`crate::Thing`]\npub(crate) fn g() { \"crate::Thing\"; }";
    assert_eq!(
        faults_of(
            "config",
            &[root, ("a.rs", &format!("{tests}{text}")), b[0], b[1]]
        ),
        Vec::<String>::new()
    );
}

#[test]
fn arrow_against_the_table_is_found_among_rooms_and_among_crates() {
    let root = ("lib.rs", "mod wire; mod rules; mod stray;");
    let rules = ("rules.rs", "use super::wire::Header;");
    let faults = faults_of(
        "flowtable",
        &[
            root,
            rules,
            ("wire.rs", "pub(crate) struct Header;"),
            ("stray.rs", ""),
        ],
    );
    assert_eq!(faults, Vec::<String>::new());
    let wire = ("wire.rs", "use pmd::Core; use crate::stray::X;");
    let faults = faults_of(
        "flowtable",
        &[
            root,
            ("rules.rs", ""),
            wire,
            ("stray.rs", "use super::rules::Policy;"),
        ],
    );
    let wanted = [
        "wire imports pmd",
        "wire imports flowtable::stray",
        "stray imports flowtable::rules",
    ];
    assert!(
        wanted
            .iter()
            .all(|part| faults.iter().any(|fault| fault.contains(part))),
        "{faults:?}"
    );
}
