//! What is copied: the rows of a tensor, or any copies, in several sets that are used in turns.

pub const MIB: usize = 1 << 20;
/// Bytes of each of the two areas of device memory.
pub const CAPACITY: usize = 4 << 30;
/// Bytes of each half of the pinned memory: the first is read, the second written.
pub const HOST: usize = 256 * MIB;

/// Copies with a name.
pub struct Workload {
    pub name: String,
    pub kind: Kind,
    pub path: Path,
    /// Whether copies that continue one another are merged, because nothing moved.
    pub merged: bool,
    pub shape: Shape,
    /// The permutation of the rows of a decode step, for each set. Other cases have none.
    pub steps: Vec<Vec<u32>>,
}

/// The direction of the copies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Path {
    OnDevice,
    Up,
    Down,
    Mixed,
}

/// The kind of case, for its target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Rows,
    Warp,
    Ragged,
    Append,
    Tick,
}

pub enum Kind {
    Rows(Rows),
    /// Destination, source and length of each copy of each set.
    Copies(Vec<Vec<(u64, u64, usize)>>),
}

/// Destination rows are dense; row `i` is row `numbers[i]` of the source.
pub struct Rows {
    pub count: usize,
    pub bytes: usize,
    /// Rows of the present batch; the joining rows lie behind them.
    pub old: usize,
    pub joining: usize,
    /// Bytes from set to set in the source; a set in the destination is dense.
    pub pitch: usize,
    pub src: u64,
    pub dst: u64,
    pub numbers: Vec<Vec<u32>>,
}

impl Rows {
    /// Where set `k` begins: source and destination.
    #[inline]
    pub fn bases(&self, k: usize) -> (u64, u64) {
        (self.src + (k * self.pitch) as u64, self.dst + (k * self.count * self.bytes) as u64)
    }
}

impl Workload {
    pub fn rows(&self) -> Option<&Rows> {
        match &self.kind {
            Kind::Rows(rows) => Some(rows),
            Kind::Copies(_) => None,
        }
    }

    pub fn sets(&self) -> usize {
        match &self.kind {
            Kind::Rows(rows) => rows.numbers.len(),
            Kind::Copies(sets) => sets.len(),
        }
    }

    /// How many copies a set has.
    pub fn count(&self) -> usize {
        match &self.kind {
            Kind::Rows(rows) => rows.count,
            Kind::Copies(sets) => sets[0].len(),
        }
    }

    pub fn longest(&self) -> usize {
        match &self.kind {
            Kind::Rows(rows) => rows.bytes,
            Kind::Copies(sets) => sets.iter().flatten().map(|copy| copy.2).max().unwrap(),
        }
    }

    /// The bytes of a set, on average.
    pub fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Rows(rows) => rows.count * rows.bytes,
            Kind::Copies(sets) => sets.iter().flatten().map(|copy| copy.2).sum::<usize>() / sets.len(),
        }
    }

    /// Calls `f` with destination, source and length of each copy of set `k`.
    #[inline]
    pub fn each(&self, k: usize, mut f: impl FnMut(u64, u64, usize)) {
        match &self.kind {
            Kind::Rows(rows) => {
                let (src, dst) = rows.bases(k);
                for (i, &number) in rows.numbers[k].iter().enumerate() {
                    f(dst + (i * rows.bytes) as u64, src + (number as usize * rows.bytes) as u64, rows.bytes);
                }
            }
            Kind::Copies(sets) => sets[k].iter().for_each(|&(dst, src, len)| f(dst, src, len)),
        }
    }

    /// The same, until one call fails.
    #[inline]
    pub fn try_each<E>(&self, k: usize, mut f: impl FnMut(u64, u64, usize) -> Result<(), E>) -> Result<(), E> {
        match &self.kind {
            Kind::Rows(rows) => {
                let (src, dst) = rows.bases(k);
                for (i, &number) in rows.numbers[k].iter().enumerate() {
                    f(dst + (i * rows.bytes) as u64, src + (number as usize * rows.bytes) as u64, rows.bytes)?;
                }
                Ok(())
            }
            Kind::Copies(sets) => sets[k].iter().try_for_each(|&(dst, src, len)| f(dst, src, len)),
        }
    }

    /// The same, with copies that continue one another as one.
    #[inline]
    pub fn each_merged(&self, k: usize, mut f: impl FnMut(u64, u64, usize)) {
        let mut run = (0, 0, 0);
        self.each(k, |dst, src, len| {
            if run.0 + run.2 as u64 == dst && run.1 + run.2 as u64 == src {
                run.2 += len;
            } else {
                if run.2 != 0 {
                    f(run.0, run.1, run.2);
                }
                run = (dst, src, len);
            }
        });
        f(run.0, run.1, run.2);
    }

    /// Where set `k` begins: destination and source.
    pub fn bases(&self, k: usize) -> (u64, u64) {
        let first = |copies: &[(u64, u64, usize)], at: fn(&(u64, u64, usize)) -> u64| copies.iter().map(at).min();
        match &self.kind {
            Kind::Rows(rows) => (rows.bases(k).1, rows.bases(k).0),
            Kind::Copies(sets) => {
                (first(&sets[k], |copy| copy.0).unwrap_or(0), first(&sets[k], |copy| copy.1).unwrap_or(0))
            }
        }
    }

    /// The copies of set `k`.
    pub fn copies(&self, k: usize) -> Vec<(u64, u64, usize)> {
        let mut copies = Vec::new();
        self.each(k, |dst, src, len| copies.push((dst, src, len)));
        copies
    }
}

