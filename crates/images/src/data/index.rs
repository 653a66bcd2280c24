//! A compact list of the names of a data set's images.

/// Paths in one buffer: 16 bytes per path, plus the path itself.
#[derive(Debug, Default)]
pub(super) struct Index {
    arena: Vec<u8>,
    /// Start and length of each path in the arena.
    spans: Vec<(u64, u32)>,
}

impl Index {
    pub(super) fn push(&mut self, path: &[u8]) {
        self.spans.push((self.arena.len() as u64, path.len() as u32));
        self.arena.extend_from_slice(path);
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub(super) fn get(&self, index: usize) -> &[u8] {
        slice(&self.arena, self.spans[index])
    }

    /// The index of `path`, once the paths are sorted.
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        self.spans.binary_search_by(|&span| slice(&self.arena, span).cmp(path)).ok()
    }

    /// Sorts by bytes, which for UTF-8 is the order of code points.
    pub(super) fn sort(&mut self) {
        let Self { arena, spans } = self;
        spans.sort_unstable_by(|&a, &b| slice(arena, a).cmp(slice(arena, b)));
        spans.shrink_to_fit();
        arena.shrink_to_fit();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|&span| slice(&self.arena, span))
    }
}

fn slice(arena: &[u8], (start, length): (u64, u32)) -> &[u8] {
    &arena[start as usize..][..length as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_compact() {
        let mut index = Index::default();
        let mut path_bytes = 0;
        for i in 0..100_000 {
            let path = format!("class-{}/picture-{i}.jpg", i % 1000);
            path_bytes += path.len();
            index.push(path.as_bytes());
        }
        index.sort();
        let bytes = index.arena.capacity() + index.spans.capacity() * size_of::<(u64, u32)>();
        // An epoch's order needs 4 more bytes per file; 200 are allowed.
        assert!(bytes + 4 * 100_000 <= path_bytes + 20 * 100_000, "{bytes}");
    }
}
