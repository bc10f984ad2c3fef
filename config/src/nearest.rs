//! Suggests a known word for an unknown one.

/// The word of `known` with the least edit distance from `word`, if it is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = folded(word);
    // Longer than any key plus the distance allowed; bounds the cost.
    if word.len() > 80 {
        return None;
    }
    let distances = known
        .into_iter()
        .map(|known| (distance(&word, &folded(known)), known));
    let (distance, known) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= word.len().max(known.len()).div_ceil(3).min(3)).then_some(known)
}

/// Differences in case and in the kind of dash don't count.
fn folded(word: &str) -> Vec<char> {
    word.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c == '_' { '-' } else { c })
        .collect()
}

/// Optimal string alignment distance: insertions, deletions, replacements, swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &cb) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(ca != cb))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && ca == b[j - 1] && a[i - 1] == cb {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 5] = ["network", "queues", "vhost-user", "mac", "macs"];

    #[test]
    fn slips_find_their_word() {
        for (slip, meant) in [
            ("netwrok", "network"),
            ("network ", "network"),
            ("queue", "queues"),
            ("vhost_user", "vhost-user"),
            ("vhostuser", "vhost-user"),
            ("MAC", "mac"),
        ] {
            assert_eq!(nearest(slip, KEYS), Some(meant), "{slip}");
        }
    }

    #[test]
    fn other_words_find_none() {
        for word in ["", "bandwidth", "x", "ip", &"n".repeat(10_000)] {
            assert_eq!(nearest(word, KEYS), None, "{word}");
        }
        assert_eq!(nearest("mac", []), None);
    }

    #[test]
    fn distance_counts_edits_and_swaps() {
        let distance = |a: &str, b: &str| distance(&folded(a), &folded(b));
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
