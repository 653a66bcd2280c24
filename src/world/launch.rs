//! What the launcher says about this process: its rank, the number of processes, and where they
//! meet. Only environment variables are read, so pixtok does not link MPI.

mod hostlist;

use std::num::NonZeroU16;
use std::str::FromStr;

use hostlist::first_host;
use pixtok_base::{Class, Classified};

/// Kubernetes sets only the index of a completion; the job's manifest has to set the number.
pub(super) const KUBERNETES: &str = "an indexed Kubernetes job";

/// RANK and WORLD_SIZE without torchrun's other variables: set by hand, or by a PyTorchJob.
const BY_HAND: &str = "an environment with RANK";

/// The port if neither MASTER_PORT nor a job's id determines one. It is torchrun's default too.
const DEFAULT_PORT: u16 = 29_500;

/// The ports that are computed from the ids of jobs: the first, and how many. 20000 to 29490 lie
/// below those that Linux gives to outgoing connections (32768 and above). Their number is a prime,
/// so that ids which differ in their last digits have different ports.
const JOB_PORTS: (u16, u32) = (20_000, 9_491);

/// The address of process 0 if all processes run on one host.
const LOOPBACK: &str = "127.0.0.1";

/// Whose variables a process has in its environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// torchrun, PyTorchJob, or RANK and WORLD_SIZE set by hand.
    Rank,
    /// mpirun of Open MPI 4 and 5.
    OpenMpi,
    /// mpiexec of MPICH and of Intel MPI, whose process manager is Hydra.
    Hydra,
    /// srun.
    Slurm,
    /// An indexed Kubernetes job.
    Indexed,
}

/// The environment variables with the rank of a process and the number of processes, by launcher.
/// In a step of an interactive Slurm job, SLURM_NTASKS is the job's, so the step's variable comes
/// first.
const LAUNCHERS: [(Kind, &str, &str, &str); 6] = [
    (Kind::Rank, "torchrun", "RANK", "WORLD_SIZE"),
    (Kind::OpenMpi, "mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    (Kind::Hydra, "mpirun", "PMI_RANK", "PMI_SIZE"),
    (Kind::Slurm, "srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    (Kind::Slurm, "srun", "SLURM_PROCID", "SLURM_NTASKS"),
    (Kind::Indexed, KUBERNETES, "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
];

/// What a launcher says about this process, with the values as they are in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The name of the launcher.
    pub launcher: &'static str,
    /// The variable with the process's rank, and its value.
    pub index: (&'static str, String),
    /// The variable with the number of processes, and its value, if it is set.
    pub count: (&'static str, Option<String>),
    kind: Kind,
}

/// Where the processes of a launch meet, and which of them this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// The name of the launcher.
    pub launcher: &'static str,
    /// The rank of this process: its number, counted from 0.
    pub rank: u32,
    /// The number of processes, at least 1.
    pub size: u32,
    /// The rank of this process on its host; `rank` if the launcher doesn't say it. It chooses the
    /// CUDA device, modulo the number of devices that the process sees, which may be one.
    pub local_rank: u32,
    /// The host of process 0, as a name or an address.
    pub host: String,
    /// The port of the store on that host.
    pub port: u16,
    /// Whether the launcher serves the store itself, as torchrun's agent does, so that process 0 is
    /// a client too. Such a store outlives the processes, and keeps their keys when they are started
    /// again.
    pub served: bool,
    /// How often the launcher has restarted this process. On several hosts, torchrun counts
    /// separately on each, so the processes may disagree.
    pub restarts: u32,
    /// A name for this start's keys in the store, the same in all processes. It differs from that
    /// of an earlier start, except under torchrun on several hosts, which has no such value.
    pub name: String,
}

/// The launcher's variables don't say where the processes meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// There are several processes, and this one doesn't know which it is.
    #[error(
        "WORLD_SIZE is {size}, and RANK is not set; set it to the number of this process, or unset WORLD_SIZE"
    )]
    NoRank {
        /// How many there are.
        size: u32,
    },
    /// The number of processes is unknown.
    #[error(
        "{index} is {own:?}, and {count} is not set; set it to the number of completions in the job's manifest"
    )]
    NoCount {
        /// The variable with the process's number.
        index: &'static str,
        /// Its value.
        own: String,
        /// The variable with the number of processes.
        count: &'static str,
    },
    /// The rank of the process does not fit the number of processes.
    #[error("{index} is {own:?} and {count} is {all:?}; {index} must be a number from 0 to {count} - 1")]
    NoProcess {
        /// The variable with the process's number.
        index: &'static str,
        /// Its value.
        own: String,
        /// The variable with the number of processes.
        count: &'static str,
        /// Its value.
        all: String,
    },
    /// Nothing says on which host process 0 runs.
    #[error("{launcher} started {size} processes, and MASTER_ADDR is not set; {remedy}")]
    NoHost {
        /// The name of the launcher.
        launcher: &'static str,
        /// The number of processes.
        size: u32,
        /// How to set it.
        remedy: &'static str,
    },
    /// MASTER_PORT is not a port.
    #[error("MASTER_PORT is {value:?}, which is not a port; set it to a number from 1 to 65535")]
    NoPort {
        /// The variable's value.
        value: String,
    },
    /// A variable that must be a number is not.
    #[error("{variable} is {value:?}, which is not a number; correct it, or unset it")]
    NoNumber {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// A list of hosts can't be parsed.
    #[error(
        "{variable} is {value:?}, which can't be read as a list of hosts; set MASTER_ADDR to the host of \
         task 0"
    )]
    NoNodes {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// Process 0 isn't where the others look for it.
    #[error(
        "task 0 runs on {here}, but the others look for it on {first}, the first host of {variable}; \
         set MASTER_ADDR to {here} before srun"
    )]
    OtherNode {
        /// The host of process 0.
        here: String,
        /// The first host of the list.
        first: String,
        /// The variable with the list.
        variable: &'static str,
    },
    /// The variables are those that a torchrun in each pod reads.
    #[error(
        "{variable} is {value:?}, which is meant for a torchrun in each pod; in the pods, start \
         `torchrun --no-python -- pixtok …` instead of pixtok"
    )]
    ForTorchrun {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
}

