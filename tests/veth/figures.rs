//! Figures, for a quiet machine: `cargo test --release -p tests --test veth -- --ignored
//! --nocapture`.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::bare::{self, Work};
use crate::world::{NATIVE, Switch, World, can_run};

/// Runs of each kind, in turns.
const RUNS: usize = 5;

fn spread(runs: &[f64]) -> String {
    let mut runs = runs.to_vec();
    runs.sort_by(f64::total_cmp);
    format!(
        "{:.0} {:.0} {:.0}",
        runs[0],
        runs[runs.len() / 2],
        runs[runs.len() - 1]
    )
}

#[test]
#[ignore = "a measurement, which wants the machine for itself"]
fn throughput_beside_the_kernels_bridge_on_the_same_veths() {
    let Some(_turn) = can_run("throughput_beside_the_kernels_bridge_on_the_same_veths") else {
        return;
    };
    let world = World::new(1);
    let small = "-u -b 0 -l 18 -t 3";
    let mut runs: [Vec<f64>; 6] = Default::default();
    for _ in 0..RUNS {
        let switch = Switch::new(1);
        let devices = [
            switch.plug(&world, 0, "up-a", NATIVE),
            switch.plug(&world, 1, "up-b", NATIVE),
        ];
        for (n, load) in ["-t 3", small].into_iter().enumerate() {
            let before = switch.cores.core_counters()[0];
            runs[3 * n].push(world.tcp("a", "10.99.0.2", ("b", load)));
            let after = switch.cores.core_counters()[0];
            let n_frames = after.rx_frames - before.rx_frames;
            runs[3 * n + 2].push((after.busy_cycles - before.busy_cycles) as f64 / n_frames as f64);
        }
        drop((switch.down(0), switch.down(1), devices, switch));
        world.bridged(|| {
            runs[1].push(world.tcp("a", "10.99.0.2", ("b", "-t 3")));
            runs[4].push(world.tcp("a", "10.99.0.2", ("b", small)));
        });
    }
    // By copy it is the kernel's transmit, in the core's own call, that most of the cycles go into.
    println!("minimum, median, maximum of {RUNS} runs");
    for (what, of) in ["TCP", "UDP, 60-byte frames"]
        .into_iter()
        .zip(runs.chunks(3))
    {
        println!(
            "{what}: Mbit/s: weir {}, the kernel's bridge {}",
            spread(&of[0]),
            spread(&of[1])
        );
        println!(
            "{what}: weir's cycles a frame, the kernel's transmit included: {}",
            spread(&of[2])
        );
    }
}

/// One way to get frames from `up-a` to `up-b`, and what it cost.
struct Flood {
    /// Frames a second that came out at the other side.
    rate: f64,
    /// Cycles a frame of the sender, whose CPU also runs the kernel's receiving half; of a bridge,
    /// all of it.
    sender: f64,
    /// Cycles a frame of the loop, and how many of them in the kernel's transmit; none: the kernel
    /// does it.
    forwarder: Option<(f64, Option<f64>)>,
}

/// Its name, and how to measure it once with frames of so many bytes.
type Way = (&'static str, fn(&World, usize) -> Flood);

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn each(n_cycles: u64, n_frames: u64) -> f64 {
    n_cycles as f64 / n_frames.max(1) as f64
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("to be on one CPU");
}

/// Floods from `a` to `b` for some seconds, from the other CPU.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn flood(world: &World, n_bytes: usize) -> (f64, Work) {
    const TIME: Duration = Duration::from_secs(2);
    let mut frame = vec![0; n_bytes];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    let received = || -> u64 {
        world
            .run("cat /sys/class/net/eth0/statistics/rx_packets", "b")
            .trim()
            .parse()
            .expect("a number")
    };
    let before = received();
    let work = world.inside("a", || {
        pin(0);
        bare::flood("eth0", &frame, TIME)
    });
    ((received() - before) as f64 / TIME.as_secs_f64(), work)
}

