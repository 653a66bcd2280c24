//! The vocabularies and framing of published models, as in their own code.

use strum::{Display, EnumString, IntoStaticStr, VariantArray, VariantNames};

use super::{Framing, SizeTokens, TokensError};

/// A published model whose ids are reproduced.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantArray, VariantNames,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = no_preset)]
pub enum Preset {
    /// Only codes.
    Raw,
    /// LlamaGen: only codes.
    Llamagen,
    /// Janus: only codes.
    Janus,
    /// Show-o, which is phi-1.5 with ten added tokens.
    ShowO,
    /// Emu3, whose text ids are those of Qwen's tokenizer.
    Emu3,
    /// Chameleon, which maps codes to ids by a table of names.
    Chameleon,
    /// Lumina-mGPT: Chameleon's table, with sizes and row ends.
    LuminaMgpt,
    /// Unified-IO 2, which has a separate table for images.
    #[strum(serialize = "unified-io-2")]
    UnifiedIo2,
}

/// The ids of a preset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresetIds {
    /// The id of code 0; `None` if a map is needed.
    pub offset: Option<u32>,
    /// The ids around the codes.
    pub framing: Framing,
}

/// Pixels per step of Lumina-mGPT's size ids.
const LUMINA_STEP: u32 = 32;

impl Preset {
    /// All presets.
    pub const ALL: &'static [Self] = <Self as VariantArray>::VARIANTS;

    /// The name as the flag takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The largest number of codes for which the model has ids, if its table limits them.
    fn most_codes(self) -> Option<u32> {
        match self {
            Self::Raw | Self::Llamagen | Self::Janus | Self::UnifiedIo2 => None,
            Self::ShowO | Self::Chameleon | Self::LuminaMgpt => Some(8192),
            Self::Emu3 => Some(32768),
        }
    }

    /// Offset and framing, for `codes` codes at `pixels` pixels a position; `None` for a sequence.
    ///
    /// # Errors
    /// When the model has no ids for so many codes, or its sizes do not suit the downsampling.
    pub fn ids(self, codes: u32, pixels: Option<u32>) -> Result<PresetIds, TokensError> {
        if let Some(most) = self.most_codes().filter(|&most| codes > most) {
            return Err(TokensError::Unsuitable(format!(
                "preset {self} has ids for {most} codes, and there are {codes}; give --vocab-offset or --vocab-map in place of the preset"
            )));
        }
        let framed = |offset, framing| Ok(PresetIds { offset, framing });
        let bare = Framing::default();
        // <racm3:break> and <eoss>.
        let chameleon = Framing { boi: Some(8197), eoi: Some(8196), ..Framing::default() };
        match self {
            Self::Raw | Self::Llamagen | Self::Janus => framed(Some(0), bare),
            // <|soi|> and <|eoi|>.
            Self::ShowO => framed(Some(50305), Framing { boi: Some(50296), eoi: Some(50297), ..bare }),
            Self::Emu3 => framed(
                Some(151_854),
                Framing {
                    boi: Some(151_852),
                    // In byte-pair vocabularies of this family, a printable byte has the id byte -
                    // 33.
                    size: SizeTokens::Text { ids: [15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 9] },
                    img: Some(151_851),
                    eol: Some(151_846),
                    eof: Some(151_847),
                    eoi: Some(151_853),
                    ..bare
                },
            ),
            Self::Chameleon => framed(None, chameleon),
            Self::LuminaMgpt => {
                // A sequence is refused for its framing.
                let pixels = pixels.unwrap_or(LUMINA_STEP);
                if pixels > LUMINA_STEP || !LUMINA_STEP.is_multiple_of(pixels) {
                    return Err(TokensError::Unsuitable(format!(
                        "preset {self} counts sizes in steps of {LUMINA_STEP} pixels, which this tokenizer's {pixels} pixels a token do \
                         not divide; give --boi, --eoi, --eol and --size-tokens in place of the preset"
                    )));
                }
                let size = SizeTokens::Grid { base: 8804, div: LUMINA_STEP / pixels };
                framed(None, Framing { eol: Some(8803), size, ..chameleon })
            }
            Self::UnifiedIo2 => framed(Some(2), Framing { bos: Some(0), ..bare }),
        }
    }
}

fn no_preset(text: &str) -> String {
    let names = <Preset as VariantNames>::VARIANTS.join(", ");
    format!("\"{text}\" is not a preset; choose from {names}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Lines;
    use crate::{Grid, Vocabulary};

    #[test]
    fn presets_collide_with_nothing() {
        for &preset in Preset::ALL {
            assert_eq!(preset.name().parse(), Ok(preset));
            let codes = preset.most_codes().unwrap_or(16384);
            let PresetIds { offset, framing } = preset.ids(codes, Some(16)).unwrap();
            // Chameleon's own table is 4 to 8195 in another order.
            let vocabulary = Vocabulary::offset(offset.unwrap_or(4), codes).unwrap();
            framing.check(&vocabulary, None).unwrap();
            framing.check_sizes(256, &vocabulary, None).unwrap();
        }
        assert_eq!(
            "emu4".parse::<Preset>().unwrap_err(),
            "\"emu4\" is not a preset; choose from raw, llamagen, janus, show-o, emu3, chameleon, lumina-mgpt, unified-io-2"
        );
    }

    #[test]
    fn emu3_reads_as_its_processor_writes_it() {
        let PresetIds { offset, framing } = Preset::Emu3.ids(32768, Some(8)).unwrap();
        let first = offset.unwrap();
        let ids: Vec<u32> = (0..6).map(|code| first + code).collect();
        let framed = framing.frame(Grid { h: 2, w: 3 }, Lines { count: 2, length: 3 }, &ids).unwrap();
        let expected = [
            151_852, 17, 9, 18, 151_851, 151_854, 151_855, 151_856, 151_846, 151_857, 151_858, 151_859,
            151_846, 151_847, 151_853,
        ];
        assert_eq!(framed, expected);
    }

    #[test]
    fn too_many_codes_and_odd_sizes_are_refused() {
        let message = Preset::ShowO.ids(16384, Some(16)).unwrap_err().to_string();
        assert!(message.contains("8192 codes, and there are 16384"), "{message}");
        assert!(Preset::LuminaMgpt.ids(8192, Some(12)).unwrap_err().to_string().contains("12 pixels"));
    }
}
