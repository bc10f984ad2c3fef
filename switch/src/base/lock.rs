//! Locks whose value outlives a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The value behind a lock. A thread that panicked while it held the lock has left a value that is
/// whole: every change under a lock here is a plain store.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