fn by_switch(world: &World, n_bytes: usize) -> Flood {
    let switch = Switch::new(1);
    let devices = [
        switch.plug(world, 0, "up-a", NATIVE),
        switch.plug(world, 1, "up-b", NATIVE),
    ];
    assert_eq!(world.ping("a", "10.99.0.2", 3), 3);
    let before = switch.cores.core_counters()[0];
    let (rate, work) = flood(world, n_bytes);
    let after = switch.cores.core_counters()[0];
    let cycles = each(
        after.busy_cycles - before.busy_cycles,
        after.rx_frames - before.rx_frames,
    );
    drop((switch.down(0), switch.down(1), devices, switch));
    Flood {
        rate,
        sender: each(work.n_cycles, work.n_frames),
        forwarder: Some((cycles, None)),
    }
}

/// Ends a loop when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn by_bare_loop(world: &World, n_bytes: usize) -> Flood {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when something below fails: else the loop would be waited for without end.
        let end = Ends(&is_over);
        let forward = || {
            world.inside("sw", || {
                bare::forward(["up-a", "up-b"], || is_over.load(Ordering::Relaxed))
            })
        };
        let forwarder = scope.spawn(forward);
        let runs = (0..20).any(|_| world.ping("a", "10.99.0.2", 1) == 1);
        let flooded = runs.then(|| flood(world, n_bytes));
        drop(end);
        let (rate, work) = flooded.expect("the loop forwards");
        let done = forwarder.join().expect("the loop");
        let cycles = (
            each(done.n_cycles, done.n_frames),
            Some(each(done.n_kernel, done.n_frames)),
        );
        Flood {
            rate,
            sender: each(work.n_cycles, work.n_frames),
            forwarder: Some(cycles),
        }
    })
}

fn by_bridge(world: &World, n_bytes: usize) -> Flood {
    let (rate, work) = world.bridged(|| flood(world, n_bytes));
    Flood {
        rate,
        sender: each(work.n_cycles, work.n_frames),
        forwarder: None,
    }
}

#[test]
#[ignore = "a measurement, which wants the machine for itself"]
fn flood_beside_a_bare_loop_and_the_kernels_bridge() {
    let Some(_turn) = can_run("flood_beside_a_bare_loop_and_the_kernels_bridge") else {
        return;
    };
    let world = World::new(1);
    // The forwarders' threads are started from here and have this CPU, the sender pins itself to
    // the other.
    pin(1);
    println!(
        "minimum, median, maximum of {RUNS} runs in turns, one loop on one CPU, its sender on the \
        other"
    );
    for n_bytes in [60, 512, 1514] {
        let ways: [Way; 3] = [
            ("weir", by_switch),
            ("bare loop", by_bare_loop),
            ("bridge", by_bridge),
        ];
        let mut runs: [Vec<Flood>; 3] = Default::default();
        for _ in 0..RUNS {
            for (runs, (_, way)) in runs.iter_mut().zip(ways) {
                runs.push(way(&world, n_bytes));
            }
        }
        let spread = |runs: &[Flood], of: fn(&Flood) -> Option<f64>| {
            spread(&runs.iter().filter_map(of).collect::<Vec<_>>())
        };
        for (runs, (name, _)) in runs.iter().zip(ways) {
            println!(
                "{n_bytes} bytes, {name}: kpps {}",
                spread(runs, |run| Some(run.rate / 1e3))
            );
            println!(
                "    sender and the kernel's receiving half, cycles a frame: {}",
                spread(runs, |run| Some(run.sender))
            );
            if runs[0].forwarder.is_some() {
                println!(
                    "    forwarder, cycles a frame: {}",
                    spread(runs, |run| Some(run.forwarder?.0))
                );
            }
            if runs[0]
                .forwarder
                .is_some_and(|(_, kernel)| kernel.is_some())
            {
                println!(
                    "    of them in the kernel's transmit: {}",
                    spread(runs, |run| run.forwarder?.1)
                );
            }
        }
        let ratios: Vec<_> = runs[0]
            .iter()
            .zip(&runs[1])
            .map(|(weir, bare)| 100.0 * weir.rate / bare.rate)
            .collect();
        println!(
            "{n_bytes} bytes: weir's rate in per cent of the bare loop's: {}",
            self::spread(&ratios)
        );
    }
}
