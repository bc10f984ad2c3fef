//! Topologies of several files.

use std::fs;
use std::path::{Path, PathBuf};

use config::{Report, Topology, load};
use tempfile::TempDir;

/// A folder with a topology in it.
struct Folder(TempDir);

impl Folder {
    /// `main` becomes `weir.yaml`, beside `files`.
    fn new(main: &str, files: &[(&str, &str)]) -> Self {
        let folder = Self(TempDir::new().unwrap());
        folder.write("weir.yaml", main.as_bytes());
        for (name, text) in files {
            folder.write(name, text.as_bytes());
        }
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self) -> Result<Topology, Report> {
        load(&self.path("weir.yaml"))
    }

    fn names(&self) -> Vec<String> {
        let topology = self.load().unwrap_or_else(|report| panic!("{report}"));
        topology.vms.into_iter().map(|vm| vm.name).collect()
    }

    /// File (relative to the folder), line, column and message of all that is wrong.
    fn found(&self) -> Vec<(String, usize, usize, String)> {
        let report = self.load().map(|_| ()).unwrap_err();
        let relative = |file: &str| {
            Path::new(file)
                .strip_prefix(self.0.path())
                .unwrap()
                .display()
                .to_string()
        };
        report
            .diagnostics()
            .iter()
            .map(|d| {
                (
                    relative(d.file()),
                    d.line(),
                    d.column(),
                    d.message().to_owned(),
                )
            })
            .collect()
    }

    fn assert_found(&self, expected: &[(&str, usize, usize, &str)]) {
        let found = self.found();
        let fits = |f: &(String, usize, usize, String), e: &(&str, usize, usize, &str)| {
            (f.0.as_str(), f.1, f.2) == (e.0, e.1, e.2) && f.3.contains(e.3)
        };
        let all_fit =
            found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| fits(f, e));
        assert!(all_fit, "expected {expected:#?}\nfound {found:#?}");
    }
}

const MAIN: &str = "cores: [0]\nnetworks: { blue: {} }\ninclude: [ \"vms.d/*.yaml\" ]\n";

fn vm(name: &str) -> String {
    format!(
        "vms:\n  {name}:\n    nics:\n      n: {{ network: blue, vhost-user: {{ path: \
        /run/{name}.sock }} }}\n"
    )
}

#[test]
fn vms_of_included_files_follow_in_the_order_of_paths() {
    let main = format!("{MAIN}{}", vm("z"));
    let folder = Folder::new(
        &main,
        &[
            ("vms.d/b.yaml", &vm("b")),
            ("vms.d/a.yaml", &vm("a")),
            ("vms.d/c.txt", "not ours"),
        ],
    );
    assert_eq!(folder.names(), ["z", "a", "b"]);
}

#[test]
fn glob_that_matches_nothing_is_no_mistake() {
    assert_eq!(Folder::new(MAIN, &[]).names(), [""; 0]);
}

