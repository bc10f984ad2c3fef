use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn open(path: &Path) -> Result<Listening, String> {
    Listening::open("web/net0", path, None, 0o660)
}

#[test]
fn socket_has_its_mode_and_goes_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listening = Listening::open("web/net0", &path, None, 0o604).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o604
    );
    open_stream(&path).unwrap();
    drop(listening);
    assert!(!path.exists());
}

#[test]
fn socket_is_given_to_a_group_and_to_everybody_if_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let own = rustix::process::getgid().as_raw();
    let listening = Listening::open("web/net0", &path, Some(&own.to_string()), 0o777).unwrap();
    let made = fs::metadata(&path).unwrap();
    assert_eq!(
        (made.permissions().mode() & 0o7777, made.gid()),
        (0o777, own)
    );
    drop(listening);
    assert!(!path.exists());
}

#[test]
fn stale_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(
        path.exists(),
        "a dropped listener of the standard library leaves its path"
    );
    let listening = open(&path).unwrap();
    let stream = open_stream(&path).unwrap();
    listening.listener().accept().unwrap();
    drop(stream);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let _live = UnixListener::bind(path("live")).unwrap();
    drop(UnixListener::bind(path("stale")).unwrap());
    symlink(path("stale"), path("link")).unwrap();
    fs::write(path("file"), "precious").unwrap();
    fs::create_dir(path("dir")).unwrap();
    for (name, word) in [
        ("live", "listens"),
        ("link", "symbolic link"),
        ("file", "not a socket"),
        ("dir", "directory"),
    ] {
        let why = open(&path(name)).unwrap_err();
        assert!(
            why.starts_with("web/net0: ") && why.contains(name) && why.contains(word),
            "{why}"
        );
        assert!(fs::symlink_metadata(path(name)).is_ok());
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "precious");
}

#[test]
fn path_that_cannot_be_is_said_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(120));
    let why = open(&long).unwrap_err();
    assert!(why.contains("at most 107 bytes"), "{why}");
    let why = open(&dir.path().join("missing/s.sock")).unwrap_err();
    assert!(
        why.contains("no folder") && why.contains("missing"),
        "{why}"
    );
    let group = Listening::open(
        "web/net0",
        &dir.path().join("s.sock"),
        Some("no-such-group"),
        0o660,
    );
    assert!(group.unwrap_err().contains("no group no-such-group"));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn socket_that_replaced_ours_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listening = open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(listening);
    assert!(path.exists());
}

#[test]
fn what_a_killed_daemon_left_beside_sockets_goes_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: u32| dir.path().join(beside(n));
    (0..3).for_each(|n| drop(UnixListener::bind(path(n)).unwrap()));
    fs::write(path(3), "precious").unwrap();
    let _live = UnixListener::bind(path(4)).unwrap();
    drop(UnixListener::bind(path(5)).unwrap());
    remove_left_beside(dir.path());
    let left = (0..6).filter(|n| path(*n).exists());
    assert_eq!(left.collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn stream_that_was_opened_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listening = open(&path).unwrap();
    let mut stream = open_stream(&path).unwrap();
    let (mut served, _) = listening.listener().accept().unwrap();
    let writing = std::thread::spawn(move || std::io::Write::write_all(&mut served, b"x").unwrap());
    assert_eq!(stream.read(&mut [0]).unwrap(), 1);
    writing.join().unwrap();
}

#[test]
fn two_sockets_exchange_their_paths_and_each_removes_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let old = Listening::open("web/net0", &path, None, 0o600).unwrap();
    let new = Listening::open_beside("web/net0", &path, None, 0o600).unwrap();
    let beside = new.place().path();
    for (to, of_old) in [(&path, &beside), (&beside, &path), (&path, &beside)] {
        new.place().move_to(to, Some(&old.place())).unwrap();
        assert!(new.place().is_at(to) && old.place().is_at(of_old));
    }
    drop(old);
    assert!(!beside.exists());
    open_stream(&path).unwrap();
    new.listener().accept().unwrap();
    drop(new);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn socket_takes_no_place_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let old = Listening::open("web/net0", &path, None, 0o600).unwrap();
    let new = Listening::open_beside("web/net0", &path, None, 0o600).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    for there in [None, Some(&old.place())] {
        let why = new.place().move_to(&path, there).unwrap_err();
        assert!(why.contains("another file is there"), "{why}");
    }
    drop(old);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    // Whoever removes a socket by hand gets the next one in its place.
    fs::remove_file(&path).unwrap();
    new.place().move_to(&path, None).unwrap();
    open_stream(&path).unwrap();
}
