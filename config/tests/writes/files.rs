//! Where things are written, and where a VM may be.

use config::{NoVmFile, ObjectKind};

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