/// Else a daemon would take all VMs in it for removed.
#[test]
fn folder_that_cannot_be_read_is_a_mistake() {
    let main = "cores: [1]\ninclude: [\"vms.d/*.yaml\"]\n";
    for make in [
        // Leads nowhere, and is there.
        |path: &Path| std::os::unix::fs::symlink("vms.d", path).unwrap(),
        |path: &Path| std::os::unix::fs::symlink("x".repeat(300), path).unwrap(),
    ] {
        let folder = Folder::new(main, &[]);
        make(&folder.path("vms.d"));
        let found = folder.found();
        let (file, line, column, message) = &found[0];
        assert_eq!((file.as_str(), *line, *column), ("weir.yaml", 2, 11));
        assert!(message.contains("can't be read"), "{message}");
    }
    // Nor a file, in which there are no files.
    let folder = Folder::new(main, &[("vms.d", "")]);
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn file_that_is_named_must_be_there() {
    let main = MAIN.replace("vms.d/*.yaml", "web.yaml");
    Folder::new(&main, &[]).assert_found(&[("weir.yaml", 3, 12, "can't be read: No such file")]);
    assert_eq!(
        Folder::new(&main, &[("web.yaml", &vm("web"))]).names(),
        ["web"]
    );
}

#[test]
fn file_that_two_globs_match_is_read_once() {
    let main = MAIN.replace("[ ", "[ vms.d/a.yaml, \"vms.d/../vms.d/[ab].yaml\", ");
    assert_eq!(
        Folder::new(&main, &[("vms.d/a.yaml", &vm("a"))]).names(),
        ["a"]
    );
}

#[test]
fn absolute_globs_and_folders_with_brackets_work() {
    let folder = Folder::new(
        "",
        &[("a[1]/vms.d/a.yaml", &vm("a")), ("a[1]/weir.yaml", MAIN)],
    );
    assert_eq!(load(&folder.path("a[1]/weir.yaml")).unwrap().vms.len(), 1);
    let main = MAIN.replace("vms.d", folder.path("a?1?/vms.d").to_str().unwrap());
    folder.write("weir.yaml", main.as_bytes());
    assert_eq!(folder.names(), ["a"]);
}

#[test]
fn mistakes_name_the_right_file_and_come_all_at_once() {
    let main = format!("{MAIN}idle: alway\n{}", vm("z"));
    let folder = Folder::new(
        &main,
        &[
            ("vms.d/a.yaml", &vm("a").replace("blue", "bleu")),
            ("vms.d/b.yaml", "vms: [\n"),
            ("vms.d/c.yaml", ""),
            ("vms.d/d.yaml", &vm("d").replace("vhost-user", "vhost")),
        ],
    );
    folder.write("vms.d/e.yaml", b"vms:\n  e: # caf\xe9\n");
    folder.assert_found(&[
        ("weir.yaml", 4, 7, "`idle` can't be `alway`"),
        ("vms.d/a.yaml", 4, 21, "no network `bleu`"),
        ("vms.d/b.yaml", 1, 6, "this bracket is never closed"),
        ("vms.d/c.yaml", 0, 0, "this file is empty"),
        ("vms.d/d.yaml", 4, 7, "has no kind of port"),
        ("vms.d/d.yaml", 4, 27, "unknown key `vhost`"),
        ("vms.d/e.yaml", 2, 11, "this is not UTF-8 text: byte 0xe9"),
    ]);
}

#[test]
fn what_is_claimed_twice_names_the_other_file() {
    let folder = Folder::new(
        MAIN,
        &[("vms.d/a.yaml", &vm("a")), ("vms.d/b.yaml", &vm("a"))],
    );
    let first = folder.path("vms.d/a.yaml");
    folder.assert_found(&[
        (
            "vms.d/b.yaml",
            2,
            3,
            &format!("VM `a` already defined, in {}:2", first.display()),
        ),
        (
            "vms.d/b.yaml",
            4,
            47,
            &format!("path already used by `a/n`, in {}:4", first.display()),
        ),
    ]);
}

#[test]
fn included_file_holds_vms_only() {
    let included = format!(
        "include: [ more.yaml ]\nnetworks: {{}}\ncolour: red\nx-mine: 1\n{}",
        vm("a")
    );
    let folder = Folder::new(MAIN, &[("vms.d/a.yaml", &included)]);
    folder.assert_found(&[
        (
            "vms.d/a.yaml",
            1,
            1,
            "unknown key `include` in an included file",
        ),
        (
            "vms.d/a.yaml",
            2,
            1,
            "unknown key `networks` in an included file",
        ),
        (
            "vms.d/a.yaml",
            3,
            1,
            "unknown key `colour` in an included file",
        ),
    ]);
    let report = folder.load().unwrap_err();
    assert!(
        report.diagnostics()[0]
            .help()
            .contains("move `include` into the main file")
    );
}

#[test]
fn file_that_includes_itself_is_told_so() {
    let folder = Folder::new(
        &MAIN.replace("vms.d/*.yaml", "*.yaml"),
        &[("a.yaml", &vm("a"))],
    );
    folder.assert_found(&[("weir.yaml", 3, 12, "this file includes itself")]);
}

#[test]
fn includes_that_name_nothing_usable_are_refused() {
    let folder = Folder::new(
        &MAIN.replace("\"vms.d/*.yaml\"", "\"\", vms.d, \"a***b\""),
        &[("vms.d/a.yaml", "")],
    );
    folder.assert_found(&[
        ("weir.yaml", 3, 12, "names nothing"),
        ("weir.yaml", 3, 16, "it is a folder"),
        ("weir.yaml", 3, 23, "`a***b` is not a valid glob"),
    ]);
}

#[test]
fn main_file_that_is_not_there_is_one_mistake() {
    let folder = Folder::new("", &[]);
    let report = load(&folder.path("other.yaml")).unwrap_err();
    assert_eq!(report.diagnostics().len(), 1);
    assert!(
        report
            .to_string()
            .contains("this file can't be read: No such file"),
        "{report}"
    );
    assert!(
        load(folder.0.path())
            .unwrap_err()
            .to_string()
            .contains("it is a folder")
    );
}

#[test]
fn endless_file_is_refused() {
    let report = load(Path::new("/dev/zero")).unwrap_err();
    assert!(report.to_string().contains("more than 16 MiB"), "{report}");
}

#[test]
fn text_that_is_not_utf8_names_the_byte() {
    let folder = Folder::new("", &[]);
    folder.write("weir.yaml", b"cores: [0]\r\n# \xc3\xa9 \xff\n");
    folder.assert_found(&[("weir.yaml", 2, 5, "byte 0xff")]);
    folder.write("weir.yaml", b"\xff\xfec\0o\0");
    folder.assert_found(&[("weir.yaml", 1, 1, "byte 0xff")]);
}

#[test]
fn pipe_that_a_glob_finds_is_refused_and_not_waited_for() {
    let folder = Folder::new(MAIN, &[("vms.d/b.yaml", &vm("b"))]);
    let made = std::process::Command::new("mkfifo")
        .arg(folder.path("vms.d/a.yaml"))
        .status();
    assert!(made.unwrap().success());
    folder.assert_found(&[("weir.yaml", 3, 12, "not a regular file")]);
}
