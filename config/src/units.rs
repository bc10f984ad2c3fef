//! Quantities with units: rates, sizes, times; and CPU numbers.
//!
//! Each is a type of its own with `FromStr` and `Display`, which are inverse to each other. An
//! ambiguous unit (`1gbps`: bits or bytes?) is refused, and [`BadValue`] suggests an unambiguous
//! one.

use std::fmt;
use std::str::FromStr;

/// Why a value is refused and what to write instead, for people, without a full stop at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl BadValue {
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for BadValue {}

/// A unit of a quantity.
struct Unit {
    name: &'static str,
    factor: u64,
    /// Wrong spellings, in lower case; each is refused with `name` as suggestion.
    slips: &'static [&'static str],
}

/// The units of one quantity, smallest first, and its name.
struct Scale {
    what: &'static str,
    units: &'static [Unit],
    why_not: &'static str,
}

const BITS: Scale = Scale {
    what: "rate",
    units: &[
        Unit {
            name: "bit",
            factor: 1,
            slips: &["", "b", "bits", "bps", "bit/s"],
        },
        Unit {
            name: "kbit",
            factor: 1_000,
            slips: &["k", "kb", "kbits", "kbps", "kb/s", "kbit/s", "kibit", "kib"],
        },
        Unit {
            name: "mbit",
            factor: 1_000_000,
            slips: &["m", "mb", "mbits", "mbps", "mb/s", "mbit/s", "mibit", "mib"],
        },
        Unit {
            name: "gbit",
            factor: 1_000_000_000,
            slips: &["g", "gb", "gbits", "gbps", "gb/s", "gbit/s", "gibit", "gib"],
        },
    ],
    why_not: "it could mean bits or bytes, or powers of 1000 or of 1024",
};

const PACKETS: Scale = Scale {
    what: "packet rate",
    units: &[
        Unit {
            name: "pps",
            factor: 1,
            slips: &["", "p", "packets", "packets/s", "p/s"],
        },
        Unit {
            name: "kpps",
            factor: 1_000,
            slips: &["k", "kp", "kp/s", "kpackets"],
        },
        Unit {
            name: "mpps",
            factor: 1_000_000,
            slips: &["m", "mp", "mp/s", "mpackets"],
        },
    ],
    why_not: "it doesn't say packets per second",
};

const SIZES: Scale = Scale {
    what: "size",
    units: &[
        Unit {
            name: "B",
            factor: 1,
            slips: &["", "b", "byte", "bytes"],
        },
        Unit {
            name: "KiB",
            factor: 1 << 10,
            slips: &["k", "kb", "ki", "kib", "kbyte"],
        },
        Unit {
            name: "MiB",
            factor: 1 << 20,
            slips: &["m", "mb", "mi", "mib", "mbyte"],
        },
    ],
    why_not: "it could mean powers of 1000 or of 1024",
};

const TIMES: Scale = Scale {
    what: "time",
    units: &[
        Unit {
            name: "us",
            factor: 1,
            slips: &["", "µs", "μs", "usec", "micros", "microseconds"],
        },
        Unit {
            name: "ms",
            factor: 1_000,
            slips: &["m", "msec", "millis", "milliseconds"],
        },
        Unit {
            name: "s",
            factor: 1_000_000,
            slips: &["sec", "secs", "second", "seconds"],
        },
    ],
    why_not: "it doesn't say which part of a second",
};

impl Scale {
    /// Reads `text`; the value is at least 1.
    fn read(&self, text: &str) -> Result<u64, BadValue> {
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        if number.is_empty() {
            return Err(BadValue::new(
                format!("this is not a {}", self.what),
                self.help(),
            ));
        }
        let unit = self.unit(number, unit)?;
        let value = scaled(number, unit.factor).ok_or_else(|| {
            BadValue::new(
                format!(
                    "`{number}{}` is too large, or not a whole number of `{}`",
                    unit.name, self.units[0].name
                ),
                self.help(),
            )
        })?;
        if value == 0 {
            return Err(BadValue::new(
                format!("a {} of zero lets nothing through", self.what),
                "leave the key out",
            ));
        }
        Ok(value)
    }

