//! Point lists: CSV tables with columns `x`, `y` and `z` in mm (RAS+). Other columns are kept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::atomic::{self, WriteError, Written};

/// Why a table was not read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The system could not read it.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("`{}` line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What was found and what was expected.
        problem: String,
    },
}

/// A table with a header line.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Column names.
    pub columns: Vec<String>,
    /// Cells of each line.
    pub rows: Vec<Vec<String>>,
    /// Line of each row in the file, from 1.
    lines: Vec<usize>,
    path: PathBuf,
}

impl Table {
    /// Reads a comma-separated file. Cells cannot hold commas.
    ///
    /// # Errors
    /// [`TableError`] naming the line.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let text = fs::read_to_string(path).map_err(|source| TableError::Io {
            path: path.to_owned(),
            source,
        })?;
        let cells = |line: &str| {
            line.split(',')
                .map(|cell| cell.trim().to_owned())
                .collect::<Vec<_>>()
        };
        let mut lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty());
        let fail = |line: usize, problem: String| TableError::Line {
            path: path.to_owned(),
            line: line + 1,
            problem,
        };
        let columns = lines
            .next()
            .map(|(_, line)| cells(line.trim_start_matches('\u{feff}')))
            .ok_or_else(|| {
                fail(
                    0,
                    "the file is empty, expected a line of column names".to_owned(),
                )
            })?;
        let (mut rows, mut numbers) = (Vec::new(), Vec::new());
        for (number, line) in lines {
            let row = cells(line);
            if row.len() != columns.len() {
                return Err(fail(
                    number,
                    format!("has {} cells, expected {}", row.len(), columns.len()),
                ));
            }
            rows.push(row);
            numbers.push(number + 1);
        }
        Ok(Self {
            columns,
            rows,
            lines: numbers,
            path: path.to_owned(),
        })
    }

    /// Position of a column.
    ///
    /// # Errors
    /// [`TableError::Line`] naming the column that is missing.
    pub fn column(&self, name: &str) -> Result<usize, TableError> {
        self.columns
            .iter()
            .position(|column| column == name)
            .ok_or_else(|| TableError::Line {
                path: self.path.clone(),
                line: 1,
                problem: format!(
                    "has columns {:?}, expected one named `{name}`",
                    self.columns
                ),
            })
    }

    /// The numbers in three columns, row by row.
    ///
    /// # Errors
    /// [`TableError::Line`] naming the cell that is not a finite number.
    pub fn points(&self, names: [&str; 3]) -> Result<Vec<[f64; 3]>, TableError> {
        let columns = [
            self.column(names[0])?,
            self.column(names[1])?,
            self.column(names[2])?,
        ];
        self.rows
            .iter()
            .enumerate()
            .map(|(index, row)| {
                let mut point = [0.0; 3];
                for (value, column) in point.iter_mut().zip(columns) {
                    *value = row[column]
                        .parse()
                        .ok()
                        .filter(|v: &f64| v.is_finite())
                        .ok_or_else(|| self.wrong_cell(index, column, "a number"))?;
                }
                Ok(point)
            })
            .collect()
    }

    /// The error of a cell that is not what it should be.
    pub fn wrong_cell(&self, row: usize, column: usize, expected: &str) -> TableError {
        TableError::Line {
            path: self.path.clone(),
            line: self.lines[row],
            problem: format!("`{}` is not {expected}", self.rows[row][column]),
        }
    }

    /// Replaces the numbers in three columns.
    ///
    /// # Errors
    /// [`TableError::Line`] if a column is missing.
    pub fn set_points(&mut self, names: [&str; 3], points: &[[f64; 3]]) -> Result<(), TableError> {
        let columns = [
            self.column(names[0])?,
            self.column(names[1])?,
            self.column(names[2])?,
        ];
        for (row, point) in self.rows.iter_mut().zip(points) {
            for (column, value) in columns.into_iter().zip(point) {
                row[column] = value.to_string();
            }
        }
        Ok(())
    }

    /// Writes the table.
    ///
    /// # Errors
    /// [`WriteError`] naming the file.
    pub fn write(&self, path: &Path) -> Result<Written, WriteError> {
        atomic::write(path, |out| {
            writeln!(out, "{}", self.columns.join(","))?;
            self.rows
                .iter()
                .try_for_each(|row| writeln!(out, "{}", row.join(",")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Table, TableError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.csv");
        fs::write(&path, text).unwrap();
        Table::read(&path)
    }

    #[test]
    fn points_are_replaced_and_other_columns_kept() {
        let mut table = table("name,x,y,z\na,1,2,3\nb,4,5,6\n").unwrap();
        assert_eq!(table.points(["x", "y", "z"]).unwrap()[1], [4.0, 5.0, 6.0]);
        table
            .set_points(["x", "y", "z"], &[[0.5, 0.0, 0.0], [1.0; 3]])
            .unwrap();
        assert_eq!(table.rows[0], ["a", "0.5", "0", "0"]);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        assert!(
            table("x,y\n1,2\n")
                .unwrap()
                .points(["x", "y", "z"])
                .unwrap_err()
                .to_string()
                .contains("`z`")
        );
        assert!(
            table("x,y,z\n1,2\n")
                .unwrap_err()
                .to_string()
                .contains("line 2")
        );
        assert!(
            table("x,y,z\n1,2,nan\n")
                .unwrap()
                .points(["x", "y", "z"])
                .unwrap_err()
                .to_string()
                .contains("`nan`")
        );
        assert!(table("").unwrap_err().to_string().contains("empty"));
    }
}
