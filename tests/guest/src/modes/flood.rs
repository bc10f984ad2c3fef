//! Floods: frames as fast as they go, or at a pace, by one guest or two.

use super::*;

/// Enables the rings.
pub(super) fn enabled(mut port: LoadPort, here: End) -> Result<LoadPort, guest::FrontendError> {
    port.guest().enable()?;
    announce(&mut port, here);
    Ok(port)
}

pub(super) fn flood(mut ports: Vec<LoadPort>, common: &Common) -> Outcome {
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
pub(super) fn obey(mut ports: Vec<LoadPort>, common: &Common, b: End) -> Outcome {
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
