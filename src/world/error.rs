//! What can go wrong among several processes.

use super::LaunchError;
use pixtok_base::{Class, Classified};
use pixtok_torch::TorchError;

/// The processes could not meet, or an exchange failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// The launcher's variables don't say where the processes meet.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// This process cannot serve the store at which all meet.
    #[error(
        "process 0 can't serve the store on port {port} ({reason}); if another job uses the port, set MASTER_PORT to a free one in every process"
    )]
    Port {
        /// The port.
        port: u16,
        /// libtorch's words.
        reason: String,
    },
    /// Process 0 does not run where the processes meet.
    #[error(
        "process 0 can't reach the store that it serves itself at {host}:{port} ({reason}); set MASTER_ADDR to a name or an address of the host of process 0"
    )]
    OtherHost {
        /// Where the store should be.
        host: String,
        /// The port there.
        port: u16,
        /// libtorch's words.
        reason: String,
    },
    /// Two processes have the same rank.
    #[error(
        "another process has already come to {host}:{port} as process {rank}; if it is of another job, set MASTER_PORT to a free port in every process of this one"
    )]
    Claimed {
        /// This process.
        rank: u32,
        /// Where the processes meet.
        host: String,
        /// The port there.
        port: u16,
    },
    /// There is no such network interface.
    #[error("GLOO_SOCKET_IFNAME names {name:?}, and this host has only {known}")]
    Interface {
        /// The name.
        name: String,
        /// The interfaces of this host.
        known: String,
    },
    /// This process found nobody at the meeting place.
    #[error(
        "process {rank} of {size} found no store at {host}:{port} within {seconds} s ({reason}); check that process 0 is running, that MASTER_ADDR and MASTER_PORT are its host and port, and that the port is open"
    )]
    NoStore {
        /// This process.
        rank: u32,
        /// How many there are.
        size: u32,
        /// Where the store should be.
        host: String,
        /// The port there.
        port: u16,
        /// How long it was tried.
        seconds: u64,
        /// libtorch's words.
        reason: String,
    },
    /// An exchange failed because of another process.
    #[error("process {rank} stopped in {what}: {who}")]
    Lost {
        /// This process.
        rank: u32,
        /// The exchange, in words.
        what: String,
        /// The processes to blame and what is wrong with each, in words.
        who: String,
    },
    /// The processes have different settings or data.
    #[error("{0}")]
    Differs(String),
    /// libtorch failed outside an exchange.
    #[error("{0}")]
    Torch(String),
}

impl Classified for WorldError {
    fn class(&self) -> Class {
        match self {
            Self::Launch(_)
            | Self::Port { .. }
            | Self::OtherHost { .. }
            | Self::Claimed { .. }
            | Self::Interface { .. }
            | Self::Differs(_) => Class::Misuse,
            Self::NoStore { .. } | Self::Lost { .. } | Self::Torch(_) => Class::Failed,
        }
    }
}

impl From<TorchError> for WorldError {
    fn from(error: TorchError) -> Self {
        Self::Torch(error.to_string())
    }
}
