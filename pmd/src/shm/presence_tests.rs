//! Pages that are granted, lost and put back, without a mapping.

use super::*;

fn presence(n_pages: usize) -> Presence {
    Presence::new(
        File::open("/dev/null").unwrap(),
        0,
        0,
        n_pages << 12,
        4096,
        false,
        Arc::new(Account::default()),
    )
}

#[test]
fn run_of_granted_pages_ends_where_one_is_not() {
    for (n_pages, holes) in [
        (1, vec![]),
        (64, vec![]),
        (65, vec![64]),
        (200, vec![0, 63, 64, 130]),
        (300, vec![299]),
    ] {
        let presence = presence(n_pages);
        (0..n_pages)
            .filter(|page| !holes.contains(page))
            .for_each(|page| presence.grant(page));
        for page in 0..n_pages {
            let first = (0..=page)
                .rev()
                .find(|at| holes.contains(at))
                .map_or(0, |hole| hole + 1);
            let end = (page..n_pages)
                .find(|at| holes.contains(at))
                .unwrap_or(n_pages);
            let run = (!holes.contains(&page)).then_some((first << 12, end << 12));
            assert_eq!(
                presence.granted_around(page << 12 | 17),
                run,
                "page {page} of {n_pages} without {holes:?}"
            );
        }
    }
}

/// A page's own word and those that may be looked at beside it tell of so many pages.
#[test]
fn run_of_granted_pages_is_looked_at_no_further_however_long_it_is() {
    const N: usize = 1 << 20;
    let presence = presence(N);
    (0..N).for_each(|page| presence.grant(page));
    for page in [0, 63, 64, N / 2, N / 2 + 17, N - 1] {
        let (from, to) = presence.granted_around(page << 12).unwrap();
        assert!((from..to).contains(&(page << 12)));
        let n_words = (to >> 12).div_ceil(64) - (from >> 12) / 64;
        assert!(n_words <= 2 * WORDS_BESIDE + 1, "{n_words} words");
        let n_beside = (page - (from >> 12)).min((to >> 12) - page);
        assert!(n_beside >= 64 * WORDS_BESIDE || page < 65 || page == N - 1);
    }
}

#[test]
fn buffer_is_there_when_all_its_pages_are_and_the_others_are_wanted_once() {
    let presence = presence(130);
    presence.grant(63);
    presence.grant(64);
    assert!(presence.is_granted(63 << 12, 8192) && presence.is_granted(64 << 12, 0));
    assert!(!presence.is_granted((62 << 12) + 4095, 8193) && !presence.is_granted(129 << 12, 1));
    assert_eq!(presence.wanted().collect::<Vec<_>>(), [62, 129]);
    presence.take_wanted(62);
    assert_eq!(presence.wanted().collect::<Vec<_>>(), [129]);
}

#[test]
fn page_that_was_lost_is_not_granted_until_it_is_mended_and_too_many_are_too_many() {
    let presence = presence(128);
    (0..128).for_each(|page| presence.grant(page));
    let lose = |page: usize| {
        let at = (page << 12) + 5;
        let place = presence.may_lose(at).then(|| presence.page_around(at));
        place.inspect(|_| presence.lose((page << 12) + 5))
    };
    for page in 0..HOLES_MAX {
        assert_eq!(lose(page), Some((page << 12, 4096)));
        assert!(!presence.has(page) && presence.is_hole(page));
    }
    assert_eq!(
        lose(3),
        Some((3 << 12, 4096)),
        "another core met the same one"
    );
    assert_eq!(lose(100), None);
    presence.mend(7);
    assert!(lose(101).is_some() && lose(102).is_none());
    assert_eq!(presence.n_lost(), HOLES_MAX as u64 + 2);
}

#[test]
fn guest_may_lose_one_page_however_many_others_have_lost() {
    let presence = presence(128);
    assert!(presence.may_lose_beside(HOLES_MAX_OF_ALL, 5 << 12));
    presence.lose(5 << 12);
    assert!(
        presence.may_lose_beside(HOLES_MAX_OF_ALL, 5 << 12),
        "it is lost already"
    );
    assert!(!presence.may_lose_beside(HOLES_MAX_OF_ALL, 6 << 12));
    assert!(presence.may_lose_beside(HOLES_MAX_OF_ALL - 1, 6 << 12));
}
