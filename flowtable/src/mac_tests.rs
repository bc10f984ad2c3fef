//! Addresses that come, move, stay and go.

use super::*;

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn table(capacity: usize) -> MacTable {
    MacTable::new(capacity, 16, [7, 11])
}

fn learn(t: &MacTable, mac: [u8; 6], port: PortId) -> Learned {
    t.learn(0, mac, port, Kind::Learned, u32::MAX, 0)
}

#[test]
fn address_is_found_in_its_own_network_alone() {
    let t = table(64);
    assert!(matches!(learn(&t, A, 3), Learned::Yes(_)));
    assert_eq!(t.find(0, A).map(|f| f.port), Some(3));
    assert_eq!(t.find(1, A), None);
    assert_eq!(t.find(0, B), None);
}

#[test]
fn move_makes_stale_what_rested_on_the_address_and_nothing_else() {
    let t = table(64);
    learn(&t, A, 1);
    learn(&t, B, 1);
    let (a, b) = (t.find(0, A).unwrap(), t.find(0, B).unwrap());
    assert!(t.move_to(a, 2, Kind::Learned, u32::MAX, 0));
    assert!(!t.holds(a.entry) && t.holds(b.entry));
    assert_eq!(t.find(0, A).unwrap().port, 2);
    assert!(!t.move_to(a, 3, Kind::Learned, u32::MAX, 0), "an old finding moves nothing");
}

#[test]
fn absence_holds_until_the_address_is_entered() {
    let t = table(64);
    let absent = t.absent(0, A).unwrap();
    assert!(t.holds(absent) && t.holds(EntryRef::from_bits(absent.bits())));
    learn(&t, A, 1);
    assert!(!t.holds(absent));
    assert_eq!(t.absent(0, A).unwrap_err().port, 1);
    t.forget_port(1);
    let again = t.absent(0, A).unwrap();
    assert!(t.holds(again) && !t.holds(absent));
}

#[test]
fn what_others_learn_leaves_most_absences_alone() {
    let (t, n) = if cfg!(miri) { (table(1 << 10), 10) } else { (table(1 << 14), 100) };
    let absent: Vec<_> = (0..n).map(|n| t.absent(0, [2, 1, 0, 0, 0, n]).unwrap()).collect();
    (0..n / 5).for_each(|n| {
        learn(&t, [2, 0, 0, 0, 0, n], 1);
    });
    assert!(absent.iter().filter(|&&absent| !t.holds(absent)).count() < usize::from(n / 10).max(2));
}

#[test]
fn static_and_sticky_addresses_cannot_be_taken_over() {
    let t = table(64);
    for (mac, kind) in [(A, Kind::Static), (B, Kind::Sticky)] {
        t.learn(0, mac, 1, kind, 9, 0);
        let found = t.find(0, mac).unwrap();
        assert!(!found.movable && !t.move_to(found, 2, Kind::Learned, u32::MAX, 0));
    }
    assert_eq!(t.age(1_000_000, 300), 0, "nor do they age");
    assert_eq!(t.forget_port(1), 1, "the sticky one goes with its guest");
    assert_eq!(t.remove_port(1), 1);
}

#[test]
fn port_keeps_as_many_addresses_as_it_may() {
    let t = table(64);
    assert!(matches!(t.learn(0, A, 1, Kind::Learned, 1, 0), Learned::Yes(_)));
    assert_eq!(t.learn(0, B, 1, Kind::Learned, 1, 0), Learned::PortFull);
    t.forget_port(1);
    assert!(matches!(t.learn(0, B, 1, Kind::Learned, 1, 0), Learned::Yes(_)));
}

#[test]
fn silent_address_ages_and_a_speaking_one_stays() {
    let t = table(64);
    learn(&t, A, 1);
    learn(&t, B, 1);
    t.touch(t.find(0, A).unwrap().entry, 250);
    assert_eq!(t.age(301, 300), 1);
    assert!(t.find(0, A).is_some() && t.find(0, B).is_none());
}

#[test]
fn slot_used_again_does_not_hold_for_the_old_address() {
    let t = table(1);
    learn(&t, A, 1);
    let old = t.find(0, A).unwrap();
    t.forget_port(1);
    for last in 0..=255 {
        learn(&t, [2, 9, 9, 9, 9, last], 1);
    }
    assert!(!t.holds(old.entry));
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn table_fills_to_its_capacity() {
    let t = table(4096);
    let learned = (0..4096u16)
        .filter(|n| {
            let [hi, lo] = n.to_be_bytes();
            matches!(learn(&t, [2, 0, 0, 0, hi, lo], 1), Learned::Yes(_))
        })
        .count();
    assert_eq!(learned, 4096);
    assert_eq!(t.rows().len(), 4096);
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn address_entered_by_two_threads_at_once_is_there_once() {
    let t = table(1 << 12);
    std::thread::scope(|s| {
        for port in 0..2 {
            let t = &t;
            s.spawn(move || {
                for n in 0..1000u16 {
                    let [hi, lo] = n.to_be_bytes();
                    while learn(t, [2, 0, 0, 0, hi, lo], port) == Learned::NotNow
                        && t.find(0, [2, 0, 0, 0, hi, lo]).is_none()
                    {}
                }
            });
        }
    });
    assert_eq!(t.rows().len(), 1000);
}
