//! The share of an input that a process takes.

use std::fmt;
use std::str::FromStr;

use crate::world::Launch;
use pixtok_images::data::digest;

/// Part `index` of `count`: every sample is in exactly one part. [`Division`](pixtok_tokens::Division)
/// says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The number of the part, from 0.
    pub index: u32,
    /// The number of parts, at least 1.
    pub count: u32,
}

impl Part {
    /// The whole input.
    pub const ALL: Self = Self { index: 0, count: 1 };

    /// Whether a sample with this key belongs to the part, in a division by keys.
    #[must_use]
    pub fn takes(self, key: &str) -> bool {
        digest(key) % u128::from(self.count) == u128::from(self.index)
    }

    /// Whether a key can belong to both parts, which may be of different divisions.
    pub(super) fn overlaps(self, other: Self) -> bool {
        let (mut common, mut rest) = (self.count, other.count);
        while rest != 0 {
            (common, rest) = (rest, common % rest);
        }
        self.index % common == other.index % common
    }

    /// The folder of this part in an output with several parts; `None` for the whole input.
    #[must_use]
    pub fn folder(self) -> Option<String> {
        (self.count > 1).then(|| format!("part-{:05}-of-{:05}", self.index, self.count))
    }

    /// Reads the part from the environment that a launcher gave this process, and returns the
    /// launcher's name too. `variable` looks a variable up.
    ///
    /// # Errors
    /// Names the variable that is missing or not a number.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<(Self, &'static str)>, String> {
        let Some(launch) = Launch::find(variable) else { return Ok(None) };
        let ((index, own), (count, all)) = (&launch.index, &launch.count);
        let Some(all) = all else {
            return Err(format!(
                "{index} is {own}, and {count} is not set; set it to the number of completions in the job's manifest, or give --shard {own}/N"
            ));
        };
        match launch.numbers() {
            Some((index, count)) => Ok(Some((Self { index, count }, launch.launcher))),
            None => Err(format!(
                "{index} is {own:?} and {count} is {all:?}, which is no part of a whole; correct them, or give --shard i/n"
            )),
        }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        match numbers {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => Err(format!("\"{text}\" is no part; use i/n with i from 0 to n - 1, for instance 0/8")),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<Option<(Part, &'static str)>, String> {
        Part::from_environment(|name| {
            variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn launchers_are_told_by_their_variables() {
        let part = |index, count| Part { index, count };
        for (variables, expected) in [
            (&[][..], None),
            (&[("RANK", "3"), ("WORLD_SIZE", "8")], Some((part(3, 8), "torchrun"))),
            (&[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2")], Some((part(1, 2), "srun"))),
            (&[("PMI_RANK", "0"), ("PMI_SIZE", "4")], Some((part(0, 4), "mpirun"))),
            (
                &[
                    ("OMPI_COMM_WORLD_RANK", "2"),
                    ("OMPI_COMM_WORLD_SIZE", "3"),
                    ("SLURM_PROCID", "0"),
                    ("SLURM_NTASKS", "1"),
                ],
                Some((part(2, 3), "mpirun")),
            ),
            (&[("SLURM_PROCID", "0")], None),
            (&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4"), ("SLURM_JOB_ID", "7")], None),
            (
                &[
                    ("SLURM_PROCID", "3"),
                    ("SLURM_NTASKS", "4"),
                    ("SLURM_JOB_ID", "7"),
                    ("SLURM_STEP_ID", "0"),
                ],
                Some((part(3, 4), "srun")),
            ),
            (
                &[("JOB_COMPLETION_INDEX", "4"), ("JOB_COMPLETIONS", "5")],
                Some((part(4, 5), "an indexed Kubernetes job")),
            ),
        ] {
            assert_eq!(found(variables), Ok(expected), "{variables:?}");
        }
        assert!(found(&[("JOB_COMPLETION_INDEX", "4")]).unwrap_err().contains("--shard 4/N"));
        assert!(found(&[("RANK", "8"), ("WORLD_SIZE", "8")]).unwrap_err().contains("no part of a whole"));
    }

    #[test]
    fn parts_are_read_and_share_the_keys_without_rest() {
        for wrong in ["", "1", "3/3", "-1/2", "a/b", "1/0"] {
            assert!(wrong.parse::<Part>().unwrap_err().contains("0/8"), "{wrong}");
        }
        let parts: Vec<Part> = (0..3).map(|i| format!("{i}/3").parse().unwrap()).collect();
        let mut taken = [0; 3];
        for key in (0..3000).map(|i| format!("folder/{i}")) {
            let takers: Vec<usize> = (0..3).filter(|&i| parts[i].takes(&key)).collect();
            assert_eq!(takers.len(), 1);
            taken[takers[0]] += 1;
        }
        assert!(taken.iter().all(|&count| count > 900), "{taken:?}");
        assert!(Part::ALL.takes("anything") && Part::ALL.folder().is_none());
        assert_eq!(parts[1].folder().as_deref(), Some("part-00001-of-00003"));
        let overlap = |a: &str, b: &str| a.parse::<Part>().unwrap().overlaps(b.parse().unwrap());
        assert!(overlap("1/3", "1/3") && overlap("0/2", "1/3") && overlap("0/2", "2/4"));
        assert!(!overlap("0/3", "1/3") && !overlap("0/2", "1/4"));
    }
}
