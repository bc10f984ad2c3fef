//! Where things are written, and where a VM may be.

use std::path::Path;

use config::{Edit, NoVmFile, ObjectKind, Topology};

use crate::{MAIN, Rig, WEB, loaded, rig, write};

#[test]
fn file_of_a_vm_is_in_the_folder_that_is_included() {
    let rig = rig();
    let file = |vm: &str| rig.topology.vm_file(vm);
    assert_eq!(file("web"), Ok(rig.path("vms.d/web.yaml")));
    assert_eq!(file("new"), Ok(rig.path("vms.d/new.yaml")));
    let why = file("db").unwrap_err();
    let text = why.to_string();
    assert!(
        text.contains(&format!(
            "VM `db` is defined in {}:8",
            rig.path("weir.yaml").display()
        )),
        "{text}"
    );
    assert!(matches!(why, NoVmFile::Elsewhere { .. }));
}

#[test]
fn folder_that_is_not_included_is_answered_with_the_line_to_write() {
    for (include, line) in [
        ("", "include: [ \"vms.d/*.yaml\" ]"),
        (
            "include: [ more.d/*.yaml, \"b.d/*\" ]\n",
            "include: [ \"more.d/*.yaml\", \"b.d/*\", \"vms.d/*.yaml\" ]",
        ),
    ] {
        let main = MAIN.replace("include: [ \"vms.d/*.yaml\" ]\n", include);
        let rig = Rig::new(&main, &[("vms.d/web.yaml", WEB)]);
        let why = rig.topology.vm_file("web").unwrap_err();
        let NoVmFile::NotIncluded {
            line: found, main, ..
        } = &why
        else {
            panic!("{why:?}");
        };
        assert_eq!((found.as_str(), main), (line, &rig.path("weir.yaml")));
        assert!(why.to_string().contains(line), "{why}");
        // Written there, it does what it says.
        write(
            &rig.path("weir.yaml"),
            &format!(
                "{}{line}\n",
                MAIN.replace("include: [ \"vms.d/*.yaml\" ]\n", "")
            ),
        );
        assert!(loaded(&rig.folder).vm_file("web").is_ok());
    }
    let text = config::parse("cores: [0]\n", "weir.yaml").unwrap();
    assert!(matches!(
        text.vm_file("a"),
        Err(NoVmFile::NotIncluded { .. })
    ));
}

#[test]
fn file_that_has_another_vm_is_nobodys_alone() {
    let both = format!(
        "{WEB}  cache: {{ nics: {{ n: {{ network: blue, vhost-user: {{ path: /c }} }} }} }}\n"
    );
    let rig = Rig::new(MAIN, &[("vms.d/web.yaml", &both)]);
    let why = rig.topology.vm_file("web").unwrap_err();
    assert!(
        why.to_string().contains(&format!(
            "`cache` in {}:7",
            rig.path("vms.d/web.yaml").display()
        )),
        "{why}"
    );
    assert!(matches!(
        rig.topology.vm_file("cache"),
        Err(NoVmFile::Elsewhere { .. })
    ));
    // Nor is a file by that name that has only another.
    let rig = Rig::new(MAIN, &[("vms.d/new.yaml", WEB)]);
    assert!(matches!(
        rig.topology.vm_file("new"),
        Err(NoVmFile::Shared { .. })
    ));
}

#[test]
fn other_spellings_of_a_path_are_the_same_file() {
    let main = MAIN.replace("vms.d/*.yaml", "./vms.d/../vms.d/*.yaml");
    let rig = Rig::new(&main, &[("vms.d/web.yaml", WEB)]);
    let why = rig.topology.vm_file("web").unwrap_err();
    assert!(
        matches!(why, NoVmFile::NotIncluded { .. }),
        "no pattern can be told to cover it: {why}"
    );
    let main = MAIN.replace("vms.d/*.yaml", ".//vms.d/./*.yaml");
    let rig = Rig::new(&main, &[("vms.d/web.yaml", WEB)]);
    assert_eq!(rig.topology.vm_file("web"), Ok(rig.path("vms.d/web.yaml")));
}

#[test]
fn origin_knows_the_lines_of_all_that_is_named() {
    let rig = rig();
    let line = |kind, name| {
        let place = rig.topology.origin.place(kind, name);
        place.map(|place| {
            (
                place.file.file_name().unwrap().to_str().unwrap(),
                place.line,
            )
        })
    };
    assert_eq!(line(ObjectKind::Uplink, "up0"), Some(("weir.yaml", 5)));
    assert_eq!(line(ObjectKind::Network, "big"), Some(("weir.yaml", 6)));
    assert_eq!(line(ObjectKind::Vm, "db"), Some(("weir.yaml", 8)));
    assert_eq!(line(ObjectKind::Nic, "db/net1"), Some(("weir.yaml", 11)));
    assert_eq!(line(ObjectKind::Vm, "web"), Some(("web.yaml", 2)));
    assert_eq!(line(ObjectKind::Daemon, ""), Some(("weir.yaml", 3)));
    assert_eq!(line(ObjectKind::Vm, "nobody"), None);
    assert_eq!(rig.topology.origin.main(), rig.path("weir.yaml"));
}

