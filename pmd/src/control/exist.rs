//! Which ports there are, of the ids that are reserved.
//!
//! A port exists from [`Cores::add_port`] on, whether it is up or not. What ports share out among
//! themselves (mappings of guests' memory, address space) is divided by those that exist.

use flowtable::PortId;

use super::cores::Cores;
use crate::error::SetupError;

impl Cores {
    /// The port exists from now on: before it first comes up, so that those who share something out
    /// count it. To add it again changes nothing.
    ///
    /// # Errors
    /// The id is none of those that were reserved at the start.
    pub fn add_port(&self, port: PortId) -> Result<(), SetupError> {
        let n_reserved = self.n_reserved();
        if usize::from(port) >= n_reserved {
            return Err(SetupError::new(format!(
                "there is no room for another port: {n_reserved} were reserved at the start \
                (ports: in the topology)"
            )));
        }
        self.books().present.insert(port);
        Ok(())
    }

    /// Ports that exist, up or not. What ports share is divided by this number: whoever came when
    /// there were fewer keeps what it has.
    pub fn n_ports(&self) -> usize {
        self.books().present.len()
    }
}
