//! `weir top`: VMs, polling cores and uplinks, refreshed. On a terminal it is a screen that scrolls
//! and sorts, elsewhere plain text, one table after another.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Row, Table};
use ratatui::{DefaultTerminal, Frame};

use super::client::{fetch, fetch_all};
use super::command::Order;
use super::format::{align, percent, rate, rx_rate, scaled, tx_rate};
use super::show::print;
use super::text::vms::{VM_HEAD, vm_row};
use crate::api::core::CoreReport;
use crate::api::port::PortReport;
use crate::api::version::VersionReport;
use crate::api::vm::VmReport;

/// Options of `weir top`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopOptions {
    /// Print once and exit.
    pub(crate) once: bool,
    /// Time between refreshes.
    pub(crate) every: Duration,
    /// What VMs are sorted by.
    pub(crate) order: Order,
}

/// All that one refresh shows.
#[derive(Debug)]
struct View {
    version: VersionReport,
    vms: Vec<VmReport>,
    cores: Vec<CoreReport>,
    uplinks: Vec<PortReport>,
}

/// State of the screen.
#[derive(Debug)]
struct Screen {
    view: View,
    /// Why the last refresh failed.
    error: Option<String>,
    order: Order,
    first: usize,
}

const UPLINK_HEAD: [&str; 7] = ["UPLINK", "DEVICE", "RX", "TX", "DROPPED", "LOST", ""];
const CORE_HEAD: [&str; 6] = ["CPU", "LOAD", "BUSY", "FRAMES", "NS/FRAME", "QUEUES"];

/// Runs until the user quits.
///
/// # Errors
/// A sentence, when the daemon doesn't answer at first, or the terminal can't be used.
pub(crate) fn run(control: &Path, options: TopOptions) -> Result<(), String> {
    let view = View::fetch(control)?;
    if options.once || !io::stdout().is_terminal() {
        return plain(control, options, view);
    }
    let mut terminal =
        ratatui::try_init().map_err(|e| format!("error: this terminal can't be drawn on: {e}"))?;
    let screen = Screen {
        view,
        error: None,
        order: options.order,
        first: 0,
    };
    let done = watch(&mut terminal, control, options.every, screen);
    ratatui::restore();
    done.map_err(|e| format!("error: the terminal can't be used any more: {e}"))
}

impl View {
    fn fetch(control: &Path) -> Result<Self, String> {
        Ok(Self {
            version: fetch(control, "/v1/version")?,
            vms: fetch_all(control, "/v1/vms")?,
            cores: fetch_all(control, "/v1/cores")?,
            uplinks: fetch_all(control, "/v1/uplinks")?,
        })
    }

    /// The VMs in this order; `vms` stays in the order of the file.
    fn sorted(&self, order: Order) -> Vec<&VmReport> {
        let dropped =
            |vm: &VmReport| vm.counters.dropped_frames + vm.counters.missed_frames + vm.lost_frames;
        let mut vms: Vec<_> = self.vms.iter().collect();
        match order {
            Order::File => {}
            Order::Name => vms.sort_by(|a, b| a.name.cmp(&b.name)),
            Order::FromVm => vms.sort_by(|a, b| {
                b.rates
                    .rx_bits_per_second
                    .total_cmp(&a.rates.rx_bits_per_second)
            }),
            Order::ToVm => vms.sort_by(|a, b| {
                b.rates
                    .tx_bits_per_second
                    .total_cmp(&a.rates.tx_bits_per_second)
            }),
            Order::Throttled => vms.sort_by(|a, b| b.throttled_ratio.total_cmp(&a.throttled_ratio)),
            Order::Dropped => vms.sort_by_key(|vm| std::cmp::Reverse(dropped(vm))),
        }
        vms
    }

    fn title(&self) -> String {
        let sum = |of: fn(&VmReport) -> f64| self.vms.iter().map(of).sum::<f64>();
        format!(
            "{} {}, pid {}: {} VMs send {}",
            self.version.program,
            self.version.version,
            self.version.pid,
            self.vms.len(),
            rate(
                sum(|vm| vm.rates.rx_frames_per_second),
                sum(|vm| vm.rates.rx_bits_per_second)
            )
        )
    }
}

// --- plain text ---

fn plain(control: &Path, options: TopOptions, mut view: View) -> Result<(), String> {
    loop {
        print(&text(&view, options.order))?;
        if options.once {
            return Ok(());
        }
        std::thread::sleep(options.every);
        view = View::fetch(control)?;
    }
}

fn text(view: &View, order: Order) -> String {
    let table = |head: &[&str], rows: Vec<Vec<String>>| {
        let head = head.iter().map(|cell| (*cell).to_owned()).collect();
        align(
            &std::iter::once(head)
                .chain(rows)
                .collect::<Vec<Vec<String>>>(),
        )
    };
    let vms = table(
        &VM_HEAD,
        view.sorted(order).into_iter().map(vm_row).collect(),
    );
    let cores = table(&CORE_HEAD, view.cores.iter().map(core_row).collect());
    let uplinks = match &view.uplinks[..] {
        [] => String::new(),
        uplinks => table(&UPLINK_HEAD, uplinks.iter().map(uplink_row).collect()) + "\n",
    };
    format!("{}\n\n{vms}\n{cores}\n{uplinks}", view.title())
}