#[test]
fn file_that_was_edited_to_have_others_is_not_written_over() {
    let rig = rig();
    let edited = |vm: &str, text: &str| {
        write(&rig.path(&format!("vms.d/{vm}.yaml")), text);
        rig.topology.vm_file(vm).map_err(|why| why.to_string())
    };
    let file = |vm: &str| rig.path(&format!("vms.d/{vm}.yaml"));
    // A VM that is only in the file, or an edit of the VM itself.
    for text in [
        WEB,
        &WEB.replace("1gbit", "2gbit"),
        "vms:\n",
        &WEB.replace("nics", "nix"),
    ] {
        assert_eq!(edited("web", text), Ok(file("web")), "{text}");
    }
    assert_eq!(edited("new", &WEB.replace("web:", "new:")), Ok(file("new")));
    for (vm, text, why) in [
        ("web", WEB.replace("web:", "db2:"), "has VM `db2`"),
        ("new", WEB.to_owned(), "has VM `web`"),
        (
            "new",
            "vms: [\n".to_owned(),
            "can't be understood: this bracket is never closed",
        ),
        (
            "new",
            String::new(),
            "can't be understood: this file is empty",
        ),
    ] {
        let found = edited(vm, &text).unwrap_err();
        let expected = format!("new.yaml has been edited since it was read, and {why}");
        assert!(
            found.contains(&expected.replace("new.yaml", &format!("{vm}.yaml"))),
            "{found}"
        );
    }
    std::fs::create_dir(rig.path("vms.d/folder.yaml")).unwrap();
    let why = rig.topology.vm_file("folder").unwrap_err().to_string();
    assert!(why.contains("can't be read: it is a folder"), "{why}");
}

#[test]
fn name_that_leads_out_of_the_folder_is_none() {
    let main = MAIN.replace("vms.d/*.yaml", "**/*.yaml");
    let rig = Rig::new(
        &main.replace("**/", "vms.d/**/"),
        &[("vms.d/web.yaml", WEB)],
    );
    for vm in [
        "../web",
        "a/b",
        "..",
        ".",
        "",
        ".hidden",
        "a\nb",
        "vms.d/web",
    ] {
        let why = rig.topology.vm_file(vm).unwrap_err();
        assert!(matches!(why, NoVmFile::NoName { .. }), "{vm}: {why}");
    }
}

#[test]
fn edited_files_are_named_and_no_others() {
    let rig = Rig::new(
        MAIN,
        &[
            ("vms.d/web.yaml", WEB),
            ("vms.d/x.yaml", &WEB.replace("web", "x")),
        ],
    );
    let edited = |topology: &Topology| -> Vec<(String, Edit)> {
        let name = |file: &Path| {
            file.strip_prefix(rig.folder.path())
                .unwrap()
                .display()
                .to_string()
        };
        let edited = topology.edited_files();
        edited
            .iter()
            .map(|(file, edit)| (name(file), *edit))
            .collect()
    };
    assert_eq!(edited(&rig.topology), []);
    write(&rig.path("vms.d/web.yaml"), &WEB.replace("shop", "shops"));
    write(&rig.path("vms.d/a.yaml"), "vms:\n");
    write(&rig.path("vms.d/a.txt"), "not ours");
    std::fs::remove_file(rig.path("vms.d/x.yaml")).unwrap();
    let expected = [
        ("vms.d/a.yaml", Edit::Added),
        ("vms.d/web.yaml", Edit::Changed),
        ("vms.d/x.yaml", Edit::Removed),
    ]
    .map(|(file, edit)| (file.to_owned(), edit));
    assert_eq!(edited(&rig.topology), expected);
    // Loaded again, all is as it was read.
    let topology = loaded(&rig.folder);
    assert_eq!(edited(&topology), []);
    // The same text in another file, as editors write it.
    let text = std::fs::read(rig.path("weir.yaml")).unwrap();
    std::fs::write(rig.path("weir.new"), text).unwrap();
    std::fs::rename(rig.path("weir.new"), rig.path("weir.yaml")).unwrap();
    assert_eq!(edited(&topology), [("weir.yaml".to_owned(), Edit::Changed)]);
}

#[test]
fn file_that_was_written_for_a_topology_is_no_edit_and_one_after_it_is() {
    let rig = rig();
    let (file, temporary) = (rig.path("vms.d/web.yaml"), rig.path("vms.d/.web.tmp"));
    let mut written = rig.with_limit("{ to-vm: null }").unwrap();
    let origin = &mut written.topology.origin;
    std::fs::write(&temporary, &written.text).unwrap();
    let open = std::fs::File::open(&temporary).unwrap();
    origin.written(&file, &open).unwrap();
    std::fs::rename(&temporary, &file).unwrap();
    assert_eq!(written.topology.edited_files(), []);
    assert_eq!(rig.topology.edited_files(), [(file.clone(), Edit::Changed)]);
    write(&file, &written.text.replace("1gbit", "2gbit "));
    assert_eq!(
        written.topology.edited_files(),
        [(file.clone(), Edit::Changed)]
    );
    let mut without = written.topology.without_vm("web").unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(without.edited_files(), [(file.clone(), Edit::Removed)]);
    without.origin.removed(&file);
    assert_eq!(without.edited_files(), []);
}

#[test]
fn file_that_is_found_by_two_paths_is_one() {
    let main = MAIN.replace(
        "[ \"vms.d/*.yaml\" ]",
        "[ \"vms.d/*.yaml\", \"vms.d/../vms.d/*.yaml\" ]",
    );
    let rig = Rig::new(&main, &[("vms.d/web.yaml", WEB)]);
    assert_eq!(rig.topology.edited_files(), []);
    write(&rig.path("vms.d/a.yaml"), "vms:\n");
    assert_eq!(rig.topology.edited_files().len(), 1);
}
