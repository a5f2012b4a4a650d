//! Files that are loaded, with the time and the memory that it takes.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    io::Write as _,
    num::NonZero,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use tidelock::{
    DeviceLocation, Stream,
    any::TensorMap,
    driver::Backend,
    file::{File, FileError, Mapped},
    stream::OnBackend,
};

type Answer<T> = Result<T, Box<dyn Error>>;

const MIB: usize = 1 << 20;
/// Bytes of a matrix, and of the vector that follows it.
const MATRIX: usize = 32 * MIB;
const VECTOR: usize = 16 << 10;
/// Bytes of one copy out of pinned memory.
const COPY: usize = 64 * MIB;
/// How often each way is measured.
const TIMES: usize = 3;

/// Writes a file of `mib` MiB of matrices and vectors, and returns the table of its loads.
pub fn table<L: DeviceLocation>(stream: &mut Stream<L>, path: &Path, mib: usize) -> Answer<String> {
    let total = write(path, mib)?;
    // SAFETY: the file is this process's own, and nothing changes it.
    let mapped = unsafe { Mapped::open(path) }?;
    let file = mapped.file()?;
    let pinned = pinned(stream, total)?;
    let mut table = format!(
        "{} tensors of {:.1} MiB; out of pinned memory: {:.2} GB/s\n\n",
        file.names().len(),
        total as f64 / MIB as f64,
        rate(total, pinned)
    );
    table += "| way | first s | best s | GB/s | of pinned | pinned MiB | other host MiB | right |\n";
    table += "|---|---:|---:|---:|---:|---:|---:|---|\n";
    drop(file.load().through_ring(&stream.ctx())?);
    stream.synchronize()?;
    for threads in [Some(1), Some(4), Some(8), None] {
        let name = threads.map_or("registered".to_owned(), |threads| format!("ring, {threads} threads"));
        let row = match loads(stream, &file, threads.and_then(NonZero::new)) {
            Ok(row) => row,
            // Not every system locks the pages of a mapped file.
            Err(error) => {
                writeln!(table, "| {name} | {error} | | | | | | false |")?;
                continue;
            }
        };
        let Row { first, best, locked, resident, right } = row;
        let [first, rated, share] = [first.as_secs_f64(), rate(total, best), rate(total, best) / rate(total, pinned)];
        writeln!(
            table,
            "| {name} | {first:.3} | {:.3} | {rated:.2} | {:.0} % | {:.1} | {:.1} | {right} |",
            best.as_secs_f64(),
            share * 100.0,
            locked as f64 / MIB as f64,
            resident as f64 / MIB as f64,
        )?;
    }
    table += "\npinned MiB: what the pinned pool had locked at most; it is empty before each way.\n";
    table += "other host MiB: by how much `RssAnon` of the process was larger at most than before, looked at each \
        millisecond. It counts neither the pages of the mapped file nor pinned memory, which the driver maps. \
        `VmHWM` counts the file. On the simulated device it has the device's memory.\n";
    Ok(table)
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

/// What a way takes.
struct Row {
    first: Duration,
    best: Duration,
    /// Bytes that were page-locked by the pool.
    locked: usize,
    /// Bytes of anonymous memory beyond those before.
    resident: usize,
    right: bool,
}

fn loads<L: DeviceLocation>(stream: &mut Stream<L>, file: &File<'_>, threads: Option<NonZero<usize>>) -> Answer<Row> {
    let load = |stream: &mut Stream<L>| -> Result<TensorMap<'static, L>, FileError> {
        let map = match threads {
            Some(threads) => file.load().threads(threads).through_ring(&stream.ctx())?,
            None => file.load().registered(stream)?,
        };
        stream.synchronize().map_err(|error| FileError::Load { error })?;
        Ok(map)
    };
    // What was read back is given back to the pool first.
    stream.synchronize()?;
    <L as OnBackend>::Backend::PINNED.trim(0)?;
    let (mut times, mut locked, mut right) = (Vec::new(), 0, true);
    let (before, most, ended) = (anonymous(), AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Relaxed) {
                most.fetch_max(anonymous(), Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let all = (0..TIMES).try_for_each(|time| {
            let start = Instant::now();
            let map = load(stream)?;
            times.push(start.elapsed());
            if time + 1 == TIMES {
                // What is read back passes through pinned memory too.
                locked = <L as OnBackend>::Backend::PINNED.usage().reserved;
                ended.store(true, Relaxed);
                right = is_right(stream, file, &map)?;
            }
            Ok::<_, Box<dyn Error>>(())
        });
        ended.store(true, Relaxed);
        all
    })?;
    let best = times.iter().min().copied().unwrap_or_default();
    let resident = most.load(Relaxed).saturating_sub(before);
    Ok(Row { first: times[0], best, locked, resident, right })
}

/// Whether the device has the bytes of the file.
fn is_right<L: DeviceLocation>(stream: &mut Stream<L>, file: &File<'_>, map: &TensorMap<'_, L>) -> Answer<bool> {
    let mut right = map.len() == file.names().len();
    for name in file.names() {
        right &= stream.read(map.any::<L>(name)?.bytes()?)? == file.bytes(name)?;
    }
    Ok(right)
}

/// How long copies of `total` bytes out of pinned memory take, the best of some.
fn pinned<L: DeviceLocation>(stream: &mut Stream<L>, total: usize) -> Answer<Duration> {
    let ctx = stream.ctx().with_pool();
    let from = ctx.alloc_pinned::<u64>(COPY / 8)?.write_with(|i| i as u64).stage(&ctx);
    let mut to = ctx.zeros::<u64>(COPY / 8)?;
    let mut best = Duration::MAX;
    for _ in 0..=TIMES {
        stream.synchronize()?;
        let (start, mut rest) = (Instant::now(), total / 8);
        while rest > 0 {
            let len = rest.min(COPY / 8);
            stream.ctx().copy(from.view().slice(..len)?, to.view_mut().slice(..len)?)?;
            rest -= len;
        }
        stream.synchronize()?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

/// Bytes of anonymous memory of the process; 0 where the system does not say.
fn anonymous() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok()).unwrap_or(0) << 10
}

/// Writes the file, by hand and a piece at a time. Returns the bytes of its tensors.
fn write(path: &Path, mib: usize) -> Answer<usize> {
    let (mut header, mut sizes, mut at) = (String::from("{"), Vec::new(), 0);
    for layer in 0.. {
        let matrix = MATRIX.min((mib * MIB).saturating_sub(at));
        if matrix == 0 {
            break;
        }
        let end = at + matrix;
        write!(
            header,
            r#""layers.{layer}.weight":{{"dtype":"BF16","shape":[{},1024],"data_offsets":[{at},{end}]}},"layers.{layer}.norm":{{"dtype":"F32","shape":[{}],"data_offsets":[{end},{}]}},"#,
            matrix / 2048,
            VECTOR / 4,
            end + VECTOR,
        )?;
        sizes.extend([matrix, VECTOR]);
        at = end + VECTOR;
    }
    header.truncate(header.trim_end_matches(',').len());
    header.push('}');
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let mut file = fs::File::create(path)?;
    file.write_all(&u64::try_from(header.len())?.to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let (mut buffer, mut word) = (Vec::with_capacity(MIB), 1_u64);
    for mut rest in sizes {
        while rest > 0 {
            let len = rest.min(MIB);
            buffer.clear();
            buffer.extend((0..len / 8).flat_map(|_| {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                word.to_le_bytes()
            }));
            file.write_all(&buffer)?;
            rest -= len;
        }
    }
    Ok(at)
}
