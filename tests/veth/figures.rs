//! Figures, for a quiet machine: `cargo test --release -p tests --test veth -- --ignored --nocapture`.

use crate::world::{NATIVE, Switch, World, can_run};

/// Runs of each kind, in turns.
const RUNS: usize = 5;

fn spread(runs: &[f64]) -> String {
    let mut runs = runs.to_vec();
    runs.sort_by(f64::total_cmp);
    format!("{:.0} {:.0} {:.0}", runs[0], runs[runs.len() / 2], runs[runs.len() - 1])
}

#[test]
#[ignore = "a measurement, which wants the machine for itself"]
fn throughput_beside_the_kernels_bridge_on_the_same_veths() {
    let Some(_turn) = can_run("throughput_beside_the_kernels_bridge_on_the_same_veths") else { return };
    let world = World::new(1);
    let small = "-u -b 0 -l 18 -t 3";
    let mut runs: [Vec<f64>; 6] = Default::default();
    for _ in 0..RUNS {
        let switch = Switch::new(1);
        let devices = [switch.plug(&world, 0, "up-a", NATIVE), switch.plug(&world, 1, "up-b", NATIVE)];
        for (n, load) in ["-t 3", small].into_iter().enumerate() {
            let before = switch.fleet.cores()[0];
            runs[3 * n].push(world.tcp("a", "10.99.0.2", ("b", load)));
            let after = switch.fleet.cores()[0];
            let n_frames = after.rx_frames - before.rx_frames;
            runs[3 * n + 2].push((after.busy_cycles - before.busy_cycles) as f64 / n_frames as f64);
        }
        drop((switch.down(0), switch.down(1), devices, switch));
        world.run("ip link add br0 type bridge", "sw");
        world.run("ip link set br0 up", "sw");
        for device in ["up-a", "up-b"] {
            world.run(&format!("ip link set {device} master br0"), "sw");
        }
        assert_eq!(world.ping("a", "10.99.0.2", 3), 3);
        runs[1].push(world.tcp("a", "10.99.0.2", ("b", "-t 3")));
        runs[4].push(world.tcp("a", "10.99.0.2", ("b", small)));
        world.run("ip link del br0", "sw");
    }
    // By copy it is the kernel's transmit, in the core's own call, that most of the cycles go into.
    println!("minimum, median, maximum of {RUNS} runs");
    for (what, of) in ["TCP", "UDP, 60-byte frames"].into_iter().zip(runs.chunks(3)) {
        println!("{what}: Mbit/s: weir {}, the kernel's bridge {}", spread(&of[0]), spread(&of[1]));
        println!("{what}: weir's cycles a frame, the kernel's transmit included: {}", spread(&of[2]));
    }
}
