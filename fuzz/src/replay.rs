//! Inputs that are kept in files, and pseudo-random ones: what a machine without libFuzzer can do.

use std::fs;
use std::path::{Path, PathBuf};

use rig::Dice;

/// Runs a target over its seeds and over every input that once made it fail (`crashes/TARGET/`,
/// where a file's name says what was wrong). Gives their number.
pub fn replay(target: &str, run: fn(&[u8])) -> usize {
    let kept = kept(target);
    for path in kept.iter().take(if cfg!(miri) { 6 } else { usize::MAX }) {
        let bytes = fs::read(path).expect("a file that was just listed");
        eprintln!("{}", path.display());
        run(&bytes);
    }
    kept.len()
}

/// Runs a target over `n` inputs made from seeds (`FUZZ_TIMES` as many, if that is set): bytes at
/// random, and kept inputs with some of their bytes changed.
pub fn random(target: &str, n: usize, run: fn(&[u8])) {
    let times = std::env::var("FUZZ_TIMES")
        .ok()
        .and_then(|times| times.parse().ok())
        .unwrap_or(1);
    // An interpreter takes a second for what takes a millisecond.
    let n = if cfg!(miri) {
        n.div_ceil(1000)
    } else {
        n * times
    };
    let kept: Vec<Vec<u8>> = kept(target)
        .iter()
        .filter_map(|path| fs::read(path).ok())
        .collect();
    for seed in 0..n {
        let mut dice = Dice::new(seed as u64 + 1);
        let bytes = if kept.is_empty() || seed % 3 == 0 {
            (0..dice.below(400)).map(|_| byte(&mut dice)).collect()
        } else {
            changed(&kept, &mut dice)
        };
        eprintln!("{target}, input {seed}");
        run(if cfg!(miri) {
            &bytes[..bytes.len().min(80)]
        } else {
            &bytes
        });
    }
}

/// A kept input and a part of another, some bytes of it changed, cut somewhere.
fn changed(kept: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = kept[dice.below(kept.len())].clone();
    let other = &kept[dice.below(kept.len())];
    bytes.truncate(dice.below(bytes.len() + 1));
    bytes.extend(&other[dice.below(other.len() + 1)..]);
    for _ in 0..dice.below(8) {
        if !bytes.is_empty() {
            let at = dice.below(bytes.len());
            bytes[at] = byte(dice);
        }
    }
    bytes
}

fn byte(dice: &mut Dice) -> u8 {
    u8::try_from(dice.below(256)).expect("below 256")
}

fn kept(target: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = ["corpus", "crashes"]
        .iter()
        .filter_map(|folder| fs::read_dir(root.join(folder).join(target)).ok())
        .flatten()
        .map(|entry| entry.expect("a folder that can be listed").path())
        .collect();
    paths.sort();
    paths
}
