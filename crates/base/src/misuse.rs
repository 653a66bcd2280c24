//! The error for a request that makes no sense.

use std::error::Error;
use std::fmt;

/// A request that cannot be carried out as it was made. The sentence has the value and the remedy.
#[derive(Debug)]
pub struct Misuse(pub String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Misuse {}