fn core_row(core: &CoreReport) -> Vec<String> {
    vec![
        core.cpu.to_string(),
        percent(core.load.cpu_ratio),
        percent(core.load.busy_ratio),
        format!("{}pps", scaled(core.load.frames_per_second)),
        format!("{:.0}", core.load.nanoseconds_per_frame),
        core.rx_queues.to_string(),
    ]
}

fn uplink_row(uplink: &PortReport) -> Vec<String> {
    let (row, device) = (&uplink.row, uplink.device.as_ref());
    let has_carrier = device.is_some_and(|device| device.has_carrier);
    let no_carrier = (!has_carrier).then(|| "no carrier".to_owned());
    let lost = device.and_then(|device| device.lost).unwrap_or_default();
    vec![
        row.name.clone(),
        device.map(|device| device.name.clone()).unwrap_or_default(),
        rx_rate(&row.rates),
        tx_rate(&row.rates),
        (row.counters.dropped_frames + row.counters.missed_frames).to_string(),
        lost.n_frames().to_string(),
        row.sentence.clone().or(no_carrier).unwrap_or_default(),
    ]
}

// --- a terminal ---

fn watch(
    terminal: &mut DefaultTerminal,
    control: &Path,
    every: Duration,
    mut screen: Screen,
) -> io::Result<()> {
    let mut due = Instant::now() + every;
    loop {
        terminal.draw(|frame| draw(frame, &screen))?;
        let left = due.saturating_duration_since(Instant::now());
        if event::poll(left)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release && !screen.handle_key(key) => {
                    return Ok(());
                }
                _ => continue,
            }
        }
        if Instant::now() >= due {
            due = Instant::now() + every;
            // Until a restarted daemon answers, its last answer stays on the screen.
            match View::fetch(control) {
                Ok(view) => (screen.view, screen.error) = (view, None),
                Err(why) => screen.error = Some(why),
            }
        }
    }
}

impl Screen {
    /// Handles a key; false: quit.
    fn handle_key(&mut self, key: KeyEvent) -> bool {
        let last = self.view.vms.len().saturating_sub(1);
        let moved = |by: usize| self.first.saturating_add(by).min(last);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Down => self.first = moved(1),
            KeyCode::PageDown => self.first = moved(10),
            KeyCode::Up => self.first = self.first.saturating_sub(1),
            KeyCode::PageUp => self.first = self.first.saturating_sub(10),
            KeyCode::Home => self.first = 0,
            KeyCode::Char('o') => self.order = Order::File,
            KeyCode::Char('n') => self.order = Order::Name,
            KeyCode::Char('f') => self.order = Order::FromVm,
            KeyCode::Char('t') => self.order = Order::ToVm,
            KeyCode::Char('l') => self.order = Order::Throttled,
            KeyCode::Char('d') => self.order = Order::Dropped,
            _ => {}
        }
        true
    }
}

fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let view = &screen.view;
    // A border, the head and the rows; no table without rows.
    let height = |n_rows: usize| match u16::try_from(n_rows) {
        Ok(0) => Constraint::Length(0),
        n => Constraint::Length(
            n.unwrap_or(u16::MAX)
                .saturating_add(2)
                .min(frame.area().height / 3),
        ),
    };
    let line = Constraint::Length(1);
    let parts = [
        line,
        Constraint::Min(2),
        height(view.cores.len()),
        height(view.uplinks.len()),
        line,
    ];
    let [title, vms, cores, uplinks, foot] = Layout::vertical(parts).areas(frame.area());
    let said = match &screen.error {
        Some(why) => Line::from(why.lines().next().unwrap_or_default().to_owned()).reversed(),
        None => Line::from(view.title()).bold(),
    };
    frame.render_widget(said, title);
    let shown = view.sorted(screen.order).into_iter().skip(screen.first);
    frame.render_widget(table(&VM_HEAD, shown.map(vm_row).collect()), vms);
    let block = || Block::new().borders(Borders::TOP);
    frame.render_widget(
        table(&CORE_HEAD, view.cores.iter().map(core_row).collect()).block(block()),
        cores,
    );
    frame.render_widget(
        table(&UPLINK_HEAD, view.uplinks.iter().map(uplink_row).collect()).block(block()),
        uplinks,
    );
    let keys = "q quit   sort by: o file, n name, f from-vm, t to-vm, l throttled, d dropped   \
        arrows scroll";
    frame.render_widget(Line::from(keys).dim(), foot);
}

fn table<const N: usize>(head: &[&'static str; N], rows: Vec<Vec<String>>) -> Table<'static> {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        u16::try_from(cells.max().unwrap_or(0).max(head[column].len())).unwrap_or(u16::MAX)
    };
    let widths: Vec<_> = (0..N)
        .map(|column| Constraint::Length(width(column)))
        .collect();
    let head = Row::new(head.to_vec()).style(Style::new().bold());
    Table::new(rows.into_iter().map(Row::new), widths)
        .header(head)
        .column_spacing(2)
}

#[cfg(test)]
#[path = "top_tests.rs"]
mod tests;