/// A small generator, so that every run measures the same permutations.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut rows: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            rows.swap(i, self.below(i + 1));
        }
        rows
    }
}

/// Everything that is measured, between `src` and `dst` on the device and `host`, whose second half
/// is written.
pub fn workloads(src: u64, dst: u64, host: u64) -> Vec<Workload> {
    let mut random = Random(1234);
    let mut all = Vec::new();
    for (count, bytes) in [
        (32, 128),
        (256, 1),
        (256, 4),
        (256, 128),
        (32, 256 << 10),
        (256, 64 << 10),
        (1024, 4 << 10),
        (1024, 64 << 10),
        (4096, 16 << 10),
        (16384, 4 << 10),
        (16384, 16 << 10),
        (65536, 512),
        (65536, 4 << 10),
        (256, MIB),
        (64, MIB),
        (16, 4 * MIB),
        (4, 16 * MIB),
        (1, 64 * MIB),
    ] {
        let rows = second_rows(count, bytes, src, dst, CAPACITY, &mut random);
        all.push(case(name(count, bytes), Kind::Rows(rows), Path::OnDevice, Shape::Rows));
    }
    for odd in [true, false] {
        let sets = (0..4).map(|k| ragged(k, src, dst, odd, &mut random)).collect();
        let name = if odd { "ragged 4096 x 1 B to 64 KiB, odd" } else { "ragged 4096 x 16 B to 64 KiB, aligned" };
        all.push(case(name.to_owned(), Kind::Copies(sets), Path::OnDevice, Shape::Ragged));
    }
    let sets = (0..24).map(|k| append(k, src, dst, &mut random)).collect();
    all.push(case("append 256 sequences".to_owned(), Kind::Copies(sets), Path::OnDevice, Shape::Append));
    for moved in [true, false] {
        let order = |random: &mut Random| if moved { random.permutation(256) } else { (0..256).collect() };
        let steps: Vec<Vec<u32>> = (0..16).map(|_| order(&mut random)).collect();
        let sets = steps.iter().enumerate().map(|(k, rows)| tick(k, src, dst, host, rows)).collect();
        let name = if moved { "decode tick 512 D2D + 14 H2D" } else { "decode tick, nothing moved" };
        let tick = case(name.to_owned(), Kind::Copies(sets), Path::Mixed, Shape::Tick);
        all.push(Workload { merged: !moved, steps, ..tick });
    }
    for (count, bytes) in [(1024, 4 << 10), (16384, 4 << 10), (256, 64 << 10), (4096, 128), (16, 512)] {
        let capacity = HOST.min(16 * 2 * count * bytes);
        let up = apart(second_rows(count, bytes, host, dst, capacity, &mut random));
        all.push(case(format!("H2D {}", name(count, bytes)), up, Path::Up, Shape::Rows));
        let down = apart(second_rows(count, bytes, src, host + HOST as u64, capacity, &mut random));
        all.push(case(format!("D2H {}", name(count, bytes)), down, Path::Down, Shape::Rows));
    }
    // Pieces whose ends lie inside a group of 16 bytes, at different offsets on the two sides.
    let odd = |k: usize| {
        (0..256).map(move |i| (dst + (k << 16) as u64 + 1 + 65 * i, host + (k << 16) as u64 + 3 + 67 * i, 63))
    };
    let sets = (0..16).map(|k| odd(k).collect()).collect();
    all.push(case("H2D 256 x 63 B, odd".to_owned(), Kind::Copies(sets), Path::Up, Shape::Ragged));
    for bytes in [4, 4 << 10, 16 << 10, 64 << 10, 256 << 10, MIB] {
        let rows = warp(bytes, src, dst, true, &mut random);
        all.push(case(format!("Warp {}", name(256, bytes)), Kind::Rows(rows), Path::OnDevice, Shape::Warp));
    }
    for bytes in [4, 4 << 10, 64 << 10, MIB] {
        let rows = warp(bytes, src, dst, false, &mut random);
        let name = format!("Warp {}, nothing moved", name(256, bytes));
        all.push(Workload { merged: true, ..case(name, Kind::Rows(rows), Path::OnDevice, Shape::Warp) });
    }
    all
}

fn case(name: String, kind: Kind, path: Path, shape: Shape) -> Workload {
    Workload { name, kind, path, merged: false, shape, steps: Vec::new() }
}

pub fn name(count: usize, bytes: usize) -> String {
    match bytes {
        b if b >= MIB => format!("{count} x {} MiB", b / MIB),
        b if b >= 1024 => format!("{count} x {} KiB", b / 1024),
        b => format!("{count} x {b} B"),
    }
}

