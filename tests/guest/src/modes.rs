//! What the program does, mode by mode. Each returns whether all went well.

mod flood;
mod verify;

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use guest::flood::{LoadConfig, LoadCounters, LoadPort, drive};
use guest::pingpong::{Histogram, PingPort, round};
use guest::stack::{Event, Host, Stamp, TEST_FRAME_LEAST, Verifier, test_frame};
use guest::{Guest, sys};

use crate::commands::{Command, Commands};
use crate::report::{Record, Ticker, per};
use crate::{Common, End, Mode, One, Pair};
use flood::{enabled, flood, obey};
use verify::verify;

type Outcome = Result<bool, Box<dyn std::error::Error>>;

pub(crate) fn run_one(one: &One) -> Outcome {
    let common = &one.common;
    pin(common)?;
    let (here, there) = ((one.mac, one.ip), (one.peer_mac, one.peer_ip));
    let load = matches!(
        one.mode,
        Mode::Flood | Mode::Sink | Mode::Pingpong | Mode::Reflect
    );
    let socket = one.socket.as_deref().ok_or("--socket is needed")?;
    let guest = common.guest(socket, one.listen, load)?;
    match one.mode {
        Mode::Echo => echo(guest, common, here),
        Mode::Ping => ping(guest, common, here, there),
        Mode::Flood => flood(
            vec![enabled(load_port(guest, common, here, there, true)?, here)?],
            common,
        ),
        Mode::Sink => flood(
            vec![enabled(
                load_port(guest, common, here, there, false)?,
                here,
            )?],
            common,
        ),
        Mode::Pingpong => ping_pong(
            PingPort::new(guest, common.flows(here, there))?,
            None,
            common,
        ),
        Mode::Reflect => reflect(PingPort::new(guest, common.flows(here, there))?, common),
        Mode::VerifySend => verify(Some(started(guest)?), None, common, here, there),
        Mode::VerifyRecv => verify(None, Some(started(guest)?), common, there, here),
    }
}

pub(crate) fn run_pair(pair: &Pair) -> Outcome {
    let common = &pair.common;
    pin(common)?;
    let (here, there) = (
        (pair.mac_a, [10, 0, 0, 10].into()),
        (pair.mac_b, [10, 0, 0, 11].into()),
    );
    let load = !pair.verify;
    let (a, b) = (
        common.guest(&pair.a, pair.listen, load)?,
        common.guest(&pair.b, pair.listen, load)?,
    );
    if pair.verify {
        return verify(Some(started(a)?), Some(started(b)?), common, here, there);
    }
    if pair.pingpong {
        let (a, b) = (
            PingPort::new(a, common.flows(here, there))?,
            PingPort::new(b, common.flows(there, here))?,
        );
        return ping_pong(a, Some(b), common);
    }
    let (a, b) = (
        load_port(a, common, here, there, true)?,
        load_port(b, common, there, here, pair.both)?,
    );
    let b = enabled(b, there)?;
    let ports = vec![enabled(a, here)?, b];
    if pair.commands {
        obey(ports, common, there)
    } else {
        flood(ports, common)
    }
}

fn pin(common: &Common) -> std::io::Result<()> {
    common.cpu.map_or(Ok(()), sys::pin)
}

/// Posts all receive buffers and starts.
fn started(mut guest: Guest) -> Result<Guest, guest::FrontendError> {
    (0..usize::from(guest.driver.options().n_queue_pairs)).for_each(|pair| {
        guest.driver.post_rx(pair);
    });
    guest.start()?;
    Ok(guest)
}

/// Set up, and not enabled yet.
fn load_port(
    guest: Guest,
    common: &Common,
    here: End,
    there: End,
    send: bool,
) -> Result<LoadPort, guest::FrontendError> {
    let config = LoadConfig {
        send,
        sink: true,
        pps: common.pps,
        burst: common.burst,
        count_bytes: false,
        touch: common.touch,
        ..LoadConfig::default()
    };
    LoadPort::set_up(guest, &common.flows(here, there), config)
}

/// Whether to go on: time, signals.
struct Until {
    deadline: Option<Instant>,
}

impl Until {
    fn new(common: &Common) -> Self {
        let deadline = common
            .seconds
            .and_then(|s| Instant::now().checked_add(Duration::try_from_secs_f64(s).ok()?));
        Self { deadline }
    }

    fn go_on(&self) -> bool {
        !sys::stopped()
            && self
                .deadline
                .is_none_or(|deadline| Instant::now() < deadline)
    }
}

