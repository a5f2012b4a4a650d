//! What is copied.

use std::{num::NonZero, ptr::NonNull};

use super::raw::Raw;
use tidelock::{DeviceLocation, Element, Layout, View, ViewMut, buffer::Scatter};

/// Bytes of each of the two pools.
pub const POOL: usize = 12 << 30;

/// Bytes of page-locked memory.
pub const HOST: usize = 1280 << 20;

/// What a block holds: `layers` of `kv` of `heads` of `tokens` of rows of `row` bytes.
#[derive(Clone, Copy)]
pub struct Geometry {
    pub layers: usize,
    pub kv: usize,
    pub heads: usize,
    pub tokens: usize,
    pub row: usize,
}

/// Where the rows of a pool are.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// By layer, key or value, block, token, head.
    Nhd,
    /// By layer, key or value, block, head, token.
    Hnd,
    /// By block, layer, key or value, token, head.
    Page,
    /// By block, head, layer, key or value, token.
    Universal,
}

/// The argument of the rivals: rivals.cu has the same structures.
#[repr(C)]
struct Cache {
    base: u64,
    block: u64,
    layer: u64,
    kv: u64,
    head: u64,
    token: u64,
}

#[repr(C)]
struct Move {
    src: Cache,
    dst: Cache,
    layers: u32,
    kvs: u32,
    heads: u32,
    tokens: u32,
    row: u64,
    from: u64,
    to: u64,
    pairs: u64,
}

/// Blocks that are copied from a pool of one kind to one of another.
pub struct Blocks {
    pub name: String,
    pub geometry: Geometry,
    pub from: Kind,
    pub to: Kind,
    /// Blocks of each pool, and of the one at the host if there is one.
    pub pool: usize,
    pub count: usize,
    /// The first layer and the one behind the last.
    pub layers: (usize, usize),
}

const A: Geometry = Geometry { layers: 32, kv: 2, heads: 8, tokens: 16, row: 256 };
const F8: Geometry = Geometry { row: 128, ..A };
const WIDE: Geometry = Geometry { layers: 80, kv: 2, heads: 1, tokens: 16, row: 256 };
const MLA: Geometry = Geometry { layers: 61, kv: 1, heads: 1, tokens: 64, row: 576 };

pub fn blocks() -> Vec<Blocks> {
    use Kind::{Hnd, Nhd, Page, Universal};
    let case = |name: &str, geometry: Geometry, (from, to), pool: usize, count| Blocks {
        name: format!("{name}, {count} blocks: {} to {}", label(from), label(to)),
        geometry,
        from,
        to,
        pool,
        count,
        layers: (0, geometry.layers),
    };
    let mut all = Vec::new();
    for count in [16, 256] {
        for of in [
            (Nhd, Hnd),
            (Nhd, Page),
            (Nhd, Universal),
            (Universal, Nhd),
            (Hnd, Nhd),
            (Hnd, Page),
            (Nhd, Nhd),
            (Page, Page),
        ] {
            all.push(case("bf16", A, of, 4608, count));
        }
    }
    for of in [(Nhd, Page), (Hnd, Page), (Nhd, Universal), (Page, Nhd), (Nhd, Hnd)] {
        all.push(case("bf16", A, of, 4608, 4096));
    }
    for count in [256, 4096] {
        for of in [(Nhd, Hnd), (Nhd, Page), (Nhd, Universal), (Universal, Nhd)] {
            all.push(case("fp8", F8, of, 4352, count));
        }
        for of in [(Nhd, Nhd), (Nhd, Page), (Page, Nhd)] {
            all.push(case("one head", WIDE, of, 4352, count));
        }
    }
    for row in [576, 656] {
        let of = Geometry { row, ..MLA };
        for kinds in [(Nhd, Nhd), (Nhd, Page), (Page, Nhd)] {
            all.push(case(&format!("latent, {row} B"), of, kinds, 1024, 256));
            all.push(case(&format!("latent, {row} B, one token"), Geometry { tokens: 1, ..of }, kinds, 40960, 4096));
        }
    }
    let mut layer = case("bf16, one layer", A, (Nhd, Hnd), 4608, 256);
    layer.layers = (3, 4);
    all.push(layer);
    all
}

