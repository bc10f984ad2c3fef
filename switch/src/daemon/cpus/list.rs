//! Lists of CPUs as the kernel writes them: `0-3,8`.

use std::fmt::Write as _;

/// CPU numbers are below this; longer ranges are cut.
const CPU_END: usize = 1 << 13;

/// The CPUs of a list; what is not a number is ignored.
pub(super) fn parse(list: &str) -> Vec<usize> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse().ok()?..last.trim().parse::<usize>().ok()?.min(CPU_END) + 1)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// CPUs as a list.
pub(super) fn ranges(cpus: &[usize]) -> String {
    let mut cpus = cpus.to_vec();
    cpus.sort_unstable();
    let mut text = String::new();
    for run in cpus.chunk_by(|a, b| a + 1 == *b) {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string can't fail.
        let _ = match run {
            [one] => write!(text, "{comma}{one}"),
            [first, .., last] => write!(text, "{comma}{first}-{last}"),
            [] => Ok(()),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel_are_understood() {
        assert_eq!(parse("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(parse("5"), [5]);
        assert_eq!(
            (parse(""), parse("\n"), parse("(null)\n"), parse("3-1")),
            (vec![], vec![], vec![], vec![])
        );
        assert_eq!(
            parse("0-18446744073709551615").len(),
            CPU_END + 1,
            "and nobody has to wait for that"
        );
        assert_eq!(ranges(&[8, 0, 1, 2]), "0-2,8");
        assert_eq!(ranges(&[]), "");
    }
}