impl Classified for LaunchError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

impl Meeting {
    /// What a process that now waits for the others says; `None` if there are no others.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let Self { size, host, port, launcher, .. } = self;
        (self.size > 1).then(|| format!("{size} processes meet at {host}:{port} (by {launcher})"))
    }
}

impl Launch {
    /// Finds the launcher of this process by its variables. `variable` looks one up.
    #[must_use]
    pub fn find(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let in_step = variable("SLURM_STEP_ID").is_some();
        LAUNCHERS.into_iter().find_map(|(kind, launcher, index, count)| {
            let own = variable(index)?;
            let other = match kind {
                // A batch script has these variables of its job too, but it is a single process.
                Kind::Slurm => !in_step && variable("SLURM_JOB_ID").is_some(),
                // `srun --mpi=pmi2` sets these variables too; only Hydra sets the rank on the host.
                Kind::Hydra => in_step && variable("MPI_LOCALRANKID").is_none(),
                Kind::Rank | Kind::OpenMpi | Kind::Indexed => false,
            };
            if other {
                return None;
            }
            let all = variable(count);
            // The shells of some clusters set the rank in a single process too.
            let known = all.is_some() || kind == Kind::Indexed;
            known.then_some(Self { launcher, index: (index, own), count: (count, all), kind })
        })
    }

    /// The rank and the number of processes; `None` if one is missing or they don't fit.
    #[must_use]
    pub fn numbers(&self) -> Option<(u32, u32)> {
        let (index, count) = (self.index.1.trim().parse().ok()?, self.count.1.as_ref()?.trim().parse().ok()?);
        (index < count).then_some((index, count))
    }

