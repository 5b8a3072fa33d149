//! Columns of text.

use super::{HEADING, harmless};
use anstyle::Style;
use std::io::{self, Write};

/// One field.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    /// Text, with whatever a terminal would obey in it shown instead.
    pub fn new(text: impl AsRef<str>) -> Self {
        let text = harmless(text.as_ref()).replace('\n', "\\n");
        Self { text, style: Style::new(), right: false }
    }

    /// A number, or something else to be read from the right.
    pub fn number(text: impl ToString) -> Self {
        Self { right: true, ..Self::new(text.to_string()) }
    }

    /// The same in a style.
    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// Rows under a heading. Columns are as wide as their widest field.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// One with these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        let heading = |text: &&str| Cell::new(text).style(HEADING);
        Self { rows: vec![headings.iter().map(heading).collect()], indent: 2 }
    }

    /// One with headings that are not known beforehand.
    pub fn headed(headings: impl Iterator<Item = String>) -> Self {
        let heading = |text: String| Cell::new(text).style(HEADING);
        Self { rows: vec![headings.map(heading).collect()], indent: 2 }
    }

    /// One without headings.
    pub fn bare() -> Self {
        Self { rows: Vec::new(), indent: 2 }
    }

    /// One more row.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// One more row, of as many fields as there are headings.
    pub fn push(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Writes it.
    pub fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column| {
            self.rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        // A heading stands as what is under it does.
        let right = |column: usize| {
            self.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.right))
        };
        let right: Vec<bool> = (0..columns).map(right).collect();
        for row in &self.rows {
            write!(page, "{:indent$}", "", indent = self.indent)?;
            for (column, cell) in row.iter().enumerate() {
                let Cell { text, style, .. } = cell;
                let fill = widths[column] - cell.width();
                let last = column + 1 == row.len();
                if right[column] {
                    write!(page, "{:fill$}{style}{text}{style:#}", "")?;
                } else {
                    let fill = if last { 0 } else { fill };
                    write!(page, "{style}{text}{style:#}{:fill$}", "")?;
                }
                if !last {
                    page.write_all(b"  ")?;
                }
            }
            page.write_all(b"\n")?;
        }
        Ok(())
    }
}
