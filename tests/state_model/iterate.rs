//! Many iterations of one batch.

use tidelock::{
    BatchCopy, Buffer, Permutation, State, View,
    buffer::Offsets,
    location::Pinned,
    sim::{self, SimBackend},
};

use super::{offsets, start, width};

/// The model's sequences of a batch: the tokens of each, and a parameter.
type Model = Vec<(Vec<u32>, u64)>;

const STRIDE: usize = 24;
const ROWS: usize = 8;

/// Re-packs a batch in every iteration: rows in any order, some twice, some dropped, some joining.
pub(super) fn iterate(iterations: &[(Vec<u32>, Vec<usize>)], seed: u64) {
    let device = sim::Device::new(sim::Options::default().seed(seed));
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut history = State::<u32, _>::zeros(&ctx, ROWS * STRIDE).unwrap();
            let mut params = State::<u64, _>::zeros(&ctx, ROWS).unwrap();
            let (mut model, mut batch) = (Model::new(), BatchCopy::new());
            let (mut sizes, mut next) = (Vec::<u32>::new(), 0_u32);
            for (picks, joins) in iterations {
                let ctx = stream.ctx().with_pool();
                let bound = (model.len() + joins.len()) as u32;
                let rows: Vec<u32> =
                    if bound == 0 { Vec::new() } else { picks.iter().map(|pick| pick % bound).collect() };
                let permutation = Permutation::new(&rows, model.len(), joins.len()).unwrap();
                let tokens: Vec<u32> = (0..model.len() as u32).map(|i| next + i).collect();
                let fresh: Vec<u32> = (1000 + next..).take(joins.iter().sum()).collect();
                let keys: Vec<u64> = (0..joins.len() as u64).map(|i| u64::from(next) * 7 + i).collect();
                next += 50;

                let table = offsets(joins);
                let staged = Buffer::<u32, Pinned<SimBackend>>::from_slice(&fresh).unwrap().stage(&ctx);
                let mut dst_sizes = vec![0; rows.len()];
                let (now, then) = history.both();
                let (key, next_key) = params.both();
                let one = width(1);
                batch
                    .scope(&ctx, |b| {
                        b.group(|g| {
                            let joining = staged.view().ragged(Offsets::new(&table, "joining")?)?;
                            let now = now.rows(width(STRIDE))?.first(model.len())?;
                            let then = then.rows(width(STRIDE))?.first(rows.len())?;
                            g.append(now, &sizes, View::from(&tokens[..]), joining, permutation, then, &mut dst_sizes)
                        })?;
                        b.group(|g| {
                            let (now, joining) = (key.rows(one)?.first(model.len())?, View::from(&keys[..]).rows(one)?);
                            g.warp_join(now, joining, permutation, next_key.rows(one)?.first(rows.len())?)
                        })
                    })
                    .unwrap();
                history.swap();
                params.swap();
                sizes = dst_sizes;

                let old = model.clone();
                let row = |row: &u32| match (*row as usize).checked_sub(old.len()) {
                    None => {
                        let (mut tokens_so_far, key) = old[*row as usize].clone();
                        tokens_so_far.push(tokens[*row as usize]);
                        (tokens_so_far, key)
                    }
                    Some(join) => (fresh[start(joins, join)..][..joins[join]].to_vec(), keys[join]),
                };
                model = rows.iter().map(row).collect();
                assert!(sizes.iter().map(|size| *size as usize).eq(model.iter().map(|(tokens, _)| tokens.len())));
            }
            let mut tokens = vec![0_u32; ROWS * STRIDE];
            let mut keys = vec![0_u64; ROWS];
            stream
                .host_scope(|scope| {
                    scope.ctx().copy(history.front(), scope.target(&mut tokens)).unwrap();
                    scope.ctx().copy(params.front(), scope.target(&mut keys)).unwrap();
                })
                .unwrap();
            for (i, (expected, key)) in model.iter().enumerate() {
                assert_eq!((&tokens[i * STRIDE..][..expected.len()], keys[i]), (&expected[..], *key));
            }
        })
        .unwrap();
    assert!(device.gpu().report().is_clean());
}
