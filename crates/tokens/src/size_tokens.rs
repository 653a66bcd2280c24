//! Ids that state the size of a grid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Grid, TokensError};

/// The number of ids that spell a size: the digits and the sign between the two numbers.
const SPELLING: usize = 11;

/// How the ids of an image state the size of its grid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum SizeTokens {
    /// They do not.
    #[default]
    None,
    /// Two ids: `base` + h / `div`, `base` + w / `div`.
    Grid {
        /// The id of size 0.
        base: u32,
        /// The number of positions per step of the id.
        div: u32,
    },
    /// "h*w" in text: the ids of 0 to 9 and of `*`.
    Text {
        /// The ids of 0 to 9 and of `*`, in this order.
        ids: [u32; SPELLING],
    },
}

impl SizeTokens {
    /// The ids that state the size of `grid`.
    pub(super) fn ids(&self, grid: Grid) -> Result<Vec<u32>, TokensError> {
        match self {
            SizeTokens::None => Ok(vec![]),
            SizeTokens::Grid { base, div } => [grid.h, grid.w]
                .into_iter()
                .map(|side| {
                    let steps = (side % div == 0).then(|| side / div);
                    steps.and_then(|steps| base.checked_add(steps)).ok_or_else(|| {
                        TokensError::Unsuitable(format!(
                            "a grid of {}×{} has no size ids, since {side} is not a multiple of the {div} of --size-tokens",
                            grid.h, grid.w
                        ))
                    })
                })
                .collect(),
            SizeTokens::Text { ids } => Ok(format!("{}*{}", grid.h, grid.w)
                .chars()
                .map(|c| ids[c.to_digit(10).map_or(SPELLING - 1, |digit| digit as usize)])
                .collect()),
        }
    }

    /// The size that `ids` begin with; `None` if they begin with none. Inverse of
    /// [`SizeTokens::ids`].
    pub(super) fn read(&self, ids: &[u32]) -> Option<Grid> {
        match self {
            Self::None => None,
            Self::Grid { base, div } => {
                let side = |place: usize| ids.get(place)?.checked_sub(*base)?.checked_mul(*div);
                Some(Grid { h: side(0)?, w: side(1)? })
            }
            Self::Text { ids: spelling } => {
                let sign = |id: &u32| {
                    let place = spelling.iter().position(|own| own == id)? as u32;
                    Some(char::from_digit(place, 10).unwrap_or('*'))
                };
                let text: String = ids.iter().map_while(sign).collect();
                let (h, w) = text.split_once('*')?;
                Some(Grid { h: h.parse().ok()?, w: w.parse().ok()? })
            }
        }
    }

    /// The number of positions of which the grid's sides must be multiples.
    #[must_use]
    pub fn step(&self) -> u32 {
        match self {
            Self::Grid { div, .. } => (*div).max(1),
            _ => 1,
        }
    }
}

impl FromStr for SizeTokens {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "\"{text}\" does not state a size; use none, grid:BASE, grid:BASE:DIV or text:ID,… with the ids of 0 to 9 and of *"
            )
        };
        let number = |part: &str| part.trim().parse::<u32>().map_err(|_| refused());
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            Some(("grid", rest)) => {
                let (base, div) = rest.split_once(':').unwrap_or((rest, "1"));
                Ok(Self::Grid { base: number(base)?, div: number(div)? })
            }
            Some(("text", rest)) => {
                let ids: Vec<u32> = rest.split(',').map(number).collect::<Result<_, _>>()?;
                Ok(Self::Text { ids: ids.try_into().map_err(|_| refused())? })
            }
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for SizeTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Grid { base, div } => write!(f, "grid:{base}:{div}"),
            Self::Text { ids } => {
                let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
                write!(f, "text:{}", ids.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_spelt() {
        let ids = [15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 9];
        let text = SizeTokens::Text { ids };
        // 32*9
        assert_eq!(text.ids(Grid { h: 32, w: 9 }).unwrap(), [18, 17, 9, 24]);
        assert_eq!(text.read(&[18, 17, 9, 24, 7]), Some(Grid { h: 32, w: 9 }));
        assert_eq!((text.read(&[18, 17, 24]), text.read(&[9, 24])), (None, None));
        let halves = SizeTokens::Grid { base: 8804, div: 2 };
        assert_eq!(halves.ids(Grid { h: 32, w: 48 }).unwrap(), [8820, 8828]);
        assert_eq!(halves.read(&[8820, 8828, 7]), Some(Grid { h: 32, w: 48 }));
        assert_eq!((halves.read(&[8820]), halves.read(&[7, 8828])), (None, None));
        assert!(halves.ids(Grid { h: 5, w: 4 }).unwrap_err().to_string().contains("5 is not a multiple"));
    }

    #[test]
    fn size_tokens_are_read_from_flags() {
        for text in ["none", "grid:8804:2", "text:15,16,17,18,19,20,21,22,23,24,9"] {
            assert_eq!(text.parse::<SizeTokens>().unwrap().to_string(), text);
        }
        assert_eq!("grid:5".parse(), Ok(SizeTokens::Grid { base: 5, div: 1 }));
        for wrong in ["", "grid", "grid:x", "text:1,2", "rows"] {
            assert!(wrong.parse::<SizeTokens>().unwrap_err().contains("grid:BASE"), "{wrong}");
        }
    }
}