/// Between device and host: names, the geometry, the kind on the device, how many blocks, and whether
/// they go down.
pub fn crossings() -> Vec<(Blocks, bool)> {
    use Kind::{Hnd, Nhd, Page};
    let mut all = Vec::new();
    for count in [16, 256] {
        for (name, geometry, kind) in [("bf16", A, Nhd), ("bf16", A, Hnd), ("latent, 576 B", MLA, Nhd)] {
            for down in [true, false] {
                let (from, to) = if down { (kind, Page) } else { (Page, kind) };
                let way = if down { "to the host" } else { "from the host" };
                let name = format!("{name}, {count} blocks: {} to {} {way}", label(from), label(to));
                all.push((Blocks { name, geometry, from, to, pool: 576, count, layers: (0, geometry.layers) }, down));
            }
        }
    }
    all
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Nhd => "NHD",
        Kind::Hnd => "HND",
        Kind::Page => "page-first",
        Kind::Universal => "universal",
    }
}

impl Blocks {
    pub fn bytes(&self) -> usize {
        let Geometry { kv, heads, tokens, row, .. } = self.geometry;
        self.count * (self.layers.1 - self.layers.0) * kv * heads * tokens * row
    }

    /// Blocks of the two pools.
    pub fn pools(&self) -> (usize, usize) {
        (self.pool, self.pool)
    }

    fn layout(&self, kind: Kind) -> Layout<6> {
        let Geometry { layers, kv, heads, tokens, row } = self.geometry;
        let chunk = heads * tokens * row;
        let shape = [self.pool, layers, kv, heads, tokens, row];
        let stride = match kind {
            Kind::Nhd => [chunk, kv * self.pool * chunk, self.pool * chunk, row, heads * row, 1],
            Kind::Hnd => [chunk, kv * self.pool * chunk, self.pool * chunk, tokens * row, row, 1],
            Kind::Page => [layers * kv * chunk, kv * chunk, chunk, row, heads * row, 1],
            Kind::Universal => {
                [layers * kv * chunk, kv * tokens * row, tokens * row, layers * kv * tokens * row, row, 1]
            }
        };
        Layout::strided(shape, stride).unwrap()
    }

    /// The layouts of source and destination, without the layers that are not copied (all begin at
    /// the first one).
    pub fn layouts(&self) -> (Layout<6>, Layout<6>) {
        let part = |layout: Layout<6>| layout.slice(1, ..self.layers.1 - self.layers.0).unwrap().0;
        (part(self.layout(self.from)), part(self.layout(self.to)))
    }

    /// Pairs of blocks, as many sets as there are blocks for, up to 16.
    pub fn scatters(&self) -> Vec<Vec<(u32, u32)>> {
        let (from, to) = (shuffled(self.pool, 7), shuffled(self.pool, 11));
        let pairs: Vec<_> = from.into_iter().zip(to).collect();
        pairs.chunks_exact(self.count).take(16).map(<[_]>::to_vec).collect()
    }

    /// The times of kernels in the shapes of engines', a tenth of ten of them back to back, in
    /// microseconds. Their block numbers are on the device already.
    pub fn rivals(&self, raw: &Raw, pairs: &[(u32, u32)], (src, dst): (u64, u64)) -> Vec<f64> {
        let Geometry { kv, heads, tokens, row, .. } = self.geometry;
        let cache = |kind, base| {
            let [block, layer, kv, head, token, _] = self.layout(kind).stride().map(|stride| stride as u64);
            Cache { base, block, layer, kv, head, token }
        };
        let numbers: Vec<u32> = pairs.iter().map(|pair| pair.0).chain(pairs.iter().map(|pair| pair.1)).collect();
        let table = raw.upload(&numbers);
        let by = Move {
            src: cache(self.from, src),
            dst: cache(self.to, dst),
            layers: (self.layers.1 - self.layers.0) as u32,
            kvs: kv as u32,
            heads: heads as u32,
            tokens: tokens as u32,
            row: row as u64,
            from: table,
            to: table + 4 * self.count as u64,
            pairs: self.count as u64,
        };
        let times = [("blocks_by_element", 256), ("blocks_by_warp", 1024)].map(|(name, threads)| {
            let kernel = raw.function(name);
            let items = if threads == 256 { self.bytes() / 2 } else { self.count * tokens * 32 };
            let blocks = items.div_ceil(threads).min(132 * 16) as u32;
            // SAFETY: the kernel's argument, and the benchmark's own memory.
            let operation =
                |_| unsafe { raw.launch(kernel, blocks, threads as u32, &[std::ptr::from_ref(&by).cast()]) };
            raw.measure(1, operation, || raw.synchronize()).amortised
        });
        raw.free(table);
        times.to_vec()
    }

