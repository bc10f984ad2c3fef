use proptest::prelude::*;

use super::*;
use crate::address::{MacAddr, cidr};

fn help<T: FromStr<Err = BadValue>>(text: &str) -> String {
    T::from_str(text)
        .err()
        .unwrap_or_else(|| panic!("`{text}` was accepted"))
        .to_string()
}

#[test]
fn rates_read_in_every_unit() {
    let cases = [
        ("1bit", 1),
        ("64kbit", 64_000),
        ("200mbit", 200_000_000),
        ("1gbit", 1_000_000_000),
        ("2.5gbit", 2_500_000_000),
        ("0.5kbit", 500),
    ];
    for (text, value) in cases {
        assert_eq!(text.parse::<BitsPerSec>().unwrap().value(), value, "{text}");
    }
    assert_eq!("200kpps".parse::<PacketsPerSec>().unwrap().value(), 200_000);
    assert_eq!("64KiB".parse::<Bytes>().unwrap().value(), 65_536);
    for (text, value) in [("250us", 250), ("20ms", 20_000), ("0.5s", 500_000)] {
        assert_eq!(text.parse::<Micros>().unwrap().value(), value, "{text}");
    }
}

#[test]
fn units_print_in_the_largest_that_fits() {
    for text in ["1bit", "1500mbit", "1gbit", "2500mbit", "1001bit"] {
        assert_eq!(text.parse::<BitsPerSec>().unwrap().to_string(), text);
    }
    assert_eq!(
        "1000kpps".parse::<PacketsPerSec>().unwrap().to_string(),
        "1mpps"
    );
    assert_eq!("1024KiB".parse::<Bytes>().unwrap().to_string(), "1MiB");
}

#[test]
fn ambiguous_units_are_refused_with_the_suggestion() {
    assert_eq!(
        help::<BitsPerSec>("1gbps"),
        "`gbps` is ambiguous: it could mean bits or bytes, or powers of 1000 or of 1024; write \
        `1gbit` if that is what you mean"
    );
    for (text, meant) in [
        ("100bps", "`100bit`"),
        ("10MB/s", "`10mbit`"),
        ("5G", "`5gbit`"),
        ("1Gbit", "`1gbit`"),
    ] {
        assert!(
            help::<BitsPerSec>(text).contains(meant),
            "{text}: {}",
            help::<BitsPerSec>(text)
        );
    }
    assert!(help::<BitsPerSec>("10 gbit").contains("`10gbit`"));
    assert!(help::<BitsPerSec>("1000").contains("needs a unit; write `1000bit`"));
    assert!(help::<PacketsPerSec>("200k").contains("`200kpps`"));
    assert!(help::<Bytes>("64KB").contains("`64KiB`"));
    assert!(help::<Bytes>("64kib").contains("`64KiB`"));
    for (text, meant) in [
        ("20", "`20us`"),
        ("20msec", "`20ms`"),
        ("1 s", "`1s`"),
        ("5µs", "`5us`"),
    ] {
        assert!(
            help::<Micros>(text).contains(meant),
            "{text}: {}",
            help::<Micros>(text)
        );
    }
}

#[test]
fn rates_that_are_no_rates_are_refused() {
    for text in [
        "",
        "fast",
        "-1gbit",
        "1..5gbit",
        ".gbit",
        "1.gbit",
        "0gbit",
        "0.1bit",
        "1.0000000001gbit",
        "1tbit",
    ] {
        assert!(text.parse::<BitsPerSec>().is_err(), "{text}");
    }
    assert!("18446744074gbit".parse::<BitsPerSec>().is_err());
    assert!("99999999999999999999bit".parse::<BitsPerSec>().is_err());
}

#[test]
fn core_is_a_plain_number() {
    assert_eq!("1023".parse::<CoreId>().unwrap().index(), 1023);
    for text in ["1024", "-1", "+1", "", "0x1", "1.0", "2-5"] {
        assert!(text.parse::<CoreId>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn quantities_read_back_what_they_print(value in 1u64.., exponent in 0u32..16) {
        // Multiples of powers of ten, or large units would never be tried.
        let value = (value >> 32).max(1).saturating_mul(10u64.pow(exponent));
        let bits = BitsPerSec::new(value).unwrap();
        prop_assert_eq!(bits.to_string().parse::<BitsPerSec>(), Ok(bits));
        let packets = PacketsPerSec::new(value).unwrap();
        prop_assert_eq!(packets.to_string().parse::<PacketsPerSec>(), Ok(packets));
        let bytes = Bytes::new((value >> exponent).max(1) << exponent).unwrap();
        prop_assert_eq!(bytes.to_string().parse::<Bytes>(), Ok(bytes));
    }

    #[test]
    fn quantities_print_canonical_text_as_read(number in 1u64..1000, unit in 0usize..4) {
        let text = format!("{number}{}", ["bit", "kbit", "mbit", "gbit"][unit]);
        prop_assert_eq!(text.parse::<BitsPerSec>().unwrap().to_string(), text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _ = (text.parse::<BitsPerSec>(), text.parse::<PacketsPerSec>(), text.parse::<Bytes>());
        let _ = (text.parse::<MacAddr>(), cidr(&text), text.parse::<CoreId>());
    }
}
