//! Why a message is refused, for the log and the operator.

use std::fmt;

use pmd::SetupError;

/// A message is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A sentence.
    pub(crate) text: String,
    /// Whether the reason is memory that can't be shared, which the guest's start options would
    /// mend.
    pub(crate) is_memory: bool,
}

impl Refusal {
    /// With a whole sentence.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_memory: false,
        }
    }
}

impl From<SetupError> for Refusal {
    fn from(error: SetupError) -> Self {
        Self {
            text: error.to_string(),
            is_memory: error.is_memory,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Result of a message.
pub(crate) type Result<T> = std::result::Result<T, Refusal>;
