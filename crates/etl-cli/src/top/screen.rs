//! The screen: what is drawn, and what keys do to it.
//!
//! Drawing knows only this state, and no terminal, so that tests look at what a user would see.

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row as Cells, Table, TableState};

use super::arguments::Sort;
use super::figures::{Figures, Row, chosen};
use super::text::{HEADS, cells, harmless, heading};

/// Reasons that are shown above the tables, at most.
const REASONS: usize = 3;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    Quit,
}

/// Everything that is on the screen.
pub struct Screen {
    url: String,
    figures: Option<Figures>,
    /// Why the last poll brought none.
    trouble: Option<String>,
    sort: Sort,
    is_reversed: bool,
    filter: String,
    /// What the filter was before it is typed anew.
    typing: Option<String>,
    is_paused: bool,
    /// The pipelines' table, and the modules'.
    tables: [TableState; 2],
    focus: usize,
    colours: bool,
}

impl Screen {
    pub fn new(url: String, sort: Sort, filter: String, colours: bool) -> Self {
        Self {
            url,
            figures: None,
            trouble: None,
            sort,
            is_reversed: false,
            filter,
            typing: None,
            is_paused: false,
            tables: [TableState::new(), TableState::new()],
            focus: 0,
            colours,
        }
    }

    /// Takes new figures, or why there are none. While it is paused they are not shown.
    pub fn take(&mut self, polled: Result<Figures, String>) {
        if self.is_paused {
            return;
        }
        match polled {
            Ok(figures) => {
                self.figures = Some(figures);
                self.trouble = None;
            }
            Err(message) => self.trouble = Some(message),
        }
    }

    /// Does what a key asks for.
    pub fn press(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::Quit,
                _ => Wish::Nothing,
            };
        }
        if let Some(before) = &mut self.typing {
            match key.code {
                KeyCode::Enter => self.typing = None,
                KeyCode::Esc => {
                    self.filter = std::mem::take(before);
                    self.typing = None;
                }
                KeyCode::Backspace => {
                    self.filter.pop();
                }
                KeyCode::Char(typed) => self.filter.push(typed),
                _ => {}
            }
            return Wish::Nothing;
        }
        let table = &mut self.tables[self.focus];
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.typing = Some(std::mem::take(&mut self.filter)),
            KeyCode::Tab | KeyCode::BackTab => self.focus = 1 - self.focus,
            KeyCode::Down | KeyCode::Char('j') => table.select_next(),
            KeyCode::Up | KeyCode::Char('k') => table.select_previous(),
            KeyCode::PageDown => table.scroll_down_by(10),
            KeyCode::PageUp => table.scroll_up_by(10),
            KeyCode::Home => table.select_first(),
            KeyCode::End => table.select_last(),
            _ => {}
        }
        Wish::Nothing
    }

    fn colour(&self, colour: Color) -> Style {
        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// Draws everything.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let above = self.above();
        let lines = u16::try_from(above.len()).unwrap_or(u16::MAX);
        let pipelines = self
            .figures
            .as_ref()
            .map_or(0, |figures| figures.pipelines.len());
        let modules = self
            .figures
            .as_ref()
            .map_or(0, |figures| figures.modules.len());
        // Each table has the room that it needs, and both a half where there is not enough.
        let rows = |count: usize| u32::try_from(count.max(1) + 3).unwrap_or(u32::MAX);
        let [top, first, second, bottom] = Layout::vertical([
            Constraint::Length(lines),
            Constraint::Fill(weight(rows(pipelines), rows(modules))),
            Constraint::Fill(weight(rows(modules), rows(pipelines))),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(above), top);
        self.table(frame, first, 0, "pipelines");
        self.table(frame, second, 1, "modules");
        frame.render_widget(self.below(), bottom);
    }

    fn above(&self) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        let mut title = vec![Span::raw(format!("etl top  {}", harmless(&self.url))).bold()];
        if self.is_paused {
            title.push(Span::styled("  paused", self.colour(Color::Yellow)));
        }
        lines.push(Line::from(title));
        if let Some(figures) = &self.figures {
            let is_well = figures.answer.is_ready && figures.answer.reasons.is_empty();
            let style = self.colour(if is_well { Color::Green } else { Color::Yellow });
            for (index, line) in heading(figures).into_iter().enumerate() {
                let style = if index == 0 { style } else { Style::new() };
                lines.push(Line::styled(line, style));
            }
            let reasons = &figures.answer.reasons;
            for reason in reasons.iter().take(REASONS) {
                let text = format!("! {}", harmless(&reason.message));
                lines.push(Line::styled(text, self.colour(Color::Red)));
            }
            if reasons.len() > REASONS {
                lines.push(Line::raw(format!("! and {} more", reasons.len() - REASONS)));
            }
        }
        match &self.trouble {
            Some(trouble) => {
                let text = format!("no answer, trying again: {}", harmless(trouble));
                lines.push(Line::styled(text, self.colour(Color::Red)));
            }
            None if self.figures.is_none() => lines.push(Line::raw("asking …")),
            None => {}
        }
        lines
    }

    fn table(&mut self, frame: &mut Frame<'_>, area: Rect, index: usize, title: &str) {
        let rows = match &self.figures {
            None => &[][..],
            Some(figures) if index == 0 => &figures.pipelines,
            Some(figures) => &figures.modules,
        };
        let shown = chosen(rows, &self.filter, self.sort, self.is_reversed);
        let title = if shown.len() == rows.len() {
            format!(" {title}: {} ", rows.len())
        } else {
            format!(" {title}: {} of {} ", shown.len(), rows.len())
        };
        let style = |row: &Row| {
            if row.is_well() {
                Style::new()
            } else {
                self.colour(Color::Red)
            }
        };
        let cells = shown.iter().map(|row| {
            let name = std::iter::once(harmless(&row.name));
            Cells::new(name.chain(cells(row))).style(style(row))
        });
        let heads = std::iter::once("name").chain(HEADS);
        let widths = [
            Constraint::Fill(2),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(6),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(5),
            Constraint::Fill(3),
        ];
        let is_focused = self.focus == index;
        let border = if is_focused {
            self.colour(Color::Cyan)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        };
        let block = Block::new()
            .borders(Borders::TOP)
            .border_style(border)
            .title(title);
        let table = Table::new(cells, widths)
            .header(Cells::new(heads).bold())
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .block(block);
        frame.render_stateful_widget(table, area, &mut self.tables[index]);
    }

    fn below(&self) -> Line<'static> {
        if self.typing.is_some() {
            let text = format!("/{}", harmless(&self.filter));
            return Line::from(vec![
                Span::raw(text).bold(),
                Span::raw("▏ Enter keeps it, Esc takes it back"),
            ]);
        }
        let order = if self.is_reversed { ", reversed" } else { "" };
        let filter = match self.filter.as_str() {
            "" => String::new(),
            filter => format!("  filter {:?}", harmless(filter)),
        };
        Line::raw(format!(
            "q end  p pause  s sort ({}{order})  r reverse  / filter  Tab other table{filter}",
            self.sort.name()
        ))
    }
}

