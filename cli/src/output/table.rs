//! Columns without rules or borders, as in `kubectl` and `ps`.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use super::Style;

/// What a word means, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Bad,
    Warn,
    Strong,
    Faint,
}

impl Tone {
    pub(super) fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Bad => Some("31"),
            Self::Warn => Some("33"),
            Self::Strong => Some("1"),
            Self::Faint => Some("2"),
        }
    }

    fn cell(self, text: String) -> Cell {
        match self {
            Self::Plain => Cell::new(text),
            Self::Good => Cell::new(text).fg(Color::DarkGreen),
            Self::Bad => Cell::new(text).fg(Color::DarkRed),
            Self::Warn => Cell::new(text).fg(Color::DarkYellow),
            Self::Strong => Cell::new(text).add_attribute(Attribute::Bold),
            Self::Faint => Cell::new(text).add_attribute(Attribute::Dim),
        }
    }
}

pub struct Grid {
    table: Table,
    style: Style,
    empty: bool,
}

impl Grid {
    pub fn new(style: Style, header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(header.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
        if style.colour {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };
        if let Some(width) = style.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        } else {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self { table, style, empty: true }
    }

    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = (Tone, S)>) {
        self.empty = false;
        self.table.add_row(cells.into_iter().map(|(tone, text)| if self.style.colour { tone.cell(text.into()) } else { Cell::new(text.into()) }));
    }

    /// `none` where there are no rows.
    pub fn finish(self, none: &str) -> String {
        if self.empty {
            return format!("{none}\n");
        }
        self.table.lines().map(|l| format!("{}\n", l.trim_end())).collect()
    }
}
