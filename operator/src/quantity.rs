//! Quantities of memory and CPU, in the subset of Kubernetes' notation that a request may use.

use std::fmt;
use std::str::FromStr;

/// Mebibyte, the unit in which the operator itself sets memory.
pub const MEBIBYTE: u64 = 1 << 20;

/// A text that is no quantity of the supported form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{found}` is not a quantity such as {example}")]
pub struct QuantityError {
    found: String,
    example: &'static str,
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory {
    bytes: u64,
}

impl Memory {
    /// From a number of bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// Number of bytes.
    pub const fn bytes(self) -> u64 {
        self.bytes
    }
}

impl FromStr for Memory {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        const UNITS: [(&str, u64); 8] = [
            ("Ki", 1 << 10),
            ("Mi", 1 << 20),
            ("Gi", 1 << 30),
            ("Ti", 1 << 40),
            ("k", 1_000),
            ("M", 1_000_000),
            ("G", 1_000_000_000),
            ("T", 1_000_000_000_000),
        ];
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|digits| (digits, *unit)))
            .unwrap_or((text, 1));
        positive(digits)
            .and_then(|number| number.checked_mul(unit))
            .map(Self::from_bytes)
            .ok_or_else(|| QuantityError {
                found: text.to_owned(),
                example: "4Gi",
            })
    }
}

impl fmt::Display for Memory {
    /// The largest binary unit without a remainder, as Kubernetes writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suffix, shift) in [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)] {
            if self.bytes != 0 && self.bytes.trailing_zeros() >= shift {
                return write!(f, "{}{suffix}", self.bytes >> shift);
            }
        }
        write!(f, "{}", self.bytes)
    }
}

/// An amount of CPU time per time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu {
    millis: u64,
}

impl Cpu {
    /// From thousandths of a core.
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// Threads that make sense with this much CPU: rounded down, at least one.
    pub const fn threads(self) -> u64 {
        if self.millis < 2000 {
            1
        } else {
            self.millis / 1000
        }
    }
}

impl FromStr for Cpu {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (digits, unit) = match text.strip_suffix('m') {
            Some(digits) => (digits, 1),
            None => (text, 1000),
        };
        positive(digits)
            .and_then(|number| number.checked_mul(unit))
            .map(|millis| Self { millis })
            .ok_or_else(|| QuantityError {
                found: text.to_owned(),
                example: "2 or 1500m",
            })
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis.is_multiple_of(1000) {
            write!(f, "{}", self.millis / 1000)
        } else {
            write!(f, "{}m", self.millis)
        }
    }
}

fn positive(digits: &str) -> Option<u64> {
    let plain = digits.chars().all(|c| c.is_ascii_digit());
    digits.parse().ok().filter(|number| plain && *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_and_written_as_kubernetes_does() {
        for (text, bytes, written) in [
            ("4Gi", 4 << 30, "4Gi"),
            ("1536Mi", 1536 << 20, "1536Mi"),
            ("1024Mi", 1 << 30, "1Gi"),
            ("5k", 5000, "5000"),
            ("2T", 2_000_000_000_000, "1953125000Ki"),
        ] {
            let memory: Memory = text.parse().unwrap();
            assert_eq!(memory.bytes(), bytes, "{text}");
            assert_eq!(memory.to_string(), written);
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "",
            "0",
            "-1",
            "4 Gi",
            "4GiB",
            "+4",
            "99999999999999999999",
            "99999999999Ti",
        ] {
            assert!(text.parse::<Memory>().is_err(), "{text}");
        }
        for text in ["", "0", "m", "1.5", "-1", "0m"] {
            assert!(text.parse::<Cpu>().is_err(), "{text}");
        }
    }

    #[test]
    fn threads_are_whole_and_at_least_one() {
        for (text, threads) in [("100m", 1), ("1", 1), ("1999m", 1), ("2", 2), ("3500m", 3)] {
            assert_eq!(text.parse::<Cpu>().unwrap().threads(), threads, "{text}");
        }
    }
}