/// How much of the room a table of so many rows gets beside another one.
fn weight(own: u32, other: u32) -> u16 {
    let share = u64::from(own) * 100 / (u64::from(own) + u64::from(other)).max(1);
    u16::try_from(share.clamp(25, 75)).unwrap_or(50)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::figures::tests::answers;
    use super::*;

    fn screen() -> Screen {
        let (before, after) = answers();
        let mut screen = Screen::new("http://h:1".to_owned(), Sort::Name, String::new(), true);
        screen.take(Ok(Figures::of(after, Some(&before))));
        screen
    }

    fn drawn(screen: &mut Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| screen.draw(frame)).expect("draws");
        let buffer = terminal.backend().buffer().clone();
        let lines = buffer.content().chunks(usize::from(width)).map(|cells| {
            let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
            line.trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn press(screen: &mut Screen, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\u{1b}' => KeyCode::Esc,
                '\u{8}' => KeyCode::Backspace,
                key => KeyCode::Char(key),
            };
            let wish = screen.press(KeyEvent::new(code, KeyModifiers::NONE));
            assert_eq!(wish, Wish::Nothing);
        }
    }

    /// The names of the pipelines, from top to bottom.
    fn pipelines(screen: &mut Screen) -> Vec<String> {
        let drawn = drawn(screen, 120, 30);
        let lines = drawn
            .lines()
            .skip_while(|line| !line.contains("pipelines:"));
        let rows = lines.skip(2).take_while(|line| !line.contains("modules:"));
        rows.filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
            .collect()
    }

    #[test]
    fn everything_is_on_the_screen() {
        let drawn = drawn(&mut screen(), 140, 24);
        for part in [
            "etl top  http://h:1",
            "degraded  generation 7  in 12.3k/s  out 12.3k/s  dead letters 3.0/s",
            "! Every record of pipeline audit fails.",
            "pipelines: 2",
            "modules: 2",
            "circuit open",
            "62345",
            "400 µs",
            "q end  p pause  s sort (name)",
        ] {
            assert!(drawn.contains(part), "no {part:?} in\n{drawn}");
        }
    }

    #[test]
    fn a_small_or_empty_screen_is_no_trouble() {
        for (width, height) in [(1, 1), (10, 3), (40, 8), (300, 100)] {
            drawn(&mut screen(), width, height);
        }
        let mut empty = Screen::new("http://h:1".to_owned(), Sort::Name, String::new(), false);
        assert!(drawn(&mut empty, 80, 20).contains("asking …"));
        empty.take(Err("connection refused".to_owned()));
        assert!(drawn(&mut empty, 80, 20).contains("no answer, trying again: connection refused"));
    }

    #[test]
    fn keys_sort_filter_and_pause() {
        let mut screen = screen();
        assert_eq!(pipelines(&mut screen), ["audit", "orders"]);
        press(&mut screen, "s");
        assert_eq!(pipelines(&mut screen), ["orders", "audit"]);
        press(&mut screen, "r");
        assert_eq!(pipelines(&mut screen), ["audit", "orders"]);
        press(&mut screen, "/oqr\u{8}\u{8}r");
        assert!(drawn(&mut screen, 120, 20).contains("/or▏"));
        press(&mut screen, "\n");
        assert_eq!(pipelines(&mut screen), ["orders"]);
        assert!(drawn(&mut screen, 120, 20).contains("pipelines: 1 of 2"));
        press(&mut screen, "/x\u{1b}");
        assert_eq!(pipelines(&mut screen), ["orders"]);
        press(&mut screen, "p");
        screen.take(Err("away".to_owned()));
        assert!(!drawn(&mut screen, 120, 20).contains("away"));
        assert!(drawn(&mut screen, 120, 20).contains("paused"));
        press(&mut screen, "p\tjk");
        screen.take(Err("away".to_owned()));
        // What was there stays, with why there is nothing newer.
        let drawn = drawn(&mut screen, 120, 20);
        assert!(
            drawn.contains("away") && drawn.contains("generation 7"),
            "{drawn}"
        );
    }

    #[test]
    fn q_and_control_c_end_it_and_text_does_not() {
        let mut screen = screen();
        let plain = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.press(plain), Wish::Quit);
        assert_eq!(screen.press(control), Wish::Quit);
        press(&mut screen, "/q");
        assert_eq!(screen.press(control), Wish::Quit);
        assert_eq!(screen.filter, "q");
    }
}
