//! Threads that don't poll are kept off the polling CPUs, also those that run already.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// How often all threads are gone through at most.
const PASSES_MAX: usize = 64;

/// Lets all threads of this process run on these CPUs and no others, but for the threads `but`.
///
/// # Errors
/// The kernel's; some threads may have been moved then.
pub(super) fn run_on(cpus: &[usize], but: &[Pid]) -> io::Result<()> {
    let mut set = CpuSet::new();
    let cpus = cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU);
    cpus.for_each(|&cpu| set.set(cpu));
    // A thread that starts has the CPUs of the one that started it, which may not have been moved
    // by then: all are gone through until none is found that has to be moved.
    for _ in 0..PASSES_MAX {
        if move_all(&set, but)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Gives how many had to be moved.
fn move_all(cpus: &CpuSet, but: &[Pid]) -> io::Result<usize> {
    let mut n_moved = 0;
    for thread in threads()? {
        let is_there = |thread| sched_getaffinity(Some(thread)).is_ok_and(|now| now == *cpus);
        if but.contains(&thread) || is_there(thread) {
            continue;
        }
        match sched_setaffinity(Some(thread), cpus) {
            Ok(()) => n_moved += 1,
            // It has ended.
            Err(Errno::SRCH) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(n_moved)
}

/// All threads of this process.
fn threads() -> io::Result<Vec<Pid>> {
    let id = |entry: fs::DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
    let entries = fs::read_dir("/proc/self/task")?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().filter_map(id).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use rustix::thread::gettid;

    use super::*;

    /// In a process of its own, since others test other things in threads of this one.
    #[test]
    fn threads_that_run_are_moved_and_those_that_poll_are_not() {
        const MARK: &str = "WEIR_TEST_MOVES_ALL_THREADS";
        if std::env::var_os(MARK).is_none() {
            let mut test = std::process::Command::new(std::env::current_exe().unwrap());
            test.args(["--exact", "--test-threads=1"]);
            test.arg(
                "daemon::cpus::others::tests::\
                threads_that_run_are_moved_and_those_that_poll_are_not",
            );
            let output = test.env(MARK, "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success() && said.contains("1 passed"),
                "{said}"
            );
            return;
        }
        let before = sched_getaffinity(None).unwrap();
        let all: Vec<_> = (0..CpuSet::MAX_CPU)
            .filter(|&cpu| before.is_set(cpu))
            .collect();
        let [first, .., last] = &all[..] else {
            return eprintln!("NOT TESTED: one CPU alone may be used here");
        };
        std::thread::scope(|scope| {
            let (tell, told) = channel();
            let ends: Vec<_> = (0..2)
                .map(|_| {
                    let (end, ended) = channel::<()>();
                    let tell = tell.clone();
                    scope.spawn(move || {
                        tell.send(gettid()).unwrap();
                        let _ = ended.recv();
                    });
                    end
                })
                .collect();
            let (polls, other) = (told.recv().unwrap(), told.recv().unwrap());
            let of = |thread| {
                let set = sched_getaffinity(Some(thread)).unwrap();
                all.iter()
                    .copied()
                    .filter(|&cpu| set.is_set(cpu))
                    .collect::<Vec<_>>()
            };
            run_on(&[*last], &[polls]).unwrap();
            assert_eq!(
                (of(polls), of(other), of(gettid())),
                (all.clone(), vec![*last], vec![*last])
            );
            run_on(&[*first, *last], &[polls]).unwrap();
            assert_eq!(of(other), [*first, *last]);
            run_on(&all, &[]).unwrap();
            assert_eq!(of(other), all);
            drop(ends);
        });
    }
}
