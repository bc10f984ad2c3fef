//! What the program does, mode by mode. Each returns whether all went well.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use guest::flood::{LoadConfig, LoadCounters, LoadPort, drive};
use guest::pingpong::{Histogram, PingPort, round};
use guest::stack::{Event, Host, Stamp, TEST_FRAME_LEAST, Verifier, test_frame};
use guest::{Guest, sys};

use crate::commands::{Command, Commands};
use crate::report::{Record, Ticker, per};
use crate::{Common, End, Mode, One, Pair};

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
    };
    LoadPort::set_up(guest, &common.flows(here, there), config)
}

/// Enables the rings.
fn enabled(mut port: LoadPort, here: End) -> Result<LoadPort, guest::FrontendError> {
    port.guest().enable()?;
    announce(&mut port, here);
    Ok(port)
}

fn flood(mut ports: Vec<LoadPort>, common: &Common) -> Outcome {
    let hz = sys::cycles_per_second();
    let mut ticker = Ticker::new(common.quiet);
    let mut n_mended = 0;
    let until = common
        .seconds
        .map_or(u64::MAX, |s| sys::cycles() + scale(hz, s));
    drive(
        &mut ports,
        until,
        hz / 50,
        &AtomicBool::new(false),
        |ports| {
            let sum = sum(ports);
            ticker.tick([sum.n_sent, sum.n_received]);
            for port in ports {
                n_mended += u64::from(port.mend(common.patience())?);
            }
            Ok::<(), guest::FrontendError>(())
        },
    )?;
    let (seconds, sum) = (ticker.seconds(), sum(&ports));
    Record::default()
        .int("sent", sum.n_sent)
        .int("received", sum.n_received)
        .real("seconds", seconds)
        .real("sent_mpps", per(sum.n_sent, seconds) / 1e6)
        .real("received_mpps", per(sum.n_received, seconds) / 1e6)
        .real("cycles_a_frame", per(sum.busy_cycles, per(sum.n_busy, 1.0)))
        .real("busy_share", per(sum.busy_cycles, seconds * per(hz, 1.0)))
        .int("kicks", sum.n_kicks)
        .int("reconnects", n_mended)
        .print(common.json);
    Ok(true)
}

/// The flood of a pair as commands tell; `b` is the second port's address.
fn obey(mut ports: Vec<LoadPort>, common: &Common, b: End) -> Outcome {
    let (hz, start) = (sys::cycles_per_second(), Instant::now());
    let until = common
        .seconds
        .map_or(u64::MAX, |s| sys::cycles() + scale(hz, s));
    let mut n_mended = 0;
    let answer = |at: &str, ports: &[LoadPort], n_mended: u64| {
        let (tsc, ns) = (
            sys::cycles(),
            u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        );
        let (a, b, both) = (ports[0].counters(), ports[1].counters(), sum(ports));
        Record::default()
            .text("at", at)
            .int("ns", ns)
            .int("tsc", tsc)
            .int("tsc_hz", hz)
            .int("a_sent", a.n_sent)
            .int("a_received", a.n_received)
            .int("b_sent", b.n_sent)
            .int("b_received", b.n_received)
            .int("busy_cycles", both.busy_cycles)
            .int("busy_frames", both.n_busy)
            .int("offers", both.n_offers)
            .int("dry", both.n_dry)
            .int("kicks", both.n_kicks)
            .int("reconnects", n_mended)
            .print(true);
    };
    let commands = Commands::read(std::io::stdin())?;
    ports.iter_mut().for_each(|port| port.set_sending(false));
    answer("ready", &ports, n_mended);
    drive(&mut ports, until, hz / 50, commands.asked(), |ports| {
        for command in commands.take() {
            match command {
                Command::Start => {
                    announce(&mut ports[1], b);
                    ports.iter_mut().for_each(|port| port.set_sending(true));
                    answer("start", ports, n_mended);
                }
                Command::Stop => {
                    ports.iter_mut().for_each(|port| port.set_sending(false));
                    answer("stop", ports, n_mended);
                }
                Command::Stats => answer("stats", ports, n_mended),
                Command::Unknown(line) => Record::default().text("unknown", &line).print(true),
                Command::End => sys::stop(),
            }
        }
        for port in ports {
            n_mended += u64::from(port.mend(common.patience())?);
        }
        Ok::<(), guest::FrontendError>(())
    })?;
    Ok(true)
}

/// A broadcast, unless the port's lean rings send: so that a switch that learns knows where to
/// send.
fn announce(port: &mut LoadPort, here: End) {
    if !port.config().send {
        port.guest()
            .send(0, &Host::new(here.0, here.1).arp_request(here.1));
    }
}