fn mend(guest: &mut Guest, common: &Common) -> Result<(), guest::FrontendError> {
    if guest.is_gone() {
        guest.reconnect(common.patience())
    } else {
        Ok(())
    }
}

fn echo(guest: Guest, common: &Common, here: End) -> Outcome {
    let (mut guest, mut host) = (started(guest)?, Host::new(here.0, here.1));
    let (mut ticker, until) = (Ticker::new(common.quiet), Until::new(common));
    let n_pairs = usize::from(guest.driver.options().n_queue_pairs);
    guest.send(0, &host.arp_request(here.1));
    while until.go_on() {
        for pair in 0..n_pairs {
            while let Some(frame) = guest.recv(pair) {
                if let Event::Answer(answer) = host.handle(&frame) {
                    guest.send(pair, &answer);
                }
            }
        }
        let counters = guest.driver.counters();
        ticker.tick([counters.tx_chains, counters.rx_frames]);
        guest.wait(Duration::from_millis(100));
        mend(&mut guest, common)?;
    }
    let counters = guest.driver.counters();
    let record = Record::default()
        .int("received", counters.rx_frames)
        .int("sent", counters.tx_chains);
    record
        .int("reconnects", guest.n_connects() - 1)
        .print(common.json);
    Ok(true)
}

fn ping(guest: Guest, common: &Common, here: End, there: End) -> Outcome {
    let (mut guest, mut host) = (started(guest)?, Host::new(here.0, here.1));
    let until = Until::new(common);
    let pause =
        Duration::from_secs(1) / u32::try_from(if common.pps > 0 { common.pps } else { 10 })?;
    let (mut times, mut n_sent) = (Histogram::default(), 0u64);
    let payload = vec![0x70; common.size.saturating_sub(42)];
    while until.go_on() && common.count.is_none_or(|count| n_sent < count) {
        let start = Instant::now();
        let seq = u16::try_from(n_sent & 0xffff)?;
        match host.ping(there.1, 1, seq, &payload) {
            Some(frame) => n_sent += u64::from(guest.send(0, &frame)),
            None => _ = guest.send(0, &host.arp_request(there.1)),
        }
        let mut came = false;
        while start.elapsed() < pause && until.go_on() {
            while let Some(frame) = guest.recv(0) {
                match host.handle(&frame) {
                    Event::Answer(answer) => _ = guest.send(0, &answer),
                    Event::Pong(from, 1, n) if from == there.1 && n == seq && !came => {
                        came = true;
                        times.add(u64::try_from(start.elapsed().as_nanos())?);
                    }
                    _ => {}
                }
            }
            guest.wait(
                pause
                    .saturating_sub(start.elapsed())
                    .min(Duration::from_millis(100)),
            );
        }
        mend(&mut guest, common)?;
    }
    let record = Record::default()
        .int("sent", n_sent)
        .int("answered", times.n());
    with_times(record, &times)
        .int("reconnects", guest.n_connects() - 1)
        .print(common.json);
    Ok(times.n() > 0)
}

fn with_times(record: Record, times: &Histogram) -> Record {
    let micros = |ns| per(ns, 1e3);
    record
        .real("min_us", micros(times.min()))
        .real("p50_us", micros(times.quantile(500)))
        .real("p99_us", micros(times.quantile(990)))
        .real("p999_us", micros(times.quantile(999)))
        .real("max_us", micros(times.max()))
}

fn ping_pong(mut a: PingPort, mut b: Option<PingPort>, common: &Common) -> Outcome {
    let until = Until::new(common);
    let (mut times, mut n_lost) = (Histogram::default(), 0u64);
    // The first rounds teach the switch where both are.
    for n in 0u64.. {
        if !until.go_on() || common.count.is_some_and(|count| n >= count) {
            break;
        }
        let back = |deadline| match &mut b {
            Some(b) => {
                let came = b.recv_by(deadline);
                b.send();
                came
            }
            None => true,
        };
        match round(&mut a, back) {
            Some(ns) => times.add(ns),
            None => n_lost += 1,
        }
    }
    with_times(
        Record::default()
            .int("rounds", times.n())
            .int("lost", n_lost),
        &times,
    )
    .print(common.json);
    Ok(times.n() > 0)
}

fn reflect(mut port: PingPort, common: &Common) -> Outcome {
    let (until, mut n) = (Until::new(common), 0u64);
    // One frame first, so that a switch that learns knows where this is.
    port.send();
    while until.go_on() {
        for _ in 0..1000 {
            for _ in 0..port.recv() {
                port.send();
                n += 1;
            }
            std::hint::spin_loop();
        }
    }
    Record::default().int("reflected", n).print(common.json);
    Ok(true)
}
