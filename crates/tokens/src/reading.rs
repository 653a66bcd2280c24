//! Reading a shard, in any format: all its rows in order, each checked against the layout, and then
//! the end; or single rows by their number.

use super::{Layout, Row, Rows, RowsAt, TokensError};

/// The rows of a shard in one format, in order.
pub(super) trait Source: Send {
    /// Reads the next row, which is row `number` of the shard.
    fn next(&mut self, number: u64) -> Result<Row, TokensError>;

    /// Checks after the last row that the files end there.
    fn end(&mut self) -> Result<(), TokensError>;

    /// The error for a damaged file of rows.
    fn damaged(&self, reason: String) -> TokensError;
}

/// Single rows of a shard in one format. Opening the files checks that they end after the last row.
pub(super) trait SourceAt: Send + Sync {
    /// Reads row `number` of the shard, which exists.
    fn row(&self, number: u64) -> Result<Row, TokensError>;

    /// The error for a damaged file that contains row `number`.
    fn damaged(&self, number: u64, reason: String) -> TokensError;
}

/// Reads `rows` rows of `source`, and checks each.
pub(super) fn rows(source: impl Source + 'static, rows: u64, layout: &Layout) -> Rows {
    Box::new(Reading { source, layout: layout.clone(), number: 0, rows, over: false })
}

/// Reads any of the `rows` rows of `source`, and checks it.
pub(super) fn rows_at(source: impl SourceAt + 'static, rows: u64, layout: &Layout) -> RowsAt {
    let layout = layout.clone();
    Box::new(move |number| {
        if number >= rows {
            return Err(TokensError::Unsuitable(format!(
                "there is no row {number} in a shard of {rows} rows; rows count from 0"
            )));
        }
        let row = source.row(number)?;
        match mismatch(&layout, number, &row) {
            Some(reason) => Err(source.damaged(number, reason)),
            None => Ok(row),
        }
    })
}

fn mismatch(layout: &Layout, number: u64, row: &Row) -> Option<String> {
    layout.mismatch(row).map(|reason| format!("row {number} ({}): {reason}", row.key))
}

struct Reading<S> {
    source: S,
    layout: Layout,
    number: u64,
    rows: u64,
    over: bool,
}

impl<S: Source> Reading<S> {
    fn step(&mut self) -> Result<Option<Row>, TokensError> {
        let number = self.number;
        if number == self.rows {
            self.source.end()?;
            return Ok(None);
        }
        let row = self.source.next(number)?;
        if let Some(reason) = mismatch(&self.layout, number, &row) {
            return Err(self.source.damaged(reason));
        }
        self.number += 1;
        Ok(Some(row))
    }
}

impl<S: Source> Iterator for Reading<S> {
    type Item = Result<Row, TokensError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = self.step().transpose();
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}
