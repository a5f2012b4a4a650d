//! What building a batch costs the host, for each copy and each row.

use std::{cell::RefCell, hint::black_box, time::Instant};

use tidelock::{BatchCopy, DeviceLocation, Error, Stream};

use super::{
    ours,
    raw::median,
    workload::{Kind, Path, Rows, Shape, Workload},
};

/// Prints nanoseconds for each copy, of batches of rows of 64 bytes between `src` and `dst`, which
/// have 16 MiB each.
///
/// Collecting is a scope that returns an error at its end. Enqueueing is everything from the row
/// numbers to the return of the last driver call on an idle stream, less that of a batch of 16
/// rows. It is left out on a simulated device.
pub fn print<L: DeviceLocation>(stream: &RefCell<Stream<L>>, src: u64, dst: u64, is_real: bool) {
    println!("\n## Building on this host\n");
    println!("ns for each copy; collecting, and all from the row numbers to the return of the last driver call");
    println!("(less that of 16 rows). Targets: 2 ns for a copy of a general batch, 0.3 ns for a row of a Warp.\n");
    println!("| rows | copy: collect | all | Warp: collect | all |");
    println!("|---|---|---|---|---|");
    let few = costs(stream, src, dst, 16, is_real);
    for count in [256, 1024, 4096, 16384, 65536] {
        let costs = costs(stream, src, dst, count, is_real);
        let each = |at: usize| costs[at] / count as f64;
        let less = |at: usize| {
            if is_real { format!("{:.2}", (costs[at] - few[at]) / (count - 16) as f64) } else { "–".to_owned() }
        };
        println!("| {count} | {:.2} | {} | {:.2} | {} |", each(0), less(1), each(2), less(3));
    }
}

/// Nanoseconds: copies collected, enqueued, Warp collected, enqueued.
fn costs<L: DeviceLocation>(stream: &RefCell<Stream<L>>, src: u64, dst: u64, count: usize, is_real: bool) -> [f64; 4] {
    let numbers = (0..4).map(|set| scrambled(count, set)).collect();
    let rows = Rows { count, bytes: 64, old: 2 * count, joining: 0, pitch: 0, src, dst, numbers };
    let kind = Kind::Rows(rows);
    let w = Workload {
        name: String::new(),
        kind,
        path: Path::OnDevice,
        merged: false,
        shape: Shape::Rows,
        steps: Vec::new(),
    };
    let Some(rows) = w.rows() else { return [0.0; 4] };
    let mut batch = BatchCopy::new();
    let given_up = || Err::<(), _>(Error::TooLarge { operand: "nothing" });
    let collect = time(|k| {
        let stream = stream.borrow();
        let answer = batch.scope(&stream.ctx(), |b| ours::add(b, &w, k).and_then(|()| given_up()));
        let _ = black_box(answer);
    });
    let collect_warp = time(|k| {
        let stream = stream.borrow();
        let answer = batch.scope(&stream.ctx(), |b| ours::add_warp(b, rows, k).and_then(|()| given_up()));
        let _ = black_box(answer);
    });
    if !is_real {
        return [collect, 0.0, collect_warp, 0.0];
    }
    let settle = || {
        stream.borrow_mut().synchronize().unwrap();
    };
    let all = time_settled(|k| ours::copies(&stream.borrow(), &mut batch, &w, k).unwrap(), settle);
    let all_warp = time_settled(|k| ours::warp(&stream.borrow(), &mut batch, rows, k).unwrap(), settle);
    [collect, all, collect_warp, all_warp]
}

fn time(f: impl FnMut(usize)) -> f64 {
    time_settled(f, || ())
}

/// Median nanoseconds of `f`, with `settle` between the calls and not counted.
fn time_settled(mut f: impl FnMut(usize), settle: impl Fn()) -> f64 {
    let mut times = Vec::new();
    for i in 0..60 {
        settle();
        let from = Instant::now();
        f(i % 4);
        if i >= 9 {
            times.push(from.elapsed().as_secs_f64() * 1e9);
        }
    }
    settle();
    median(times)
}

/// Even numbers below `2 * count`, each once.
fn scrambled(count: usize, set: usize) -> Vec<u32> {
    // `count` is a power of two, so that an odd factor permutes.
    (0..count).map(|i| (2 * (i.wrapping_mul(0x9E37_79B1 + 2 * set) % count)) as u32).collect()
}
