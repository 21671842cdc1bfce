//! The identifier of a request that came through the gateway, which is the name of its resource.
//!
//! A version 7 UUID (RFC 9562): it carries the time at which it was made. So every replica knows of
//! an identifier that it cannot find whether it may still be on its way, without remembering
//! anything. For a caller who gave a key it is a version 8 UUID, the same each time.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How long a replica that has not seen a request believes that it will.
pub const GRACE: Duration = Duration::from_secs(60);

/// An identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(Uuid);

impl Id {
    /// A new one.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The one that belongs to these words, always the same: version 8, out of their SHA-256.
    pub fn of(words: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for word in words {
            // With its length, so that no other words run together into the same.
            digest.update((word.len() as u64).to_be_bytes());
            digest.update(word);
        }
        let digest: [u8; 32] = digest.finalize().into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(Uuid::new_v8(bytes))
    }

    /// Reads one, if the text is one in the form in which they are given out.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Uuid::try_parse(text).ok()?;
        let canonical = id.hyphenated().to_string() == text;
        canonical.then_some(Self(id))
    }

    /// Whether a request of this identifier may be on its way: it was made a short while ago.
    pub fn is_young(&self, now: SystemTime) -> bool {
        let Some(made) = self.0.get_timestamp() else {
            return false;
        };
        let (seconds, nanoseconds) = made.to_unix();
        let made = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        // Clocks of replicas differ by a little, to either side.
        match now.duration_since(made) {
            Ok(age) => age < GRACE,
            Err(ahead) => ahead.duration() < GRACE,
        }
    }
}

impl Default for Id {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_read_as_it_is_written_and_in_no_other_form() {
        let id = Id::new();
        let text = id.to_string();
        assert_eq!(Id::parse(&text), Some(id));
        for other in [
            text.to_uppercase(),
            text.replace('-', ""),
            format!("{{{text}}}"),
        ] {
            assert_eq!(Id::parse(&other), None, "{other}");
        }
        assert_eq!(Id::parse("../secrets"), None);
    }

    #[test]
    fn words_have_one_identifier() {
        let id = Id::of(&["ab", "c"]);
        assert_eq!(Id::of(&["ab", "c"]), id);
        assert_ne!(Id::of(&["a", "bc"]), id);
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        assert!(!id.is_young(SystemTime::now()));
    }

    #[test]
    fn only_an_identifier_of_a_moment_ago_may_be_on_its_way() {
        let now = SystemTime::now();
        let id = Id::new();
        assert!(id.is_young(now) && id.is_young(now + GRACE / 2) && id.is_young(now - GRACE / 2));
        assert!(!id.is_young(now + 2 * GRACE) && !id.is_young(now - 2 * GRACE));
        // One of the old service: random.
        let old = Id::parse("0a1b2c3d-0000-4000-8000-000000000000").unwrap();
        assert!(!old.is_young(now));
    }
}
