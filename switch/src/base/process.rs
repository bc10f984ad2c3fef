//! Identity of a process: its number and start time.

use std::fs;

use serde::{Deserialize, Serialize};

/// A process, distinguished from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pid: i32,
    /// Start time, in kernel ticks since boot.
    began: u64,
}

impl Process {
    /// The running process with this number. None: it is not visible in this PID namespace.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let (state, began) = stat(pid)?;
        (!is_dead(state)).then_some(Self { pid, began })
    }

    /// Whether it has ended.
    pub(crate) fn is_gone(self) -> bool {
        stat(self.pid).is_none_or(|(state, began)| is_dead(state) || began != self.began)
    }
}

fn is_dead(state: char) -> bool {
    matches!(state, 'Z' | 'X')
}

/// State and start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which is in parentheses and may contain some.
    let mut words = text.rsplit(')').next()?.split_whitespace();
    let state = words.next()?.chars().next()?;
    // Source: proc_pid_stat(5); the state is field 3, the start time field 22.
    Some((state, words.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_gone_when_it_has_ended_and_not_before() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process::of(pid).unwrap();
        assert!(!process.is_gone());
        assert!(
            Process {
                began: process.began + 1,
                ..process
            }
            .is_gone(),
            "another one with its number"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.is_gone() && Process::of(pid).is_none());
    }
}
