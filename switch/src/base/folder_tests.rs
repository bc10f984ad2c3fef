//! What others may put into a folder, and what comes of it: nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Instant;

use rustix::fs::{Gid, Uid, chown, mkfifoat};

use super::*;

fn folder() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    (dir, folder)
}

/// Root alone can make files of others.
fn give_to_nobody(path: &Path) -> bool {
    let is_given = chown(path, Some(Uid::from_raw(65534)), Some(Gid::from_raw(65534))).is_ok();
    if !is_given {
        eprintln!("NOT TESTED: files of other users need root");
    }
    is_given
}

#[test]
fn what_is_written_is_read_again_by_its_owner_alone() {
    let (dir, folder) = folder();
    assert_eq!(folder.read("note", 10), Ok(None));
    folder.write("note", b"old").unwrap();
    folder.write("note", b"new").unwrap();
    assert_eq!(folder.read("note", 3), Ok(Some(b"new".to_vec())));
    assert_eq!(
        fs::metadata(dir.path().join("note")).unwrap().mode() & 0o7777,
        0o600
    );
    assert_eq!(
        folder
            .names()
            .into_iter()
            .filter(|name| !name.starts_with('.'))
            .collect::<Vec<_>>(),
        ["note"]
    );
    assert!(
        !folder.names().iter().any(|name| name.ends_with(".draft")),
        "{:?}",
        folder.names()
    );
    folder.remove("note").unwrap();
    folder.remove("note").unwrap();
    assert_eq!(folder.read("note", 10), Ok(None));
}

#[test]
fn link_is_neither_read_nor_written_through() {
    let (dir, folder) = folder();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, dir.path().join("note")).unwrap();
    let why = folder.read("note", 100).unwrap_err();
    assert!(
        why.contains("symbolic link") && why.contains("note"),
        "{why}"
    );
    assert!(
        folder
            .open_lock("note")
            .unwrap_err()
            .contains("symbolic link")
    );
    folder.write("note", b"ours").unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(
        folder.read("note", 100),
        Ok(Some(b"ours".to_vec())),
        "the link's name is ours now"
    );
    symlink(&victim, dir.path().join("gone")).unwrap();
    folder.remove("gone").unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn file_with_a_second_name_is_neither_read_nor_locked_nor_written_through() {
    let (dir, folder) = folder();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(&victim, dir.path().join("note")).unwrap();
    assert!(folder.read("note", 100).unwrap_err().contains("2 names"));
    assert!(folder.open_lock("note").unwrap_err().contains("2 names"));
    folder.write("note", b"ours").unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn file_of_another_user_or_one_that_others_may_write_is_not_read() {
    let (dir, folder) = folder();
    let note = dir.path().join("note");
    for mode in [0o620, 0o602, 0o666] {
        fs::write(&note, "forged").unwrap();
        fs::set_permissions(&note, fs::Permissions::from_mode(mode)).unwrap();
        assert!(
            folder
                .read("note", 100)
                .unwrap_err()
                .contains("others may write")
        );
        assert!(
            folder
                .open_lock("note")
                .unwrap_err()
                .contains("others may write")
        );
    }
    fs::set_permissions(&note, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        folder.read("note", 100),
        Ok(Some(b"forged".to_vec())),
        "so it is the owner that counts"
    );
    if give_to_nobody(&note) {
        assert!(
            folder
                .read("note", 100)
                .unwrap_err()
                .contains("belongs to user 65534")
        );
        assert!(
            folder
                .open_lock("note")
                .unwrap_err()
                .contains("belongs to user 65534")
        );
        assert_eq!(
            fs::read_to_string(&note).unwrap(),
            "forged",
            "and is left alone"
        );
    }
}

#[test]
fn what_is_no_plain_file_is_refused_at_once() {
    let (dir, folder) = folder();
    mkfifoat(CWD, dir.path().join("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let begin = Instant::now();
    for name in ["fifo", "dir", "socket"] {
        assert!(folder.read(name, 100).is_err(), "{name}");
        assert!(folder.open_lock(name).is_err(), "{name}");
    }
    assert!(begin.elapsed().as_secs() < 10, "nothing was waited for");
    assert!(folder.write("dir", b"ours").is_err());
    assert!(
        !folder.names().iter().any(|name| name.ends_with(".draft")),
        "{:?}",
        folder.names()
    );
    folder.write("fifo", b"ours").unwrap();
    assert_eq!(folder.read("fifo", 100), Ok(Some(b"ours".to_vec())));
}

#[test]
fn huge_file_is_not_read_to_its_end() {
    let (dir, folder) = folder();
    let file = File::create(dir.path().join("note")).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .unwrap();
    file.set_len(1 << 40).unwrap();
    let begin = Instant::now();
    assert!(
        folder
            .read("note", 1000)
            .unwrap_err()
            .contains("more than 1000 bytes")
    );
    assert!(begin.elapsed().as_secs() < 10);
}

#[test]
fn drafts_that_are_ours_are_swept_and_others_left() {
    let (dir, folder) = folder();
    let draft = |name: &str| dir.path().join(name);
    for name in [
        ".note.1.draft",
        ".note.2.draft",
        ".linked.draft",
        "other.draft",
    ] {
        fs::write(draft(name), "half").unwrap();
        fs::set_permissions(draft(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::hard_link(draft(".linked.draft"), draft("second")).unwrap();
    let is_given = give_to_nobody(&draft(".note.2.draft"));
    folder.sweep();
    assert!(
        !draft(".note.1.draft").exists()
            && draft("other.draft").exists()
            && draft(".linked.draft").exists()
    );
    assert_eq!(draft(".note.2.draft").exists(), is_given);
}

#[test]
fn folder_that_others_could_exchange_files_in_is_refused_and_it_is_said_how_to_mend_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = |mode| {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        Folder::open(dir.path())
    };
    for mode in [0o700, 0o755, 0o711, 0o1777, 0o1775, 0o2755] {
        assert!(open(mode).is_ok(), "{mode:o}");
    }
    for mode in [0o777, 0o775, 0o757, 0o2775] {
        let why = open(mode).unwrap_err();
        assert!(
            why.contains("chmod") && why.contains(&format!("{mode:04o}")),
            "{why}"
        );
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if give_to_nobody(dir.path()) {
        assert!(open(0o755).unwrap_err().contains("belongs to user 65534"));
    }
}

#[test]
fn folder_behind_a_link_or_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
    assert!(
        Folder::open(&dir.path().join("link"))
            .unwrap_err()
            .contains("symbolic link")
    );
    fs::write(dir.path().join("file"), "").unwrap();
    for name in ["file", "absent"] {
        assert!(
            Folder::open(&dir.path().join(name))
                .unwrap_err()
                .contains(name)
        );
    }
}

#[test]
fn folder_that_is_exchanged_later_is_still_the_one_that_was_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("run"), dir.path().join("away"));
    fs::create_dir(&path).unwrap();
    let folder = Folder::open(&path).unwrap();
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    folder.write("note", b"ours").unwrap();
    assert!(away.join("note").exists() && !path.join("note").exists());
}
