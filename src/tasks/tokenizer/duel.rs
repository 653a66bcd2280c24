//! Warns if either the discriminator or the tokenizer has won.

use super::adversarial::ACCURACY;

/// Above this accuracy the discriminator has won: reconstructions get no useful gradient from it.
const WON: f64 = 0.98;
/// Below this accuracy the discriminator has lost: it tells nothing apart, so its gradients are
/// noise.
const LOST: f64 = 0.52;
/// The number of log rows in a row before a warning.
const ROWS: u32 = 10;

/// Counts for how many log rows in a row one of the two has been ahead.
#[derive(Debug, Default)]
pub(super) struct Duel {
    won: u32,
    lost: u32,
}

impl Duel {
    /// Takes a log row. Returns a warning, with remedies, when the count is reached.
    pub fn watch(&mut self, row: &[(String, f64)]) -> Option<String> {
        let (_, accuracy) = row.iter().find(|(name, _)| name == ACCURACY)?;
        let count = |before: u32, holds: bool| if holds { before.saturating_add(1) } else { 0 };
        self.won = count(self.won, *accuracy > WON);
        self.lost = count(self.lost, *accuracy < LOST);
        let share = 100.0 * accuracy;
        if self.won == ROWS {
            return Some(format!(
                "the discriminator has won: it has told apart {share:.0} % of images and reconstructions, and the like for {ROWS} \
                 log rows; lower adversarial.optimizer.lr, regularise it (adversarial.r1, adversarial.lecam, norm = \"group\"), \
                 augment (adversarial.augment), or start it later"
            ));
        }
        (self.lost == ROWS).then(|| {
            format!(
                "the discriminator has lost: it has told apart {share:.0} % of images and reconstructions, a coin's half, for \
                 {ROWS} log rows; raise adversarial.optimizer.lr (or, if optim/grad_norm_discriminator jumps, lower it), lower \
                 adversarial.weight, give it more adversarial.discriminator.channels, or take out regularisation"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_once_of_each_end() {
        let row = |accuracy: f64| vec![("loss/total".to_owned(), 0.0), (ACCURACY.to_owned(), accuracy)];
        let mut duel = Duel::default();
        let mut warnings = |accuracy: f64, rows: u32| -> Vec<String> {
            (0..rows).filter_map(|_| duel.watch(&row(accuracy))).collect()
        };
        assert!(warnings(0.7, 30).is_empty());
        assert!(warnings(0.99, ROWS - 1).is_empty());
        assert!(warnings(0.7, 1).is_empty(), "the count begins anew");
        let won = warnings(0.99, 30);
        assert!(won.len() == 1 && won[0].contains("has won") && won[0].contains("99 %"), "{won:?}");
        let lost = warnings(0.5, 30);
        assert!(lost.len() == 1 && lost[0].contains("has lost"), "{lost:?}");
        assert!(duel.watch(&[("loss/total".to_owned(), 0.0)]).is_none());
    }
}