    pub fn scatter(&self, pairs: &[(u32, u32)]) -> Scatter {
        let mut scatter = Scatter::new();
        scatter.set(pairs.iter().copied(), self.pool, self.pool).unwrap();
        scatter
    }

    /// The rows of a pair, by plain arithmetic: destination, source, bytes.
    pub fn runs(&self, (from, to): (u32, u32), (src, dst): (u64, u64)) -> Vec<(u64, u64, usize)> {
        let Geometry { kv, heads, tokens, row, .. } = self.geometry;
        let (a, b) = (self.layout(self.from).stride(), self.layout(self.to).stride());
        let mut runs = Vec::new();
        for layer in 0..self.layers.1 - self.layers.0 {
            for k in 0..kv {
                for head in 0..heads {
                    for token in 0..tokens {
                        let at = |s: [usize; 6], block: u32| {
                            (block as usize * s[0] + layer * s[1] + k * s[2] + head * s[3] + token * s[4]) as u64
                        };
                        runs.push((dst + at(b, to), src + at(a, from), row));
                    }
                }
            }
        }
        runs
    }
}

/// Copies of tensors: names, layouts of source and destination, bytes of an element.
pub fn tensors() -> Vec<(String, Layout<3>, Layout<3>, usize)> {
    let strided = |shape, stride| Layout::strided(shape, stride).unwrap();
    let mut all = Vec::new();
    for (size, side) in [(1, 16384), (2, 16384), (4, 8192), (8, 8192)] {
        let shape = [1, side, side];
        all.push((
            format!("transpose of {side} x {side} elements of {size} B"),
            strided(shape, [0, 1, side]),
            strided(shape, [0, side, 1]),
            size,
        ));
    }
    let (tokens, heads, dim) = (8192, 32, 128);
    let shape = [tokens, dim, heads];
    all.push((
        "[token, head, dim] to [token, dim, head] of 2 B".to_owned(),
        strided(shape, [heads * dim, 1, dim]),
        strided(shape, [heads * dim, heads, 1]),
        2,
    ));
    for run in [64, 128, 256, 512, 1024] {
        let rows = (512 << 20) / run;
        let shape = [1, rows, run];
        all.push((
            format!("columns of {run} B of rows of twice that"),
            strided(shape, [0, 2 * run, 1]),
            strided(shape, [0, run, 1]),
            1,
        ));
        let shape = [16, rows / 16, run];
        all.push((
            format!("runs of {run} B in another order"),
            strided(shape, [rows / 16 * run, run, 1]),
            strided(shape, [run, 16 * run, 1]),
            1,
        ));
    }
    all
}

fn shuffled(count: usize, seed: u64) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count as u32).collect();
    let mut state = seed;
    for last in (1..numbers.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        numbers.swap(last, (state >> 33) as usize % (last + 1));
    }
    numbers
}

/// # Safety
/// - `len` elements at `address` are initialised device memory that nothing writes during `'env`.
pub unsafe fn source<'env, T: Element, L: DeviceLocation>(address: u64, len: usize) -> View<'env, T, L> {
    let address: NonNull<T> = NonNull::with_exposed_provenance(NonZero::new(address as usize).unwrap());
    // SAFETY: the caller promises it.
    unsafe { View::from_raw_parts(address, len) }
}

/// # Safety
/// - As for [`source`], and nothing else uses the memory.
pub unsafe fn target<'env, T: Element, L: DeviceLocation>(address: u64, len: usize) -> ViewMut<'env, T, L> {
    let address: NonNull<T> = NonNull::with_exposed_provenance(NonZero::new(address as usize).unwrap());
    // SAFETY: the caller promises it.
    unsafe { ViewMut::from_raw_parts(address, len) }
}
