//! Reads single pages of the images in a Parquet file, in any order. A page is the smallest unit
//! that can be decompressed.
//!
//! The positions of the pages are determined once, from their headers: most files lack an index of
//! pages.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::parquet::basic::Type as PhysicalType;
use ::parquet::column::page::PageReader;
use ::parquet::column::reader::ColumnReaderImpl;
use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::file::page_index::offset_index::PageLocation;
use ::parquet::file::reader::{ChunkReader, FileReader, Length};
use ::parquet::file::serialized_reader::SerializedPageReader;
use ::parquet::schema::types::ColumnDescPtr;

use super::table::Table;
use pixtok_base::panics::in_words;

/// The images of a file, by pages.
#[derive(Debug)]
pub(in crate::data) struct Pages {
    path: PathBuf,
    column: ColumnDescPtr,
    chunks: Vec<ColumnChunkMetaData>,
    /// The pages, in row order.
    pub(in crate::data) pages: Vec<Page>,
}

/// Consecutive rows whose images are stored together.
#[derive(Debug, Clone, Copy)]
pub(in crate::data) struct Page {
    /// The row group.
    chunk: u32,
    /// The index in `pages` of the first page of its row group.
    head: u32,
    /// Its first row, counted within the row group.
    first: u64,
    /// The number of rows.
    pub(in crate::data) rows: u64,
    offset: u64,
    /// The size in bytes, compressed, with the header.
    size: u64,
}

impl Pages {
    /// Finds the pages of an opened table. Reads only their headers.
    pub(super) fn of(table: &Table) -> Result<Pages, String> {
        let about = table.reader.metadata();
        let index = table.columns.image.index;
        let file = File::open(&table.path).map_err(|error| error.to_string())?;
        let file = Arc::new(Places { file, asked: AtomicU64::new(0) });
        let mut found = Pages {
            path: table.path.clone(),
            column: about.file_metadata().schema_descr().column(index),
            chunks: about.row_groups().iter().map(|group| group.column(index).clone()).collect(),
            pages: vec![],
        };
        let groups = about.row_groups().iter().map(|group| group.num_rows());
        for (chunk, rows) in groups.enumerate() {
            let rows = u64::try_from(rows).map_err(|_| "a row group has a negative length".to_owned())?;
            let head = found.pages.len();
            in_words(|| found.add(&file, chunk, rows))?;
            let there: u64 = found.pages[head..].iter().map(|page| page.rows).sum();
            if there != rows {
                return Err(format!("row group {chunk} has {there} images, but its metadata say {rows}"));
            }
        }
        Ok(found)
    }

    /// Adds the pages of a row group.
    fn add(&mut self, file: &Arc<Places>, chunk: usize, rows: u64) -> ParquetResult<()> {
        let meta = &self.chunks[chunk];
        let (start, length) = meta.byte_range();
        let head = self.pages.len();
        let mut reader = SerializedPageReader::new(Arc::clone(file), meta, rows as usize, None)?;
        let mut first = 0;
        while let Some(page) = reader.peek_next_page()? {
            let offset = file.asked.load(Ordering::Relaxed);
            if let Some(before) = self.pages[head..].last_mut()
                && before.size == 0
            {
                before.size = offset.saturating_sub(before.offset);
            }
            reader.skip_next_page()?;
            if page.is_dict {
                continue;
            }
            // In a column without lists each level is a row.
            let rows = page.num_rows.or(page.num_levels).unwrap_or_default() as u64;
            self.pages.push(Page { chunk: chunk as u32, head: head as u32, first, rows, offset, size: 0 });
            first += rows;
        }
        if let Some(last) = self.pages[head..].last_mut() {
            last.size = start.saturating_add(length).saturating_sub(last.offset);
        }
        Ok(())
    }

    /// The size of all images in bytes, decompressed.
    pub(in crate::data) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::try_from(chunk.uncompressed_size()).unwrap_or_default()).sum()
    }

    pub(in crate::data) fn path(&self) -> &Path {
        &self.path
    }

    /// The images of a page, given its index in `pages`; `None` for null values.
    pub(in crate::data) fn read(&self, page: usize) -> Result<Vec<Option<ByteArray>>, String> {
        let page = self.pages[page];
        // A column without values has no type.
        if self.column.physical_type() != PhysicalType::BYTE_ARRAY {
            return Ok(vec![None; page.rows as usize]);
        }
        let file = File::open(&self.path).map_err(|error| format!("cannot read it: {error}"))?;
        let file = Arc::new(Places { file, asked: AtomicU64::new(0) });
        in_words(|| self.decode(file, page)).map_err(|reason| format!("its table is damaged: {reason}"))
    }

    fn decode(&self, file: Arc<Places>, page: Page) -> ParquetResult<Vec<Option<ByteArray>>> {
        let head = self.pages[page.head as usize];
        // The reader takes everything before the first location for the dictionary, so the first
        // location must be that of the row group's first page.
        let mut locations = vec![head.location()?];
        if page.first > 0 {
            locations.push(page.location()?);
        }
        let (first, rows) = (page.first as usize, page.rows as usize);
        let meta = &self.chunks[page.chunk as usize];
        let reader = SerializedPageReader::new(file, meta, first + rows, Some(locations))?;
        let mut reader = ColumnReaderImpl::<ByteArrayType>::new(Arc::clone(&self.column), Box::new(reader));
        let (mut levels, mut values) = (vec![], vec![]);
        let skipped = reader.skip_records(first)?;
        let (read, ..) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
        if (skipped, read) != (first, rows) {
            return Err(ParquetError::General(format!("a page has {read} rows where it had {rows}")));
        }
        let full = self.column.max_def_level();
        let mut values = values.into_iter();
        if full == 0 {
            return Ok(values.map(Some).collect());
        }
        Ok(levels.into_iter().map(|level| if level == full { values.next() } else { None }).collect())
    }
}

impl Page {
    fn location(&self) -> ParquetResult<PageLocation> {
        let too_large = |_| ParquetError::General("a page is too large".to_owned());
        Ok(PageLocation {
            offset: self.offset as i64,
            compressed_page_size: i32::try_from(self.size).map_err(too_large)?,
            first_row_index: self.first as i64,
        })
    }
}

/// A file that any thread can read at any place. It remembers where it was last read, since the
/// page reader does not say where a header begins.
#[derive(Debug)]
struct Places {
    file: File,
    asked: AtomicU64,
}

impl Length for Places {
    fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }
}

impl ChunkReader for Places {
    type T = std::io::BufReader<At>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.asked.store(start, Ordering::Relaxed);
        let file = self.file.try_clone()?;
        // A header has a few hundred bytes.
        Ok(std::io::BufReader::with_capacity(512, At { file, next: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<bytes::Bytes> {
        // Never allocate what a damaged file claims.
        if start.checked_add(length as u64).is_none_or(|end| end > self.len()) {
            return Err(ParquetError::EOF(format!("it ends before byte {start} + {length}")));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// A reader at a place in a file.
#[derive(Debug)]
struct At {
    file: File,
    next: u64,
}

impl std::io::Read for At {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(into, self.next)?;
        self.next += read as u64;
        Ok(read)
    }
}
