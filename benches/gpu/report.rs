//! The tables: every method of every case, and the targets.

use super::{
    raw::Times,
    workload::{MIB, Path, Shape, Workload},
};

/// Which information a method gets, and when.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// It makes one copy of as many bytes, which shows what the memory allows.
    Dense,
    /// A rival that gets new copies each time.
    Fresh,
    /// A method that gets its copies in advance: a graph of fixed addresses, or numbers that are
    /// already on the device.
    Before,
    /// This library, which gets new copies each time.
    Ours,
}

pub struct Row {
    pub method: &'static str,
    pub given: Given,
    pub times: Times,
    pub correct: &'static str,
}

/// A case with its measurements.
pub struct Measured<'w> {
    pub workload: &'w Workload,
    pub rows: Vec<Row>,
    pub limit: f64,
    pub limit_end_to_end: f64,
}

/// The target of the library in a case.
struct Target {
    text: String,
    found: f64,
    met: bool,
}

pub fn amortised(row: &Row) -> f64 {
    row.times.amortised
}

pub fn end_to_end(row: &Row) -> f64 {
    row.times.end_to_end
}

impl Measured<'_> {
    /// The best row of a kind.
    fn best(&self, given: Given, time: fn(&Row) -> f64) -> Option<&Row> {
        self.rows.iter().filter(|row| row.given == given).min_by(|a, b| time(a).total_cmp(&time(b)))
    }

    pub fn print(&self) {
        println!("\n### {}\n", self.workload.name);
        println!(
            "limit {:.2} us, end to end {:.2} us; {} copies, {} bytes, {} sets in turns\n",
            self.limit,
            self.limit_end_to_end,
            self.workload.count(),
            self.workload.bytes(),
            self.workload.sets()
        );
        println!("| method | device us | amortised us | of limit | enqueue us | end to end us | of limit | correct |");
        println!("|---|---|---|---|---|---|---|---|");
        for Row { method, given, times, correct } in &self.rows {
            let method = match given {
                Given::Ours => format!("**{method}**"),
                Given::Before => format!("{method} (known before)"),
                Given::Dense | Given::Fresh => (*method).to_owned(),
            };
            println!(
                "| {method} | {:.2} | {:.2} | {:.1} % | {:.2} | {:.2} | {:.1} % | {correct} |",
                times.device,
                times.amortised,
                100.0 * self.limit / times.amortised,
                times.enqueue,
                times.end_to_end,
                100.0 * self.limit_end_to_end / times.end_to_end
            );
        }
    }

    fn targets(&self) -> Vec<Target> {
        let w = self.workload;
        let mut targets = Vec::new();
        let (Some(ours), Some(ours_end)) = (self.best(Given::Ours, amortised), self.best(Given::Ours, end_to_end))
        else {
            return targets;
        };
        let mut share = |least: f64| {
            let found = 100.0 * self.limit / amortised(ours);
            targets.push(Target { text: format!("{least} % of the limit"), found, met: found >= least });
        };
        match (w.path, w.shape) {
            (Path::OnDevice, Shape::Rows | Shape::Warp) => match (w.count(), w.longest(), w.bytes()) {
                (1024, 4096, _) => share(92.0),
                (256 | 32, _, bytes) if bytes == 16 * MIB || bytes == 8 * MIB => share(97.0),
                (65536, 512, _) => share(90.0),
                (_, 4096.., bytes) if bytes == 256 * MIB => share(96.0),
                (_, 4096.., bytes) if bytes == 64 * MIB => share(94.0),
                (..=256, ..=128, _) => {
                    let found = amortised(ours);
                    targets.push(Target { text: "2.2 us amortised".to_owned(), found, met: found <= 2.2 });
                }
                _ => {}
            },
            (Path::OnDevice, Shape::Ragged) => share(80.0),
            (_, Shape::Append) => share(75.0),
            (_, Shape::Tick) if !w.merged => {
                let found = end_to_end(ours_end);
                targets.push(Target { text: "10 us end to end".to_owned(), found, met: found <= 10.0 });
            }
            (Path::Up | Path::Down, Shape::Rows) => {
                let most = match (w.path, w.count()) {
                    (Path::Up, 4096) => 1.4,
                    (Path::Up, 1024..) | (Path::Up, 256) => 1.09,
                    (Path::Down, 1024 | 16384 | 256) => 1.06,
                    _ => return targets,
                };
                if let Some(dense) = self.best(Given::Dense, end_to_end) {
                    let found = end_to_end(ours_end) / end_to_end(dense);
                    targets.push(Target { text: format!("{most} x dense, end to end"), found, met: found <= most });
                }
            }
            _ => {}
        }
        if w.path == Path::OnDevice && w.shape == Shape::Rows && w.count() <= 4096 {
            let found = 100.0 * self.limit_end_to_end / end_to_end(ours_end);
            targets.push(Target { text: "92 % of the limit end to end".to_owned(), found, met: found >= 92.0 });
        }
        targets
    }
}

/// Prints whether the library is first, and by how much. A tie within 2 % counts as first.
pub fn print_places(all: &[Measured<'_>], title: &str, time: fn(&Row) -> f64) {
    println!("\n## First among methods given fresh descriptors: {title}\n");
    println!("A tie within 2 % counts. The best of each side; below 1 the library is faster.\n");
    println!("| case | tidelock us | by | best rival us | by | ratio | first |");
    println!("|---|---|---|---|---|---|---|");
    let (mut first, mut cases) = (0, 0);
    for case in all {
        let (Some(ours), Some(rival)) = (case.best(Given::Ours, time), case.best(Given::Fresh, time)) else { continue };
        let ratio = time(ours) / time(rival);
        cases += 1;
        first += usize::from(ratio <= 1.02);
        println!(
            "| {} | {:.2} | {} | {:.2} | {} | {ratio:.2} | {} |",
            case.workload.name,
            time(ours),
            ours.method,
            time(rival),
            rival.method,
            if ratio <= 1.02 { "yes" } else { "**no**" }
        );
    }
    println!("\n{first} of {cases}.");
}

pub fn print_targets(all: &[Measured<'_>]) {
    println!("\n## Targets\n");
    println!("Shares of the limit are of amortised time, unless it says end to end.\n");
    println!("| case | target | found | met |");
    println!("|---|---|---|---|");
    for case in all {
        for Target { text, found, met } in case.targets() {
            let met = if met { "yes" } else { "**no**" };
            println!("| {} | {text} | {found:.2} | {met} |", case.workload.name);
        }
    }
}

/// Methods whose result was wrong.
pub fn wrong(all: &[Measured<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in all {
        let rows = case.rows.iter().filter(|row| row.correct == "WRONG");
        wrong.extend(rows.map(|row| format!("{}: {}", case.workload.name, row.method)));
    }
    wrong
}
