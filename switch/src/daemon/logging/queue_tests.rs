use std::sync::{Condvar, Mutex};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A file of which a test says what it takes.
#[derive(Clone, Default)]
struct File(Arc<(Mutex<Taken>, Condvar)>);

#[derive(Default)]
struct Taken {
    text: Vec<u8>,
    /// Bytes that it has room for; none: as many as come.
    room: Option<usize>,
    /// Whether a write waits, as at a pipe that is not read.
    is_shut: bool,
    n_waiting: usize,
}

impl File {
    fn change(&self, change: impl FnOnce(&mut Taken)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn until(&self, is_so: impl Fn(&Taken) -> bool) -> String {
        let taken = self.0.0.lock().unwrap();
        let (taken, late) = self
            .0
            .1
            .wait_timeout_while(taken, LONG, |taken| !is_so(taken))
            .unwrap();
        let text = String::from_utf8(taken.text.clone()).unwrap();
        assert!(!late.timed_out(), "{text}");
        text
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (taken, changed) = &*self.0;
        let mut taken = taken.lock().unwrap();
        taken.n_waiting += 1;
        changed.notify_all();
        let mut taken = changed.wait_while(taken, |taken| taken.is_shut).unwrap();
        taken.n_waiting -= 1;
        let n = taken.room.unwrap_or(bytes.len()).min(bytes.len());
        if n == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        taken.room = taken.room.map(|room| room - n);
        taken.text.extend_from_slice(&bytes[..n]);
        changed.notify_all();
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn queue() -> (File, Queue) {
    let file = File::default();
    let queue = Queue::to(file.clone(), |n| format!("lost {n}\n").into_bytes()).unwrap();
    (file, queue)
}

#[test]
fn lines_are_written_in_order_and_none_is_lost_while_there_is_room() {
    let (file, queue) = queue();
    (0..1000).for_each(|n| queue.put(format!("{n}\n").as_bytes()));
    queue.flush(LONG);
    let text = file.until(|_| true);
    let expected: String = (0..1000).map(|n| format!("{n}\n")).collect();
    assert_eq!(text, expected);
}

#[test]
fn file_that_takes_nothing_holds_nobody_up_and_what_is_lost_is_counted() {
    let (file, queue) = queue();
    file.change(|taken| taken.is_shut = true);
    queue.put(b"first\n");
    file.until(|taken| taken.n_waiting == 1);
    // Of several threads at once; none waits.
    let n_each = 4000;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..n_each).for_each(|_| queue.put(b"x\n")));
        }
    });
    let begun = Instant::now();
    queue.flush(Duration::from_millis(5));
    assert!(
        begun.elapsed() >= Duration::from_millis(5),
        "all is written"
    );
    file.change(|taken| taken.is_shut = false);
    queue.flush(LONG);
    let text = file.until(|_| true);
    let n_lost = 4 * n_each - LINES_MAX;
    assert_eq!(text.matches("x\n").count(), LINES_MAX);
    assert_eq!(text.matches("lost").count(), 1, "said once");
    assert!(
        text.contains(&format!("first\nlost {n_lost}\n")),
        "{}",
        &text[..100]
    );
}

#[test]
fn full_disk_is_said_once_there_is_room_again_and_half_a_line_ends() {
    let (file, queue) = queue();
    file.change(|taken| taken.room = Some(3));
    for line in ["first\n", "second\n", "third\n"] {
        queue.put(line.as_bytes());
        queue.flush(LONG);
    }
    assert_eq!(file.until(|_| true), "fir");
    file.change(|taken| taken.room = None);
    queue.put(b"fourth\n");
    queue.flush(LONG);
    assert_eq!(file.until(|_| true), "fir\nfourth\nlost 3\n");
    queue.put(b"fifth\n");
    queue.flush(LONG);
    assert_eq!(file.until(|_| true), "fir\nfourth\nlost 3\nfifth\n");
}

#[test]
fn line_without_an_end_is_cut() {
    let (file, queue) = queue();
    queue.put(&[b'x'; 10 * LINE_MAX]);
    queue.flush(LONG);
    let text = file.until(|_| true);
    assert!(text.len() < LINE_MAX + 10 && text.ends_with("x...\n"));
}