    fn unit(&self, number: &str, unit: &str) -> Result<&Unit, BadValue> {
        if let Some(known) = self.units.iter().find(|known| known.name == unit) {
            return Ok(known);
        }
        let lower = unit.trim().to_lowercase();
        match self
            .units
            .iter()
            .find(|u| u.name.to_lowercase() == lower || u.slips.contains(&lower.as_str()))
        {
            None => Err(BadValue::new(
                format!("unknown unit in a {}", self.what),
                self.help(),
            )),
            Some(meant) if unit.is_empty() => Err(BadValue::new(
                format!("a {} needs a unit", self.what),
                format!("write `{number}{}`", meant.name),
            )),
            Some(meant) if meant.name.to_lowercase() == lower => Err(BadValue::new(
                format!(
                    "the unit is written `{}`, directly after the number",
                    meant.name
                ),
                format!("write `{number}{}`", meant.name),
            )),
            Some(meant) => Err(BadValue::new(
                format!("`{}` is ambiguous: {}", unit.trim(), self.why_not),
                format!("write `{number}{}` if that is what you mean", meant.name),
            )),
        }
    }

    fn help(&self) -> String {
        let names: Vec<_> = self
            .units
            .iter()
            .map(|unit| format!("`{}`", unit.name))
            .collect();
        format!(
            "write a number and one of {}, as in `10{}`",
            names.join(" "),
            self.units[1].name
        )
    }

    /// Prints in the largest unit that gives a whole number, so that parsing it gives the same
    /// value.
    fn write(&self, value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: &&Unit| value >= unit.factor && value.is_multiple_of(unit.factor);
        match self.units.iter().rev().find(fits) {
            Some(unit) => write!(f, "{}{}", value / unit.factor, unit.name),
            None => write!(f, "{value}{}", self.units[0].name),
        }
    }
}

/// `number` (digits, at most one point) times `factor`, if that is a whole number that fits.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let mut value = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let fraction_digits = fraction.trim_end_matches('0');
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if !fraction_digits.is_empty() {
        let divisor = 10u64.checked_pow(u32::try_from(fraction_digits.len()).ok()?)?;
        let part = fraction_digits.parse::<u64>().ok()?.checked_mul(factor)?;
        if !part.is_multiple_of(divisor) {
            return None;
        }
        value = value.checked_add(part / divisor)?;
    }
    Some(value)
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $scale:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// None for zero.
            pub fn new(value: u64) -> Option<Self> {
                (value > 0).then_some(Self(value))
            }

            /// The value in the smallest unit.
            pub fn value(self) -> u64 {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = BadValue;
            fn from_str(text: &str) -> Result<Self, BadValue> {
                $scale.read(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $scale.write(self.0, f)
            }
        }
    };
}

quantity!(
    /// A rate in bits per second, at least 1: `1gbit`. Powers of 1000.
    BitsPerSec,
    BITS
);
quantity!(
    /// A rate in packets per second, at least 1: `200kpps`. Powers of 1000.
    PacketsPerSec,
    PACKETS
);
quantity!(
    /// A size in bytes, at least 1: `64KiB`. Powers of 1024.
    Bytes,
    SIZES
);

quantity!(
    /// A time in microseconds, at least 1: `20ms`.
    Micros,
    TIMES
);

/// Highest CPU number in the kernel's fixed-size CPU set.
const CORE_MAX: u16 = 1023;

/// A CPU by its number, 0 to 1023. The daemon checks whether this machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(u16);

impl CoreId {
    /// None for a number over 1023.
    pub fn new(number: u16) -> Option<Self> {
        (number <= CORE_MAX).then_some(Self(number))
    }

    /// Its number.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl FromStr for CoreId {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let number = text
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten();
        number.and_then(Self::new).ok_or_else(|| {
            BadValue::new(
                "this is not a CPU number",
                format!("write a number from 0 to {CORE_MAX}, as in `cores: [2, 3]`"),
            )
        })
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
