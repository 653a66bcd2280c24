//! What the program that started this process says of it: its number, and the number of processes.

/// Set in every part of a Slurm job, and in those of its steps, which srun starts.
const SLURM: [&str; 2] = ["SLURM_JOB_ID", "SLURM_STEP_ID"];

/// Kubernetes sets only the index of a completion; the job's manifest has to set the number.
pub(super) const KUBERNETES: &str = "an indexed Kubernetes job";

/// The environment variables with a process's number and the number of processes, by launcher.
const LAUNCHERS: [(&str, &str, &str); 5] = [
    ("torchrun", "RANK", "WORLD_SIZE"),
    ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("mpirun", "PMI_RANK", "PMI_SIZE"),
    ("srun", "SLURM_PROCID", "SLURM_NTASKS"),
    (KUBERNETES, "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
];

/// What a launcher says of this process. The texts are as its variables have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The name of the launcher.
    pub launcher: &'static str,
    /// The variable with the process's number, and its value.
    pub index: (&'static str, String),
    /// The variable with the number of processes, and its value, if it is set.
    pub count: (&'static str, Option<String>),
}

impl Launch {
    /// Reads what the launcher of this process says in its environment. `variable` looks a variable
    /// up.
    #[must_use]
    pub fn find(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        LAUNCHERS.into_iter().find_map(|(launcher, index, count)| {
            let own = variable(index)?;
            // A batch script itself has the numbers of its job, but it runs only once.
            if launcher == "srun" && variable(SLURM[0]).is_some() && variable(SLURM[1]).is_none() {
                return None;
            }
            let all = variable(count);
            // Some clusters' shells set the index in a single process too.
            let known = all.is_some() || launcher == KUBERNETES;
            known.then_some(Self { launcher, index: (index, own), count: (count, all) })
        })
    }

    /// The process's number and the number of processes; `None` if they don't fit or aren't set.
    #[must_use]
    pub fn numbers(&self) -> Option<(u32, u32)> {
        let (index, count) = (self.index.1.trim().parse().ok()?, self.count.1.as_ref()?.trim().parse().ok()?);
        (index < count).then_some((index, count))
    }
}