/// The number of sets of `bytes` bytes that exceeds every cache, where there is room.
fn turns(bytes: usize, most: usize, capacity: usize) -> usize {
    (768 * MIB / bytes + 1).clamp(2, most).min(capacity / bytes)
}

/// Every second row of the source, in a random order.
fn second_rows(count: usize, bytes: usize, src: u64, dst: u64, capacity: usize, random: &mut Random) -> Rows {
    let pitch = 2 * count * bytes;
    let numbers = |random: &mut Random| random.permutation(count).iter().map(|row| 2 * row).collect();
    let numbers = (0..turns(pitch, 64, capacity)).map(|_| numbers(random)).collect();
    Rows { count, bytes, old: 2 * count, joining: 0, pitch, src, dst, numbers }
}

/// The same with every second row of the destination too.
fn apart(rows: Rows) -> Kind {
    let set = |(k, numbers): (usize, &Vec<u32>)| {
        let (src, dst) = (rows.src + (k * rows.pitch) as u64, rows.dst + (k * rows.pitch) as u64);
        let copies = numbers.iter().enumerate().map(|(i, &number)| {
            (dst + (2 * i * rows.bytes) as u64, src + (number as usize * rows.bytes) as u64, rows.bytes)
        });
        copies.collect()
    };
    Kind::Copies(rows.numbers.iter().enumerate().map(set).collect())
}

/// 256 rows, of which 26 are new.
fn warp(bytes: usize, src: u64, dst: u64, moved: bool, random: &mut Random) -> Rows {
    let (count, joining) = (256, 26);
    let pitch = 2 * count * bytes;
    let numbers = |random: &mut Random| {
        let mut rows = if moved { random.permutation(count) } else { (0..count as u32).collect() };
        rows.truncate(count - joining);
        rows.extend((count as u32..).take(joining));
        rows
    };
    let numbers = (0..turns(pitch, 32, CAPACITY)).map(|_| numbers(random)).collect();
    Rows { count, bytes, old: count, joining, pitch, src, dst, numbers }
}

fn ragged(k: usize, src: u64, dst: u64, odd: bool, random: &mut Random) -> Vec<(u64, u64, usize)> {
    let region = (k * 512 * MIB) as u64;
    let length = |random: &mut Random| if odd { 1 + random.below(65536) } else { 16 * (1 + random.below(4096)) };
    let gap = |random: &mut Random| if odd { random.below(16) as u64 } else { 0 };
    let lengths: Vec<usize> = (0..4096).map(|_| length(random)).collect();
    let mut to = dst + region + u64::from(odd);
    let mut copies: Vec<(u64, u64, usize)> = Vec::new();
    for &len in &lengths {
        copies.push((to, 0, len));
        to += len as u64 + gap(random);
    }
    let mut from = src + region + 3 * u64::from(odd);
    for i in random.permutation(4096) {
        let copy = &mut copies[i as usize];
        copy.1 = from;
        from += copy.2 as u64 + gap(random);
    }
    copies
}

/// 256 rows of up to 8192 tokens of 4 bytes: 230 move and gain one token, 26 are new.
fn append(k: usize, src: u64, dst: u64, random: &mut Random) -> Vec<(u64, u64, usize)> {
    let (src, dst, pitch) = (src + (k * 64 * MIB) as u64, dst + (k * 64 * MIB) as u64, 8192 * 4);
    let (tokens, joining) = (src + (16 * MIB) as u64, src + (32 * MIB) as u64);
    let lengths: Vec<usize> = (0..256).map(|_| 4 * (1 + random.below(8191))).collect();
    let mut copies = Vec::new();
    let mut joined = 0;
    for (i, &row) in random.permutation(256).iter().enumerate() {
        let to = dst + i as u64 * pitch;
        if i < 230 {
            let len = lengths[row as usize];
            copies.push((to, src + u64::from(row) * pitch, len));
            copies.push((to + len as u64, tokens + u64::from(row) * 4, 4));
        } else {
            copies.push((to, joining + joined, lengths[i]));
            joined += lengths[i] as u64;
        }
    }
    copies
}

/// A decode step: 256 flags of 1 byte and 256 lengths of 4 bytes are permuted on the device, and 14
/// small arrays come from the host.
fn tick(k: usize, src: u64, dst: u64, host: u64, rows: &[u32]) -> Vec<(u64, u64, usize)> {
    let (src, dst, host) = (src + (k * MIB) as u64, dst + (k * MIB) as u64, host + (k << 16) as u64);
    let flags = rows.iter().enumerate().map(|(i, &row)| (dst + i as u64, src + u64::from(row), 1));
    let lengths =
        rows.iter().enumerate().map(|(i, &row)| (dst + 4096 + 4 * i as u64, src + 4096 + 4 * u64::from(row), 4));
    let arrays = (0..14_u64).map(|i| (dst + 65536 + i * 4096, host + i * 4096, 2048));
    flags.chain(lengths).chain(arrays).collect()
}
