//! Frames that are checked where they arrive: none lost, none changed, none twice.

use super::*;

/// Test frames of `size` and less from `sender` to `receiver`, either of which may be somebody
/// else's.
pub(super) fn verify(
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