    /// Where the processes of this launch meet; `None` if no launcher started this process, or if
    /// its processes work separately.
    ///
    /// # Errors
    /// The same as [`Launch::meeting`].
    pub fn meeting_of_process(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Meeting>, LaunchError> {
        let Some(launch) = Self::find(&variable) else {
            let size = variable("WORLD_SIZE").and_then(|size| size.trim().parse().ok()).unwrap_or(1);
            return if size > 1 { Err(LaunchError::NoRank { size }) } else { Ok(None) };
        };
        let meeting = launch.is_together(&variable).then(|| launch.meeting(&variable));
        meeting.transpose()
    }

    /// The same as [`Launch::numbers`], or the error.
    pub(super) fn required_numbers(&self) -> Result<(u32, u32), LaunchError> {
        self.numbers().ok_or_else(|| self.no_numbers())
    }

    /// The rank on its host of this process, which has the given `rank` among all.
    pub(super) fn local_rank_of(
        &self,
        rank: u32,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<u32, LaunchError> {
        self.local_rank(rank, &Environment(&variable))
    }

    /// Whether the processes can find each other. The pods of an indexed Kubernetes job can if its
    /// manifest says where they meet.
    #[must_use]
    pub fn is_together(&self, variable: impl Fn(&str) -> Option<String>) -> bool {
        let environment = Environment(&variable);
        // A TrainJob of Kubeflow is such a job too, and has PET_MASTER_ADDR.
        let meets = |name| environment.text(name).is_some();
        self.kind != Kind::Indexed || meets("MASTER_ADDR") || meets("PET_MASTER_ADDR")
    }

    /// Where the processes meet. A launch of a single process has a meeting too. `variable` looks a
    /// variable up.
    ///
    /// # Errors
    /// [`LaunchError`] names the variable that is missing or wrong.
    pub fn meeting(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Meeting, LaunchError> {
        let environment = Environment(&variable);
        self.check_pods(&environment)?;
        let (rank, size) = self.required_numbers()?;
        let restarts = match environment.number("TORCHELASTIC_RESTART_COUNT")? {
            Some(restarts) => restarts,
            None => environment.number("SLURM_RESTART_COUNT")?.unwrap_or(0),
        };
        let id = self.id(&environment);
        let derived = id.as_deref().map_or(DEFAULT_PORT, port_of);
        let port = match environment.text("MASTER_PORT") {
            None => derived,
            Some(value) => match value.parse::<NonZeroU16>() {
                Ok(port) => port.get(),
                Err(_) => return Err(LaunchError::NoPort { value }),
            },
        };
        let id = id.unwrap_or_else(|| "pixtok".to_owned());
        let several_agents = environment.number("GROUP_WORLD_SIZE")?.is_some_and(|agents: u32| agents > 1);
        Ok(Meeting {
            launcher: self.started_by(&environment),
            rank,
            size,
            local_rank: self.local_rank(rank, &environment)?,
            host: self.host(rank, size, &environment)?,
            port,
            served: environment.text("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True"),
            restarts,
            name: if several_agents { id } else { format!("{id}/{restarts}") },
        })
    }

    /// The launcher's name. Without torchrun's own variables, RANK was set by hand or by an operator.
    fn started_by(&self, environment: &Environment<'_>) -> &'static str {
        let by_hand = self.kind == Kind::Rank && environment.text("TORCHELASTIC_RUN_ID").is_none();
        if by_hand { BY_HAND } else { self.launcher }
    }

    /// Refuses pods whose variables are meant for a torchrun in each: they number the pods, not the
    /// processes.
    fn check_pods(&self, environment: &Environment<'_>) -> Result<(), LaunchError> {
        let variable = match self.kind {
            Kind::Indexed if environment.text("MASTER_ADDR").is_none() => "PET_MASTER_ADDR",
            // With a number above 1, WORLD_SIZE counts processes, and RANK still counts pods.
            Kind::Rank if environment.text("LOCAL_RANK").is_none() => "PET_NPROC_PER_NODE",
            _ => return Ok(()),
        };
        match environment.text(variable) {
            Some(value) if self.kind == Kind::Indexed || value.parse().is_ok_and(|each: u32| each > 1) => {
                Err(LaunchError::ForTorchrun { variable, value })
            }
            _ => Ok(()),
        }
    }

    fn no_numbers(&self) -> LaunchError {
        let ((index, own), (count, all)) = (self.index.clone(), self.count.clone());
        match all {
            Some(all) => LaunchError::NoProcess { index, own, count, all },
            None => LaunchError::NoCount { index, own, count },
        }
    }

    /// An id that is the same in all processes of this launch, and in no other launch.
    fn id(&self, environment: &Environment<'_>) -> Option<String> {
        let job = || environment.text("SLURM_JOB_ID");
        match self.kind {
            Kind::Rank => environment.text("TORCHELASTIC_RUN_ID"),
            Kind::OpenMpi => environment.text("PMIX_NAMESPACE"),
            // MPICH has no such variable.
            Kind::Hydra => environment.text("I_MPI_HYDRA_UUID").or_else(job),
            Kind::Slurm => Some(format!("{}.{}", job()?, environment.text("SLURM_STEP_ID")?)),
            Kind::Indexed => None,
        }
    }

    fn local_rank(&self, rank: u32, environment: &Environment<'_>) -> Result<u32, LaunchError> {
        let variable = match self.kind {
            Kind::Rank => "LOCAL_RANK",
            Kind::OpenMpi => "OMPI_COMM_WORLD_LOCAL_RANK",
            Kind::Hydra => "MPI_LOCALRANKID",
            Kind::Slurm => "SLURM_LOCALID",
            // A pod has one process, and its own devices.
            Kind::Indexed => return Ok(0),
        };
        Ok(environment.number(variable)?.unwrap_or(rank))
    }

    /// The host of process 0.
    fn host(&self, rank: u32, size: u32, environment: &Environment<'_>) -> Result<String, LaunchError> {
        if let Some(host) = environment.text("MASTER_ADDR") {
            return Ok(host);
        }
        let one_host = match self.kind {
            Kind::OpenMpi => environment.number("OMPI_COMM_WORLD_LOCAL_SIZE")? == Some(size),
            Kind::Hydra => environment.number("MPI_LOCALNRANKS")? == Some(size),
            Kind::Slurm => environment.number("SLURM_STEP_NUM_NODES")? == Some(1u32),
            Kind::Rank | Kind::Indexed => false,
        };
        if size == 1 || one_host {
            return Ok(LOOPBACK.to_owned());
        }
        let remedy = match self.kind {
            Kind::Slurm => return first_node(rank, environment),
            Kind::Rank => "set it to the host of process 0, and MASTER_PORT to a free port there",
            // The addresses in their variables belong to daemons: on mpirun's own host, which may
            // have no process, or on each process's host.
            Kind::OpenMpi => "give mpirun -x MASTER_ADDR=HOST -x MASTER_PORT=PORT with the host of process 0",
            Kind::Hydra => {
                "give mpiexec -genv MASTER_ADDR HOST -genv MASTER_PORT PORT with the host of process 0"
            }
            Kind::Indexed => "set it in the job's manifest to the name of the pod with index 0",
        };
        Err(LaunchError::NoHost { launcher: self.started_by(environment), size, remedy })
    }
}

/// The first host of a Slurm step, which has task 0 unless tasks are distributed differently.
/// SLURM_LAUNCH_NODE_IPADDR is not used: srun itself runs there, often on a login node.
fn first_node(rank: u32, environment: &Environment<'_>) -> Result<String, LaunchError> {
    let lists = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"];
    let list = lists.into_iter().find_map(|name| Some((name, environment.text(name)?)));
    let (variable, value) = list.unwrap_or((lists[0], String::new()));
    let Some(first) = first_host(&value) else { return Err(LaunchError::NoNodes { variable, value }) };
    match environment.text("SLURMD_NODENAME") {
        Some(here) if rank == 0 && here != first => Err(LaunchError::OtherNode { here, first, variable }),
        _ => Ok(first),
    }
}

/// The port for a job's id.
fn port_of(id: &str) -> u16 {
    let (first, count) = JOB_PORTS;
    let place = id.bytes().fold(0, |place, byte| (place * 31 + u32::from(byte)) % count);
    first + place as u16
}

/// The environment of this process, as a function that looks a variable up.
struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    /// The value of a variable; `None` if it is not set or empty.
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn number<N: FromStr>(&self, variable: &'static str) -> Result<Option<N>, LaunchError> {
        let read = |value: String| {
            value.parse().map_err(|_| LaunchError::NoNumber { variable, value: value.clone() })
        };
        self.text(variable).map(read).transpose()
    }
}

#[cfg(test)]
mod tests;
