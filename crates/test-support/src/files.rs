//! The bytes of a small file of tensors.

/// The bytes of a page.
const PAGE: usize = 4096;

/// A file of the format of safetensors, whose tensors fill two pages that hold nothing else: a test
/// locks them, while others lock theirs.
///
/// The tensors are `a` with the numbers 0 to 999 and `b` with 1000 to 1999, as `U32`, and `m` with
/// 192 times `false`.
#[derive(Debug)]
pub struct PagedFile {
    memory: Vec<u8>,
    /// Where the file begins and ends in it.
    from: usize,
    to: usize,
}

impl Default for PagedFile {
    fn default() -> Self {
        let mut header = r#"{"a":{"dtype":"U32","shape":[1000],"data_offsets":[0,4000]},"b":{"dtype":"U32","shape":[1000],"data_offsets":[4000,8000]},"m":{"dtype":"BOOL","shape":[192],"data_offsets":[8000,8192]}}"#.to_owned();
        header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
        let mut file = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
        file.extend(header.bytes());
        let before = file.len();
        file.extend((0..2000_u32).flat_map(u32::to_le_bytes));
        file.extend([0; 192]);
        let mut memory = vec![0; 4 * PAGE];
        let from = memory[PAGE..].as_ptr().align_offset(PAGE) + PAGE - before;
        let to = from + file.len();
        memory[from..to].copy_from_slice(&file);
        PagedFile { memory, from, to }
    }
}

impl PagedFile {
    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.from..self.to]
    }
}
