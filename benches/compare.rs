//! Some cases beside each other, taking turns:
//!
//!     compare WORD...     the cases of these names; a word that is no name means all whose names
//!                         begin with it
//!
//! Prints TSC cycles of a frame, minimum, median and maximum of all turns, and the median of what
//! each is of the first one in the same turn.

use std::process::ExitCode;

use benches::cases;

const TURNS: usize = 100;
/// Frames of a turn.
const FRAMES: u64 = 32_000;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let mut cases = cases::all();
    if words.is_empty() {
        eprintln!("compare: name some cases, or what their names begin with:");
        cases.iter().for_each(|case| eprintln!("  {}", case.name));
        return ExitCode::from(2);
    }
    let names: Vec<_> = cases.iter().map(|case| case.name.clone()).collect();
    let means = |word: &String, name: &String| {
        if names.contains(word) {
            word == name
        } else {
            name.starts_with(word)
        }
    };
    if let Some(word) = words
        .iter()
        .find(|word| !names.iter().any(|name| means(word, name)))
    {
        eprintln!("compare: no case's name begins with `{word}`; without words I list them");
        return ExitCode::from(2);
    }
    // In the order of the words, so that the first is the one to compare with.
    let place = |name: &String| words.iter().position(|word| means(word, name));
    cases.retain(|case| place(&case.name).is_some());
    cases.sort_by_key(|case| place(&case.name));
    let mut runs: Vec<_> = cases.iter().map(cases::Case::make).collect();
    let mut turns = vec![Vec::with_capacity(TURNS); cases.len()];
    for _ in 0..TURNS {
        for (run, turns) in runs.iter_mut().zip(&mut turns) {
            turns.push(run(FRAMES).per_frame());
        }
    }
    println!(
        "{:32} {:>7} {:>7} {:>7}   of the first",
        "cycles a frame", "min", "median", "max"
    );
    let first = turns[0].clone();
    for (case, turns) in cases.iter().zip(turns) {
        let ratios = turns
            .iter()
            .zip(&first)
            .map(|(one, first)| one / first)
            .collect();
        let (turns, ratios) = (sorted(turns), sorted(ratios));
        let (least, median, most) = (turns[0], turns[TURNS / 2], turns[TURNS - 1]);
        println!(
            "{:32} {least:7.1} {median:7.1} {most:7.1}   {:.3}",
            case.name,
            ratios[TURNS / 2]
        );
    }
    ExitCode::SUCCESS
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}
