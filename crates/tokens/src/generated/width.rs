//! Whether a stream of ids was saved in a wider number type than the set has.
//!
//! `np.array(ids).tofile("gen.bin")` writes 8 bytes for each id. Read as ids of 2 or 4 bytes, the
//! upper bytes are ids of their own, all 0. Code 0 often has the id 0, and then nothing else shows
//! the mistake.

/// The number of ids that are looked at.
pub(super) const ENOUGH: u64 = 4096;
/// The least number of ids; fewer can look like this by chance.
const LEAST: usize = 16;

/// Whether every second one of the first ids of a stream is 0, and not all are.
pub(super) fn is_too_wide(ids: &[u32]) -> bool {
    let upper_are_zero = ids.iter().skip(1).step_by(2).all(|&id| id == 0);
    ids.len() >= LEAST && upper_are_zero && ids.iter().any(|&id| id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;

    #[test]
    fn wider_numbers_are_seen() {
        let ids: Vec<u32> = (0..20).map(|i| i * 7 % 40).collect();
        let read = |bytes: &[u8]| -> Vec<u32> {
            bytes.chunks(2).map(|id| u16::from_le_bytes([id[0], id[1]]).into()).collect()
        };
        assert!(!is_too_wide(&read(&Dtype::U16.to_bytes(&ids))));
        assert!(is_too_wide(&read(&Dtype::I32.to_bytes(&ids))));
        let wide: Vec<u8> = ids.iter().flat_map(|&id| u64::from(id).to_le_bytes()).collect();
        assert!(is_too_wide(&read(&wide)));
        assert!(is_too_wide(&ids.iter().flat_map(|&id| [id, 0]).collect::<Vec<_>>()), "int64 read as int32");
        // Few ids, and images that are all code 0, may look like this.
        assert!(!is_too_wide(&[3, 0, 5, 0]) && !is_too_wide(&[0; 64]));
    }
}
