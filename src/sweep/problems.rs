//! Problems that are found before anything runs. All of them are reported at once.

use anyhow::Result;

use super::SweepError;

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<anyhow::Error>);

impl Problems {
    /// Keeps the error of a check. Returns its result otherwise.
    pub fn keep<T, E: Into<anyhow::Error>>(&mut self, checked: Result<T, E>) -> Option<T> {
        checked.map_err(|error| self.0.push(error.into())).ok()
    }

    /// Ends the checks. `beside` is an error that the caller returns itself if it is the only one.
    ///
    /// # Errors
    /// The only problem as it is, or [`SweepError::Several`].
    pub fn finish(mut self, beside: Option<&anyhow::Error>) -> Result<()> {
        if self.0.is_empty() || self.0.len() == 1 && beside.is_none() {
            return self.0.pop().map_or(Ok(()), Err);
        }
        let all = self.0.iter().chain(beside).map(|error| format!("{error:#}")).collect();
        Err(SweepError::Several(all).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixtok_base::Misuse;

    #[test]
    fn one_problem_stays_what_it_is_and_several_are_listed() {
        let wrong = || Misuse("a is wrong".into());
        let mut problems = Problems::default();
        assert_eq!(problems.keep(Ok::<_, Misuse>(7)), Some(7));
        assert_eq!(problems.keep(Err::<u8, _>(wrong())), None);
        assert!(problems.finish(None).unwrap_err().is::<Misuse>());
        let mut problems = Problems::default();
        problems.keep(Err::<(), _>(wrong()));
        let absent = Misuse("b is absent".into()).into();
        let error = problems.finish(Some(&absent)).unwrap_err();
        assert!(error.is::<SweepError>());
        assert_eq!(
            error.to_string(),
            "2 problems, and nothing was started:\n  - a is wrong\n  - b is absent"
        );
        Problems::default().finish(Some(&absent)).unwrap();
    }
}
