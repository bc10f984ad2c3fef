//! How often ports were looked at, for tests of what reports cost.

use std::cell::Cell;

thread_local! {
    static N_LOOKS: Cell<usize> = const { Cell::new(0) };
}

/// A port is looked at: its id is compared, or its state copied.
pub(crate) fn look() {
    N_LOOKS.set(N_LOOKS.get() + 1);
}

/// How often `work` looked at ports, in this thread.
pub(crate) fn looks_of<T>(work: impl FnOnce() -> T) -> usize {
    let before = N_LOOKS.get();
    work();
    N_LOOKS.get() - before
}