fn sum(ports: &[LoadPort]) -> LoadCounters {
    ports
        .iter()
        .map(LoadPort::counters)
        .fold(LoadCounters::default(), |a, b| LoadCounters {
            n_sent: a.n_sent + b.n_sent,
            n_received: a.n_received + b.n_received,
            n_bytes: a.n_bytes + b.n_bytes,
            busy_cycles: a.busy_cycles + b.busy_cycles,
            n_busy: a.n_busy + b.n_busy,
            n_kicks: a.n_kicks + b.n_kicks,
            n_offers: a.n_offers + b.n_offers,
            n_dry: a.n_dry + b.n_dry,
        })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a time to stop at"
)]
fn scale(hz: u64, seconds: f64) -> u64 {
    (hz as f64 * seconds) as u64
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

/// Test frames of `size` and less from `sender` to `receiver`, either of which may be somebody
/// else's.
fn verify(
    mut sender: Option<Guest>,
    mut receiver: Option<Guest>,
    common: &Common,
    from: End,
    to: End,
) -> Outcome {
    let until = Until::new(common);
    let (mut ticker, mut verifier) = (Ticker::new(common.quiet), Verifier::default());
    let n_flows = u16::try_from(common.flows.clamp(1, 60_000))?;
    let (mut n_sent, mut quiet_since) = (0u64, Instant::now());
    if let Some(receiver) = &mut receiver {
        receiver.send(0, &Host::new(to.0, to.1).arp_request(to.1));
    }
    let start = Instant::now();
    loop {
        let done = !until.go_on() || common.count.is_some_and(|count| n_sent >= count);
        if let (Some(sender), false) = (&mut sender, done) {
            let due = if common.pps > 0 {
                per(common.pps, 1.0) * start.elapsed().as_secs_f64()
            } else {
                f64::INFINITY
            };
            n_sent += send_burst(sender, common, (from, to), n_flows, n_sent, due);
            mend(sender, common)?;
        }
        let got = receiver
            .as_mut()
            .map_or(0, |receiver| take_all(receiver, &mut verifier));
        if got > 0 {
            quiet_since = Instant::now();
        } else if let (Some(receiver), None) = (&mut receiver, &sender) {
            receiver.wait(Duration::from_millis(100));
        }
        if let Some(receiver) = &mut receiver {
            mend(receiver, common)?;
        }
        ticker.tick([n_sent, verifier.n_good]);
        // What is on its way is still looked at.
        let settled = receiver.is_none() || quiet_since.elapsed() > Duration::from_millis(200);
        if (done || sys::stopped()) && settled {
            break;
        }
    }
    let sent_in = |flow: u16| {
        let index = u64::from(flow - 1);
        if sender.is_some() {
            (n_sent + u64::from(n_flows) - 1 - index) / u64::from(n_flows)
        } else {
            0
        }
    };
    let mut record = Record::default()
        .int("sent", n_sent)
        .int("good", verifier.n_good)
        .int("lost", verifier.n_lost(sent_in));
    record = record
        .int("corrupt", verifier.n_corrupt)
        .int("duplicate", verifier.n_duplicate);
    record = record
        .int("reordered", verifier.n_reordered)
        .int("other", verifier.n_other)
        .real("seconds", ticker.seconds());
    if let Some(why) = &verifier.first_error {
        record = record.text("first_error", why);
    }
    record.print(common.json);
    Ok(verifier.is_clean() && (receiver.is_none() || verifier.n_good > 0))
}

/// Up to 32 frames; frame `n` is of flow `1 + n % n_flows`, its length grows from frame to frame.
fn send_burst(
    sender: &mut Guest,
    common: &Common,
    (from, to): (End, End),
    n_flows: u16,
    first: u64,
    due: f64,
) -> u64 {
    let pairs = u64::from(sender.driver.options().n_queue_pairs);
    let most = common.count.map_or(32, |count| (count - first).min(32));
    let mut n = 0;
    while n < most && per(first + n, 1.0) < due {
        let number = first + n;
        let flow = u16::try_from(number % u64::from(n_flows)).expect("a remainder of 16 bits") + 1;
        let stamp = Stamp {
            flow,
            seq: number / u64::from(n_flows),
        };
        let spread = (common.size.max(TEST_FRAME_LEAST) - TEST_FRAME_LEAST + 1) as u64;
        let len = TEST_FRAME_LEAST + usize::try_from(number * 37 % spread).expect("less than size");
        // A flow keeps to one queue, or it may arrive out of order.
        let pair = usize::try_from(u64::from(flow) % pairs).expect("few");
        let frame = test_frame(from, to, stamp, len);
        if !sender.send(pair, &frame) {
            break;
        }
        n += 1;
    }
    n
}

fn take_all(receiver: &mut Guest, verifier: &mut Verifier) -> u64 {
    let mut n = 0;
    for pair in 0..usize::from(receiver.driver.options().n_queue_pairs) {
        for _ in 0..64 {
            let Some(frame) = receiver.recv(pair) else {
                break;
            };
            verifier.take(&frame);
            n += 1;
        }
    }
    n
}
