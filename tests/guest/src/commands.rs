//! Commands on standard input, one a line, for a harness that counts at moments of its own. A
//! thread of its own waits for them: the thread that drives the ports loads one flag per turn, and
//! makes no system call until there is a command.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Send.
    Start,
    /// Send no more, receive on.
    Stop,
    /// Count.
    Stats,
    /// No such command.
    Unknown(String),
    /// The input is over.
    End,
}

/// Commands as they come.
#[derive(Debug)]
pub(crate) struct Commands {
    asked: Arc<AtomicBool>,
    lines: Receiver<Command>,
}

impl Commands {
    /// Reads lines of `input` from now on.
    ///
    /// # Errors
    /// If there can be no thread for it.
    pub(crate) fn read(input: impl io::Read + Send + 'static) -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let (sender, lines) = channel();
        let flag = Arc::clone(&asked);
        std::thread::Builder::new()
            .name("commands".into())
            .spawn(move || {
                let mut read = io::BufReader::new(input)
                    .lines()
                    .map_while(Result::ok)
                    .map(|line| Command::parse(&line));
                // The command before the flag: who sees the flag finds the command.
                while read
                    .next()
                    .is_some_and(|command| sender.send(command).is_ok())
                {
                    flag.store(true, Ordering::Release);
                }
                drop(sender);
                flag.store(true, Ordering::Release);
            })?;
        Ok(Self { asked, lines })
    }

    /// Set when there is something to [`take`](Self::take).
    pub(crate) fn asked(&self) -> &AtomicBool {
        &self.asked
    }

    /// The commands that came since the last time.
    pub(crate) fn take(&self) -> Vec<Command> {
        let mut all = Vec::new();
        if self.asked.swap(false, Ordering::Acquire) {
            let end = loop {
                match self.lines.try_recv() {
                    Ok(command) => all.push(command),
                    Err(end) => break end,
                }
            };
            if end == TryRecvError::Disconnected {
                all.push(Command::End);
            }
        }
        all
    }
}

impl Command {
    fn parse(line: &str) -> Self {
        match line.trim() {
            "start" => Self::Start,
            "stop" => Self::Stop,
            "stats" => Self::Stats,
            other => Self::Unknown(other.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};
    use std::time::{Duration, Instant};

    use super::*;

    fn take_some(commands: &Commands) -> Vec<Command> {
        let start = Instant::now();
        while !commands.asked().load(Ordering::Relaxed) {
            assert!(start.elapsed() < Duration::from_secs(20), "no command came");
            std::thread::yield_now();
        }
        commands.take()
    }

    #[test]
    fn commands_come_in_order_and_then_the_end() {
        let commands = Commands::read(&b"start\n stats \r\nstop\nfly\n"[..]).unwrap();
        let mut all = Vec::new();
        while all.last() != Some(&Command::End) {
            all.extend(take_some(&commands));
        }
        let unknown = Command::Unknown("fly".into());
        assert_eq!(
            all,
            [
                Command::Start,
                Command::Stats,
                Command::Stop,
                unknown,
                Command::End
            ]
        );
    }

    #[test]
    fn nothing_is_asked_until_a_line_is_complete() {
        let (reader, mut writer) = pipe().unwrap();
        let commands = Commands::read(reader).unwrap();
        writer.write_all(b"sta").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!commands.asked().load(Ordering::Relaxed));
        assert_eq!(commands.take(), []);
        writer.write_all(b"ts\n").unwrap();
        assert_eq!(take_some(&commands), [Command::Stats]);
        drop(writer);
        assert_eq!(take_some(&commands), [Command::End]);
    }
}
