//! Figures, for a quiet machine: `cargo test --release -p tests --test veth -- --ignored --nocapture`.

use crate::world::{NATIVE, Switch, World, can_run};

/// Runs of each kind, in turns.
const RUNS: usize = 5;

fn spread(mut runs: Vec<f64>) -> String {
    runs.sort_by(f64::total_cmp);
    format!("{:.0} {:.0} {:.0}", runs[0], runs[runs.len() / 2], runs[runs.len() - 1])
}

#[test]
#[ignore = "a measurement, which wants the machine for itself"]
fn tcp_beside_the_kernels_bridge_on_the_same_veths() {
    let Some(_turn) = can_run("tcp_beside_the_kernels_bridge_on_the_same_veths") else { return };
    let world = World::new(1);
    let (mut ours, mut kernels, mut cycles) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let switch = Switch::new(1);
        let devices = [switch.plug(&world, 0, "up-a", NATIVE), switch.plug(&world, 1, "up-b", NATIVE)];
        ours.push(world.tcp("a", "10.99.0.2", ("b", "-t 3")));
        let core = switch.fleet.cores()[0];
        cycles.push(core.busy_cycles as f64 / core.rx_frames as f64);
        drop((switch.down(0), switch.down(1), devices, switch));
        world.run("ip link add br type bridge", "sw");
        world.run("ip link set br up", "sw");
        for device in ["up-a", "up-b"] {
            world.run(&format!("ip link set {device} master br"), "sw");
        }
        assert_eq!(world.ping("a", "10.99.0.2", 3), 3);
        kernels.push(world.tcp("a", "10.99.0.2", ("b", "-t 3")));
        world.run("ip link del br", "sw");
    }
    println!("TCP, Mbit/s (min median max): weir {}, the kernel's bridge {}", spread(ours), spread(kernels));
    println!("weir, busy cycles a frame, the kernel's transmit included (min median max): {}", spread(cycles));
}
